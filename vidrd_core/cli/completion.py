"""What shells complete besides the names of options: presets, models and recipes. Nothing here imports PyTorch."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from vidrd_core.cli.settings_options import constant

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "training" / "configs"
WEIGHTS, SETTINGS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin"), (".yaml", ".yml")


def presets(incomplete: str) -> list[str]:
    """The presets of reuse settings that begin with a text.

    Args:
        incomplete: What has been typed of the word.

    Returns:
        Their names.
    """
    return _matching(constant("vidrd_core.presets", "PRESETS"), incomplete)


def models(incomplete: str) -> list[str]:
    """The built-in models that begin with a text, and folders and weights that do.

    Args:
        incomplete: What has been typed of the word.

    Returns:
        Names and paths; none where no built-in model begins with the text, so that the shell completes paths itself.
    """
    return _names_and_paths(
        (path.parent.name for path in ROOT.glob("models/*/unet.safetensors")), WEIGHTS, incomplete
    )


def recipes(incomplete: str) -> list[str]:
    """The packaged recipes that begin with a text, and folders and YAML files that do.

    Args:
        incomplete: What has been typed of the word.

    Returns:
        Names and paths; none where no recipe begins with the text, as for `models`.
    """
    return _names_and_paths((path.stem for path in RECIPES.glob("*.yaml")), SETTINGS, incomplete)


def _names_and_paths(names: Iterable[str], suffixes: tuple[str, ...], incomplete: str) -> list[str]:
    """Names, and what is in the working directory: an incomplete name has no folder before it."""
    if not (found := _matching(sorted(names), incomplete)):
        return []
    try:
        here = sorted(Path().iterdir())
    except OSError:
        return found
    paths = (f"{path}/" if path.is_dir() else str(path) for path in here if path.is_dir() or path.suffix in suffixes)
    hidden = incomplete.startswith(".")
    return found + _matching((path for path in paths if hidden or not path.startswith(".")), incomplete)


def _matching(words: Iterable[str], incomplete: str) -> list[str]:
    """The words that begin with a text, as the shell has to insert them: Bash takes them as they are."""
    found = [word for word in words if word.startswith(incomplete)]
    if os.environ.get("_VIDRD_COMPLETE") == "complete_bash":
        return [re.sub(r"([^\w@%+=:,./~-])", r"\\\1", word) for word in found]
    return found
