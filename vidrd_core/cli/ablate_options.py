"""The options that only `vidrd ablate` has."""

from __future__ import annotations

from vidrd_core.cli.options import RESULT, named, option

VARIED, GENERATED = "What is varied", "The videos"

COUNTS = option(
    VARIED, metavar="NUMBERS", help="Values of M, the prompt frames; none does not vary it.", like="0 to 3 N / 4"
)
ALPHAS = option(VARIED, metavar="NUMBERS", help="Values of alpha, or none.", like="0,0.5,1,2,4,8")
BETAS = option(VARIED, metavar="NUMBERS", help="Values of beta, or none.", like="0,0.2,0.4,0.6,0.8,1")
PROMPTS = option(
    GENERATED,
    metavar="FILE",
    parser=named,
    help="A text file with one prompt per line.",
    like="scenes, for built-in models",
)
VIDEOS = option(GENERATED, help="Videos per point, from the prompts in turn, with seeds from --seed on.")
CLIPS = option(GENERATED, help="Clips per video; three show a loop of two.")
NETWORK_FRAMES = option(
    "Networks", help="How many frames across the last seam FVD and Inception Score use.", like="N"
)
SHEETS = option(RESULT, help="For how many videos per point the report has contact sheets.")
