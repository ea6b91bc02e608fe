"""The three parts of a model: where they compute, their LoRAs, and the denoiser that they make for a prompt."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor, nn

from vidrd_core.io.digests import non_defaults, signature
from vidrd_core.models.clip_text_encoder import CLIPText
from vidrd_core.models.feature_cache import FeatureCache
from vidrd_core.models.lora.merge import Merged, match
from vidrd_core.models.offload import BlockOffload
from vidrd_core.models.prompt_tokens import of_one_length
from vidrd_core.models.unet3d import UNet3D
from vidrd_core.models.vae import TemporalVAE
from vidrd_core.models.word_text_encoder import TextEncoder
from vidrd_core.prompt_schedule import Fade
from vidrd_core.sampling import SOLVERS, Denoise, DiffusionConfig, Schedule, guided
from vidrd_core.settings import SampleSettings

Offload = Literal["none", "parts", "blocks"]
STORAGE = ("float8_e4m3fn", "float8_e5m2")
PRECISE = ("conv_in", "conv_out", "time_embedding")  # small parts of a UNet that everything else depends on
PARTS = ("unet", "vae", "text_encoder")

Self = TypeVar("Self", bound="Model")


def device_of(name: str | torch.device) -> torch.device:
    """Choose a device by name.

    Args:
        name: "auto", or a device or its name, such as "cpu", "cuda:1" or "mps".

    Returns:
        The device; for "auto" CUDA if it is available, else MPS, else the CPU.

    Raises:
        ValueError: There is no such kind of device.
    """
    if str(name) != "auto":
        try:
            return torch.device(name)
        except RuntimeError as error:
            raise ValueError(f"device is {name!r}, expected auto, cpu, cuda, cuda:1, mps or the like") from error
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def usable_device(name: str | torch.device) -> torch.device:
    """Choose a device by name, and try it.

    Args:
        name: As for `device_of`.

    Returns:
        The device.

    Raises:
        ValueError: There is no such kind of device, or it does not work here; the message names those that do.
    """
    device = device_of(name)
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise ValueError(f"device is {str(name)!r}, which cannot be used here: give {usable_devices()}") from error
    return device


def usable_devices() -> str:
    """The kinds of devices that work here, for messages."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return " or ".join(["cpu", *(kind for kind, is_here in available.items() if is_here)])


@dataclass(frozen=True)
class Placement:
    """Where a model computes and how much of the device's memory it takes.

    Args:
        device: The device that computes.
        dtype: The type that the UNet computes with.
        storage: The type in which the weights of the UNet's linear layers and convs are kept, if another: fp8 takes
            half the memory of fp16.
        offload: "parts" keeps text encoder, UNet and VAE in main memory while another of them computes; "blocks"
            keeps the UNet there and moves one of its blocks at a time.

    Raises:
        ValueError: `offload` or `storage` is not valid, or offloading has no device to move parts to.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    storage: torch.dtype | None = None
    offload: Offload = "none"

    def __post_init__(self) -> None:
        if self.offload not in get_args(Offload):
            raise ValueError(f"offload is {self.offload!r}, expected one of {', '.join(get_args(Offload))}")
        if self.offload != "none" and self.device.type == "cpu":
            raise ValueError(
                f"offload is {self.offload!r}, which keeps weights in main memory while a device computes: name one, "
                f"like cuda, or leave it none"
            )
        if self.storage is not None and str(self.storage).removeprefix("torch.") not in STORAGE:
            raise ValueError(f"storage is {self.storage}, expected one of {', '.join(STORAGE)}")


def store(unet: UNet3D, dtype: torch.dtype) -> None:
    """Keep the weights of a UNet's linear layers and convs in another type; each is cast when it is used.

    Args:
        unet: The UNet, which is changed in place; the layers of `PRECISE` keep their type.
        dtype: The type to keep them in, such as torch.float8_e4m3fn.

    Raises:
        ValueError: A weight is too large for the type.
    """
    layers = {
        name: module
        for name, module in unet.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and name.split(".")[0] not in PRECISE
    }
    most = torch.finfo(dtype).max
    for name, layer in layers.items():
        if layer.weight.numel() and (highest := float(layer.weight.abs().max())) > most:
            raise ValueError(f"{name}.weight goes up to {highest:.4g}, {dtype} to {most:.4g}: leave storage out")
    for layer in layers.values():
        layer.weight.data = layer.weight.data.to(dtype)


@dataclass(eq=False)
class Model:
    """A text encoder, a UNet3D and a temporal VAE, with their device, their signatures and their LoRAs.

    Args:
        unet: The denoising network.
        vae: The autoencoder.
        text_encoder: The prompt's encoder.
        diffusion: How the UNet was trained to denoise.
        name: What messages and saved files call the model.
        about: What its file was found to be, if it is a third-party one.
        placement: Where it computes; by default where its parts are.
        tile: The side in pixels of the tiles in which larger frames are decoded; None for no tiles.
    """

    unet: UNet3D
    vae: TemporalVAE
    text_encoder: TextEncoder | CLIPText
    diffusion: DiffusionConfig
    name: str = ""
    about: str = ""
    placement: Placement | None = None
    tile: int | None = None
    schedule: Schedule = field(init=False)
    merged: Merged = field(init=False, default_factory=Merged)
    blocks: BlockOffload | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.schedule = Schedule(self.diffusion)

    @property
    def device(self) -> torch.device:
        """The device that computes."""
        return self.placement.device if self.placement else next(self.unet.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The type that the UNet computes with."""
        return self.placement.dtype if self.placement else next(self.unet.parameters()).dtype

    def to(
        self: Self, device: str | torch.device | torch.dtype | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """Move the model to a device, and have its UNet compute with a type, as in `torch.nn.Module.to`.

        Args:
            device: A name or a torch.device; "auto" is CUDA where there is one, else MPS, else the CPU. None: as is.
                Or the type, if it is given alone.
            dtype: float32, float16 or bfloat16. None: as is.

        Returns:
            The model itself.

        Raises:
            ValueError: There is no such device here, two types are given, or the model was loaded with `storage` or
                `offload`.
        """
        if isinstance(device, torch.dtype):
            if dtype is not None:
                raise ValueError(f"device is {device} and dtype is {dtype}, expected one type: give a device first")
            device, dtype = None, device
        if self.placement and (self.placement.storage or self.placement.offload != "none"):
            raise ValueError(
                "the model was loaded with storage or offload, which fix where its weights are: load it again with "
                "another device or dtype"
            )
        self.place(Placement(self.device if device is None else usable_device(device), dtype or self.dtype))
        return self

    def place(self, placement: Placement) -> None:
        """Put the model where it is to compute, for inference. Raises ValueError for weights that do not fit fp8."""
        _ = self.signature, self.other_parts  # of the weights as they are in the file
        self.unet.to(placement.dtype)
        if placement.storage is not None:
            store(self.unet, placement.storage)
        self.placement = placement
        if placement.offload == "blocks":
            self.blocks = BlockOffload(self.unet, placement.device)
        if placement.offload == "none":
            for name in PARTS:
                getattr(self, name).to(placement.device)

    def move_to_device(self, wanted: str) -> None:
        """Move a part ("unet", "vae" or "text_encoder") to the device; with offloading, the others leave it."""
        if self.placement is None or self.placement.offload == "none":
            return
        resting = ("unet",) if self.placement.offload == "blocks" else ()  # its blocks are moved one at a time
        for name in sorted(PARTS, key=lambda name: name == wanted):  # the others go first
            if name not in resting:
                getattr(self, name).to(self.device if name == wanted else "cpu")

    @cached_property
    def signature(self) -> str:
        """Twelve hex digits of the UNet and how it denoises, to which a state's noise and record belong."""
        return signature(self.unet, non_defaults(self.unet.config) + non_defaults(self.diffusion))

    @cached_property
    def other_parts(self) -> dict[str, str]:
        """The signatures of the VAE and the text encoder, to which a state is bound as well."""
        return {
            "vae": signature(self.vae, non_defaults(self.vae.config)),
            "text_encoder": signature(self.text_encoder, non_defaults(self.text_encoder.config)),
        }

    @property
    def loras(self) -> str:
        """The LoRAs that are loaded, as "name:strength, ..."."""
        return ", ".join(f"{lora.name}:{lora.strength:g}" for lora in self.merged.loras)

    def load_lora(self, path: str | Path, strength: float = 1.0, text_strength: float | None = None) -> None:
        """Add a LoRA to those that are loaded, by merging it into the weights, so that it costs no time.

        The model's signature stays, so states can be extended with other LoRAs, too.

        Args:
            path: A safetensors file in kohya's, PEFT's or diffusers' form, for this model's layers.
            strength: The factor of its changes.
            text_strength: Their factor in the text encoder; by default `strength`.

        Raises:
            FileNotFoundError: There is no such file.
            FormatError: The file is something else, or of another model; the message says what.
            ValueError: A strength is not finite.
        """
        text_strength = strength if text_strength is None else text_strength
        if not (math.isfinite(strength) and math.isfinite(text_strength)):
            raise ValueError(f"a LoRA's strength is {strength}, {text_strength} for text: expected numbers")
        lora = match(Path(path), self.unet, self.text_encoder, strength, text_strength)
        with self._original_weights() as parts:
            self.merged.add(parts, lora)

    def unload_loras(self) -> None:
        """Remove all LoRAs; the weights are restored bit for bit."""
        with self._original_weights() as parts:
            self.merged.clear(parts)

    @contextmanager
    def _original_weights(self) -> Iterator[dict[str, nn.Module]]:
        """The parts that LoRAs change, with their own weights in place, after the signatures have been taken."""
        _ = self.signature, self.other_parts
        if self.blocks is not None:
            self.blocks.release()
        yield {"unet": self.unet, "text_encoder": self.text_encoder}

    def metadata(self) -> dict[str, str]:
        """What a clip's state records of the model besides the sample settings."""
        dtype = str(self.dtype).removeprefix("torch.")
        return {"dtype": dtype, **self.other_parts, **({"lora": self.loras} if self.loras else {})}

    def complete(self, sample: SampleSettings) -> SampleSettings:
        """Fill in the model's defaults.

        Args:
            sample: Settings in which cfg, frames, width and height may be None.

        Returns:
            Settings without None.

        Raises:
            ValueError: The solver does not suit the model.
        """
        d = self.diffusion
        values = {"cfg": d.cfg, "frames": d.frames, "width": d.size, "height": d.size}
        given = {key: value for key, value in asdict(sample).items() if value is not None}
        if d.prediction == "flow" and not SOLVERS[sample.solver].flow:
            fitting = [name for name, solver in SOLVERS.items() if solver.flow]
            raise ValueError(
                f"solver {sample.solver} is for eps and v models, this is a flow model: use {' or '.join(fitting)}"
            )
        return SampleSettings(**{**values, **given})

    def latent_shape(self, sample: SampleSettings) -> tuple[int, ...]:
        """Compute the shape of a clip's latents.

        Args:
            sample: Complete settings (`complete`).

        Returns:
            (1, C, N, h, w).

        Raises:
            ValueError: The width or height is no multiple of the VAE's downsampling.
        """
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
        """Raise ValueError for a prompt that is no text or has no words."""
        for number, prompt in enumerate(prompts, 1):
            if not isinstance(prompt, str):
                raise ValueError(f"prompt {number} is {prompt!r}, expected a text")
            if not any(map(str.isalnum, prompt)):
                raise ValueError(f"prompt {number} has no words ({prompt!r}): say what the clip shows")

    @torch.no_grad()
    def denoiser(
        self,
        prompt: str | Sequence[str],
        sample: SampleSettings,
        frame_positions: Sequence[int],
        fade: Fade | None = None,
        cache: FeatureCache | None = None,
    ) -> Denoise:
        """The denoiser `denoise(x, sigma) -> x0` for a prompt, with classifier-free guidance inside.

        Args:
            prompt: A prompt, or B of them for a batch.
            sample: Complete settings (`complete`).
            frame_positions: The position embedded for each frame [N].
            fade: The previous prompt and the share of this one, 0 to 1, in which their encodings are mixed.
            cache: What the UNet keeps from call to call; by default what changes no result.

        Returns:
            A function of x [B, C, N, h, w] on the model's device and a scalar sigma.

        Raises:
            ValueError: A prompt has no words, or the share is out of range.
            UnknownWordError: The text encoder does not know a word.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        self.check_prompts([*prompts, *([fade[0]] if fade else [])])
        if fade and not 0 <= fade[1] <= 1:
            raise ValueError(f"the share of the new prompt is {fade[1]!r}, expected a number from 0 to 1")
        assert sample.cfg is not None
        self.move_to_device("text_encoder")
        # One at a time: so the last bits do not depend on what else is in the batch.
        cond = torch.cat(of_one_length([self.text_encoder.encode([each]) for each in prompts])).to(self.device)
        if fade:
            before, cond = of_one_length([self.text_encoder.encode([fade[0]]).to(self.device), cond])
            cond = before.lerp(cond, fade[1])
        uncond = None
        if sample.cfg != 1.0:
            cond, uncond = of_one_length([cond, self.text_encoder.encode([sample.negative]).to(self.device)])
            uncond = uncond.expand_as(cond)
        texts = 1 if uncond is None else 2
        self.move_to_device("unet")
        positions = torch.tensor(frame_positions, device=self.device)
        cache = cache or FeatureCache()

        def network(x: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
            # A single frame is an image, without a position.
            of_batch = positions.expand(len(text), -1) if len(positions) > 1 else None
            clips = x[: len(x) // texts].to(self.dtype)
            return self.unet(clips, timestep, text.to(self.dtype), of_batch, cache).to(x.dtype)

        return self.schedule.denoiser(guided(network, cond, uncond, sample.cfg))
