"""Find and load whole models: folders of `unet`, `vae` and `text_encoder` safetensors files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vidrd_core.models import checkpoint
from vidrd_core.reasons import why

if TYPE_CHECKING:
    from vidrd_core.pipeline import VidRD

PARTS = ("unet.safetensors", "vae.safetensors", "text_encoder.safetensors")


def built_in_models() -> dict[str, Path]:
    """The models that ship inside the package: name -> folder."""
    root = Path(__file__).parent / "models"
    return {path.parent.name: path.parent for path in sorted(root.glob("*/unet.safetensors"))}


def find(name_or_path: str | Path) -> Path:
    """The folder of a built-in or other model. Raises FileNotFoundError."""
    built_in = built_in_models()
    if not str(name_or_path).strip():
        raise FileNotFoundError(f"the model has no name: give a built-in one ({', '.join(built_in)}), or a folder")
    folder = built_in.get(str(name_or_path), Path(name_or_path))
    if not folder.is_dir():
        raise FileNotFoundError(
            f"there is no model {str(name_or_path)!r}: give a folder with {', '.join(PARTS)}, "
            f"or a built-in name ({', '.join(built_in) or 'none is installed'})"
        )
    missing = [part for part in PARTS if not (folder / part).is_file()]
    if missing:
        raise FileNotFoundError(f"{folder} is not a whole model: it lacks {', '.join(missing)}")
    return folder


def pack(
    name_or_path: str | Path, target: str | Path, dtype: torch.dtype = torch.float16, overwrite: bool = False
) -> None:
    """Copy a model to another folder with its weights as `dtype`, for shipping.

    Raises ValueError if the model is not whole, or the folder its own, FileExistsError if it
    holds another and `overwrite` is not set.
    """
    source, target = find(name_or_path), Path(target)
    if target.resolve() == source.resolve():
        raise ValueError(f"{target} holds the model itself, which would lose precision: name another folder")
    if there := [part for part in PARTS if (target / part).exists() and not overwrite]:
        raise FileExistsError(f"{target} already holds {', '.join(there)}: overwrite them, or name another folder")
    load(source)  # all of it is what it should be
    is_new = not target.exists()
    target.mkdir(parents=True, exist_ok=True)
    whole = {part: target / f"{part}.new" for part in PARTS}
    try:
        for part, new in whole.items():
            details = checkpoint.describe(source / part)
            tensors, _ = checkpoint.read(source / part, details["kind"])
            halved = {key: t.to(dtype) if t.is_floating_point() else t for key, t in tensors.items()}
            checkpoint.write(new, halved, **details)
        for part, new in whole.items():  # once all are there: no old part beside new ones
            new.replace(target / part)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {target}: {why(error.errno, str(error))}") from error
    finally:
        for new in whole.values():
            new.unlink(missing_ok=True)
        if is_new and not any(target.iterdir()):
            target.rmdir()


def load(name_or_path: str | Path = "tiny", device: str | torch.device = "cpu") -> VidRD:
    """Load a built-in model by name, or a folder of parts, as float32 for inference.

    Raises FileNotFoundError naming what is missing and what could be loaded, FormatError for a damaged file.
    """
    folder = find(name_or_path)
    # Not before there is something to load: transformers takes seconds.
    from vidrd_core.models.parts import load_text_encoder, load_unet, load_vae
    from vidrd_core.pipeline import VidRD

    unet, diffusion = load_unet(folder / PARTS[0])
    vae, text_encoder = load_vae(folder / PARTS[1]), load_text_encoder(folder / PARTS[2])
    width, context = vae.config.latent_channels, text_encoder.config.hidden_size
    if (unet.config.in_channels, unet.config.cross_attention_dim) != (width, context):
        raise ValueError(
            f"the parts in {folder} do not belong together: the UNet takes {unet.config.in_channels} latent channels "
            f"and text of width {unet.config.cross_attention_dim}, the VAE gives {width}, the text encoder {context}"
        )
    for part in (unet, vae, text_encoder):
        part.requires_grad_(False).to(device)
    return VidRD(unet, vae, text_encoder, diffusion, name=folder.name)
