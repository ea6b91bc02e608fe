"""The options of `vidrd evaluate` and `vidrd ablate` alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vidrd_core.cli.errors import InputError
from vidrd_core.cli.options import RESULT
from vidrd_core.cli.settings_options import Group, Shape

FOLDER, MADE, VARIED = "Videos of a folder", "Videos that a model makes", "What is varied"
NETWORKS = "Your networks"


@dataclass(frozen=True)
class FolderOptions:
    """Videos of a folder.

    Args:
        captions: A table of what videos show, with columns file_name and caption; it wins over NAME.txt beside one.
        clip_frames: The frames of a video's clips (N), for its seams; videos by 'vidrd generate' say it themselves.
        repeated: How many frames of each later clip the previous one has shown already (M in forward order).
    """

    captions: Path | None = None
    clip_frames: int | None = None
    repeated: int = 0


@dataclass(frozen=True)
class MadeOptions:
    """Videos that a model makes.

    Args:
        prompts: A text file with a prompt per line.
        protocol: ucf101: the paper's, 10,000 videos of 101 classes; or a YAML file like it.
        class_list: A list of real videos whose classes the protocol's follow, such as UCF-101's trainlist01.txt.
        clips: Clips of a video.
        videos_per_prompt: Videos of each prompt, with seeds from --seed on.
        batch: Videos sampled together, faster on a GPU; the last bits depend on it.
    """

    prompts: Path | None = None
    protocol: str | None = None
    class_list: Path | None = None
    clips: int = 4
    videos_per_prompt: int = 1
    batch: int = 1


@dataclass(frozen=True)
class ResultOptions:
    """The result.

    Args:
        sheets: The number of videos that the page shows contact sheets of.
        as_json: Print the result as JSON, the content of evaluation.json.
    """

    sheets: int = 12
    as_json: bool = False


@dataclass(frozen=True)
class SweepOptions:
    """What is varied.

    Args:
        counts: Values of M, the prompt frames; none leaves it as it is.
        alphas: Values of alpha, or none.
        betas: Values of beta, or none.
        prompts: A text file with a prompt per line.
        videos: Videos of each point, of the prompts in turn, with seeds from --seed on.
        clips: Clips of a video; three show a loop of two.
        sheets: The number of videos of each point that the page shows pictures of.
    """

    counts: str = ""
    alphas: str = ""
    betas: str = ""
    prompts: Path | None = None
    videos: int = 200
    clips: int = 3
    sheets: int = 1

    def __post_init__(self) -> None:
        if self.videos < 2:
            raise InputError(f"videos is {self.videos}, expected 2 or more: intervals need them")


EVALUATE_SHAPES = {
    "captions": Shape("FILE", default="NAME.txt beside each"),
    "clip_frames": Shape("N"),
    "repeated": Shape("COUNT"),
    "prompts": Shape("FILE"),
    "protocol": Shape("NAME|FILE"),
    "class_list": Shape("FILE", default="as many of each class"),
    "clips": Shape("COUNT"),
    "videos_per_prompt": Shape("COUNT"),
    "batch": Shape("COUNT"),
    "fvd": Shape("KIND:WHERE"),
    "reference": Shape("FOLDER|FILE"),
    "classifier": Shape("FILE"),
    "clip": Shape("FOLDER"),
    "network_frames": Shape("COUNT", default="16"),
    "sheets": Shape("COUNT"),
    "as_json": Shape(names=("--json",)),
}
ABLATE_SHAPES = {
    **EVALUATE_SHAPES,
    "counts": Shape("LIST", default="0 to 3 N / 4"),
    "alphas": Shape("LIST", default="0,0.5,1,2,4,8"),
    "betas": Shape("LIST", default="0,0.2,0.4,0.6,0.8,1"),
    "prompts": Shape("FILE", default="scenes, for built-in models"),
    "videos": Shape("COUNT"),
    "network_frames": Shape("COUNT", default="N"),
}
_HERE = "vidrd_core.cli.evaluate_options"
FOLDER_GROUP = Group(f"{_HERE}:FolderOptions", FOLDER)
MADE_GROUP = Group(f"{_HERE}:MadeOptions", MADE)
NETWORK_GROUP = Group("vidrd_core.cli.measuring:NetworkOptions", NETWORKS)
RESULT_GROUP = Group(f"{_HERE}:ResultOptions", RESULT)
SWEEP_GROUP = Group(f"{_HERE}:SweepOptions", VARIED)
