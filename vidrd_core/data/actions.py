"""The stage that makes clips of action-recognition datasets, Kinetics and UCF-101; labels become captions."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

from vidrd_core.data.captions import AddCaption, Captioner, Templates, words_of
from vidrd_core.data.clip_sampling import ClipSettings, SampleClips
from vidrd_core.data.files import Found, Refused, walk, warn_of_absent
from vidrd_core.data.records import Record, Skipped, Step
from vidrd_core.io.tables import VIDEO_SUFFIXES, read_rows, read_text_lines

LAYOUTS = ("kinetics", "ucf101")
TEMPLATES = {
    "kinetics": Templates.templates,
    "ucf101": ("a video of {label}", "a clip that shows {label}", "{label}"),  # its labels are not participles
}
_TRIMMED = re.compile(r"(?P<id>.+)_(?P<start>\d{6})_(?P<stop>\d{6})")
_UCF = re.compile(r"v_(?P<label>[A-Za-z0-9]+)_g\d+_c\d+", re.IGNORECASE)
_UCF_CLASSES = {"handstandpushups": "HandstandPushups"}  # its files are called v_HandStandPushups_g01_c01.avi


@dataclass(frozen=True)
class Actions:
    """The stage `vidrd data actions`: a folder of labelled videos to captioned clips.

    Kinetics' videos may be trimmed (`ID_000012_000022.mp4`) or untrimmed (`ID.mp4`, of which the table's segment is
    taken), in any folders; without a table the folder of a video is its label. UCF-101's have their label in their
    name (`v_ApplyEyeMakeup_g01_c01.avi`).

    Args:
        folder: The folder.
        layout: "kinetics" or "ucf101".
        captioner: Makes captions of labels; by default the layout's templates.
        clips: Shape and choice of the clips.
        table: Kinetics' CSV (label, youtube_id, time_start, time_end, split), or UCF-101's list of videos.
        split: The split of Kinetics' CSV to take: train, validate or test; None takes all.

    Raises:
        ValueError: The layout is unknown, or a split is given without a table of splits.
    """

    name: ClassVar[str] = "actions"
    per_shard: ClassVar[int] = 128

    folder: Path
    layout: Literal["kinetics", "ucf101"]
    captioner: Captioner | None = None
    clips: ClipSettings = field(default_factory=ClipSettings)
    table: Path | None = None
    split: str | None = None
    steps: tuple[Step, ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout is {self.layout!r}, expected one of {', '.join(LAYOUTS)}")
        if self.split and (self.layout == "ucf101" or not self.table):
            raise ValueError(f"split is {self.split!r}, and only Kinetics' CSV has splits: name it as the table")
        if self.captioner is None:
            object.__setattr__(self, "captioner", Templates(TEMPLATES[self.layout]))
        assert self.captioner is not None
        object.__setattr__(self, "steps", (AddCaption(self.captioner), SampleClips(self.clips)))

    def find(self) -> Iterator[Found]:
        """The videos, with their labels. Raises OSError, ValueError for a table that cannot be read."""
        refused = Refused()
        videos = [path for path in walk(self.folder, refused) if path.suffix.lower() in VIDEO_SUFFIXES]
        if self.layout == "ucf101":
            yield from self._ucf101(videos)
        elif self.table:
            yield from self._kinetics_table(self.table, videos, refused)
        else:
            yield from self._kinetics_folders(videos)
        yield from refused.records

    def _ucf101(self, videos: list[Path]) -> Iterator[Found]:
        if self.table:
            lines = read_text_lines(self.table)
            names = (PurePosixPath(line.split()[0]).name for line in lines if line.strip())
            listed = {name.casefold(): name for name in names}
            chosen = [path for path in videos if path.name.casefold() in listed]
            if videos and not chosen:
                raise ValueError(
                    f"none of the {len(videos)} videos in {self.folder} is in {self.table}: expected a list of "
                    "UCF-101's videos, such as trainlist01.txt"
                )
            present = (listed[path.name.casefold()] for path in chosen)
            warn_of_absent(self.table, listed.values(), present, self.folder)
            videos = chosen
        for path in videos:
            named, record = _UCF.fullmatch(path.stem), Record(str(path))
            if named is None:
                yield Skipped(record, "has no label in its name, expected as in v_ApplyEyeMakeup_g01_c01.avi")
            else:
                label = named["label"]
                yield replace(record, label=words_of(_UCF_CLASSES.get(label.casefold(), label)))

    def _kinetics_folders(self, videos: list[Path]) -> Iterator[Found]:
        for path in videos:
            record = Record(str(path))
            if path.parent == Path(self.folder):
                yield Skipped(record, "is in no folder named by a label: move it, or name Kinetics' CSV as the table")
            else:
                yield replace(record, label=words_of(path.parent.name))

    def _kinetics_table(self, table: Path, videos: list[Path], refused: Refused) -> Iterator[Found]:
        refuse = refused.line_of(table)
        files: dict[str, list[tuple[Path, re.Match[str] | None]]] = defaultdict(list)
        for path in videos:
            trimmed = _TRIMMED.fullmatch(path.stem)
            files[trimmed["id"] if trimmed else path.stem].append((path, trimmed))
        splits, named = set[str](), set[str]()
        for number, row in read_rows(table, refuse):
            needed = ("label", "youtube_id", "time_start", "time_end")
            if missing := [name for name in needed if name not in row]:
                raise ValueError(f"{table}, line {number} lacks {', '.join(missing)}, expected Kinetics' columns")
            if empty := [name for name in needed if row[name] in (None, "")]:
                refuse(number, f"has no {', '.join(empty)}")
                continue
            row = {name: str(value) for name, value in row.items()}  # JSON has numbers, too
            splits.add(row.get("split") or "")
            named.add(row["youtube_id"])
            if self.split and row.get("split") != self.split:
                continue
            try:
                start, stop = (float(row[name]) for name in ("time_start", "time_end"))
            except ValueError as error:
                refuse(number, f"has times that are no numbers of seconds: {error}")
                continue
            if not 0 <= start < stop < inf:
                refuse(number, f"goes from {start:g} to {stop:g} s, expected a start before an end")
                continue
            label, known = words_of(row["label"]), files.get(row["youtube_id"], [])
            own = [path for path, name in known if name and (int(name["start"]), int(name["stop"])) == (start, stop)]
            whole = [path for path, name in known if not name]
            if own:
                yield Record(str(own[0]), label=label)
            elif whole:
                yield Record(str(whole[0]), label=label, start=start, stop=stop)
            else:
                absent = Record(f"{row['youtube_id']} ({start:g} to {stop:g} s)", label=label)
                yield Skipped(absent, f"is in the table, but no video of it is in {self.folder}")
        if self.split and self.split not in splits:
            present = ", ".join(sorted(filter(None, splits))) or "none"
            raise ValueError(f"no line of {table} is of the split {self.split!r}; its splits are {present}")
        for path in (path for video, found in files.items() if video not in named for path, _ in found):
            yield Skipped(Record(str(path)), f"is in no line of {table}")
