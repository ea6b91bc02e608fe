"""The options of `vidrd ablate` alone."""

from __future__ import annotations

from vidrd_core.cli.options import RESULT, named, option

VARIED, MADE = "What is varied", "The videos"

COUNTS = option(
    VARIED,
    metavar="NUMBERS",
    help="Values of M, the prompt frames; none leaves it as it is.",
    like="0 to 3 N / 4",
)
ALPHAS = option(VARIED, metavar="NUMBERS", help="Values of alpha, or none.", like="0,0.5,1,2,4,8")
BETAS = option(VARIED, metavar="NUMBERS", help="Values of beta, or none.", like="0,0.2,0.4,0.6,0.8,1")
PROMPTS = option(
    MADE, metavar="FILE", parser=named, help="A text file with a prompt a line.", like="scenes, for built-in models"
)
VIDEOS = option(MADE, help="Videos of each point, of the prompts in turn, of seeds from --seed on.")
CLIPS = option(MADE, help="Clips of a video; three show a loop of two.")
NETWORK_FRAMES = option(
    "Networks of yours", help="How many frames across the last seam FVD and Inception Score are given.", like="N"
)
SHEETS = option(RESULT, help="Of how many videos a point the page has pictures.")
