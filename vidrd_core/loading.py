"""Find and load whole models: folders of `unet`, `vae` and `text_encoder` safetensors files, or one file of all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vidrd_core.models import checkpoint
from vidrd_core.reasons import why

if TYPE_CHECKING:
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
    if missing:
        raise FileNotFoundError(f"{found} is not a whole model: it lacks {', '.join(missing)}")
    return found


def files_of(model: Path) -> dict[str, Path]:
    """Where each part of what `find` gave is, by the part's name: "unet", "vae", "text_encoder"."""
    return {part.removesuffix(SUFFIX): model if model.is_file() else model / part for part in PARTS}


def pack(
    name_or_path: str | Path, target: str | Path, dtype: torch.dtype = torch.float16, overwrite: bool = False
) -> None:
    """Copy a model with its weights as `dtype`, for shipping, to a folder or, if `target` ends in .safetensors, file.

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
        raise FileExistsError(f"{there}: overwrite {'it' if is_file else 'them'}, or give another name")
    load(source)  # all of it is what it should be
    parts = {name: _halved(path, name, dtype) for name, path in files_of(source).items()}
    try:
        if is_file:
            tensors = {f"{name}.{key}": t for name, (part, _) in parts.items() for key, t in part.items()}
            details = {name: details for name, (_, details) in parts.items()}
            checkpoint.write(target, tensors, checkpoint.WHOLE, parts=details)
        else:
            _write_folder(parts, target)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {target}: {why(error.errno, str(error))}") from error


def _halved(path: Path, name: str, dtype: torch.dtype) -> tuple[dict[str, Tensor], dict[str, Any]]:
    found = checkpoint.describe(path)
    kind = checkpoint.parts_of(found).get(name, found)["kind"]
    tensors, details = checkpoint.read(path, kind)
    return {key: t.to(dtype) if t.is_floating_point() else t for key, t in tensors.items()}, details


def _write_folder(parts: dict[str, tuple[dict[str, Tensor], dict[str, Any]]], target: Path) -> None:
    is_new = not target.exists()
    target.mkdir(parents=True, exist_ok=True)
    whole = {name: target / f"{name}{SUFFIX}.new" for name in parts}
    try:
        for name, (tensors, details) in parts.items():
            checkpoint.write(whole[name], tensors, **details)
        for new in whole.values():  # once all are there: no old part beside new ones
            new.replace(new.with_suffix(""))
    finally:
        for new in whole.values():
            new.unlink(missing_ok=True)
        if is_new and not any(target.iterdir()):
            target.rmdir()


def load(name_or_path: str | Path = "tiny", device: str | torch.device = "cpu") -> VidRD:
    """Load a built-in model by name, a folder of parts or a file of all, as float32 for inference.

    Raises FileNotFoundError naming what is missing and what could be loaded, FormatError for a damaged file.
    """
    found = find(name_or_path)
    files = files_of(found)
    # Not before there is something to load: transformers takes seconds.
    from vidrd_core.models.parts import load_text_encoder, load_unet, load_vae
    from vidrd_core.pipeline import VidRD

    unet, diffusion = load_unet(files["unet"])
    vae, text_encoder = load_vae(files["vae"]), load_text_encoder(files["text_encoder"])
    width, context = vae.config.latent_channels, text_encoder.config.hidden_size
    if (unet.config.in_channels, unet.config.cross_attention_dim) != (width, context):
        raise ValueError(
            f"the parts in {found} do not belong together: the UNet takes {unet.config.in_channels} latent channels "
            f"and text of width {unet.config.cross_attention_dim}, the VAE gives {width}, the text encoder {context}"
        )
    for part in (unet, vae, text_encoder):
        part.requires_grad_(False).to(device)
    return VidRD(unet, vae, text_encoder, diffusion, name=found.stem if found.is_file() else found.name)
