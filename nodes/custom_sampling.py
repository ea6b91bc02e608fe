"""The nodes Reuse & Diffuse Noise, Guidance and State, for custom sampling with SamplerCustomAdvanced."""

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
    parse_reuse_inputs,
    reuse_inputs,
    schema,
    seed_input,
    staging_input,
    state_input,
)

_CATEGORY = f"{CATEGORY}/parts"


class Noise(io.ComfyNode):
    """The initial noise of the clip after a state (FNR and PNS)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_Noise",
            display_name="Reuse & Diffuse Noise",
            category=_CATEGORY,
            description="Makes the initial noise of a clip from that of the previous clip, by Frame-level Noise "
            "Reversion (FNR) and Past-dependent Noise Sampling (PNS). For SamplerCustomAdvanced, together with Reuse "
            "& Diffuse Guidance.",
            search_aliases=["FNR", "PNS", "noise reversion", "vidrd"],
            inputs=[
                seed_input(),
                *(each for each in reuse_inputs() if each.id != "beta"),
                state_input("The state of the previous clip. Not connected: new noise, for a first clip."),
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
    def execute(cls, seed: int, state: Any = None, **reuse: Any) -> io.NodeOutput:
        return io.NodeOutput(ReuseNoise(seed, parse_reuse_inputs(reuse)[0], state))


class Guidance(io.ComfyNode):
    """A sampler with Denoising with Staged Guidance (DSG): prompt frames replay the previous clip."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_Guidance",
            display_name="Reuse & Diffuse Guidance",
            category=_CATEGORY,
            description="Adds Denoising with Staged Guidance (DSG) to any sampler, so that prompt frames replay the "
            "denoising trajectory of the previous clip. The replay is exact, or approximate with the cfg_pp "
            "samplers; dpm_adaptive chooses different steps for each clip and may be refused. Use the same state and "
            "settings as in Reuse & Diffuse Noise.",
            search_aliases=["DSG", "staged guidance", "vidrd"],
            not_idempotent=True,  # or nodes with the same inputs would share one sampler, which records one clip
            inputs=[
                io.Sampler.Input("sampler", tooltip="The sampler to wrap, from KSamplerSelect."),
                *reuse_inputs(),
                state_input("The state of the previous clip. Not connected: this is a first clip, and is recorded."),
                *(each for each in more_reuse_inputs() if each.id != "noise_policy"),
                staging_input(),
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
        staging: str | None = None,
    ) -> bool | str:
        return check_choices(cls, order=order, preset=preset, release=release, loop=loop, staging=staging)

    @classmethod
    def execute(cls, sampler: Any, state: Any = None, **reuse: Any) -> io.NodeOutput:
        if isinstance(sampler, ReuseSampler):
            raise ValueError("the sampler has Reuse & Diffuse Guidance already: wire the one of KSamplerSelect")
        return io.NodeOutput(ReuseSampler(sampler, state, parse_reuse_inputs(reuse)[0]))


class CollectState(io.ComfyNode):
    """The state of a clip that was sampled with Reuse & Diffuse Guidance."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="VidRD_CollectState",
            display_name="Reuse & Diffuse State",
            category=_CATEGORY,
            description="Collects the state for the next clip after SamplerCustomAdvanced has run with Reuse & "
            "Diffuse Guidance.",
            search_aliases=["vidrd state"],
            inputs=[
                io.Sampler.Input("sampler", tooltip="The sampler from Reuse & Diffuse Guidance."),
                io.Latent.Input(
                    "latent",
                    tooltip="The output of SamplerCustomAdvanced that used this sampler; not its denoised_output.",
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="new frames", tooltip="The frames that this clip adds to the video."),
                State.Output(
                    display_name="next state", tooltip="The state for the next clip, or for Save VidRD State."
                ),
            ],
        )

    @classmethod
    def execute(cls, sampler: Any, latent: Any) -> io.NodeOutput:
        return io.NodeOutput(*collect_state(sampler, latent))
