"""The options of `vidrd evaluate` alone."""

from __future__ import annotations

from vidrd_core.cli.options import RESULT, named, option

VIDEOS, MADE, NETWORKS = "Videos of a folder", "Videos that a model makes", "Networks of yours"

CAPTIONS = option(
    VIDEOS,
    metavar="FILE",
    parser=named,
    help="A table of what videos show, with columns file_name and caption.",
    like="NAME.txt beside each",
)
CLIP_FRAMES = option(
    VIDEOS,
    help="Of how many frames a video's clips are (N), so that its seams are known; videos by 'vidrd generate' tell "
    "it themselves.",
    like=False,
)
REPEATED = option(
    VIDEOS, help="How many frames of later clips were shown already, and so are not: M in forward order."
)
PROMPTS = option(MADE, metavar="FILE", parser=named, help="A text file with a prompt a line.", like=False)
PROTOCOL = option(
    MADE,
    metavar="NAME|FILE",
    help="ucf101: the paper's, 10,000 videos of 101 classes; or a YAML file like its own. It was not run here.",
    like=False,
)
CLASS_LIST = option(
    MADE,
    metavar="FILE",
    parser=named,
    help="A list of real videos whose classes the protocol's follow, such as UCF-101's trainlist01.txt.",
    like="as many of each",
)
CLIPS = option(MADE, help="Clips of a video.")
VIDEOS_PER_PROMPT = option(MADE, help="Videos of each prompt, of seeds from --seed on.")
FVD = option(
    NETWORKS,
    metavar="KIND:WHERE",
    help="What FVD is measured by: i3d:FILE or script:FILE in torchscript, videomae:FOLDER of transformers, or "
    "python:MODULE:NAME, which makes a torch module.",
    like=False,
)
REFERENCE = option(
    NETWORKS,
    metavar="DIR|FILE",
    parser=named,
    help="Real videos for FVD: a folder, or statistics: a reference_*.safetensors, or an .npz with mu and sigma.",
    like=False,
)
CLASSIFIER = option(
    NETWORKS, metavar="FILE", parser=named, help="C3D of UCF-101 in torchscript, for the Inception Score.", like=False
)
CLIP = option(NETWORKS, metavar="DIR", parser=named, help="CLIP, for CLIPSIM and consistency.", like=False)
NETWORK_FRAMES = option(
    NETWORKS, help="How many of a video's first frames FVD and Inception Score are given.", like="16"
)
SHEETS = option(RESULT, help="Of how many videos the page has pictures.")
