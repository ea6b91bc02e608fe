"""VidRD Sample Clip, and Reuse & Diffuse Extend."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from vidrd_core.presets import Rule
from vidrd_core.reuse import ReuseSettings

from .host.latent_layout import layout_of
from .host.sample_clip import latent_frames, sample_clip
from .schema import (
    CATEGORY,
    State,
    check_choices,
    clip_inputs,
    more_reuse_inputs,
    reuse_inputs,
    schema,
    state_input,
    taken_rule,
)


class SampleClip(io.ComfyNode):
    """A first clip."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_SampleClip",
            display_name="VidRD Sample Clip",
            category=CATEGORY,
            description="Makes a first clip, as KSampler does, and keeps what the next one takes over from it.",
            search_aliases=["ksampler", "video sampler", "vidrd"],
            inputs=clip_inputs(),
            outputs=[
                io.Latent.Output(display_name="clip", tooltip="The clip's latents."),
                State.Output(display_name="state", tooltip="For Reuse & Diffuse Extend, or Save VidRD State."),
            ],
        )

    @classmethod
    def validate_inputs(cls, sampler_name: str | None = None, scheduler: str | None = None) -> bool | str:
        return check_choices(cls, sampler_name=sampler_name, scheduler=scheduler)

    @classmethod
    def execute(cls, latent: Any, **given: Any) -> io.NodeOutput:
        most = latent_frames(latent) - 1 - layout_of(given["model"]).compresses_time
        rule = Rule(ReuseSettings(max(0, min(ReuseSettings.prompt_frames, most))), auto=True)  # what a short one can
        _, whole, state = sample_clip(latent=latent, **given, rule=rule)
        return io.NodeOutput(whole, state)


class Extend(io.ComfyNode):
    """The clip that follows a state, or a first one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_Extend",
            display_name="Reuse & Diffuse Extend",
            category=CATEGORY,
            description="Makes the clip that follows another: it takes over that one's noise (FNR, PNS) and is led "
            "along its denoising (DSG). Without a state it makes the first clip, so chains and loops need this node "
            "alone. Works with any model whose latents have a frame dimension.",
            search_aliases=["vidrd", "long video", "extend video", "continue video", "FNR", "PNS", "DSG"],
            inputs=[
                *clip_inputs(),
                *reuse_inputs(),
                state_input("What the clip before left. Nothing wired: this is the first clip."),
                *more_reuse_inputs(),
                io.Conditioning.Input(
                    "positive_before",
                    optional=True,
                    tooltip="What the clip before showed, if that shall fade into what this one shows: over as many "
                    "first frames as are prompt frames, at twice the model calls. Nothing wired: at once.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="new frames",
                    tooltip="What this clip adds to the video; in forward order without the M frames shown already.",
                ),
                io.Latent.Output(display_name="whole clip", tooltip="All of the clip's frames."),
                State.Output(display_name="next state", tooltip="For the next Extend, or Save VidRD State."),
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
        )

    @classmethod
    def execute(cls, state: Any = None, **given: Any) -> io.NodeOutput:
        rule, given = taken_rule(given)
        return io.NodeOutput(*sample_clip(**given, rule=rule, previous=state))
