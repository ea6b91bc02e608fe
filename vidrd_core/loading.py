"""Find, load and pack whole models: a UNet, a VAE and a text encoder, in a folder of files or in one file."""

from __future__ import annotations

import dataclasses
import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import torch
from torch import Tensor
from typing_extensions import Unpack

from vidrd_core.io import safetensors
from vidrd_core.io.atomic import atomic_folder
from vidrd_core.io.configs import meant
from vidrd_core.models.formats.weight_files import has_weights, modelscope_files

if TYPE_CHECKING:
    from vidrd_core.model import Offload
    from vidrd_core.models.clip_text_encoder import CLIPText
    from vidrd_core.models.formats.naming import Part
    from vidrd_core.models.word_text_encoder import TextEncoder
    from vidrd_core.pipeline import VidRD

SUFFIX = ".safetensors"
PARTS = ("unet.safetensors", "vae.safetensors", "text_encoder.safetensors")


class DiffusionArguments(TypedDict, total=False):
    """The fields of `sampling.DiffusionConfig` as keyword arguments; None, or a missing one, means the file's value.

    A value given here replaces the one that was read or guessed from a model's file.
    """

    prediction: str | None
    schedule: str | None
    beta_start: float | None
    beta_end: float | None
    train_steps: int | None
    zero_terminal_snr: bool | None
    frames: int | None
    size: int | None
    cfg: float | None
    trained_betas: tuple[float, ...] | None
    timestep_spacing: str | None
    steps_offset: int | None
    set_alpha_to_one: bool | None
    final_sigmas_type: str | None
    clip_sample_range: float | None


def built_in_models() -> dict[str, Path]:
    """The models that ship inside the package.

    Returns:
        The folder of each model by its name.

    Example:
        >>> sorted(built_in_models())
        ['tiny']
    """
    root = Path(__file__).parent / "models"
    return {path.parent.name: path.parent for path in sorted(root.glob("*/unet.safetensors"))}


def find(name_or_path: str | Path) -> Path:
    """Find a model on disk.

    Args:
        name_or_path: The name of a built-in model, a folder with the three parts, a diffusers folder, or one file
            with the whole model.

    Returns:
        The model's folder, or its one file.

    Raises:
        FileNotFoundError: There is no such model, or a folder lacks parts; the message names them.
    """
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
    if missing and not is_third_party(found):
        raise FileNotFoundError(
            f"{found} is not a whole model: it lacks {', '.join(missing)}, and it is no folder of diffusers (unet, "
            "vae, text_encoder) or of ModelScope (configuration.json and the files that it names); to load one of "
            "its files, name that"
        )
    return found


def is_third_party(folder: Path) -> bool:
    """Whether a folder is in diffusers' layout (weights, or a subfolder of weights for each part) or ModelScope's."""
    if modelscope_files(folder):
        return True
    folders = [folder, *(folder / part.removesuffix(SUFFIX) for part in PARTS)]
    return not any((folder / part).is_file() for part in PARTS) and any(map(has_weights, folders))


def files_of(model: Path) -> dict[str, Path]:
    """The file or folder of each part of a model.

    Args:
        model: A folder or file that `find` returned.

    Returns:
        A path for each of "unet", "vae" and "text_encoder"; `model` itself where it is one file or a third-party
        folder.
    """
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
    **diffusion: Unpack[DiffusionArguments],
) -> None:
    """Copy a model for distribution, with its weights in another dtype.

    Third-party checkpoints are converted to this package's format, which needs no other files: CLIP's tokenizer is
    stored inside.

    Args:
        name_or_path: The model, as for `load`.
        target: A folder, or the name of one file, which ends in .safetensors.
        dtype: The dtype of floating-point weights.
        overwrite: Whether to replace a model that is at `target`.
        vae: Another VAE, as for `load`.
        text_encoder: Another text encoder, as for `load`.
        temporal: A file with temporal layers, as for `load`.
        **diffusion: Fields of `sampling.DiffusionConfig`, as for `load`.

    Raises:
        FileNotFoundError: There is no such model, or it lacks parts.
        FileExistsError: There is a model at `target`, and `overwrite` is not set.
        ValueError: `target` is the model itself.
        OSError: The target cannot be written.
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
    **diffusion: Unpack[DiffusionArguments],
) -> VidRD:
    """Load a model for inference. The format of a file is detected from its tensors, whatever its name.

    It can be a model of this package, a Stable Diffusion 1.x or 2.x, ModelScope, ZeroScope or released VidRD
    checkpoint, or a diffusers folder. An image model is inflated to video: without `temporal` its frames are
    independent of each other.

    Args:
        name_or_path: The name of a built-in model, a file, or a folder.
        device: Where to compute: "cpu", "cuda", "cuda:1", "mps", or "auto", as for `VidRD.to`.
        dtype: The floating-point dtype in which the UNet computes.
        storage: The dtype in which the UNet's large weights are kept, float8_e4m3fn or float8_e5m2; by default
            `dtype`.
        offload: What waits in main memory until it is needed: "none"; "parts", the part that is not computing; or
            "blocks", also each block of the UNet.
        tile: Decode larger frames in overlapping tiles of this side in pixels, in less memory; by default whole.
        vae: A file or folder with another VAE than the model's, or one that it lacks.
        text_encoder: A file or folder with another text encoder, or a folder with CLIP's tokenizer alone.
        temporal: A file with temporal layers for an image model.
        **diffusion: Fields of `sampling.DiffusionConfig` that the file does not record or records wrongly, as
            prediction="v".

    Returns:
        The model, on its device, without gradients.

    Raises:
        FileNotFoundError: There is no such model, or a part is missing; the message names what is missing and
            what can be loaded.
        FormatError: A file is damaged or holds something else.
        ValueError: The parts do not fit each other, a setting is not valid, or the device cannot be used here.
        TypeError: A keyword argument is not a field of `sampling.DiffusionConfig`.

    Example:
        >>> model = load("tiny", cfg=3.0)
        >>> model.diffusion.frames, model.diffusion.size, model.diffusion.cfg
        (8, 64, 3.0)
    """
    from vidrd_core.model import Placement, usable_device

    fields = DiffusionArguments.__annotations__
    if unknown := [name for name in diffusion if name not in fields]:
        own = [name for name in inspect.signature(load).parameters if name != "diffusion"]
        raise TypeError(
            f"load has no argument {meant(unknown, [*own, *fields])}: besides its own, expected fields of "
            f"DiffusionConfig, which are {', '.join(fields)}"
        )
    placement = Placement(usable_device(device), dtype, storage, offload)
    found = find(name_or_path)
    files = files_of(found)
    # Imported once there is something to load: transformers takes seconds.
    from vidrd_core.models.formats.detect import find_unet
    from vidrd_core.models.inflate import with_temporal
    from vidrd_core.models.load_parts import build_unet, load_vae, read_unet
    from vidrd_core.pipeline import VidRD

    _check_parts(found, {"vae": vae, "text_encoder": text_encoder})
    about = ""  # what a third-party checkpoint is
    if safetensors.is_ours(files["unet"]):
        tensors, config, denoising = read_unet(files["unet"])
    else:
        checkpoint, denoising = find_unet(files["unet"])
        tensors, config, about = checkpoint.tensors, checkpoint.config, checkpoint.about
    if temporal is not None:
        tensors, config = with_temporal(tensors, config, Path(temporal))
    unet = build_unet(tensors, config, files["unet"])
    given: dict[str, Any] = {name: value for name, value in diffusion.items() if value is not None}
    denoising = dataclasses.replace(denoising, **given)
    decoder = load_vae(_part_path(vae, files["vae"]))
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
    model = VidRD(unet, decoder, encoder, denoising, name=name, about=about, tile=tile)
    model.place(placement)
    return model


def _check_parts(model: Path, named: dict[Part, str | Path | None]) -> None:
    """Raise FileNotFoundError for a part that neither a third-party model with a UNet has nor the caller named."""
    from vidrd_core.models.formats.detect import has_part
    from vidrd_core.models.formats.naming import PART_NAMES

    if files_of(model)["unet"] != model or safetensors.is_ours(model) or not has_part(model, "unet"):
        return
    for part, path in named.items():
        is_tokenizer = part == "text_encoder" and path is not None and _has_no_encoder(_part_path(path, model))
        if (path is None or is_tokenizer) and not has_part(model, part):
            option = f"--{part.replace('_', '-')} ({part}=)"
            if is_tokenizer:
                raise FileNotFoundError(
                    f"{model} has no {PART_NAMES[part]}, and {path} has at most a tokenizer: name a folder with both "
                    f"with {option}, as the diffusers model that it was made from"
                )
            raise FileNotFoundError(
                f"{model} has no {PART_NAMES[part]}: name one with {option}, as the folder {part} of the "
                "diffusers model that it was made from"
            )


def _has_no_encoder(place: Path) -> bool:
    """Whether what the caller named as a text encoder is a folder without weights, as one with a tokenizer alone."""
    return place.is_dir() and not (has_weights(place) or has_weights(place / "text_encoder"))


def _part_path(name: str | Path | None, default: Path) -> Path:
    """The path of a part that the caller named, or of the model's own."""
    if name is None:
        return default
    found = built_in_models().get(str(name), Path(name))
    if not found.exists():
        raise FileNotFoundError(f"there is no file or folder {name}")
    return found


def _text_encoder(inside: Path, named: str | Path | None) -> TextEncoder | CLIPText:
    """The text encoder that the caller named, or the model's own, with the named tokenizer."""
    from vidrd_core.models.load_parts import CLIP_TEXT, load_clip_text, load_text_encoder

    place, tokenizer = _part_path(named, inside), None
    if named is not None and _has_no_encoder(place):
        place, tokenizer = inside, place
    own = safetensors.is_ours(place) and not safetensors.has_kind(place, CLIP_TEXT)
    return load_text_encoder(place) if own else load_clip_text(place, tokenizer)
