"""A model of three parts: loaded, placed, with LoRAs, and as a denoiser for a prompt."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from vidrd_core.io.digests import non_defaults, signature
from vidrd_core.models.clip_text_encoder import CLIPText
from vidrd_core.models.lora.merge import Merged, match
from vidrd_core.models.offload import BlockOffload
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.models.vae import TemporalVAE
from vidrd_core.models.word_text_encoder import TextEncoder
from vidrd_core.placement import Placement, store
from vidrd_core.prompt_schedule import Fade
from vidrd_core.sampling import Denoise, DiffusionConfig, Schedule, guided
from vidrd_core.settings import SampleSettings

PARTS = ("unet", "vae", "text_encoder")


@dataclass(eq=False)
class Model:
    """A text encoder, a UNet3D and a temporal VAE: where they are, what they are known by, and their LoRAs."""

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

    def bring(self, wanted: str) -> None:
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
            self.blocks.release()
        yield {"unet": self.unet, "text_encoder": self.text_encoder}

    def made_of(self) -> dict[str, str]:
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

    @staticmethod
    def check_prompts(prompts: Sequence[str]) -> None:
        """Raise ValueError for a prompt without words."""
        for number, prompt in enumerate(prompts, 1):
            if not any(map(str.isalnum, prompt)):
                raise ValueError(f"prompt {number} has no words ({prompt!r}): say what the clip shows")

    @torch.no_grad()
    def denoiser(
        self,
        prompt: str | Sequence[str],
        sample: SampleSettings,
        numbers: Sequence[int],
        fade: Fade | None = None,
    ) -> Denoise:
        """`denoise(x, sigma) -> x0` for a prompt, or B, guidance inside, of clips [B, C, N, h, w] on its device.

        `sample` is a complete one; `numbers` [N] is what each frame is told of its moment in the clip; `fade` is as
        in `extend`. Raises ValueError for a prompt without words, UnknownWordError.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        self.check_prompts([*prompts, *([fade[0]] if fade else [])])
        if fade and not 0 <= fade[1] <= 1:
            raise ValueError(f"the share of the new prompt is {fade[1]!r}, expected a number from 0 to 1")
        assert sample.cfg is not None
        self.bring("text_encoder")
        cond = self.text_encoder.encode(prompts).to(self.device)
        if fade:
            cond = self.text_encoder.encode([fade[0]]).to(self.device).lerp(cond, fade[1])
        uncond = None
        if sample.cfg != 1.0:
            uncond = self.text_encoder.encode([sample.negative]).to(self.device).expand_as(cond)
        self.bring("unet")
        told = torch.tensor(numbers, device=self.device)

        def network(x: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
            # A single frame is an image, of no moment in particular.
            numbers = told.expand(len(x), -1) if len(told) > 1 else None
            return self.unet(x.to(self.dtype), timestep, text.to(self.dtype), numbers).to(x.dtype)

        return self.schedule.denoiser(guided(network, cond, uncond, sample.cfg))
