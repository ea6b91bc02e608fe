"""Read the tensors of weight files: safetensors, torch pickles (weights only), diffusers folders and their shards."""

from __future__ import annotations

import itertools
import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

import torch
from torch import Tensor

from vidrd_core.io.configs import parse_json
from vidrd_core.io.os_errors import first_line
from vidrd_core.io.safetensors import FormatError, file_format, open_safetensors

# Names of the weight file in folders of diffusers and transformers, in the order in which they are looked for.
STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
ENDINGS = (".safetensors", ".bin")
VARIANTS = ("", "fp16", "bf16", "non_ema")  # in the order in which they are looked for; then any other
MODELSCOPE = {  # in ModelScope's own folders: parts, their keys in configuration.json, and their usual files
    "unet": ("ckpt_unet", "text2video_pytorch_model.pth"),
    "vae": ("ckpt_autoencoder", "VQGAN_autoencoder.pth"),
    "text_encoder": ("ckpt_clip", "open_clip_pytorch_model.bin"),
}
WRAPPERS = ("state_dict", "model_state_dict", "module", "model")  # keys of the weights in checkpoints of trainers

Wanted = Callable[[str], bool]


def read_tensors(path: Path, wanted: Wanted = lambda key: True) -> dict[str, Tensor]:
    """Read tensors of a weight file or folder.

    Args:
        path: The file, or a folder with one weight file or its shards.
        wanted: Which tensors to read, by name; all by default.

    Returns:
        The tensors on the CPU, by their names in the file.

    Raises:
        FileNotFoundError: There is no such file, or no weights in the folder.
        FormatError: The file is damaged, of an unknown format, or a pickle with more than weights.
    """
    path = Path(path)
    if path.is_dir():
        return {key: tensor for file in weight_files(path) for key, tensor in read_tensors(file, wanted).items()}
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    kind = file_format(path)
    if kind == "safetensors":
        return _read_safetensors(path, wanted)
    if kind == "pickle":
        return {key: tensor for key, tensor in _read_pickle(path).items() if wanted(key)}
    raise FormatError(f"{path} is neither safetensors nor a torch file (.ckpt, .pt, .pth, .bin), by its first bytes")


def weight_files(folder: Path) -> list[Path]:
    """The weight file of a folder, or its shards, of one variant of diffusers.

    Args:
        folder: The folder.

    Returns:
        One file, or all shards of an index: of the first candidate that is whole.

    Raises:
        FileNotFoundError: There is none, or an index names shards that are not there.
    """
    lacking = ""
    for file in _candidates(folder):
        if file.suffix != ".json":
            return [file]
        shards = _shards_of(file)
        missing = [name for name in shards if not (folder / name).is_file()]
        if shards and not missing:
            return [folder / name for name in shards]
        lacking = lacking or f"{folder} lacks {', '.join(missing[:3]) or 'the shards'}, which {file.name} names"
    expected = f"{folder} holds no weights: expected {STEMS[0]}.safetensors, or {STEMS[1]}.safetensors"
    raise FileNotFoundError(lacking or expected)


def _shards_of(index: Path) -> list[str]:
    """The names of the shards in an index, which are files beside it. Raises FormatError."""
    places = read_json(index).get("weight_map", {})
    return sorted({_beside(index, name) for name in (places.values() if isinstance(places, dict) else [places])})


def _beside(index: Path, name: Any) -> str:
    """The name of a file that another one names: no path, which could lead anywhere. Raises FormatError."""
    if not isinstance(name, str) or PureWindowsPath(name).name != name:  # both separators, drives
        raise FormatError(f"{index} names the file {str(name)[:200]!r}, expected names of files in its folder")
    return name


def has_weights(folder: Path) -> bool:
    """Whether a folder has a weight file, apart from its subfolders."""
    return next(_candidates(folder), None) is not None


def _candidates(folder: Path) -> Iterator[Path]:
    """The weight files of a folder, and the index files of shards, from the one to take first on."""
    if not folder.is_dir():
        return
    names = {path.name for path in folder.iterdir() if path.is_file()}
    for variant in [*VARIANTS, *sorted(_other_variants(names))]:
        dotted = f".{variant}" if variant else ""
        for stem, ending in itertools.product(STEMS, ENDINGS):
            whole = f"{stem}{dotted}{ending}"
            # An index has the variant at its end, or, by older versions, in its middle.
            found = dict.fromkeys((whole, f"{stem}{ending}.index{dotted}.json", f"{whole}.index.json"))
            yield from (folder / name for name in found if name in names)


def _other_variants(names: Iterable[str]) -> set[str]:
    stems, endings = ("|".join(map(re.escape, each)) for each in (STEMS, ENDINGS))
    whole = re.compile(rf"(?:{stems})\.(\w+)(?:{endings})|(?:{stems})(?:{endings})\.index\.(\w+)\.json")
    return {m[1] or m[2] for name in names if (m := whole.fullmatch(name))} - set(VARIANTS)


def modelscope_files(folder: Path) -> dict[str, Path]:
    """The file of each part in a folder as ModelScope releases it; {} if it is none.

    Args:
        folder: A folder with configuration.json, or any other path.

    Returns:
        Paths by "unet", "vae" and "text_encoder"; only files that exist.

    Raises:
        FormatError: configuration.json cannot be read.
    """
    folder = Path(folder)
    if not (folder / "configuration.json").is_file():
        return {}
    named = _mapping(_mapping(read_json(folder / "configuration.json").get("model")).get("model_args"))
    index = folder / "configuration.json"
    files = {part: folder / _beside(index, named.get(key, usual)) for part, (key, usual) in MODELSCOPE.items()}
    return {part: file for part, file in files.items() if file.is_file()}


def modelscope_settings(folder: Path) -> dict[str, Any]:
    """Fields of DiffusionConfig that a ModelScope folder's configuration.json tells; {} for any other path.

    Raises FormatError for a kind of prediction that is not supported.
    """
    if not modelscope_files(folder):
        return {}
    model = _mapping(read_json(Path(folder) / "configuration.json").get("model"))
    arguments, settings = _mapping(model.get("model_args")), _mapping(model.get("model_cfg"))
    kind = settings.get("mean_type", "eps")
    if kind not in ("eps", "v"):
        raise FormatError(f"{folder}/configuration.json says mean_type {kind!r}, expected 'eps' or 'v'")
    # Its own sampler is DDIM that ends at the noise level of the first timestep.
    told = {
        "set_alpha_to_one": False,
        "frames": arguments.get("max_frames"),
        "train_steps": settings.get("num_timesteps"),
        "prediction": kind,
    }
    return {name: value for name, value in told.items() if value is not None}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file, {} if there is no such file. Raises FormatError."""
    if not path.is_file():
        return {}
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise FormatError(f"{path} is no readable JSON: {error}") from error
    if not isinstance(found, dict):
        raise FormatError(f"{path} holds {type(found).__name__}, expected names with values")
    return found


def keys_of(path: Path) -> list[str]:
    """The names of the tensors in a weight file or folder. Raises as `read_tensors`."""
    found: list[str] = []
    read_tensors(path, lambda key: bool(found.append(key)))  # type: ignore[func-returns-value]
    return found


def _read_safetensors(path: Path, wanted: Wanted) -> dict[str, Tensor]:
    with open_safetensors(path) as file:
        return {key: file.get_tensor(key) for key in file.keys() if wanted(key)}  # noqa: SIM118 - not a mapping


def _read_pickle(path: Path) -> dict[str, Tensor]:
    _refuse_inflated(path)
    try:
        found = _load_weights(path)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"more than weights ({named[1]})" if named else "something other than weights"
        raise FormatError(
            f"{path} is a pickle that holds {what}; it could run any code, so it is not opened: convert it to "
            f"safetensors with a tool and on a machine that you trust with it"
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # of a damaged file torch raises nearly anything
        raise FormatError(f"{path} is not a whole torch file: {first_line(error)}") from error
    while isinstance(found, Mapping) and not any(isinstance(value, Tensor) for value in found.values()):
        inner = next((found[name] for name in WRAPPERS if isinstance(found.get(name), Mapping)), None)
        if inner is None:
            break
        found = inner
    tensors = {str(k): v for k, v in found.items() if isinstance(v, Tensor)} if isinstance(found, Mapping) else {}
    if not tensors:
        raise FormatError(f"{path} holds no tensors by name: expected the state_dict of a model")
    return tensors


def _load_weights(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError:  # torch's format from before version 1.6, which cannot be mapped
        return torch.load(path, map_location="cpu", weights_only=True)


def _refuse_inflated(path: Path) -> None:
    """Refuse a zip archive of more bytes than its file has, before they are allocated: torch compresses nothing."""
    try:
        with zipfile.ZipFile(path) as archive:
            claimed = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, UnicodeError, struct.error):
        return  # of torch's older format, or damaged, which torch says
    if claimed > (size := path.stat().st_size):
        raise FormatError(
            f"{path} has {size} bytes, and is an archive of files that have {claimed}: expected weights as torch "
            "saves them, which are not compressed"
        )
