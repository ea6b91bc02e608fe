"""LoRAs on a model: merged into its weights, and taken out again without a trace."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from vidrd_core.io.safetensors import FormatError, first_few
from vidrd_core.models.lora.files import Change, read_lora
from vidrd_core.models.lora.names import is_of_sdxl, is_of_text, text_names, unet_names

Place = tuple[str, str]  # "unet" or "text_encoder", and the name of a weight in it


@dataclass(frozen=True)
class LoRA:
    """One LoRA, matched with a model's weights."""

    name: str
    changes: dict[Place, Change]
    strength: float  # on the UNet
    text_strength: float

    def of(self, place: Place) -> tuple[float, Change] | None:
        """How strongly a weight is changed, and by what."""
        strength = self.strength if place[0] == "unet" else self.text_strength
        return (strength, self.changes[place]) if place in self.changes and strength else None


@dataclass
class Merged:
    """The LoRAs on a model, and the weights under them as they were."""

    loras: list[LoRA] = field(default_factory=list)
    originals: dict[Place, Tensor] = field(default_factory=dict)  # on the CPU

    def add(self, parts: dict[str, nn.Module], lora: LoRA) -> None:
        """Merge one more."""
        self.loras.append(lora)
        self._update(parts, [place for place in lora.changes if lora.of(place)])

    def clear(self, parts: dict[str, nn.Module]) -> None:
        """Take all out: every weight is what it was, to the last bit."""
        self.loras.clear()
        self._update(parts, list(self.originals))
        self.originals.clear()

    @torch.no_grad()
    def _update(self, parts: dict[str, nn.Module], places: list[Place]) -> None:
        for place in places:
            weight = parts[place[0]].get_parameter(place[1])
            original = self.originals.setdefault(place, weight.detach().to("cpu", copy=True)).to(weight.device)
            on = [found for lora in self.loras if (found := lora.of(place))]
            if not on:
                weight.copy_(original)
                continue
            changed = original.to(torch.float32)
            for strength, change in on:
                changed = changed + strength * change.like(weight)
            weight.copy_(changed.to(weight.dtype))


def match(path: Path, unet: nn.Module, text_encoder: nn.Module, strength: float, text_strength: float) -> LoRA:
    """A LoRA file with the weights that it changes.

    Raises FileNotFoundError, FormatError for what is no LoRA or one for another model.
    """
    found = read_lora(path)
    if second := [layer for layer in found if is_of_sdxl(layer)]:
        raise FormatError(f"{path} is a LoRA for SDXL, which has a second text encoder ({second[0]}): expected one "
                          f"for Stable Diffusion 1.x or 2.x")  # fmt: skip
    known = {"unet": unet_names(unet), "text_encoder": text_names(text_encoder)}
    parts = {"unet": unet, "text_encoder": text_encoder}
    changes: dict[Place, Change] = {}
    unknown, unfit = [], []
    for layer, change in found.items():
        part = "text_encoder" if is_of_text(layer) else "unet"
        if (key := known[part].get(layer)) is None:
            unknown.append(layer)
            continue
        weight = parts[part].get_parameter(key)
        try:
            change.like(torch.empty(weight.shape, device="meta"))
        except (ValueError, RuntimeError) as error:
            unfit.append(f"{layer}: {error}, the layer has {weight.shape[0]} of {weight[0].numel()}")
        changes[part, key] = change
    if unfit:
        raise FormatError(f"{path} is a LoRA for another model{_for_whom(found, unet)}: {len(unfit)} of its layers "
                          f"do not fit ({unfit[0]})")  # fmt: skip
    if unknown:
        raise FormatError(f"{path} changes {len(unknown)} layers that this model does not have "
                          f"({first_few(unknown)})")  # fmt: skip
    return LoRA(Path(path).name, changes, strength, text_strength)


def _for_whom(found: dict[str, Change], unet: nn.Module) -> str:
    """Whom a LoRA's text layers were made for, if that is what does not fit."""
    width = text_width(found)
    here = getattr(getattr(unet, "config", None), "cross_attention_dim", None)
    return f", which reads text of width {width}, this one of {here}" if width and width != here else ""


def text_width(found: dict[str, Change]) -> int | None:
    """The width of the text that a LoRA's UNet reads: 768 for Stable Diffusion 1.x, 1024 for 2.x."""
    widths = [change.down.shape[1] for layer, change in found.items()
              if layer.endswith(("attn2_to_k", "attn2.to_k"))]  # fmt: skip
    return widths[0] if widths else None
