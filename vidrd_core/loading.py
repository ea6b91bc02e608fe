"""Find and load whole models: folders of `unet`, `vae` and `text_encoder` safetensors files, or one file of all."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vidrd_core.io import safetensors
from vidrd_core.io.atomic import atomic_folder
from vidrd_core.models.formats.weight_files import has_weights

if TYPE_CHECKING:
    from vidrd_core.model import Offload
    from vidrd_core.models.clip_text_encoder import CLIPText
    from vidrd_core.models.word_text_encoder import TextEncoder
    from vidrd_core.pipeline import VidRD

SUFFIX = ".safetensors"
PARTS = ("unet.safetensors", "vae.safetensors", "text_encoder.safetensors")


def built_in_models() -> dict[str, Path]:
    """The models that ship inside the package: name -> folder."""
    root = Path(__file__).parent / "models"
    return {path.parent.name: path.parent for path in sorted(root.glob("*/unet.safetensors"))}


def find(name_or_path: str | Path) -> Path:
    """The folder of a built-in or other model, or the one file that holds all of it. Raises FileNotFoundError."""
    built_in = built_in_models()
    if not str(name_or_path).strip():
        raise FileNotFoundError(f"the model has no name: give a built-in one ({', '.join(built_in)}), or a folder")
    found = built_in.get(str(name_or_path), Path(name_or_path))
    if found.is_file():
        return found
    if not found.is_dir():
        raise FileNotFoundError(
            f"there is no model {str(name_or_path)!r}: give a folder with {', '.join(PARTS)}, a file that holds all "
            f"of them, or a built-in name ({', '.join(built_in) or 'none is installed'})"
        )
    missing = [part for part in PARTS if not (found / part).is_file()]
    if missing and not is_others(found):
        raise FileNotFoundError(f"{found} is not a whole model: it lacks {', '.join(missing)}")
    return found


def is_others(folder: Path) -> bool:
    """Whether a folder is one of diffusers: with weights, or with folders of them, named after parts."""
    folders = [folder, *(folder / part.removesuffix(SUFFIX) for part in PARTS)]
    return not any((folder / part).is_file() for part in PARTS) and any(map(has_weights, folders))


def files_of(model: Path) -> dict[str, Path]:
    """Where each part of what `find` gave is, by the part's name: "unet", "vae", "text_encoder"."""
    is_ours = any((model / part).is_file() for part in PARTS)
    return {part.removesuffix(SUFFIX): model / part if is_ours else model for part in PARTS}


def pack(
    name_or_path: str | Path,
    target: str | Path,
    dtype: torch.dtype = torch.float16,
    overwrite: bool = False,
    *,
    vae: str | Path | None = None,
    text_encoder: str | Path | None = None,
    temporal: str | Path | None = None,
    **diffusion: Any,
) -> None:
    """Copy a model with its weights as `dtype`, for shipping, to a folder or, if `target` ends in .safetensors, file.

    Those of others become files of ours, which need nothing beside them: CLIP's tokenizer is inside. `vae`,
    `text_encoder`, `temporal` and `diffusion` are those of `load`: other parts, and what its files do not tell.

    Raises ValueError if the model is not whole, or the target its own, FileExistsError if there is
    another and `overwrite` is not set.
    """
    source, target = find(name_or_path), Path(target)
    if target.resolve() == source.resolve():
        raise ValueError(f"{target} holds the model itself, which would lose precision: name another one")
    is_file = target.suffix == SUFFIX
    taken = [target.name] if is_file else [part for part in PARTS if (target / part).exists()]
    if target.exists() and taken and not overwrite:
        there = f"{target} already holds {', '.join(taken)}" if not is_file else f"{target} is there already"
        raise FileExistsError(f"{there}: add --overwrite, or give another name")
    parts = _parts(load(source, vae=vae, text_encoder=text_encoder, temporal=temporal, **diffusion), dtype)
    if is_file:
        tensors = {f"{name}.{key}": t for name, (part, _) in parts.items() for key, t in part.items()}
        details = {name: details for name, (_, details) in parts.items()}
        target.parent.mkdir(parents=True, exist_ok=True)
        safetensors.write(target, tensors, safetensors.WHOLE_MODEL, parts=details)
    else:
        _write_folder(parts, target)


def _parts(model: VidRD, dtype: torch.dtype) -> dict[str, tuple[dict[str, Tensor], dict[str, Any]]]:
    """The tensors and details of each part's file, by the part's name."""
    from vidrd_core.models.load_parts import described, described_text, described_vae

    parts = {
        "unet": described(model.unet, model.diffusion),
        "vae": described_vae(model.vae),
        "text_encoder": described_text(model.text_encoder),
    }
    return {
        name: ({key: t.to(dtype) if t.is_floating_point() else t for key, t in tensors.items()}, details)
        for name, (tensors, details) in parts.items()
    }


def _write_folder(parts: dict[str, tuple[dict[str, Tensor], dict[str, Any]]], target: Path) -> None:
    with atomic_folder(target) as staging:
        for name, (tensors, details) in parts.items():
            safetensors.write(staging / f"{name}{SUFFIX}", tensors, **details)
        target.mkdir(exist_ok=True)
        for name in parts:  # once all are there: no old part beside new ones
            os.replace(staging / f"{name}{SUFFIX}", target / f"{name}{SUFFIX}")


def load(
    name_or_path: str | Path = "tiny",
    device: str | torch.device = "cpu",
    *,
    dtype: torch.dtype = torch.float32,
    storage: torch.dtype | None = None,
    offload: Offload = "none",
    tile: int | None = None,
    vae: str | Path | None = None,
    text_encoder: str | Path | None = None,
    temporal: str | Path | None = None,
    **diffusion: Any,
) -> VidRD:
    """Load a model for inference: a built-in one by name, a file or a folder, told by its tensors alone.

    It may be ours, a Stable Diffusion 1.x or 2.x, ModelScope, ZeroScope or released VidRD checkpoint, or a folder of
    diffusers. An image model is inflated: it makes frames that know nothing of each other, unless `temporal` names a
    file with layers over time for it. `vae` and `text_encoder` name files or folders for parts that it lacks, or
    better ones; the latter may be a folder with CLIP's tokenizer alone. `diffusion` are settings of DiffusionConfig
    that the file does not tell rightly, like prediction="v".

    `device`, `dtype`, `storage` and `offload` are those of `Placement`; frames larger than `tile` pixels a side are
    decoded in tiles of that size.

    Raises FileNotFoundError naming what is missing and what could be loaded, FormatError for a damaged file or one
    that is something else, ValueError for parts that do not belong together.
    """
    from vidrd_core.model import Placement

    placement = Placement(torch.device(device), dtype, storage, offload)
    found = find(name_or_path)
    files = files_of(found)
    # Not before there is something to load: transformers takes seconds.
    from vidrd_core.models.formats.detect import find_unet
    from vidrd_core.models.inflate import with_temporal
    from vidrd_core.models.load_parts import build_unet, load_vae, read_unet
    from vidrd_core.pipeline import VidRD

    about = ""
    if safetensors.is_ours(files["unet"]):
        tensors, config, said = read_unet(files["unet"])
    else:
        unet_found, said = find_unet(files["unet"])
        tensors, config, about = unet_found.tensors, unet_found.config, unet_found.about
    if temporal is not None:
        tensors, config = with_temporal(tensors, config, Path(temporal))
    unet = build_unet(tensors, config, files["unet"])
    try:
        said = dataclasses.replace(said, **{name: value for name, value in diffusion.items() if value is not None})
    except TypeError as error:
        known = ", ".join(field.name for field in dataclasses.fields(said))
        raise TypeError(f"{error}: settings of how a model denoises are {known}") from None
    decoder = load_vae(_instead(vae, files["vae"]))
    encoder = _text_encoder(files["text_encoder"], text_encoder)
    width, context = decoder.config.latent_channels, encoder.config.hidden_size
    if (unet.config.in_channels, unet.config.cross_attention_dim) != (width, context):
        raise ValueError(
            f"the parts in {found} do not belong together: the UNet takes {unet.config.in_channels} latent channels "
            f"and text of width {unet.config.cross_attention_dim}, the VAE gives {width}, the text encoder {context}"
        )
    for part in (unet, decoder, encoder):
        part.requires_grad_(False)
    if tile is not None:
        decoder.check_tile(tile)
    name = found.stem if found.is_file() else found.name
    model = VidRD(unet, decoder, encoder, said, name=name, about=about, tile=tile)
    model.place(placement)
    return model


def _instead(name: str | Path | None, otherwise: Path) -> Path:
    """A part's file that a user named, or that in the model."""
    if name is None:
        return otherwise
    found = built_in_models().get(str(name), Path(name))
    if not found.exists():
        raise FileNotFoundError(f"there is no file or folder {name}")
    return found


def _text_encoder(inside: Path, named: str | Path | None) -> TextEncoder | CLIPText:
    from vidrd_core.models.load_parts import CLIP_TEXT, load_clip_text, load_text_encoder

    place, tokenizer = _instead(named, inside), None
    if named is not None and place.is_dir() and not (has_weights(place) or has_weights(place / "text_encoder")):
        place, tokenizer = inside, place
    own = safetensors.is_ours(place) and not safetensors.has_kind(place, CLIP_TEXT)
    return load_text_encoder(place) if own else load_clip_text(place, tokenizer)
