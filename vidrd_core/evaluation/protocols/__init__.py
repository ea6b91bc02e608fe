"""Evaluation protocols: which prompts are measured and how, so that results can be compared with a paper's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vidrd_core.io.configs import from_dict, read_yaml
from vidrd_core.io.tables import read_text_lines

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Protocol:
    """A standard evaluation of a model.

    Args:
        name: Its name in results.
        status: Whether this project has run it, as a remark for users.
        videos: How many videos are generated.
        network_frames: How many frames of each the networks are given.
        prompts: A prompt for each class.
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

    def texts(self, counts: Mapping[str, int]) -> list[str]:
        """Choose a prompt for each video, in proportion to the classes of a data set.

        Args:
            counts: Videos of each class in the data set; capitals do not distinguish classes.

        Returns:
            `videos` prompts, sorted by the name of the class.

        Raises:
            ValueError: A class has no prompt, or there are no classes.
        """
        spelled = {label.casefold(): label for label in self.prompts}
        known: Counter[str] = Counter()
        for label, count in counts.items():
            known[label if label in self.prompts else spelled.get(label.casefold(), label)] += count
        if unknown := sorted(set(known) - set(self.prompts)):
            raise ValueError(
                f"{self.name} has no prompt for {', '.join(unknown[:5])}; it has {len(self.prompts)} classes"
            )
        return [self.prompts[label] for label, count in apportion(known, self.videos).items() for _ in range(count)]


def load_protocol(name: str) -> Protocol:
    """Read a protocol.

    Args:
        name: Name of a built-in protocol, such as "ucf101", or path of a YAML file.

    Returns:
        The protocol.

    Raises:
        FileNotFoundError: There is neither.
        ValueError: The file is not a protocol.
    """
    known = {path.stem: path for path in sorted(_FOLDER.glob("*.yaml"))}
    path = known.get(name, Path(name))
    if not path.is_file():
        raise FileNotFoundError(f"there is no protocol {name!r}: give a YAML file, or one of {', '.join(known)}")
    try:
        return from_dict(Protocol, read_yaml(path))
    except ValueError as error:
        raise ValueError(f"{path} is no protocol: {error}") from error


def class_counts(path: Path) -> Counter[str]:
    """Count the videos of each class in a list such as UCF-101's `trainlist01.txt`.

    Args:
        path: A text file with a line CLASS/VIDEO per video, as in "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1".

    Returns:
        Numbers of videos by the name of the class.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is another kind of file.
    """
    lines = [line.strip() for line in read_text_lines(path) if line.strip()]
    if not lines or not all("/" in line for line in lines):
        raise ValueError(f"{path} is no list of videos, expected a line such as YoYo/v_YoYo_g01_c01.avi for each")
    return Counter(line.split("/")[0] for line in lines)


def apportion(counts: Mapping[str, int], total: int) -> dict[str, int]:
    """Divide a total in proportion to counts, by the largest remainder method.

    Args:
        counts: A count by name.
        total: What is divided.

    Returns:
        Whole numbers that add up to `total`, sorted by name.

    Raises:
        ValueError: All counts are 0.
    """
    whole = sum(counts.values())
    if not whole:
        raise ValueError("there are no classes: expected one or more")
    exact = {name: counts[name] * total / whole for name in sorted(counts)}
    found = {name: int(share) for name, share in exact.items()}
    left = total - sum(found.values())
    for name in sorted(exact, key=lambda name: found[name] - exact[name])[:left]:
        found[name] += 1
    return found
