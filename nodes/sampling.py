"""The nodes VidRD Sample Clip and Reuse & Diffuse Extend."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from vidrd_core.presets import ReuseChoice
from vidrd_core.reuse import ReuseSettings

from .host import kept_clips
from .host.latent_layout import layout_of
from .host.named_values import value_of
from .host.progress import clip_position, show_status
from .host.sample_clip import latent_frames, sample_clip
from .schema import (
    CATEGORY,
    State,
    check_choices,
    clip_inputs,
    expert_inputs,
    more_reuse_inputs,
    parse_reuse_inputs,
    reuse_inputs,
    schema,
    staging_input,
    state_input,
)


class SampleClip(io.ComfyNode):
    """Samples a first clip."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_SampleClip",
            display_name="VidRD Sample Clip",
            category=CATEGORY,
            description="Samples the first clip, as KSampler does from the same noise, and stores the state that the "
            "next clip starts from.",
            search_aliases=["ksampler", "video sampler", "vidrd"],
            inputs=clip_inputs(),
            outputs=[
                io.Latent.Output(display_name="clip", tooltip="The latents of the clip."),
                State.Output(
                    display_name="state", tooltip="The state for Reuse & Diffuse Extend, or for Save VidRD State."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, sampler_name: str | None = None, scheduler: str | None = None) -> bool | str:
        return check_choices(cls, sampler_name=sampler_name, scheduler=scheduler)

    @classmethod
    def execute(cls, latent: Any, **settings: Any) -> io.NodeOutput:
        # A clip shorter than the default number of prompt frames records as many as it can.
        most = latent_frames(latent) - 1 - layout_of(settings["model"]).compresses_time
        choice = ReuseChoice(ReuseSettings(max(0, min(ReuseSettings.prompt_frames, most))), auto=True)
        _, whole, state = sample_clip(latent=latent, **settings, choice=choice)
        return io.NodeOutput(whole, state)


class Extend(io.ComfyNode):
    """Samples the clip after a state, or a first clip."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_Extend",
            display_name="Reuse & Diffuse Extend",
            category=CATEGORY,
            description="Extends a video by one clip, which reuses the previous clip's noise (FNR, PNS) and replays "
            "its denoising trajectory in the prompt frames (DSG). Without a state it samples a first clip, so chains "
            "and loops need no other sampler. Works with any model whose latents have a frame dimension.",
            search_aliases=["vidrd", "long video", "extend video", "continue video", "FNR", "PNS", "DSG"],
            inputs=[
                *clip_inputs(),
                *reuse_inputs(),
                state_input("The state of the previous clip. Not connected: this is the first clip."),
                *more_reuse_inputs(),
                io.Conditioning.Input(
                    "positive_before",
                    optional=True,
                    tooltip="The prompt of the previous clip, to fade from it to the new one over the first M "
                    "frames, at twice the model calls. Not connected: the prompt changes at once.",
                ),
                staging_input(),
                *expert_inputs(),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="new frames",
                    tooltip="The frames that this clip adds to the video: in forward order all but the M prompt "
                    "frames, which repeat the previous clip. Decode & Write Clip keeps their picture and sound in "
                    "step.",
                ),
                io.Latent.Output(
                    display_name="whole clip", tooltip="All frames of the clip, including repeated ones."
                ),
                State.Output(
                    display_name="next state", tooltip="The state for the next Extend, or for Save VidRD State."
                ),
            ],
        )

    @classmethod
    def validate_inputs(
        cls,
        sampler_name: str | None = None,
        scheduler: str | None = None,
        order: str | None = None,
        preset: str | None = None,
        noise_policy: str | None = None,
        release: str | None = None,
        loop: str | None = None,
        staging: str | None = None,
    ) -> bool | str:
        return check_choices(
            cls,
            sampler_name=sampler_name,
            scheduler=scheduler,
            order=order,
            preset=preset,
            noise_policy=noise_policy,
            release=release,
            loop=loop,
            staging=staging,
        )

    @classmethod
    def execute(cls, state: Any = None, **inputs: Any) -> io.NodeOutput:
        choice, settings = parse_reuse_inputs(inputs)
        models = [each for name in ("model", "model_low_noise") if (each := settings.get(name)) is not None]
        dtypes = [(each.model.get_dtype(), each.model.manual_cast_dtype) for each in models]
        given = {name: settings.get(name) for name in ("positive", "negative", "positive_before", "latent")}
        key = kept_clips.key_of_running_node(models[0].load_device, *dtypes, given=given)
        if (kept := kept_clips.find_clip(key)) is not None:
            show_status("kept from an earlier run", clip_position(), share=1, kept=True)
            return io.NodeOutput(*kept)
        made = sample_clip(**settings, choice=choice, previous=value_of(state))
        kept_clips.keep_clip(key, *made)
        return io.NodeOutput(*made)
