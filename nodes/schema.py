"""Inputs and checks that several nodes share. Only append inputs: saved workflows refer to widgets by position."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from comfy_api.latest import io

from vidrd_core.presets import AS_SET, PRESETS, ReuseChoice
from vidrd_core.reuse import CHOICES, ReuseSettings

from .host import folders
from .host.reuse_sampler import SAMPLERS, SCHEDULERS

CATEGORY = "VidRD"
MAX_SEED = 0xFFFFFFFFFFFFFFFF
# "randomize" would change every clip at each run. Hosts without ControlAfterGenerate can only switch the control on.
SEED_CONTROL = getattr(getattr(io, "ControlAfterGenerate", None), "fixed", True)
# The input arrives as a link, not as a value: for nodes that expand into others.
RAW_LINK: dict[str, Any] = {"extra_dict": {"rawLink": True}}
State = io.Custom("VIDRD_STATE")
SAID = "vidrd_said"  # in a node's output on the page: lines that the pack's script keeps in the node
THUMBNAILS = "vidrd_thumbnails"  # in a node's output on the page: a file in ComfyUI's temporary folder for each clip


def schema(advanced: tuple[str, ...] = (), **settings: Any) -> io.Schema:
    """An `io.Schema`, without the fields that this host does not know yet, such as `search_aliases`.

    Args:
        advanced: The inputs that the page shows only when asked for advanced ones.
        **settings: Fields of the schema.

    Returns:
        The schema.
    """
    for each in settings["inputs"]:
        if each.id in advanced:  # older hosts have no argument for it, but their pages know it
            each.extra_dict = {**each.extra_dict, "advanced": True}
    known = {field.name for field in fields(io.Schema)}
    return io.Schema(**{name: value for name, value in settings.items() if name in known})


def internal_schema(**settings: Any) -> io.Schema:
    """As `schema`, of a node that others expand into: the page does not offer it."""
    return schema(category=CATEGORY, is_dev_only=True, is_deprecated=True, **settings)  # the latter for older pages


def clip_inputs() -> list[Any]:
    """The inputs of KSampler, for one clip."""
    return [
        io.Model.Input("model", tooltip="The diffusion model: a VidRD UNet3D or any other video model."),
        io.Conditioning.Input("positive", tooltip="The encoded prompt, from CLIP Text Encode."),
        io.Conditioning.Input(
            "negative", tooltip="The encoded negative prompt; encode an empty prompt if there is none."
        ),
        io.Latent.Input("latent", tooltip="An empty clip of the size you want, from VidRD Empty Clip."),
        seed_input(),
        io.Int.Input("steps", default=50, min=1, max=1000, tooltip="Denoising steps (T). The paper uses 50."),
        io.Float.Input(
            "cfg",
            default=10.0,
            min=0.0,
            max=100.0,
            step=0.1,
            round=0.01,
            tooltip="Classifier-free guidance scale. The paper uses 10; 2.5 works best for the built-in tiny model; "
            "1 turns guidance off.",
        ),
        io.Combo.Input(
            "sampler_name",
            options=SAMPLERS,
            default="euler",
            tooltip="The sampling algorithm. euler is the paper's DDIM. Prompt frames replay the previous clip "
            "exactly, with the cfg_pp samplers only approximately; dpm_adaptive chooses different steps for each "
            "clip and may be refused.",
        ),
        io.Combo.Input(
            "scheduler",
            options=SCHEDULERS,
            default="ddim_uniform",
            tooltip="The noise schedule. The paper uses ddim_uniform.",
        ),
    ]


def seed_input() -> Any:
    """A seed that stays fixed between runs."""
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=MAX_SEED,
        control_after_generate=SEED_CONTROL,
        tooltip="The random seed. It is combined with the clip's number, so all clips of a video can share one seed, "
        "and gives other noise than in KSampler.",
    )


def reuse_inputs() -> list[Any]:
    """The paper's settings (M, alpha, beta) and the frame order."""
    return [
        io.Int.Input(
            "prompt_frames",
            default=4,
            min=0,
            max=1024,
            tooltip="M: the number of frames at the start of a clip that replay the previous clip. Must be less than "
            "the clip's frames (N); 0 turns the replay off.",
        ),
        io.Float.Input(
            "alpha",
            default=4.0,
            min=0.0,
            max=1000.0,
            step=0.1,
            round=0.001,
            tooltip="How much of the previous clip's noise the other frames keep: 0 none, 1 half, 4 nearly all. "
            "Higher values are steadier but repeat sooner.",
        ),
        io.Float.Input(
            "beta",
            default=0.4,
            min=0.0,
            max=1.0,
            step=0.05,
            round=0.001,
            tooltip="The fraction of steps for which the first frame replays the previous clip; each later prompt "
            "frame replays fewer. Used in mirror order only.",
        ),
        io.Combo.Input(
            "order",
            options=["mirror", "forward", "auto"],
            default="auto",
            tooltip="mirror: the clip starts as the previous one in reverse, as in the paper, so motion turns back. "
            "forward: it continues from the end of the previous one in time order, so motion goes on. auto: mirror, "
            "but forward for models whose VAE compresses time, which cannot be reversed.",
        ),
    ]


def more_reuse_inputs() -> list[Any]:
    """Settings beyond the paper. They come after all other inputs, and are optional since older prompts lack them."""
    return [
        io.Combo.Input(
            "preset",
            optional=True,
            options=[AS_SET, *PRESETS],
            default=AS_SET,
            tooltip="Replaces M, alpha, beta, order, noise policy, release and drift. paper: as published. keep "
            "moving: forward, with a quarter of the frames as prompt frames. loop on purpose: the same, and the last "
            "clip ends where the first began. anchored: keeps the colours of the first clip. for this model: as keep "
            "moving, with prompt frames that suit the model's VAE.",
        ),
        io.Combo.Input(
            "noise_policy",
            optional=True,
            options=list(CHOICES["noise"]),
            default="pns",
            tooltip="The initial noise of frames after the prompt frames. pns: old and new noise mixed by alpha, as "
            "in the paper. fresh: new noise. shuffle: as pns, from old frames in random order. lowpass: keeps only "
            "the low frequencies of the old noise.",
        ),
        io.Combo.Input(
            "release",
            optional=True,
            options=list(CHOICES["release"]),
            default="hard",
            tooltip="How the replay of a prompt frame ends. hard: at once, as in the paper. soft: its low "
            "frequencies are replayed for as many steps again, with decreasing weight.",
        ),
        io.Float.Input(
            "drift",
            optional=True,
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.05,
            round=0.001,
            tooltip="Anchors the brightness, colours and contrast of each clip to the first clip, to prevent drift: "
            "0 off, 1 fully.",
        ),
        io.Combo.Input(
            "loop",
            optional=True,
            options=list(CHOICES["loop"]),
            default="none",
            tooltip="keep: stores the start of the first clip in the state. close: this clip ends where the first "
            "one began, so the video loops; all earlier clips need keep. In a node that makes all clips, either "
            "value does both.",
        ),
    ]


def staging_input() -> Any:
    """The rule of DSG; the last input of a node that replays, and optional since older prompts lack it."""
    return io.Combo.Input(
        "staging",
        optional=True,
        options=list(CHOICES["staging"]),
        default="paper",
        tooltip="For how many steps each prompt frame replays the previous clip. paper: by the formula of the paper. "
        "released: one step less, as in the released code. Used in mirror order only.",
    )


def expert_inputs(**more: Any) -> list[Any]:
    """The second of two experts, and where it takes over; `more` is for its socket."""
    return [
        io.Model.Input(
            "model_low_noise",
            optional=True,
            tooltip="The model for the last steps, of models that have two (Wan 2.2): wire the high noise one into "
            "model and the low noise one here, each with its own LoRA. Not connected: model takes all steps.",
            **more,
        ),
        io.Int.Input(
            "switch_step",
            optional=True,
            default=0,
            min=0,
            max=1000,
            tooltip="The number of steps that model takes before model_low_noise, as end_at_step of KSampler "
            "(Advanced). 0: half of the steps. Each model has its own noise levels, as in two of these.",
        ),
    ]


def parse_reuse_inputs(inputs: dict[str, Any]) -> tuple[ReuseChoice, dict[str, Any]]:
    """Split a node's inputs into the reuse settings and the rest.

    Args:
        inputs: Values by input id. `order` is required; the other reuse inputs are optional.

    Returns:
        The reuse settings, and the inputs that are none.

    Raises:
        ValueError: For values out of range.
    """
    names = {each.id for each in (*reuse_inputs(), *more_reuse_inputs(), staging_input())}
    settings = {name: inputs[name] for name in names & set(inputs)}
    preset, auto = settings.pop("preset", AS_SET), settings["order"] == "auto"
    if "drift" in settings:
        settings["anchor"] = settings.pop("drift")
    if "noise_policy" in settings:
        settings["noise"] = settings.pop("noise_policy")
    if auto:
        settings["order"] = "mirror"
    choice = ReuseChoice(ReuseSettings(**settings), preset, auto)
    return choice, {name: value for name, value in inputs.items() if name not in names}


def state_input(tooltip: str) -> Any:
    """The optional input for the previous clip's state."""
    return State.Input("state", optional=True, tooltip=tooltip)


def check_prefix(prefix: str | None) -> bool | str:
    """For `validate_inputs`: True, or why `prefix` is no valid file name. None means that the input is connected."""
    try:
        folders.check_prefix(prefix or "")
    except ValueError as error:
        return str(error)
    return True


def require_choices(node: type[io.ComfyNode], **values: Any) -> None:
    """Raise ValueError unless the values of combo inputs are among their options; others are not looked at.

    For `execute`. In `validate_inputs` the host would tell a problem again for each input that it is given.

    Args:
        node: The node whose schema lists the options.
        **values: Values by input id.
    """
    combos = {each.id for each in node.define_schema().inputs or [] if isinstance(each, io.Combo.Input)}
    checked = check_choices(node, **{name: value for name, value in values.items() if name in combos})
    if isinstance(checked, str):
        raise ValueError(checked)


def check_choices(node: type[io.ComfyNode], **values: str | None) -> bool | str:
    """Check that the values of combo inputs are among their options, for `validate_inputs`.

    Older hosts do not check combo inputs themselves.

    Args:
        node: The node whose schema lists the options.
        **values: Values by input id; None means that the input is connected.

    Returns:
        True, or the error message for the first value that is not among its input's options.
    """
    options = {
        each.id: each.options for each in node.define_schema().inputs or [] if isinstance(each, io.Combo.Input)
    }
    for name, value in values.items():
        if value is not None and value not in options[name]:
            return f"{name} is {value!r}, expected one of {', '.join(map(str, options[name]))}"
    return True
