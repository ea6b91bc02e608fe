"""A stage's log: a JSON line for each entry, and what TensorBoard or wandb show of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from PIL import Image

from vidrd_core.io.atomic import write_text

LOG = "log.jsonl"


class Log:
    """Written by the main process alone."""

    def __init__(self, accelerator: Accelerator, folder: Path, name: str) -> None:
        self.accelerator, self.path, self.name = accelerator, folder / LOG, name

    def write(self, step: int, values: dict[str, Any]) -> None:
        if not (self.accelerator.is_main_process and values):
            return
        record = {"step": step, **values}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        print(f"{self.name}: {json.dumps({k: _short(v) for k, v in record.items()})}", flush=True)
        self.accelerator.log({f"{self.name}/{name}": value for name, value in values.items()}, step=step)

    def show(self, step: int, name: str, picture: Path) -> None:
        """A picture for the trackers."""
        if not (self.accelerator.is_main_process and picture.exists()):
            return
        with Image.open(picture) as image:
            pixels = np.asarray(image.convert("RGB"))
        for tracker in self.accelerator.trackers:
            if hasattr(tracker, "log_images"):
                like = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                tracker.log_images({f"{self.name}/{name}": pixels[None]}, step=step, **like)

    def holds(self, step: int, name: str) -> bool:
        """Whether a value whose name begins so was written at a step."""
        if not self.path.exists():
            return False
        lines = map(json.loads, self.path.read_text(encoding="utf-8").splitlines())
        return any(line["step"] == step and any(key.startswith(name) for key in line) for line in lines)

    def cut(self, step: int) -> None:
        """Forget what came after a step: it will be done again. A line that was cut short goes, too."""
        if not (self.accelerator.is_main_process and self.path.exists()):
            return
        kept = [line for line in self.path.read_text(encoding="utf-8").splitlines() if _step(line) <= step]
        write_text(self.path, "".join(f"{line}\n" for line in kept))


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _short(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value
