"""What files of clip states say of their clips, without their tensors, and how the clips branch."""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vidrd_core.io import safetensors
from vidrd_core.io.safetensors import FormatError
from vidrd_core.state import KIND, LAST_CLIP

PREVIEW_SIDE = 96  # pixels, at most
PREVIEW_FRAMES = 8
PREVIEW_MS = 1000  # of all its frames


@dataclass(frozen=True)
class StateSummary:
    """What the file of a state says of its clip.

    Args:
        path: The file.
        fingerprint: Identifies the clip, as `ClipState.fingerprint`.
        index: The clip's number in its video, from 0.
        ancestors: The fingerprints of the clips before it, as far as they are known, the last one's last.
        prompt: "" where it is not known.
        seed: None where it is not known.
        written: When the file was written, in seconds since 1970.
        preview: A small animated WebP of the clip; b"" for none.
    """

    path: Path
    fingerprint: str
    index: int
    ancestors: tuple[str, ...]
    prompt: str
    seed: int | None
    written: float
    preview: bytes

    @classmethod
    def of(cls, path: Path) -> StateSummary:
        """Read a state's file. Raises OSError, or FormatError if it holds something else or is damaged."""
        details = safetensors.describe(path)
        if details.get("kind") != KIND:
            raise FormatError(f"{path} holds {safetensors.describe_kind(details)}, expected a {KIND}")
        made_with, index = details.get("made_with"), details.get("index")
        made_with = made_with if isinstance(made_with, dict) else {}
        prompt = made_with.get("prompt")
        ancestors = details.get("ancestors") or [details.get("follows")]
        fingerprint, seed = details.get("fingerprint"), made_with.get("seed")
        if (
            not isinstance(fingerprint, str)
            or not fingerprint
            or not isinstance(index, int)
            or not 0 <= index < LAST_CLIP
            or not isinstance(ancestors, list)
        ):
            raise FormatError(f"{path} is damaged: its metadata is not that of a {KIND}")
        try:
            preview = base64.b64decode(details.get("preview", ""), validate=True)
        except (TypeError, ValueError):
            preview = b""
        return cls(
            path,
            fingerprint,
            index,
            tuple(each for each in ancestors if isinstance(each, str) and each),
            prompt if isinstance(prompt, str) else "",
            seed if type(seed) is int else None,
            path.stat().st_mtime,
            preview,
        )


@dataclass(frozen=True)
class Branch:
    """A clip in a picture of videos: a row for each branch, a column for each clip.

    Args:
        fingerprint: Identifies the clip.
        index: The clip's number in its video, from 0: its column.
        row: Its row; the first clip's branch is the video's first row.
        parent: The fingerprint of the clip that it extends; "" for a first clip, or where that is not known.
        states: Files of its state, the newest first; none for a clip whose state was not saved.
    """

    fingerprint: str
    index: int
    row: int
    parent: str
    states: tuple[StateSummary, ...]


def branches(summaries: Iterable[StateSummary]) -> list[Branch]:
    """Arrange clips so that each branch of a video has a row.

    Args:
        summaries: Of the saved states.

    Returns:
        All clips that they tell of, saved or not, by rows and columns. The video with the newest state comes first;
        of two branches the one with the older state goes on in its row.
    """
    parents: dict[str, str] = {}
    columns: dict[str, int] = {}
    times: dict[str, list[float]] = defaultdict(list)  # of the states of a clip and of those after it
    saved: dict[str, list[StateSummary]] = defaultdict(list)
    for each in sorted(summaries, key=lambda one: -one.written):
        saved[each.fingerprint].append(each)
        line = (*each.ancestors, each.fingerprint)
        for number, clip in enumerate(line):
            times[clip].append(each.written)
            columns[clip] = max(0, each.index - len(line) + 1 + number)
            # A file of an earlier version knows the last clip alone.
            parents[clip] = parents.get(clip) or (line[number - 1] if number else "")
    children: dict[str, list[str]] = defaultdict(list)
    for clip, parent in parents.items():
        children[parent].append(clip)
    placed: dict[str, Branch] = {}
    row = 0
    waiting = sorted(children[""], key=lambda clip: max(times[clip]))
    # Last come clips that claim to follow each other.
    while waiting or (waiting := [clip for clip in parents if clip not in placed][:1]):
        clip = waiting.pop()
        placed[clip] = Branch(clip, columns[clip], row, parents[clip], tuple(saved.get(clip, ())))
        after = [each for each in children[clip] if each not in placed]
        waiting += sorted(after, key=lambda each: -min(times[each]))
        row += not after
    return list(placed.values())


def listing(states: Mapping[str, StateSummary]) -> dict[str, Any]:
    """What a page shows of saved states, ready for JSON.

    Args:
        states: By the name that the page knows each by.

    Returns:
        "states", the newest first: "file", "clip", "prompt", "seed", "written" and "picture", whether there is one.
        "clips", as `branches` arranges them: "clip", "row", "parent" (a place in this list, or -1) and "files".
    """
    newest = sorted(states.items(), key=lambda item: (-item[1].written, item[0]))
    names = {id(each): name for name, each in states.items()}
    clips = branches(states.values())
    places = {each.fingerprint: place for place, each in enumerate(clips)}
    return {
        "states": [
            {
                "file": name,
                "clip": each.index,
                "prompt": each.prompt,
                "seed": None if each.seed is None else str(each.seed),  # a page's numbers have 53 bits
                "written": each.written,
                "picture": bool(each.preview),
            }
            for name, each in newest
        ],
        "clips": [
            {
                "clip": each.index,
                "row": each.row,
                "parent": places.get(each.parent, -1),
                "files": [names[id(state)] for state in each.states],
            }
            for each in clips
        ],
    }


def preview_of(frames: NDArray[np.uint8] | Sequence[Image.Image]) -> str:
    """Make a small animated picture of a clip.

    Args:
        frames: Its frames [F, H, W, 3], or as pictures of one size.

    Returns:
        An animated WebP of at most `PREVIEW_FRAMES` frames and `PREVIEW_SIDE` pixels, in base64; "" without frames.
    """
    chosen = [frames[j] for j in range(0, len(frames), -(-len(frames) // PREVIEW_FRAMES) or 1)]
    if not chosen:
        return ""
    pictures = [(each if isinstance(each, Image.Image) else Image.fromarray(each)).convert("RGB") for each in chosen]
    for each in pictures:
        each.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    file, duration = io.BytesIO(), PREVIEW_MS // len(pictures)
    pictures[0].save(file, "WEBP", save_all=True, append_images=pictures[1:], duration=duration, loop=0, quality=70)
    return base64.b64encode(file.getvalue()).decode()
