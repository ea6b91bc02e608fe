"""`vidrd train`: find a recipe and run it."""

from __future__ import annotations

import os
from pathlib import Path

from vidrd_core.cli.errors import CommandError, InputError, input_checked, note, reason

_RECIPES = Path(__file__).parents[1] / "training" / "configs"


def run(config: str, stage: str | None) -> None:
    """Run a recipe's stages, or one of them."""
    path = _recipe(config)
    try:
        from vidrd_core.data.shards import DataError
        from vidrd_core.io.safetensors import FormatError
        from vidrd_core.models.word_text_encoder import UnknownWordError
        from vidrd_core.training.array_cache import StaleBankError
        from vidrd_core.training.config import RecipeError, load_config
        from vidrd_core.training.recipe import Recipe
    except ModuleNotFoundError as error:
        if error.name not in ("accelerate", "filelock", "yaml"):
            raise
        raise InputError(
            f"training needs {error.name}, which is missing: pip install -e '.[train]' in this package's folder"
        ) from error
    with input_checked():
        recipe = load_config(path)
    from accelerate import PartialState

    try:
        folder = Recipe(recipe, workers=os.cpu_count() or 1).run(stage)
        main = PartialState().is_main_process
        PartialState().destroy_process_group()
    except (RecipeError, StaleBankError, FormatError, DataError, UnknownWordError) as error:
        raise InputError(reason(error)) from error
    except FloatingPointError as error:
        raise CommandError(reason(error)) from error
    except KeyboardInterrupt:
        note("stopped; the same command goes on from the last checkpoint")
        raise
    if main:
        note(f"finished: the model is in {folder}")


def save(config: str, target: Path) -> None:
    """Copy a recipe to where it can be changed."""
    with input_checked():
        if target.exists():
            raise FileExistsError(f"{target} is there already: choose another name")
        target.write_bytes(_recipe(config).read_bytes())
    note(f"the recipe is in {target}: name your own model, data and folders there, then 'vidrd train {target}'")


def _recipe(name: str) -> Path:
    path = Path(name)
    if path.is_file():
        return path
    packaged = {file.stem: file for file in sorted(_RECIPES.glob("*.yaml"))}
    if name not in packaged:
        raise InputError(f"there is no recipe {name!r}: give a YAML file, or one of {', '.join(packaged)}")
    return packaged[name]
