"""Make the figures of the documentation: `python docs/pictures.py`, which takes minutes on two cores.

Given the `ablation.json` of `vidrd ablate`, plot that instead.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from vidrd_core import ReuseSettings, VidRD, contact_sheet, load
from vidrd_core.presets import preset
from vidrd_core.reports.ablation import plot_figures
from vidrd_core.video.reuse_map import reuse_map

HERE = Path(__file__).parent
CLIPS, STEPS = 4, 25
SETTINGS = {
    "no reuse: M 0, alpha 0": ReuseSettings(prompt_frames=0, alpha=0.0, beta=0.0),
    "the paper's: mirror, M 4, alpha 4, beta 0.4": ReuseSettings(),
    "less old noise: alpha 1": ReuseSettings(alpha=1.0),
    "longer replay: beta 0.8": ReuseSettings(beta=0.8),
    "fewer prompt frames: M 1": ReuseSettings(prompt_frames=1),
    "forward, alpha 4": ReuseSettings(order="forward"),
    "forward, alpha 0": ReuseSettings(order="forward", alpha=0.0),
}
PROMPTS = (
    "a red circle moving right",
    "a blue star spinning",
    "a yellow square bouncing",
    "a green triangle moving up on a navy background",
    "a large purple ring moving down left",
    "a cyan cross shrinking on a brown background",
    "an orange circle above a white square",
)


def chain(model: VidRD, prompt: str, reuse: ReuseSettings, seed: int = 0) -> np.ndarray:
    """The frames of a chain of clips, uint8 [F, H, W, 3]; about as many in forward order as in mirror order."""
    clips = CLIPS if reuse.order == "mirror" else 1 + (CLIPS - 1) * 8 // (8 - reuse.prompt_frames)
    return model.frames(model.stream(prompt, clips, reuse, seed=seed, steps=STEPS))


def draw_maps() -> None:
    """Draw the reuse map of each of the settings, three in a row."""
    maps = [reuse_map(reuse) for reuse in list(SETTINGS.values())[1:]]
    width, height = maps[0].size
    sheet = Image.new("RGB", (3 * width, 2 * height))
    for number, picture in enumerate(maps):
        sheet.paste(picture, (number % 3 * width, number // 3 * height))
    sheet.save(HERE / "reuse.png")


def draw_settings(model: VidRD) -> None:
    """Draw a contact sheet of one prompt with each of the settings."""
    settings = {label: chain(model, PROMPTS[0], reuse) for label, reuse in SETTINGS.items()}
    labels = [f"{label} - {PROMPTS[0]}" for label in settings]
    contact_sheet(list(settings.values()), HERE / "settings.png", labels, seam_every=8)


def draw_chains(model: VidRD) -> None:
    """Draw contact sheets of seven prompts, one for each order."""
    for order in ("mirror", "forward"):
        videos = [chain(model, prompt, ReuseSettings(order=order), seed=1) for prompt in PROMPTS]
        contact_sheet(videos, HERE / f"chains_{order}.png", PROMPTS, seam_every=8 if order == "mirror" else 4)


def draw_choices(model: VidRD) -> None:
    """Draw contact sheets of the settings beyond the paper, one for each order and motion."""
    quarter, orders = preset("keep moving", 8), {}
    orders["mirror"] = {"paper": preset("paper", 8), "release: soft": ReuseSettings(release="soft")}
    orders["forward"] = {
        "keep moving: noise shuffle": quarter,
        **{f"noise: {name}": replace(quarter, noise=name) for name in ("pns", "fresh", "lowpass")},
        "anchor: 1": replace(quarter, anchor=1.0),
        "loop on purpose: after the last frame comes the first": preset("loop on purpose", 8),
    }
    for order, choices in orders.items():
        added = 8 if order == "mirror" else 6
        for name, prompt in (("orbit", "a large green circle orbiting"), ("straight", "a red circle moving right")):
            videos = [
                model.frames(model.stream(prompt, CLIPS, each, seed=2, steps=STEPS)) for each in choices.values()
            ]
            labels = [f"{label} - {prompt}" for label in choices]
            seams = range(8, 8 + CLIPS * added, added)
            contact_sheet(videos, HERE / f"choices_{order}_{name}.png", labels, seams=seams)


def draw_ablation(result: Path) -> None:
    """Plot the main metrics of an ablation by M, alpha and beta."""
    names = ["fvd", "faithful_motion", "seam_error", "worst_step", "loopiness", "dynamic"]
    sweeps = json.loads(result.read_text(encoding="utf-8"))["sweeps"]
    plot_figures(sweeps, names).savefig(HERE / "ablation.png", dpi=80)


def main() -> None:
    """Plot the ablation that is named, or draw all other figures."""
    if len(sys.argv) > 1:
        return draw_ablation(Path(sys.argv[1]))
    model = load("tiny")
    draw_maps()
    draw_settings(model)
    draw_chains(model)
    draw_choices(model)


if __name__ == "__main__":
    main()
