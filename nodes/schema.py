"""What the nodes' schemas share. Later versions only append inputs: saved workflows go by their order."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from comfy_api.latest import io

from vidrd_core.presets import AS_SET, PRESETS, Rule
from vidrd_core.reuse import CHOICES, ReuseSettings

from .host import folders
from .host.reuse_sampler import SAMPLERS, SCHEDULERS

CATEGORY = "VidRD"
LARGEST_SEED = 0xFFFFFFFFFFFFFFFF
# A new seed with every run would make all clips anew; older hosts cannot be told.
KEPT = getattr(getattr(io, "ControlAfterGenerate", None), "fixed", True)
State = io.Custom("VIDRD_STATE")


def schema(**known: Any) -> io.Schema:
    """An io.Schema without the fields that this host does not know yet, such as search_aliases."""
    here = {field.name for field in fields(io.Schema)}
    return io.Schema(**{name: value for name, value in known.items() if name in here})


def clip_inputs() -> list[Any]:
    """What a clip is made from, as KSampler has it."""
    return [
        io.Model.Input("model", tooltip="The model that denoises: a VidRD UNet3D, or another video model."),
        io.Conditioning.Input("positive", tooltip="What the clip shows, from CLIP Text Encode."),
        io.Conditioning.Input(
            "negative", tooltip="What it does not show; for nothing in particular, encode an empty prompt."
        ),
        io.Latent.Input("latent", tooltip="An empty clip of the size wanted, from VidRD Empty Clip."),
        seed_input(),
        io.Int.Input("steps", default=50, min=1, max=1000, tooltip="Denoising steps (T). The paper takes 50."),
        io.Float.Input(
            "cfg",
            default=10.0,
            min=0.0,
            max=100.0,
            step=0.1,
            round=0.01,
            tooltip="How closely to follow the prompt. The paper takes 10; the built-in tiny model does best at 2.5; "
            "1 is off.",
        ),
        io.Combo.Input(
            "sampler_name",
            options=SAMPLERS,
            default="euler",
            tooltip="How a step is taken. euler is the paper's DDIM. Prompt frames follow the old clip exactly, only "
            "nearly under those named cfg_pp; dpm_adaptive takes other steps each time and may be refused.",
        ),
        io.Combo.Input(
            "scheduler",
            options=SCHEDULERS,
            default="ddim_uniform",
            tooltip="How noise falls from step to step. ddim_uniform is the paper's.",
        ),
    ]


def seed_input() -> Any:
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=LARGEST_SEED,
        control_after_generate=KEPT,
        tooltip="All randomness comes from it and the clip's number, so all clips of a video may share one.",
    )


def reuse_inputs() -> list[Any]:
    """How much of the last clip is taken over."""
    return [
        io.Int.Input(
            "prompt_frames",
            default=4,
            min=0,
            max=1024,
            tooltip="M: how many frames of a clip are led by the clip before. Less than its frames (N); 0 is none.",
        ),
        io.Float.Input(
            "alpha",
            default=4.0,
            min=0.0,
            max=1000.0,
            step=0.1,
            round=0.001,
            tooltip="How much of the old noise the other frames keep: 0 is none, 1 half, 4 nearly all. More is "
            "steadier, and repeats itself sooner.",
        ),
        io.Float.Input(
            "beta",
            default=0.4,
            min=0.0,
            max=1.0,
            step=0.05,
            round=0.001,
            tooltip="For what share of the steps the first frame follows the old clip; the next ones do for less. "
            "Used by mirror only.",
        ),
        io.Combo.Input(
            "order",
            options=["mirror", "forward", "auto"],
            default="auto",
            tooltip="mirror: a clip begins as the last one run backwards, as in the paper: motion turns back. "
            "forward: it begins with the last one's end, in time order, shown once: motion goes on. "
            "auto: mirror, or forward for models whose VAE compresses time, which cannot be run backwards.",
        ),
    ]


def more_reuse_inputs() -> list[Any]:
    """What goes beyond the paper; to be appended after all other inputs. Optional, as older prompts lack them."""
    return [
        io.Combo.Input(
            "preset",
            optional=True,
            options=[AS_SET, *PRESETS],
            default=AS_SET,
            tooltip="Settings by what they are for, in place of M, alpha, beta, order, noise, release and drift. "
            "paper: as published. keep moving: forward, a quarter of the frames lead. loop on purpose: the "
            "same, and the last clip ends where the first began. anchored: colours stay those of the first clip.",
        ),
        io.Combo.Input(
            "noise_policy",
            optional=True,
            options=list(CHOICES["noise"]),
            default="pns",
            tooltip="Where the noise of frames that are not led comes from. pns: old and new by alpha, as in the "
            "paper. fresh: all new. shuffle: as pns, from old frames in any order. lowpass: old at low frequencies "
            "alone.",
        ),
        io.Combo.Input(
            "release",
            optional=True,
            options=list(CHOICES["release"]),
            default="hard",
            tooltip="hard: a frame is led, then it is not, as in the paper. soft: its coarse features are led on for "
            "as long again, ever less.",
        ),
        io.Float.Input(
            "drift",
            optional=True,
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.05,
            round=0.001,
            tooltip="Draws brightness, colours and contrast of each clip towards those of the first one: 0 not at "
            "all, 1 wholly.",
        ),
        io.Combo.Input(
            "loop",
            optional=True,
            options=list(CHOICES["loop"]),
            default="none",
            tooltip="keep: keeps how the first clip began. close: this clip ends where the first one began, so that "
            "the video loops; all clips before need keep. Where one node makes all clips, either does both.",
        ),
    ]


def taken_rule(given: dict[str, Any]) -> tuple[Rule, dict[str, Any]]:
    """What the reuse inputs among a node's say, and its other inputs. Raises ValueError for what cannot be."""
    names = {each.id for each in (*reuse_inputs(), *more_reuse_inputs())}
    said = {name: given[name] for name in names & set(given)}
    name, auto = said.pop("preset", AS_SET), said["order"] == "auto"
    if "drift" in said:
        said["anchor"] = said.pop("drift")
    if "noise_policy" in said:
        said["noise"] = said.pop("noise_policy")
    if auto:
        said["order"] = "mirror"
    rule = Rule(ReuseSettings(**said), name, auto)
    return rule, {name: value for name, value in given.items() if name not in names}


def state_input(tooltip: str) -> Any:
    return State.Input("state", optional=True, tooltip=tooltip)


def check_prefix(prefix: str | None) -> bool | str:
    """For validate_inputs: True, or why files cannot bear this name. None is wired."""
    try:
        folders.check_prefix(prefix or "")
    except ValueError as error:
        return str(error)
    return True


def check_choices(node: type[io.ComfyNode], **given: str | None) -> bool | str:
    """For validate_inputs: True, or what is not on an input's list, which older hosts do not check. None is wired."""
    options = {
        each.id: each.options for each in node.define_schema().inputs or [] if isinstance(each, io.Combo.Input)
    }
    for name, value in given.items():
        if value is not None and value not in options[name]:
            return f"{name} is {value!r}, expected one of {', '.join(map(str, options[name]))}"
    return True
