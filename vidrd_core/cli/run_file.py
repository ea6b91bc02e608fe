"""Run files: the prompts and options of `vidrd generate` by name, in YAML (`--config`, `--save-config`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vidrd_core.cli.errors import InputError, input_checked
from vidrd_core.io.atomic import write_text
from vidrd_core.io.configs import meant

EXCLUDED = ("config", "save_config", "resume", "help")


def read_run(context: Any, path: Path | None) -> Path | None:
    """Read a run file. A callback of --config: its values become the command's defaults, which options override.

    Args:
        context: Click's context of the command.
        path: The file, or None.

    Returns:
        `path`.

    Raises:
        InputError: The file cannot be read, or a name or a value in it is not valid.
    """
    if path is None or context.resilient_parsing:
        return path
    import yaml

    with input_checked():
        try:
            found = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds {found!r}, expected names of options with values")
    parameters = {each.name: each for each in context.command.params if each.name not in EXCLUDED}
    values = {str(name).replace("-", "_"): value for name, value in found.items()}
    if unknown := sorted(set(values) - set(parameters)):
        raise InputError(f"{path} has no option {meant(unknown, parameters)}; see vidrd generate --help")
    for name, value in values.items():
        parameter = parameters[name]
        if parameter.multiple or parameter.nargs == -1:
            value = values[name] = [value] if isinstance(value, str) else value
        try:
            parameter.process_value(context, value)
        except Exception as error:
            if not hasattr(error, "format_message"):
                raise
            raise InputError(f"{path}: {name.replace('_', '-')} is {value!r}: {error.message}") from error  # type: ignore[attr-defined]
    context.default_map = values
    return path


def write_run(context: Any, path: Path) -> None:
    """Write the prompts and options of the running command that are set, as a file for --config.

    Args:
        context: Click's context of the command.
        path: The file.

    Raises:
        OSError: The file cannot be written.
    """
    import yaml

    values = {
        name.replace("_", "-"): str(value) if isinstance(value, Path) else value
        for name, value in context.params.items()
        if name not in EXCLUDED and value not in (None, "", False, [])
    }
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    write_text(path, f"# vidrd generate --config {path.name}\n{text}")
