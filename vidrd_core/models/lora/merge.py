"""LoRAs on a model: merged into its weights, and taken out again bit for bit."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from vidrd_core.io.safetensors import FormatError, first_few, is_finite
from vidrd_core.models.lora.changes import Change
from vidrd_core.models.lora.files import read_lora
from vidrd_core.models.lora.names import (
    is_sdxl_layer,
    is_text_layer,
    is_unused_layer,
    number_of_text_layer,
    text_names,
    unet_names,
)

Place = tuple[str, str]  # "unet" or "text_encoder", and the name of a weight in it

HALF_MAX = torch.finfo(torch.float16).max


@dataclass(frozen=True)
class LoRA:
    """One LoRA, matched with a model's weights.

    Args:
        name: The file's name.
        changes: The change of each weight.
        strength: Factor of the changes in the UNet.
        text_strength: Factor of the changes in the text encoder.
    """

    name: str
    changes: dict[Place, Change]
    strength: float
    text_strength: float

    def of(self, place: Place) -> tuple[float, Change] | None:
        """The strength and the change of a weight; None if it is not changed."""
        strength = self.strength if place[0] == "unet" else self.text_strength
        return (strength, self.changes[place]) if place in self.changes and strength else None


@dataclass
class Merged:
    """The LoRAs on a model.

    Args:
        loras: Those that are merged, in order.
        originals: The weights without them, on the CPU.
    """

    loras: list[LoRA] = field(default_factory=list)
    originals: dict[Place, Tensor] = field(default_factory=dict)

    def add(self, parts: dict[str, nn.Module], lora: LoRA) -> None:
        """Merge one more LoRA into the weights of the model's parts.

        Raises FormatError if weights overflow; they are as before then.
        """
        places = [place for place in lora.changes if lora.of(place)]
        self.loras.append(lora)
        try:
            self._update(parts, places)
        except FormatError:
            self.loras.pop()
            self._update(parts, [place for place in places if place in self.originals])
            raise

    def clear(self, parts: dict[str, nn.Module]) -> None:
        """Restore all weights, bit for bit."""
        self.loras.clear()
        self._update(parts, list(self.originals))
        self.originals.clear()

    @torch.no_grad()
    def _update(self, parts: dict[str, nn.Module], places: list[Place]) -> None:
        for place in places:
            weight = parts[place[0]].get_parameter(place[1])
            original = self.originals.setdefault(place, weight.detach().to("cpu", copy=True)).to(weight.device)
            active = [found for lora in self.loras if (found := lora.of(place))]
            if not active:
                weight.copy_(original)
                continue
            plain = changed = original.to(torch.float32)
            for strength, change in active:
                changed = changed + change.added(plain, strength)
            merged = changed.to(weight.dtype)
            low, high = changed.aminmax()
            # What half precision cannot hold is no weight, in whatever type.
            if not (is_finite(merged) and low >= -HALF_MAX and high <= HALF_MAX):
                raise FormatError(
                    f"the LoRA {self.loras[-1].name} makes {place[1]} overflow: give it a smaller strength, or get "
                    f"the file again"
                )
            weight.copy_(merged)


def match(path: Path, unet: nn.Module, text_encoder: nn.Module, strength: float, text_strength: float) -> LoRA:
    """Read a LoRA and find the weights that it changes.

    Args:
        path: A file or folder, as in `read_lora`.
        unet: The model's UNet.
        text_encoder: The model's text encoder.
        strength: Factor of the changes in the UNet.
        text_strength: Factor of the changes in the text encoder.

    Returns:
        The LoRA, with the change of each weight by the model's own names; nothing is merged yet. Warns of layers of
        the text encoder after the last one that the model reads; they change nothing.

    Raises:
        FileNotFoundError: There is no such file.
        FormatError: It is no LoRA, or one for another model.
    """
    found = read_lora(path)
    if second := [layer for layer in found if is_sdxl_layer(layer)]:
        raise FormatError(f"{path} is a LoRA for SDXL, which has a second text encoder ({second[0]}): expected one "
                          f"for Stable Diffusion 1.x or 2.x")  # fmt: skip
    known = {"unet": unet_names(unet), "text_encoder": text_names(text_encoder)}
    weights = {"unet": dict(unet.named_parameters()), "text_encoder": dict(text_encoder.named_parameters())}
    changes: dict[Place, Change] = {}
    unknown, misfits, beyond = [], [], []
    depth = 1 + max((number_of_text_layer(name) for name in known["text_encoder"]), default=-1)
    for name, change in found.items():
        if is_unused_layer(name):
            continue
        layer, is_bias = name.removesuffix(".bias"), name.endswith(".bias")
        if number_of_text_layer(layer) >= depth > 0:
            beyond.append(layer)
            continue
        part = "text_encoder" if is_text_layer(layer) else "unet"
        if (key := known[part].get(layer)) is None:
            unknown.append(layer)
            continue
        key = f"{key.removesuffix('weight')}bias" if is_bias else key
        weight = weights[part].get(key)
        if (misfit := "the layer has no bias" if weight is None else change.misfit(weight)) is not None:
            misfits.append(f"{name}: {misfit}")
        changes[part, key] = change
    if misfits:
        raise FormatError(
            f"{path} is a LoRA for another model{_other_text_width(found, unet)}: {len(misfits)} of its layers do "
            f"not fit ({misfits[0]})"
        )
    if unknown:
        raise FormatError(f"{path} changes {len(unknown)} layers that this model does not have "
                          f"({first_few(unknown)})")  # fmt: skip
    if beyond:
        warnings.warn(
            f"{path} changes {len(beyond)} layers after the {depth} of the text encoder that this model reads "
            f"({first_few(beyond)}): they are left out",
            stacklevel=2,
        )
    return LoRA(Path(path).name, changes, strength, text_strength)


def _other_text_width(found: dict[str, Change], unet: nn.Module) -> str:
    """The width of the text that a LoRA is for, if that is what does not fit, for a message."""
    width = text_width(found)
    here = getattr(getattr(unet, "config", None), "cross_attention_dim", None)
    return f", which reads text of width {width}, this one of {here}" if width and width != here else ""


def text_width(found: dict[str, Change]) -> int | None:
    """The width of the encoded prompts that a LoRA is for: 768 for Stable Diffusion 1.x, 1024 for 2.x."""
    widths = [change.size[1] for layer, change in found.items()
              if layer.endswith(("attn2_to_k", "attn2.to_k"))]  # fmt: skip
    return widths[0] if widths else None
