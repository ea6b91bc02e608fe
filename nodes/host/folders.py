"""Where the host keeps model files."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from vidrd_core.loading import PARTS, built_in_models

BUILT_IN = "tiny (built in)"
CHECKPOINTS = "checkpoints"
LONGEST = 200  # bytes of a file's name, without its number and ending


def choices(folder: str) -> list[str]:
    """What a loader offers: the built-in model, the files of a stock model folder, and checkpoints."""
    whole = [f"{CHECKPOINTS}/{name}" for name in folder_paths.get_filename_list(CHECKPOINTS)]
    return [BUILT_IN, *folder_paths.get_filename_list(folder), *whole]


def path_of(choice: str, folder: str, part: str) -> Path:
    """The file of a choice; `part` is that of the built-in model. Raises FileNotFoundError."""
    if choice == BUILT_IN:
        return built_in_models()["tiny"] / next(name for name in PARTS if name.startswith(part))
    place, _, rest = choice.partition("/")
    if place == CHECKPOINTS and choice not in folder_paths.get_filename_list(folder):
        return Path(folder_paths.get_full_path_or_raise(CHECKPOINTS, rest))
    return Path(folder_paths.get_full_path_or_raise(folder, choice))


def free_path(prefix: str, ending: str, width: int = 0, height: int = 0) -> Path:
    """A name in the output folder that nothing bears: the prefix, a number, and the ending.

    Raises ValueError for a prefix that `check_prefix` refuses.
    """
    check_prefix(prefix)
    output = folder_paths.get_output_directory()
    folder, name, counter, _, _ = folder_paths.get_save_image_path(whole(prefix), output, width, height)
    while (path := Path(folder) / f"{name}_{counter:05}_{ending}").exists():
        counter += 1
    return path


def check_prefix(prefix: str) -> None:
    """Raise ValueError for a file name that leads out of the output folder or is too long."""
    output = os.path.abspath(folder_paths.get_output_directory())
    path = os.path.abspath(os.path.join(output, whole(prefix)))
    if not path.startswith(os.path.join(output, "")):
        raise ValueError(
            f"filename_prefix {prefix!r} leads out of the output folder: give a name inside it, like vidrd/video"
        )
    if any(len(os.fsencode(part)) > LONGEST for part in Path(path).relative_to(output).parts):
        raise ValueError(f"filename_prefix has a name of over {LONGEST} letters: give a shorter one")


def whole(prefix: str) -> str:
    """A prefix that names a file also where only a folder was given."""
    prefix = prefix.strip()
    return f"{prefix}video" if not prefix or prefix.endswith(("/", os.sep)) else prefix


def version_of(path: Path) -> tuple[str, int, int]:
    """What changes when a file does."""
    found = path.stat()
    return str(path), found.st_mtime_ns, found.st_size
