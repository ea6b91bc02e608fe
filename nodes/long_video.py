"""The node VidRD Long Video."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from comfy_execution.graph_utils import GraphBuilder

from vidrd_core.prompt_schedule import OVER_FRAMES, fade_of, parse_per_clip

from .host.progress import show_clip_count
from .long_video_part import LINKED, add_check, add_parts
from .prompts import parse_prompts
from .schema import (
    CATEGORY,
    MAX_SEED,
    RAW_LINK,
    State,
    check_prefix,
    clip_inputs,
    expert_inputs,
    more_reuse_inputs,
    require_choices,
    reuse_inputs,
    schema,
    staging_input,
)
from .video import audio_vae_input, check_rate, video_inputs

_ADVANCED = (
    *("prompt_frames", "alpha", "beta", "order", "noise_policy", "release", "drift", "loop", "staging", "travel"),
    *("seed_per_clip", "cfg_per_clip", "alpha_per_clip", "scale", "switch_step"),
)
MAX_VALUES = {"seed": MAX_SEED, "cfg": 100, "alpha": 1000}
MAX_CLIPS = 500  # the host follows a chain of nodes by recursion, which Python limits to about 1000 calls


class LongVideo(io.ComfyNode):
    """Samples a video of many clips, with a prompt for each, and writes it to one file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        latent, *sampling = [each for each in clip_inputs() if each.id not in ("model", "positive", "negative")]
        return schema(
            node_id="VidRD_LongVideo",
            display_name="VidRD Long Video",
            category=CATEGORY,
            description="Makes a long video clip by clip, with a prompt for each clip, like a chain of Reuse & "
            "Diffuse Extend and Decode & Write Clip. After a change, only the affected clip and the later ones are "
            "made again.",
            search_aliases=["vidrd", "text to video", "long video", "prompt travel", "extend video"],
            enable_expand=True,
            is_output_node=True,
            advanced=_ADVANCED,
            inputs=[
                io.Model.Input(
                    "model", tooltip="The diffusion model: a VidRD UNet3D or any other video model.", **RAW_LINK
                ),
                io.Clip.Input("clip", tooltip="The text encoder (CLIP) for the prompts.", **RAW_LINK),
                io.Vae.Input("vae", tooltip="The VAE that decodes the clips.", **RAW_LINK),
                io.Latent.Input("latent", tooltip=latent.tooltip, **RAW_LINK),
                io.String.Input(
                    "prompts",
                    multiline=True,
                    dynamic_prompts=True,
                    default="",
                    tooltip="One prompt per line and clip; empty lines are ignored.",
                ),
                io.String.Input("negative_prompt", default="", tooltip="The negative prompt for all clips."),
                io.Int.Input(
                    "clips",
                    default=0,
                    min=0,
                    max=MAX_CLIPS,
                    tooltip="The number of clips. 0: one for each prompt. If there are more clips than prompts, the "
                    "last prompt is used for the rest.",
                ),
                *sampling,
                *reuse_inputs(),
                *video_inputs(),
                *(
                    io.String.Input(
                        f"{name}_per_clip",
                        default="",
                        tooltip=f"The {name} of each clip, separated by commas. Empty entries use the {name} above: "
                        f"',, {value}' changes the third clip only.",
                    )
                    for name, value in (("seed", "7"), ("cfg", "4.5"), ("alpha", "1"))
                ),
                State.Input(
                    "state",
                    optional=True,
                    tooltip="The state of a clip to continue from. Not connected: a new video.",
                    **RAW_LINK,
                ),
                io.Video.Input(
                    "before",
                    optional=True,
                    tooltip="A video from Decode & Write Clip or Long Video; the clips are appended to its file. Not "
                    "connected: a new file.",
                    **RAW_LINK,
                ),
                *more_reuse_inputs(),
                io.Int.Input(
                    "travel",
                    default=0,
                    min=OVER_FRAMES,
                    max=MAX_CLIPS,
                    optional=True,
                    tooltip="Prompt travel: the number of clips over which a new prompt fades in. 0: at once. -1: "
                    "over the first frames of its first clip, at twice the model calls for that clip.",
                ),
                staging_input(),
                audio_vae_input(**RAW_LINK),
                *expert_inputs(**RAW_LINK),
            ],
            outputs=[
                io.Video.Output(display_name="video", tooltip="The video with all clips."),
                State.Output(
                    display_name="last state",
                    tooltip="The state for Reuse & Diffuse Extend, or for Save VidRD State.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, filename_prefix: str | None = None) -> bool | str:
        return check_prefix(filename_prefix)

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
        **settings: Any,
    ) -> io.NodeOutput:
        links = {name: settings.pop(name, None) for name in (*LINKED, "state", "before")}
        require_choices(cls, format=format, loop=loop, **settings)
        if links["before"] is None:  # which has a rate and a format of its own
            check_rate(format, fps)
        texts = prompts_per_clip(prompts, clips)
        per_clip = {
            "seed": values_per_clip("seed", seed_per_clip, seed, len(texts)),
            "cfg": values_per_clip("cfg", cfg_per_clip, cfg, len(texts)),
            "alpha": values_per_clip("alpha", alpha_per_clip, alpha, len(texts)),
        }
        loops = loop != "none" or settings.get("preset") == "loop on purpose"
        if loops and len(texts) == 1 and links["state"] is None:
            raise ValueError(
                "a video of one clip cannot end as it began: make 2 clips or more, wire a state that was made with "
                "loop keep, or set loop to none and choose another preset than loop on purpose"
            )
        of_clips = [
            {
                "number": k + 1,
                "prompt": prompt,
                "fade": fade_of(texts, k, travel),
                **{name: values[k] for name, values in per_clip.items()},
                "loop": "none" if not loops else "close" if k == len(texts) - 1 else "keep",
            }
            for k, prompt in enumerate(texts)
        ]
        file = {"filename_prefix": filename_prefix, "format": format, "fps": fps, "scale": scale}
        graph = GraphBuilder()
        shared = {**settings, "negative_prompt": negative_prompt}
        add_check(graph, file, links)
        video, state = add_parts(graph, of_clips, shared, file, links)
        show_clip_count(len(texts))
        return io.NodeOutput(video, state, expand=graph.finalize())


def prompts_per_clip(text: str, clips: int) -> list[str]:
    """Assign a prompt to each clip.

    Args:
        text: The prompts, one per line.
        clips: The number of clips; 0 for one per prompt.

    Returns:
        A prompt for each clip; the last line's is repeated for the clips that remain.

    Raises:
        ValueError: If there is no prompt, there are more prompts than clips, or more than `MAX_CLIPS` clips.
    """
    prompts = parse_prompts(text)
    count = clips or len(prompts)
    if count > MAX_CLIPS:
        raise ValueError(
            f"there are {count} clips, expected {MAX_CLIPS} at most: make the rest in another run, from a saved state"
        )
    if len(prompts) > count:
        raise ValueError(
            f"clips is {count}, but there are {len(prompts)} prompts: raise it, or set it to 0 for one clip per "
            "prompt"
        )
    return prompts + prompts[-1:] * (count - len(prompts))


def values_per_clip(name: str, text: str, default: float, count: int) -> list[float]:
    """Assign a setting's value to each clip.

    Args:
        name: The setting, such as "seed".
        text: Values by clip, separated by commas, such as "1, , 3".
        default: The value of clips that `text` gives none for.
        count: The number of clips.

    Returns:
        `count` values in the order of the clips; integers for "seed".

    Raises:
        ValueError: For an entry that is not a number or out of range, or more entries than clips.
    """
    values = parse_per_clip(name, text, count, 0, MAX_VALUES[name])
    return [default if value is None else value for value in values] + [default] * (count - len(values))
