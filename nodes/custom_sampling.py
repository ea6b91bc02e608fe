"""Reuse & Diffuse Noise, Guidance and State: the parts, for SamplerCustomAdvanced."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host.custom_sampling import ReuseNoise, collect_state
from .host.reuse_sampler import ReuseSampler
from .schema import (
    CATEGORY,
    State,
    check_choices,
    more_reuse_inputs,
    reuse_inputs,
    schema,
    seed_input,
    state_input,
    taken_rule,
)

_CATEGORY = f"{CATEGORY}/parts"


class Noise(io.ComfyNode):
    """The noise of a clip that follows a state."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_Noise",
            display_name="Reuse & Diffuse Noise",
            category=_CATEGORY,
            description="The noise from which a clip starts, made from the last clip's: Frame-level Noise Reversion "
            "and Past-dependent Noise Sampling. For SamplerCustomAdvanced, with Reuse & Diffuse Guidance.",
            search_aliases=["FNR", "PNS", "noise reversion", "vidrd"],
            inputs=[
                seed_input(),
                *(each for each in reuse_inputs() if each.id != "beta"),
                state_input("What the clip before left. Nothing wired: fresh noise, for a first clip."),
                *(each for each in more_reuse_inputs() if each.id in ("preset", "noise_policy", "loop")),
            ],
            outputs=[io.Noise.Output(display_name="noise")],
        )

    @classmethod
    def validate_inputs(
        cls,
        order: str | None = None,
        preset: str | None = None,
        noise_policy: str | None = None,
        loop: str | None = None,
    ) -> bool | str:
        return check_choices(cls, order=order, preset=preset, noise_policy=noise_policy, loop=loop)

    @classmethod
    def execute(cls, seed: int, state: Any = None, **given: Any) -> io.NodeOutput:
        return io.NodeOutput(ReuseNoise(seed, taken_rule(given)[0], state))


class Guidance(io.ComfyNode):
    """A sampler that leads prompt frames along the old clip's denoising."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_Guidance",
            display_name="Reuse & Diffuse Guidance",
            category=_CATEGORY,
            description="Denoising with Staged Guidance around any sampler: the first frames follow the last clip's "
            "denoising for a while, exactly, and only nearly under samplers named cfg_pp; dpm_adaptive takes other "
            "steps each time and may be refused. Wire the same state and settings as into Reuse & Diffuse Noise.",
            search_aliases=["DSG", "staged guidance", "vidrd"],
            inputs=[
                io.Sampler.Input("sampler", tooltip="The sampler that takes the steps, from KSamplerSelect."),
                *reuse_inputs(),
                state_input("What the clip before left. Nothing wired: records a first clip."),
                *(each for each in more_reuse_inputs() if each.id != "noise_policy"),
            ],
            outputs=[io.Sampler.Output(display_name="guided sampler")],
        )

    @classmethod
    def validate_inputs(
        cls,
        order: str | None = None,
        preset: str | None = None,
        release: str | None = None,
        loop: str | None = None,
    ) -> bool | str:
        return check_choices(cls, order=order, preset=preset, release=release, loop=loop)

    @classmethod
    def execute(cls, sampler: Any, state: Any = None, **given: Any) -> io.NodeOutput:
        return io.NodeOutput(ReuseSampler(sampler, state, taken_rule(given)[0]))


class CollectState(io.ComfyNode):
    """What a run under Reuse & Diffuse Guidance leaves for the next clip."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_CollectState",
            display_name="Reuse & Diffuse State",
            category=_CATEGORY,
            description="What the next clip takes over, from a clip that SamplerCustomAdvanced made with Reuse & "
            "Diffuse Guidance.",
            search_aliases=["vidrd state"],
            inputs=[
                io.Sampler.Input("sampler", tooltip="The sampler from Reuse & Diffuse Guidance."),
                io.Latent.Input(
                    "latent",
                    tooltip="What SamplerCustomAdvanced made with it: its first output, not denoised_output.",
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="new frames", tooltip="What this clip adds to the video."),
                State.Output(display_name="next state", tooltip="For the next clip, or Save VidRD State."),
            ],
        )

    @classmethod
    def execute(cls, sampler: Any, latent: Any) -> io.NodeOutput:
        return io.NodeOutput(*collect_state(sampler, latent))
