"""ComfyUI's folders: model files to choose from, and new names in the output folder."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from vidrd_core.io.folders import leads_out
from vidrd_core.loading import PARTS, built_in_models
from vidrd_core.models.formats.config_files import files_beside
from vidrd_core.video.sinks import write_errors

BUILT_IN = "tiny (built in)"
CHECKPOINTS = "checkpoints"
MAX_NAME_BYTES = 200  # of a file or folder name, without the number and ending that are added


def choices(folder: str) -> list[str]:
    """List the choices of a loader.

    Args:
        folder: The name of a model folder, such as "vae".

    Returns:
        The built-in model, the files of the model folder, and all checkpoints as "checkpoints/NAME".
    """
    checkpoints = [f"{CHECKPOINTS}/{name}" for name in folder_paths.get_filename_list(CHECKPOINTS)]
    return [BUILT_IN, *folder_paths.get_filename_list(folder), *checkpoints]


def path_of(choice: str, folder: str, part: str) -> Path:
    """Find the file of a choice.

    Args:
        choice: One of `choices(folder)`.
        folder: The name of a model folder, such as "vae".
        part: Which part of the built-in model: the start of its file's name, such as "unet".

    Returns:
        The path of a file that exists.

    Raises:
        FileNotFoundError: There is no such file.
    """
    if leads_out(choice):
        raise FileNotFoundError(f"there is no file {choice!r} in ComfyUI's folders of models: choose one of the list")
    if choice == BUILT_IN:
        return built_in_models()["tiny"] / next(name for name in PARTS if name.startswith(part))
    first, _, rest = choice.partition("/")
    if first == CHECKPOINTS and choice not in folder_paths.get_filename_list(folder):
        return Path(folder_paths.get_full_path_or_raise(CHECKPOINTS, rest))
    return Path(folder_paths.get_full_path_or_raise(folder, choice))


def free_path(prefix: str, ending: str, width: int = 0, height: int = 0) -> Path:
    """Choose a path in the output folder that does not exist yet.

    Args:
        prefix: The start of the name, which may name folders and hold ComfyUI's %year%, %width% and the like.
        ending: The end of the name, such as ".mp4"; "" for a folder.
        width: Pixels across, for %width%.
        height: Pixels down, for %height%.

    Returns:
        A path whose name is the prefix, a number of at least five digits, and the ending.

    Raises:
        ValueError: As `check_prefix`, or a folder in the output folder is a link to one outside it.
        OSError: The folder cannot be made.
    """
    check_prefix(prefix)
    output = folder_paths.get_output_directory()
    try:
        with write_errors(os.path.join(output, complete_prefix(prefix))):
            folder, name, counter, _, _ = folder_paths.get_save_image_path(
                complete_prefix(prefix), output, width, height
            )
    except OSError:
        raise
    except Exception as error:  # of no class of its own
        raise ValueError(
            f"filename_prefix {prefix!r} leads out of the output folder by a link, which this ComfyUI does not "
            f"allow ({error}): give another name"
        ) from error
    while (path := Path(folder) / f"{name}_{counter:05}_{ending}").exists():
        counter += 1
    return path


def check_prefix(prefix: str) -> None:
    """Raise ValueError if a file name points outside the output folder or is too long."""
    if "\0" in prefix:
        raise ValueError("filename_prefix holds a null character: type the name anew")
    output = os.path.abspath(folder_paths.get_output_directory())
    path = os.path.abspath(os.path.join(output, complete_prefix(prefix)))
    if not path.startswith(os.path.join(output, "")) or (not os.path.isabs(prefix) and leads_out(prefix)):
        raise ValueError(
            f"filename_prefix {prefix!r} leads out of the output folder: give a name inside it, like vidrd/video"
        )
    if any(len(os.fsencode(part)) > MAX_NAME_BYTES for part in Path(path).relative_to(output).parts):
        raise ValueError(f"filename_prefix has a name of over {MAX_NAME_BYTES} bytes: give a shorter one")


def complete_prefix(prefix: str) -> str:
    """A prefix that names a file: "video" is appended where it is empty or names a folder alone."""
    prefix = prefix.strip()
    if os.path.basename(prefix) == ".":
        prefix += "/"
    return f"{prefix}video" if not prefix or prefix.endswith(("/", os.sep)) else prefix


def file_version(path: Path) -> tuple[str, int, int]:
    """The path, modification time and size of a file: it differs once the file has changed. Raises OSError."""
    status = path.stat()
    return str(path), status.st_mtime_ns, status.st_size


def weights_version(path: Path) -> list[tuple[str, int, int]]:
    """The `file_version` of a weight file and of each file of settings that is read with it. Raises OSError."""
    return [file_version(each) for each in (path, *files_beside(path))]
