"""Protocols: what is measured on which prompts, so that figures of one paper can be held against another's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vidrd_core.io.configs import from_dict, read_yaml

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Protocol:
    """A measurement that others repeat.

    status          whether its figures were ever made here, in words for users
    videos          how many are made
    network_frames  how many frames of each the networks are given
    prompts         a sentence of each class
    """

    name: str
    status: str
    videos: int
    network_frames: int
    prompts: Mapping[str, str]

    def __post_init__(self) -> None:
        for name in ("videos", "network_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")
        if not self.prompts or not all(isinstance(each, str) and each.strip() for each in self.prompts.values()):
            raise ValueError("prompts are empty, expected a sentence for each class")

    def texts(self, labels: Mapping[str, int]) -> list[str]:
        """A prompt for each video, class by class, as many of each as its share of `labels`, a count of each class.

        Raises ValueError for a class without a prompt, or no class at all.
        """
        if unknown := sorted(set(labels) - set(self.prompts)):
            raise ValueError(
                f"{self.name} has no prompt for {', '.join(unknown[:5])}; it has {len(self.prompts)} classes"
            )
        return [self.prompts[label] for label, count in shares(labels, self.videos).items() for _ in range(count)]


def protocol(named: str) -> Protocol:
    """A packaged one by name, or of a YAML file. Raises FileNotFoundError, ValueError."""
    known = {path.stem: path for path in sorted(_FOLDER.glob("*.yaml"))}
    path = known.get(named, Path(named))
    if not path.is_file():
        raise FileNotFoundError(f"there is no protocol {named!r}: give a YAML file, or one of {', '.join(known)}")
    try:
        return from_dict(Protocol, read_yaml(path))
    except ValueError as error:
        raise ValueError(f"{path} is no protocol: {error}") from error


def labels_of(path: Path) -> Counter[str]:
    """How many videos of each class a list has: UCF-101's `trainlist01.txt`, `ApplyEyeMakeup/v_..._c01.avi 1` a line.

    Raises OSError, or ValueError for another file.
    """
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines or not all("/" in line for line in lines):
        raise ValueError(f"{path} is no list of videos, expected a line such as YoYo/v_YoYo_g01_c01.avi for each")
    return Counter(line.split("/")[0] for line in lines)


def shares(counts: Mapping[str, int], total: int) -> dict[str, int]:
    """So many in all, shared out like the counts, by largest remainders; in order of the names."""
    whole = sum(counts.values())
    if not whole:
        raise ValueError("there are no classes: expected one or more")
    exact = {name: counts[name] * total / whole for name in sorted(counts)}
    found = {name: int(share) for name, share in exact.items()}
    left = total - sum(found.values())
    for name in sorted(exact, key=lambda name: found[name] - exact[name])[:left]:
        found[name] += 1
    return found
