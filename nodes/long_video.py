"""VidRD Long Video."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from comfy_execution.graph_utils import GraphBuilder

from vidrd_core.prompt_schedule import OVER_FRAMES, fade_of, parse_per_clip

from .host.progress import show_clip_count
from .prompts import lines_of
from .schema import (
    CATEGORY,
    LARGEST_SEED,
    State,
    check_choices,
    check_prefix,
    clip_inputs,
    more_reuse_inputs,
    reuse_inputs,
    schema,
)
from .video import check_rate, video_inputs

# Handed on as links to the nodes that this one expands into: so these are known by what they link to, and run again
# only if that has changed.
_LINKED = ("model", "clip", "vae", "latent", "state", "before")
LARGEST = {"seed": LARGEST_SEED, "cfg": 100, "alpha": 1000}
MOST = 500  # the host looks along chains by recursion, which Python ends near 1000
_LINK: dict[str, Any] = {"extra_dict": {"rawLink": True}}


class LongVideo(io.ComfyNode):
    """Many clips, a prompt each, in one growing file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        latent, *sampling = [each for each in clip_inputs() if each.id not in ("model", "positive", "negative")]
        return schema(
            node_id="VidRD_LongVideo",
            display_name="VidRD Long Video",
            category=CATEGORY,
            description="A long video, clip by clip, with a prompt for each: what a chain of Reuse & Diffuse Extend "
            "and Decode & Write Clip makes. After a change only the clips from there on are made anew.",
            search_aliases=["vidrd", "text to video", "long video", "prompt travel", "extend video"],
            enable_expand=True,
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model that denoises: a VidRD UNet3D, or another one.", **_LINK),
                io.Clip.Input("clip", tooltip="The text encoder that reads the prompts.", **_LINK),
                io.Vae.Input("vae", tooltip="The VAE that decodes the clips.", **_LINK),
                io.Latent.Input("latent", tooltip=latent.tooltip, **_LINK),
                io.String.Input(
                    "prompts",
                    multiline=True,
                    dynamic_prompts=True,
                    default="",
                    tooltip="One prompt a line, for one clip each; empty lines do not count.",
                ),
                io.String.Input("negative_prompt", default="", tooltip="What no clip should show."),
                io.Int.Input(
                    "clips",
                    default=0,
                    min=0,
                    max=MOST,
                    tooltip="How many clips. 0: one for each prompt. With more clips than prompts the last prompt "
                    "goes on.",
                ),
                *sampling,
                *reuse_inputs(),
                *video_inputs(),
                *(
                    io.String.Input(
                        f"{name}_per_clip",
                        default="",
                        tooltip=f"The {name} of each clip, with commas between. An empty place takes the value "
                        f"above: ',, {value}' changes that of the third clip alone.",
                    )
                    for name, value in (("seed", "7"), ("cfg", "4.5"), ("alpha", "1"))
                ),
                State.Input(
                    "state",
                    optional=True,
                    tooltip="What a clip before left, to go on from. Nothing wired: a new video.",
                    **_LINK,
                ),
                io.Video.Input(
                    "before",
                    optional=True,
                    tooltip="The video so far, from Decode & Write Clip or Long Video, whose file is to grow. "
                    "Nothing wired: a new file.",
                    **_LINK,
                ),
                *more_reuse_inputs(),
                io.Int.Input(
                    "travel",
                    default=0,
                    min=OVER_FRAMES,
                    max=MOST,
                    optional=True,
                    tooltip="Over how many clips a new prompt fades in, mixed with the one before. 0: at once. -1: "
                    "over the first frames of its first clip, at twice the model calls for that clip.",
                ),
            ],
            outputs=[
                io.Video.Output(display_name="video", tooltip="All clips."),
                State.Output(display_name="last state", tooltip="For Reuse & Diffuse Extend, or Save VidRD State."),
            ],
        )

    @classmethod
    def validate_inputs(
        cls,
        sampler_name: str | None = None,
        scheduler: str | None = None,
        order: str | None = None,
        format: str | None = None,
        filename_prefix: str | None = None,
        preset: str | None = None,
        noise_policy: str | None = None,
        release: str | None = None,
        loop: str | None = None,
    ) -> bool | str:
        told = check_choices(
            cls,
            sampler_name=sampler_name,
            scheduler=scheduler,
            order=order,
            format=format,
            preset=preset,
            noise_policy=noise_policy,
            release=release,
            loop=loop,
        )
        return told if isinstance(told, str) else check_prefix(filename_prefix)

    @classmethod
    def execute(
        cls,
        prompts: str,
        negative_prompt: str,
        clips: int,
        seed: int,
        cfg: float,
        alpha: float,
        filename_prefix: str,
        format: str,
        fps: float,
        scale: int,
        seed_per_clip: str,
        cfg_per_clip: str,
        alpha_per_clip: str,
        loop: str = "none",
        travel: int = 0,
        **given: Any,
    ) -> io.NodeOutput:
        links = {name: given.pop(name, None) for name in _LINKED}
        check_rate(format, fps)
        lines = prompts_of(prompts, clips)
        own = {
            "seed": per_clip("seed", seed_per_clip, seed, len(lines)),
            "cfg": per_clip("cfg", cfg_per_clip, cfg, len(lines)),
            "alpha": per_clip("alpha", alpha_per_clip, alpha, len(lines)),
        }
        how = {"filename_prefix": filename_prefix, "format": format, "fps": fps, "scale": scale}
        graph = GraphBuilder()
        negative = graph.node("CLIPTextEncode", "negative", clip=links["clip"], text=negative_prompt)
        state, video = links["state"], links["before"]
        loops = len(lines) > 1 and (loop != "none" or given.get("preset") == "loop on purpose")
        for k, prompt in enumerate(lines):
            positive = graph.node("CLIPTextEncode", f"prompt_{k + 1}", clip=links["clip"], text=prompt)
            over_frames = {}
            if (fade := fade_of(lines, k, travel)) is not None:
                old = graph.node("CLIPTextEncode", f"before_{k + 1}", clip=links["clip"], text=fade[0])
                if fade[1] == OVER_FRAMES:
                    over_frames = {"positive_before": old.out(0)}
                else:
                    positive = graph.node(
                        "ConditioningAverage",
                        f"travel_{k + 1}",
                        conditioning_to=positive.out(0),
                        conditioning_from=old.out(0),
                        conditioning_to_strength=fade[1],
                    )
            extend = graph.node(
                "VidRD_Extend",
                f"clip_{k + 1}",
                model=links["model"],
                positive=positive.out(0),
                negative=negative.out(0),
                latent=links["latent"],
                **{name: values[k] for name, values in own.items()},
                **given,
                **over_frames,
                loop="none" if not loops else "close" if k == len(lines) - 1 else "keep",
            )
            write = graph.node("VidRD_WriteClip", f"write_{k + 1}", latent=extend.out(0), vae=links["vae"], **how)
            extend.set_input("state", state)
            write.set_input("before", video)
            state, video = extend.out(2), write.out(0)
        show_clip_count(len(lines))
        return io.NodeOutput(video, state, expand=graph.finalize())


def prompts_of(text: str, clips: int) -> list[str]:
    """The prompt of each clip. Raises ValueError if there is none, more than clips, or too many."""
    lines = lines_of(text)
    count = clips or len(lines)
    if count > MOST:
        raise ValueError(
            f"there are {count} clips, expected {MOST} at most: make the rest in a run from a saved state"
        )
    if len(lines) > count:
        raise ValueError(
            f"clips is {count}, but there are {len(lines)} prompts: set it to 0 for one clip a prompt, or more"
        )
    return lines + lines[-1:] * (count - len(lines))


def per_clip(name: str, text: str, otherwise: float, count: int) -> list[float]:
    """The numbers of each clip, by a text like "1, , 3". Raises ValueError for what is no number, or one too many."""
    own = parse_per_clip(name, text, count, 0, LARGEST[name])
    return [otherwise if value is None else value for value in own] + [otherwise] * (count - len(own))
