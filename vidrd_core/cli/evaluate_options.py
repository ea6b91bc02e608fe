"""The options that only `vidrd evaluate` has."""

from __future__ import annotations

from vidrd_core.cli.options import RESULT, named, option

VIDEOS, GENERATED, NETWORKS = "Videos in a folder", "Videos from a model", "Networks"

CAPTIONS = option(
    VIDEOS,
    metavar="FILE",
    parser=named,
    help="A table of captions, with columns file_name and caption.",
    like="NAME.txt beside each",
)
CLIP_FRAMES = option(
    VIDEOS,
    help="Frames of a clip (N) in the videos, so that their seams are known; videos by 'vidrd generate' contain it.",
    like=False,
)
REPEATED = option(
    VIDEOS, help="Leading frames of later clips that repeat the clip before and are not shown: M in forward order."
)
PROMPTS = option(GENERATED, metavar="FILE", parser=named, help="A text file with one prompt per line.", like=False)
PROTOCOL = option(
    GENERATED,
    metavar="NAME|FILE",
    help="ucf101: the paper's, 10,000 videos of 101 classes, which this project has not run; or a YAML file like it.",
    like=False,
)
CLASS_LIST = option(
    GENERATED,
    metavar="FILE",
    parser=named,
    help="A list of real videos whose class proportions the protocol follows, such as UCF-101's trainlist01.txt.",
    like="all classes alike",
)
CLIPS = option(GENERATED, help="Clips per video.")
VIDEOS_PER_PROMPT = option(GENERATED, help="Videos per prompt, with seeds from --seed on.")
FVD = option(
    NETWORKS,
    metavar="KIND:WHERE",
    help="The feature extractor for FVD: i3d:FILE or script:FILE in TorchScript, videomae:FOLDER of transformers, or "
    "python:MODULE:NAME, a function that returns a torch module.",
    like=False,
)
REFERENCE = option(
    NETWORKS,
    metavar="DIR|FILE",
    parser=named,
    help="Reference videos for FVD: a folder, or statistics (a reference_*.safetensors, an .npz with mu and sigma).",
    like=False,
)
CLASSIFIER = option(
    NETWORKS, metavar="FILE", parser=named, help="C3D of UCF-101 in TorchScript, for the Inception Score.", like=False
)
CLIP = option(
    NETWORKS, metavar="DIR", parser=named, help="A CLIP of transformers, for CLIPSIM and consistency.", like=False
)
NETWORK_FRAMES = option(NETWORKS, help="How many leading frames of a video FVD and Inception Score use.", like="16")
SHEETS = option(RESULT, help="For how many videos the report has contact sheets.")
JSON = option(RESULT, "--json", help="Print the result as JSON, the content of evaluation.json.")
