"""Tensors that wait in a file, and take no memory until they are asked for."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidrd_core.io import safetensors
from vidrd_core.io.safetensors import FormatError


class WaitingTensors(Mapping[str, Tensor]):
    """Tensors of a safetensors file by name; each is read again whenever it is asked for.

    What is read is a copy in memory: the file is never mapped for longer than a read takes, so that Windows, too, can
    remove it. That happens with the last object that refers to this one, or when Python ends.

    Args:
        path: The file, which is this object's own.
        tensors: What it holds, by the names of this mapping; only their layouts are noted.
        names: The names in the file, where they differ.
        copies: Files with the same tensors and details, which are read if `path` was removed by somebody else; more
            may be added to the attribute of that name.
    """

    def __init__(
        self,
        path: Path,
        tensors: Mapping[str, Tensor],
        names: Mapping[str, str] | None = None,
        copies: Iterable[Path] = (),
    ) -> None:
        self.path, self.copies = path, [*copies]
        self._names = {name: (names or {}).get(name, name) for name in tensors}
        # With the strides, since a sum over another layout may be another number in its last bit.
        self._layouts = {name: torch.empty_like(each, device="meta") for name, each in tensors.items()}
        self._details = safetensors.describe(path)
        weakref.finalize(self, _remove, path)

    def __getitem__(self, name: str) -> Tensor:
        """Read a tensor. Raises FileNotFoundError if its file was removed, or FormatError if it is damaged."""
        layout = self._layouts[name]
        with safetensors.open_safetensors(self._file()) as file:
            found = file.get_tensor(self._names[name])
            if found.shape != layout.shape or found.dtype != layout.dtype:
                raise FormatError(f"{self.path} was changed: {name} has shape {list(found.shape)} now")
            return torch.empty_like(layout, device=found.device).copy_(found)

    def shape(self, name: str) -> torch.Size:
        """The shape of a tensor, which is not read."""
        return self._layouts[name].shape

    def __iter__(self) -> Iterator[str]:
        return iter(self._layouts)

    def __len__(self) -> int:
        return len(self._layouts)

    def __deepcopy__(self, _: dict[int, Any]) -> WaitingTensors:
        return self  # nothing of it changes

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)  # the file may be gone, or another machine's, when the pickle is read

    def _file(self) -> Path:
        """The file, or the first copy that is there and is of the same."""
        if self.path.exists():
            return self.path
        for copy in self.copies:
            with contextlib.suppress(OSError, FormatError):
                if safetensors.describe(copy) == self._details:
                    return copy
        raise FileNotFoundError(
            f"{self.path}, which held a part of this clip, was removed while the program ran: change the clip's seed "
            "or start the program again, so that the clip is made again"
        )


class WaitingTensor:
    """One tensor that waits in a file.

    Args:
        tensors: The tensors of that file.
        name: Its name among them.
    """

    def __init__(self, tensors: WaitingTensors, name: str) -> None:
        self._tensors, self._name = tensors, name

    @property
    def shape(self) -> torch.Size:
        """Its shape."""
        return self._tensors.shape(self._name)

    def load(self) -> Tensor:
        """Read it. Raises as `WaitingTensors`."""
        return self._tensors[self._name]

    def __reduce__(self) -> tuple[Any, ...]:
        return Tensor.clone, (self.load(),)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # gone, or just being read on Windows: the next start empties the folder
        path.unlink()
