"""Where the commands save clip states: a folder with a file for each clip, or one file with the newest state."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vidrd_core.cli.errors import InputError, input_checked
from vidrd_core.io import safetensors
from vidrd_core.io.locks import FolderLock
from vidrd_core.reuse import OLD_NAMES, ReuseSettings
from vidrd_core.settings import SampleSettings
from vidrd_core.state import KIND, ClipState
from vidrd_core.video.writer import suffix_of

_NAME = re.compile(r"clip_(\d{4,})\.safetensors")


class StateFolder:
    """A folder of clip states: `clip_0000.safetensors`, ...; a context in which no other run uses it.

    Args:
        folder: The folder; it need not exist.

    Attributes:
        indices: The numbers of the clips whose states are there.

    Raises:
        InputError: The folder cannot be read, or another run writes to it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._lock = folder, FolderLock(folder)
        self.lock()
        self.indices = self._numbers()

    def _numbers(self) -> set[int]:
        with input_checked("--state-dir: "):
            names = os.listdir(self.folder) if self.folder.exists() else []
        return {int(match[1]) for name in names if (match := _NAME.fullmatch(name))}

    def lock(self) -> None:
        """Let no other run use the folder until the context ends, once it is there; a killed run holds no lock.

        Raises InputError if another run does.
        """
        with contextlib.suppress(OSError):  # a folder that is not there, or of others, is told when it is to be used
            if not self._lock.acquire():
                raise InputError(
                    f"another run uses the states in {self.folder}: wait for it, or name another --state-dir"
                )

    def __enter__(self) -> StateFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def path(self, index: int) -> Path:
        """The file of a clip's state."""
        return self.folder / f"clip_{index:04d}.safetensors"

    def refuse_existing(self, start: int, hint: str) -> None:
        """Raise InputError, with a hint, if there are states of clip `start` or later, which would be overwritten."""
        if taken := [number for number in sorted(self.indices) if number >= start]:
            raise InputError(f"{self.folder} already holds {self.path(taken[0]).name}: {hint}")

    def dtype(self) -> str | None:
        """The type in which the first clip was computed; None if there is none, or none that can be read."""
        if 0 not in self.indices:
            return None
        try:
            made_with = safetensors.describe(self.path(0)).get("made_with", {})
        except (safetensors.FormatError, OSError):  # told when all states are read
            return None
        return made_with.get("dtype", "float32") if isinstance(made_with, dict) else None

    def finished(self, clips: int, check: Callable[[ClipState], None]) -> tuple[list[Path], str]:
        """Find the states from which a run can be resumed: those from clip 0 on without a gap.

        Each is read completely, one at a time, so that a damaged one is found before anything is written. Later
        states will be overwritten, so they must be of the same run, too.

        Args:
            clips: The number of clips of the run.
            check: Raises ValueError for a state that was made with other settings.

        Returns:
            The files of these states, and the reason why no later ones are used; "" if there are none.

        Raises:
            InputError: The states are of another run or of several.
        """
        paths: list[Path] = []
        why = previous = ""
        for index in range(clips):
            path = self.path(index)
            if index not in self.indices:
                why = why or f"{path.name} is missing, so clips are sampled again from there on"
                continue
            try:
                state = ClipState.load(path)
            except safetensors.FormatError as error:
                why = why or f"{error}; clips are sampled again from there on"
                continue
            with input_checked(f"{path}: "):
                if state.index != index:
                    raise InputError(f"{path} holds clip {state.index}, expected clip {index}")
                check(state)
            if 0 not in self.indices:
                raise InputError(
                    f"{self.folder} holds {path.name} without {self.path(0).name}: a branch, which this run would "
                    f"overwrite; name another --state-dir"
                )
            if why:
                continue
            if state.follows != previous:
                raise InputError(f"{path} does not follow {self.path(index - 1).name}: they are of different videos")
            previous = state.fingerprint
            paths.append(path)
        return paths, why if max(self.indices, default=-1) > len(paths) - 1 else ""

    def check_output(self, output: str) -> None:
        """Raise InputError if the video, or its folder of PNG frames, would be where the states are."""
        _refuse_inside(output, self.folder, "--state-dir")

    def prepare(self) -> None:
        """Create the folder and check that files can be written to it. Raises InputError or OSError."""
        with input_checked("--state-dir: "):
            self.folder.mkdir(parents=True, exist_ok=True)
            _try_to_write(self.folder)
        self.lock()
        if self._numbers() != self.indices:  # it was not there, or not to be written, when they were looked up
            raise InputError(f"another run has just used {self.folder}: name another --state-dir")

    def save(self, state: ClipState) -> Path:
        """Save a state and return its file. Raises OSError."""
        path = self.path(state.index)
        state.save(path)
        return path


class StateFile:
    """One file, which holds the newest clip's state.

    Args:
        path: The file; it need not exist.
        option: The option that names it, for messages.

    Raises:
        InputError: The name does not end in .safetensors, or the file holds something else than a state.
    """

    def __init__(self, path: Path, option: str = "--save-state") -> None:
        self.file, self.option = path, option
        if path.suffix != ".safetensors":
            raise InputError(f"{option} is {str(path)!r}, expected a name that ends in .safetensors")
        if path.exists():
            if _NAME.fullmatch(path.name):
                raise InputError(
                    f"{option}: {path} is one of a folder of states, which resuming needs; choose another"
                )
            with input_checked(f"{option}: "):
                details = safetensors.describe(path)
            if details.get("kind") != KIND:
                raise InputError(
                    f"{option}: {path} holds {safetensors.describe_kind(details)}, which is not overwritten; choose "
                    f"another name"
                )

    def check_output(self, output: str) -> None:
        """Raise InputError if the folder of PNG frames would be where the state is."""
        _refuse_inside(output, self.file.parent, self.option)

    def prepare(self) -> None:
        """Check that the file can be written. Raises InputError or OSError."""
        with input_checked(f"{self.option}: "):
            _try_to_write(self.file.parent)

    def save(self, state: ClipState) -> Path:
        """Save a state and return its file. Raises OSError."""
        state.save(self.file)
        return self.file


def check_settings(state: ClipState, wanted: dict[str, Any]) -> None:
    """Raise ValueError, with both values, unless a state was made with these settings."""
    made_with = {**asdict(SampleSettings()), "dtype": wanted["dtype"], **state.made_with}  # older states lack some
    for name, value in wanted.items():
        was = made_with.get(name)
        if isinstance(value, dict) and isinstance(was, dict):
            was = {**ReuseSettings().metadata(), **was}  # older states lack settings that were added later
            name, was, value = next(
                ((key, was.get(key), value[key]) for key in value if was.get(key) != value[key]), (name, was, was)
            )
        if was != value:
            raise ValueError(
                f"made with {OLD_NAMES.get(name, name).replace('_', '-')} {was!r}, this run has {value!r}; "
                f"give the settings it was made with, or another --state-dir"
            )


def _refuse_inside(output: str, folder: Path, option: str) -> None:
    """Raise InputError if an output is a folder of states, or a folder of frames around one."""
    with input_checked():
        is_folder = suffix_of(output) == ""
    frames, place = (Path(os.path.realpath(path)) for path in (output, folder))
    if frames == place and not is_folder:
        raise InputError(f"{option} and the output are both {output}: name another folder for the states")
    if is_folder and frames in (place, *place.parents):
        raise InputError(f"{option} is in the output folder {output}, which can hold only frames: name another one")


def _try_to_write(folder: Path) -> None:
    """Raise OSError if no file can be created in a folder."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:  # it names the temporary file
        raise OSError(error.errno, error.strerror, str(folder)) from error
