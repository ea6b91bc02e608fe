"""Prompts to long videos: `load`, then `generate`, `extend` or `stream` clips, and `decode` them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vidrd_core.beyond import following_noise
from vidrd_core.clip import Clip, DivergenceError, clip_generator, states_of
from vidrd_core.models.clip_text import CLIPText
from vidrd_core.models.config import DiffusionConfig
from vidrd_core.models.lora.merge import Merged, match
from vidrd_core.models.offload import BlockOffload
from vidrd_core.models.signature import non_defaults, signature
from vidrd_core.models.text import TextEncoder
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.models.vae import TemporalVAE
from vidrd_core.pixels import to_frames, to_video
from vidrd_core.placement import Placement, store
from vidrd_core.reuse import ReuseSettings, StagedGuidance, is_whole
from vidrd_core.sampling import SOLVERS, Denoise, OnStep, Schedule, guided
from vidrd_core.settings import SampleSettings
from vidrd_core.state import ClipState, StateMismatchError, check_following, correction, handed_on
from vidrd_core.travel import Fade, fade_of

PARTS = ("unet", "vae", "text_encoder")


@dataclass(eq=False)
class VidRD:
    """A text encoder, a UNet3D and a temporal VAE."""

    unet: UNet3D
    vae: TemporalVAE
    text_encoder: TextEncoder | CLIPText
    diffusion: DiffusionConfig
    name: str = ""
    about: str = ""  # what its file was found to be, if it is no model of ours
    placement: Placement | None = None  # as its parts are, unless told
    tile: int | None = None  # pixels along a side of the tiles in which larger frames are decoded
    schedule: Schedule = field(init=False)
    merged: Merged = field(init=False, default_factory=Merged)  # LoRAs
    blocks: BlockOffload | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.schedule = Schedule(self.diffusion)

    @property
    def device(self) -> torch.device:
        """What computes."""
        return self.placement.device if self.placement else next(self.unet.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What the UNet computes with."""
        return self.placement.dtype if self.placement else next(self.unet.parameters()).dtype

    def place(self, placement: Placement) -> None:
        """Put the model where it shall compute, for inference. Raises ValueError for weights that do not fit fp8."""
        _ = self.signature  # of the weights as they are in the file
        self.unet.to(placement.dtype)
        if placement.storage is not None:
            store(self.unet, placement.storage)
        self.placement = placement
        if placement.offload == "blocks":
            self.blocks = BlockOffload(self.unet, placement.device)
        if placement.offload == "none":
            for name in PARTS:
                getattr(self, name).to(placement.device)

    def _bring(self, wanted: str) -> None:
        """See that a part is where it computes; where parts are offloaded, the others make room."""
        if self.placement is None or self.placement.offload == "none":
            return
        resting = ("unet",) if self.placement.offload == "blocks" else ()  # its blocks come and go by themselves
        for name in sorted(PARTS, key=lambda name: name == wanted):  # the others go first
            if name not in resting:
                getattr(self, name).to(self.device if name == wanted else "cpu")

    @cached_property
    def signature(self) -> str:
        """Twelve hex digits of the UNet and how it denoises: what a state's noise and record belong to."""
        return signature(self.unet, non_defaults(self.unet.config) + non_defaults(self.diffusion))

    @cached_property
    def other_parts(self) -> dict[str, str]:
        """The same of the parts that read prompts and decode, which a state is bound to as well."""
        return {
            "vae": signature(self.vae, non_defaults(self.vae.config)),
            "text_encoder": signature(self.text_encoder, non_defaults(self.text_encoder.config)),
        }

    @property
    def loras(self) -> str:
        """The LoRAs that are on, in words: "name:strength, ..."."""
        return ", ".join(f"{lora.name}:{lora.strength:g}" for lora in self.merged.loras)

    def load_lora(self, path: str | Path, strength: float = 1.0, text_strength: float | None = None) -> None:
        """Put a LoRA on top of those that are on: kohya's or PEFT's, of this model's layers.

        `text_strength` is that of its changes to the text encoder, if not `strength`. It is merged into the weights,
        so it costs no time. The signature stays the model's own: states go on with other LoRAs, too.

        Raises FileNotFoundError, FormatError saying what the file is instead, ValueError for a strength that is no
        number.
        """
        text_strength = strength if text_strength is None else text_strength
        if not (math.isfinite(strength) and math.isfinite(text_strength)):
            raise ValueError(f"a LoRA's strength is {strength}, {text_strength} for text: expected numbers")
        lora = match(Path(path), self.unet, self.text_encoder, strength, text_strength)
        with self._at_rest() as parts:
            self.merged.add(parts, lora)

    def unload_loras(self) -> None:
        """Take all LoRAs out: the weights are what they were, to the last bit."""
        with self._at_rest() as parts:
            self.merged.clear(parts)

    @contextmanager
    def _at_rest(self) -> Iterator[dict[str, nn.Module]]:
        """The parts that LoRAs change, with their own weights in place, after the signatures have been taken."""
        _ = self.signature, self.other_parts
        if self.blocks is not None:
            self.blocks.rest()
        yield {"unet": self.unet, "text_encoder": self.text_encoder}

    def generate(
        self, prompt: str, reuse: ReuseSettings | None = None, *, on_step: OnStep | None = None, **settings: Any
    ) -> Clip:
        """Make a first clip. `settings` are those of `SampleSettings`.

        `reuse` is how clips will follow: no more than N / 2 of this one's last frames can be prompt frames (M),
        unless it says so.

        Raises ValueError for what the model cannot do, UnknownWordError for a word that it does not know,
        DivergenceError if nothing came out.
        """
        reuse = reuse or ReuseSettings()
        sample = self.complete(SampleSettings(**settings))
        noise = torch.randn(self.latent_shape(sample), generator=clip_generator(sample.seed, 0))
        return self._sample(prompt, sample, noise, None, reuse, on_step)

    def extend(
        self,
        state: ClipState,
        prompt: str,
        reuse: ReuseSettings | None = None,
        *,
        approximate: bool = False,
        fade: Fade | None = None,
        on_step: OnStep | None = None,
        **settings: Any,
    ) -> Clip:
        """Make the clip that follows a state; what is left out is as it was for the clip before.

        `fade` is another prompt and the share, 0 to 1, of this one over it: their encoded texts are mixed so.

        If `approximate`, other steps and another solver will do: prompt frames are led by the old predictions at the
        nearest noise level.

        Raises StateMismatchError if the state is of another model, size or schedule, ValueError if M is not less than
        N or more than what was recorded, DivergenceError if nothing came out.
        """
        sample, reuse, nearest = self._follow(state, reuse, settings, approximate)
        opening = state.opening_noise if reuse.loop == "close" else None
        generator = clip_generator(sample.seed, state.index + 1)
        noise = following_noise(state.noise, reuse, generator, opening=opening)
        return self._sample(prompt, sample, noise, state, reuse, on_step, nearest, fade)

    def stream(
        self,
        prompts: str | Sequence[str],
        clips: int | None = None,
        reuse: ReuseSettings | None = None,
        *,
        state: ClipState | None = None,
        approximate: bool = False,
        travel: int = 0,
        on_step: OnStep | None = None,
        **settings: Any,
    ) -> Iterator[Clip]:
        """Make clips one after the other: prompt k for clip k, the last one repeats.

        `clips` is how many the whole video has, those before `state` too (None: as many as there are prompts);
        `state` is that of an earlier clip to go on from, whose number decides which prompt comes next; `approximate`
        is as in `extend`. Nothing comes after the last clip's. A new prompt fades in over `travel` clips.

        Raises what `generate` and `extend` do, at once.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        if not prompts:
            raise ValueError("there is no prompt: give at least one")
        if not is_whole(travel) or travel < 0:
            raise ValueError(f"travel is {travel!r}, expected a whole number of clips, 0 or more")
        last = len(prompts) if clips is None else clips
        if not is_whole(last) or last < 1:
            raise ValueError(f"clips is {clips!r}, expected a whole number, 1 or more")
        if state is not None and clips is None and state.index + 1 >= last:
            raise ValueError(
                f"the state is that of clip {state.index + 1}, and there are {last} prompts for the whole video: "
                f"give clips, how many it shall have in all"
            )
        # All that can be wrong is told now, not when the first clip is asked for.
        if state is None:
            reuse, sample = reuse or ReuseSettings(), self.complete(SampleSettings(**settings))
        else:
            sample, reuse, _ = self._follow(state, reuse, settings, approximate)
        loops = reuse.loop != "none" and last > 1
        (replace(reuse, loop="close") if loops else reuse).check_frames(self.latent_shape(sample)[2])
        self.schedule.sigmas(sample.steps)
        self._check_prompts(prompts)
        self.text_encoder.tokenize([*prompts, sample.negative])

        def make(state: ClipState | None) -> Iterator[Clip]:
            for index in range(0 if state is None else state.index + 1, last):
                prompt = prompts[min(index, len(prompts) - 1)]
                if state is None:
                    clip = self.generate(prompt, reuse, on_step=on_step, **settings)
                else:
                    rule = replace(reuse, loop="close") if loops and index == last - 1 else reuse
                    fade = fade_of(prompts, index, travel)
                    clip = self.extend(
                        state, prompt, rule, approximate=approximate, fade=fade, on_step=on_step, **settings
                    )
                state = clip.state
                yield clip

        return make(state)

    @torch.no_grad()
    def state_from_video(
        self,
        video: NDArray[np.uint8],
        prompt: str,
        reuse: ReuseSettings | None = None,
        *,
        method: Literal["inversion", "noise"] = "inversion",
        on_step: OnStep | None = None,
        **settings: Any,
    ) -> ClipState:
        """The state of real footage, uint8 [F, H, W, 3]: its last frames, or a still, as a clip to be extended.

        `prompt` is what it shows. Its trajectory is found by DDIM inversion, without guidance, which is unstable
        in reverse, or cheaper by noising its latents. `settings` are those of `SampleSettings`, for this and what
        follows; its size is the footage's.

        Raises ValueError for frames that the model cannot encode, and what `generate` does.
        """
        if video.ndim != 4 or video.shape[-1] != 3 or video.dtype != np.uint8 or 0 in video.shape:
            raise ValueError(f"the video is {video.dtype} {list(video.shape)}, expected uint8 [F, H, W, 3]")
        if method not in ("inversion", "noise"):
            raise ValueError(f"method is {method!r}, expected 'inversion' or 'noise'")
        reuse = reuse or ReuseSettings()
        height, width = video.shape[1:3]
        sample = self.complete(SampleSettings(**{**settings, "width": width, "height": height}))
        frames = self.latent_shape(sample)[2]
        reuse.check_frames(frames)
        self._check_prompts([prompt])
        self._bring("vae")
        pixels = to_video(video[None, -frames:], self.device)
        latents = self.vae.encode(pixels.to(next(self.vae.parameters()).dtype))
        sigmas, denoise = self.schedule.sigmas(sample.steps), None
        if method == "inversion":
            denoise = self.denoiser(prompt, replace(sample, cfg=1.0), list(range(frames)))
        twice = sigmas[1:-1].repeat_interleave(
            2
        )  # heun asks at each level but the first as it arrives and as it leaves
        return ClipState.from_latents(
            latents,
            sigmas.to(latents.device),
            self.signature,
            frames=frames,
            denoise=denoise,
            flow=self.diffusion.prediction == "flow",
            generator=clip_generator(sample.seed, 0),
            solver=sample.solver,
            levels=torch.cat([sigmas[:1], twice]) if sample.solver == "heun" else None,
            keep=reuse.recorded_frames(frames),
            made_with={"prompt": prompt, **asdict(sample), "reuse": asdict(reuse), **self._parts()},
            on_step=on_step,
        )

    @torch.no_grad()
    def decode(self, clips: Clip | ClipState | Iterable[Clip | ClipState]) -> Iterator[NDArray[np.uint8]]:
        """Clips to frames uint8 [F, H, W, 3], given out as they become final; their sum is the whole video.

        The temporal decoder looks `vae.config.halo` frames ahead: a frame comes when that many later ones are there,
        the last ones at the end. A video that begins at a later clip is decoded beside the latents before it.
        """
        states = states_of(clips)
        first = next(states, None)
        if first is None:
            return

        def latents() -> Iterator[Tensor]:
            for state in chain([first], states):
                self._bring("vae")  # another clip may have been made meanwhile
                yield state.shown.to(self.device)

        self._bring("vae")
        height, width = first.shown.shape[-2:]
        together = self.vae.together(height, width, self.tile)
        for video in self.vae.decode_stream(latents(), first.past.to(self.device), self.tile, together):
            yield to_frames(video[0])

    def frames(self, clips: Clip | ClipState | Iterable[Clip | ClipState]) -> NDArray[np.uint8]:
        """All frames of a clip or of several, uint8 [F, H, W, 3]. Raises ValueError if there is none."""
        if not (parts := list(self.decode(clips))):
            raise ValueError("there are no clips: give at least one")
        return np.concatenate(parts)

    def _parts(self) -> dict[str, str]:
        """What a clip is made with beside its settings."""
        return {**self.other_parts, **({"lora": self.loras} if self.loras else {})}

    def complete(self, sample: SampleSettings) -> SampleSettings:
        """Fill in the model's defaults."""
        d = self.diffusion
        values = {"cfg": d.cfg, "frames": d.frames, "width": d.size, "height": d.size}
        given = {key: value for key, value in asdict(sample).items() if value is not None}
        if d.prediction == "flow" and sample.solver == "dpmpp_2m":
            raise ValueError("solver dpmpp_2m is for eps and v models, this is a flow model: use ddim or heun")
        return SampleSettings(**{**values, **given})

    def _follow(
        self, state: ClipState, reuse: ReuseSettings | None, settings: dict[str, Any], approximate: bool
    ) -> tuple[SampleSettings, ReuseSettings, bool]:
        """What a clip that follows a state is made with, and whether it is led by nearest noise levels."""
        known, rules = SampleSettings.__dataclass_fields__, ReuseSettings.__dataclass_fields__
        before = {key: value for key, value in state.made_with.items() if key in known}
        given = {key: value for key, value in settings.items() if value is not None}
        sample = self.complete(SampleSettings(**{**before, **given}))
        reuse = reuse or ReuseSettings(
            **{key: value for key, value in state.made_with.get("reuse", {}).items() if key in rules}
        )
        for part, mine in self.other_parts.items():
            if (theirs := state.made_with.get(part, mine)) != mine:
                name = part.replace("_", " ")
                raise StateMismatchError(f"the state was made with {name} {theirs}, this model has {mine}")
        state.check(self.signature, self.latent_shape(sample))
        reuse.check_frames(state.frames)
        nearest = False
        try:
            state.check_schedule(self.schedule.sigmas(sample.steps), sample.solver)
        except StateMismatchError as error:
            if not approximate:
                raise StateMismatchError(
                    f"{error}; to go on nearly, not exactly, give --approximate (approximate=True)"
                ) from None
            nearest = True
        reuse.check_recorded(state.record.shape[3])
        check_following(state, reuse)
        return sample, reuse, nearest

    @staticmethod
    def _check_prompts(prompts: Sequence[str]) -> None:
        for number, prompt in enumerate(prompts, 1):
            if not any(map(str.isalnum, prompt)):
                raise ValueError(f"prompt {number} has no words ({prompt!r}): say what the clip shows")

    def latent_shape(self, sample: SampleSettings) -> tuple[int, ...]:
        """[1, C, N, h, w] of a clip. Raises ValueError for a size that the model cannot make."""
        pixels = self.vae.config.downsampling
        assert sample.frames is not None
        assert sample.width is not None
        assert sample.height is not None
        for name, value in (("width", sample.width), ("height", sample.height)):
            if value < pixels or value % pixels:
                raise ValueError(f"{name} is {value}, expected a multiple of {pixels} pixels")
        return (
            1,
            self.vae.config.latent_channels,
            sample.frames,
            sample.height // pixels,
            sample.width // pixels,
        )

    @torch.no_grad()
    def denoiser(
        self, prompt: str, sample: SampleSettings, numbers: Sequence[int], fade: Fade | None = None
    ) -> Denoise:
        """`denoise(x, sigma) -> x0` for a prompt, guidance inside, of clips [1, C, N, h, w] on the model's device.

        `sample` is a complete one; `numbers` [N] is what each frame is told of its moment in the clip; `fade` is as
        in `extend`. Raises ValueError for a prompt without words, UnknownWordError.
        """
        self._check_prompts([prompt, *([fade[0]] if fade else [])])
        if fade and not 0 <= fade[1] <= 1:
            raise ValueError(f"the share of the new prompt is {fade[1]!r}, expected a number from 0 to 1")
        assert sample.cfg is not None
        self._bring("text_encoder")
        cond = self.text_encoder.encode([prompt]).to(self.device)
        if fade:
            cond = self.text_encoder.encode([fade[0]]).to(self.device).lerp(cond, fade[1])
        uncond = self.text_encoder.encode([sample.negative]).to(self.device) if sample.cfg != 1.0 else None
        self._bring("unet")
        told = torch.tensor(numbers, device=self.device)

        def network(x: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
            # A single frame is an image, of no moment in particular.
            numbers = told.expand(len(x), -1) if len(told) > 1 else None
            return self.unet(x.to(self.dtype), timestep, text.to(self.dtype), numbers).to(x.dtype)

        return self.schedule.denoiser(guided(network, cond, uncond, sample.cfg))

    @torch.no_grad()
    def _sample(
        self,
        prompt: str,
        sample: SampleSettings,
        noise: Tensor,
        before: ClipState | None,
        reuse: ReuseSettings,
        on_step: OnStep | None,
        nearest: bool = False,
        fade: Fade | None = None,
    ) -> Clip:
        frames = noise.shape[2]
        numbers = reuse.numbers(frames, before.numbers if before else None)
        sigmas = self.schedule.sigmas(sample.steps)
        guidance = StagedGuidance(
            self.denoiser(prompt, sample, numbers, fade),
            reuse,
            sample.steps,
            before.record.to(self.device) if before else None,
            reuse.recorded_frames(frames),
            levels=before.levels if before and nearest else None,
            frames=frames,
            opening=before.opening.to(self.device) if before and reuse.loop == "close" else None,
            correct=correction(before, reuse),
        )

        def step(i: int, x: Tensor) -> None:
            guidance.on_step(i, x)
            if on_step:
                on_step(i, x)

        start = self.schedule.start(noise.to(self.device), sigmas[0])
        latents = SOLVERS[sample.solver](guidance, start, sigmas.to(self.device), step)
        if not latents.isfinite().all():
            raise DivergenceError(
                f"the clip came out as no finite numbers, with cfg {sample.cfg:g}, {sample.solver} and "
                f"{sample.steps} steps: give a smaller cfg, or another solver or number of steps"
            )
        repeated = reuse.repeated_frames if before else 0
        record = guidance.new_record()
        state = ClipState(
            noise=noise,
            record=record,
            latents=latents.cpu(),
            past=before.tail(self.vae.config.halo) if before else latents[:, :, :0].cpu(),
            sigmas=sigmas,
            levels=guidance.new_levels(),
            injected=record[:0],  # these solvers add none
            index=before.index + 1 if before else 0,
            repeated=repeated,
            solver=sample.solver,
            model_signature=self.signature,
            numbers=numbers,
            follows=before.fingerprint if before else "",
            **handed_on(before, noise, guidance.new_opening()),
            made_with={
                "prompt": prompt,
                **asdict(sample),
                "reuse": asdict(reuse),
                **self._parts(),
                **({"fade": list(fade)} if fade else {}),
            },
        )
        return Clip(prompt, state)
