"""`Naming`: a format of weights, as the names and shapes of the tensors of one part of a model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

Part = Literal["unet", "vae", "text_encoder"]
Tensors = Mapping[str, Tensor]

PART_NAMES: dict[Part, str] = {"unet": "UNet", "vae": "VAE", "text_encoder": "text encoder"}
PREFIXES: dict[Part, tuple[str, ...]] = {  # of a part's names in a file with several parts: LDM's, then VidRD's
    "unet": ("model.diffusion_model.", "unet."),
    "vae": ("first_stage_model.", "vae."),
    "text_encoder": ("cond_stage_model.", "text_encoder.", "conditioner.embedders.0."),  # generative-models' last
}


@dataclass(frozen=True)
class Naming:
    """One format of weights: how to recognise it, and the mapping to this package's names and back.

    This package's own names are those of diffusers for UNets and VAEs, and those of transformers' CLIPTextModel,
    without "text_model.", for text encoders.

    Args:
        part: The part of a model that it is for.
        name: Its name in messages and for `write_unet` and `write_vae`, unique within the part.
        used_by: Whose files have it, for messages.
        detect: Whether a file with these names (without the part's prefix) has this format. The first naming of a
            part whose `detect` holds is taken.
        to_ours: Tensors under this package's names and with its shapes. What it does not know keeps its name. Raises
            FormatError where a part of the tensors cannot be mapped.
        from_ours: The inverse, from all tensors of a part; None if files are only read. Raises ValueError for a
            layer that the format has no name for.
        settings: Settings of the part's configuration that the format implies.
        target: What `vidrd convert --to` calls it; None if it is not offered there.
    """

    part: Part
    name: str
    used_by: str
    detect: Callable[[Collection[str]], bool]
    to_ours: Callable[[Tensors], dict[str, Tensor]]
    from_ours: Callable[[Tensors], dict[str, Tensor]] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    target: str | None = None


def detect_naming(namings: Iterable[Naming], keys: Iterable[str]) -> Naming | None:
    """The first naming that these tensor names have; None if they have none of them."""
    names = list(keys)
    return next((naming for naming in namings if naming.detect(names)), None)


def writable_naming(namings: Sequence[Naming], name: str) -> Naming:
    """The naming of this name, in any case, that tensors can be written in. Raises ValueError with the known ones."""
    writable = [naming for naming in namings if naming.from_ours is not None]
    for naming in writable:
        if naming.name.lower() == name.lower():
            return naming
    raise ValueError(f"naming is {name!r}, expected one of {', '.join(naming.name for naming in writable)}")


def without_prefix(tensors: Tensors, part: Part) -> dict[str, Tensor]:
    """The tensors of one part of a file with several, without the part's prefix; all of them if there is none."""
    for prefix in PREFIXES[part]:
        if found := {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}:
            return found
    return dict(tensors)
