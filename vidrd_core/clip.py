"""One clip of a video, and the random numbers that are its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vidrd_core.state import ClipState


class DivergenceError(ValueError):
    """Sampling left the numbers that there are: the settings do not suit the model."""


@dataclass(frozen=True, eq=False)
class Clip:
    """One clip: what it adds to the video, and the state to go on from."""

    prompt: str
    state: ClipState

    @property
    def index(self) -> int:
        """The clip's number, from 0."""
        return self.state.index

    @property
    def latents(self) -> Tensor:
        """The latents that this clip adds to the video, [1, C, F, h, w]."""
        return self.state.shown


def states_of(clips: Clip | ClipState | Iterable[Clip | ClipState]) -> Iterator[ClipState]:
    """The states of one clip or several, one at a time."""
    for clip in [clips] if isinstance(clips, Clip | ClipState) else clips:
        yield clip.state if isinstance(clip, Clip) else clip


def clip_generator(seed: int, index: int) -> torch.Generator:
    """The CPU generator of clip `index`: independent of how many clips there are and of how they were reached."""
    (state,) = np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state) >> 1)
