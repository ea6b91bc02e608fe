"""Where the host keeps model files."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from vidrd_core.loading import PARTS, built_in_models

BUILT_IN = "tiny (built in)"
CHECKPOINTS = "checkpoints"


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


def version_of(path: Path) -> tuple[str, int, int]:
    """What changes when a file does."""
    found = path.stat()
    return str(path), found.st_mtime_ns, found.st_size
