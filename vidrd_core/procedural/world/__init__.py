"""A drawn world with instances and a future: one thing over a ground, of which a caption says what, never which.

"a red star drifting right over a striped ground" leaves open the exact hue, the size, the pattern on the star, where
it is and how fast, and the ground's colours, phase and landmark. Frame and ground are tori: what leaves on one side
comes back on the other, so that what can be seen determines what comes next.

Lengths are fractions of the frame's side, time is in frames. x points right and y down, so a growing angle turns
clockwise.
"""

from vidrd_core.procedural.world.captions import VOCABULARY, caption, describe, evaluation_instances, parse
from vidrd_core.procedural.world.drawing import draw, render
from vidrd_core.procedural.world.motion import MOTIONS, State, predict, states
from vidrd_core.procedural.world.readout import Readout, read_out
from vidrd_core.procedural.world.things import (
    COLORS,
    GROUNDS,
    PATTERNS,
    Ground,
    Instance,
    Motion,
    Thing,
    random_instance,
)

__all__ = [
    "COLORS",
    "GROUNDS",
    "MOTIONS",
    "PATTERNS",
    "VOCABULARY",
    "Ground",
    "Instance",
    "Motion",
    "Readout",
    "State",
    "Thing",
    "caption",
    "describe",
    "draw",
    "evaluation_instances",
    "parse",
    "predict",
    "random_instance",
    "read_out",
    "render",
    "states",
]
