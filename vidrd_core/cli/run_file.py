"""Run files: the prompts and options of `vidrd generate` by name, in YAML (`--config`, `--save-config`)."""

from __future__ import annotations

import inspect
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

from vidrd_core.cli.errors import InputError, input_checked
from vidrd_core.io.atomic import write_text
from vidrd_core.io.configs import meant, of_type, read_yaml

EXCLUDED = ("config", "save_config", "resume", "quiet", "help")


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
    with input_checked():
        found = read_yaml(path)
    if found is None:
        raise InputError(f"{path} is empty, expected names of options with values")
    if not isinstance(found, dict):
        raise InputError(f"{path} holds {found!r}, expected names of options with values")
    known, signature = parameters(context.command), inspect.signature(context.command.callback)
    spelled: dict[str, str] = {}
    values: dict[str, Any] = {}
    for given, value in found.items():
        name = shown(given)
        if name == "quiet":  # 0.2.0 saved it
            continue
        if name in map(shown, EXCLUDED):
            raise InputError(f"{path} has {given}, which belongs on the command line: remove it from the file")
        if name not in known:
            raise InputError(f"{path} has no option {meant([name], known)}; see vidrd generate --help")
        parameter = known[name]
        if (before := spelled.setdefault(parameter.name, str(given))) != str(given):
            raise InputError(f"{path} has {before} and {given}, which are one option: remove one of them")
        if value is not None:
            with input_checked(f"{path}: "):
                annotation = get_args(signature.parameters[parameter.name].annotation)[0]
                values[parameter.name] = option_value(context, parameter, annotation, name, value)
    context.default_map = values
    return path


def shown(name: Any) -> str:
    """A name as the command line spells it."""
    return str(name).replace("_", "-")


def parameters(command: Any) -> dict[str, Any]:
    """The parameters of a command that a file can give, by each of their names; older names are among them."""
    found: dict[str, Any] = {}
    for each in command.params:
        if each.name not in EXCLUDED:
            names = [option.removeprefix("--") for option in each.opts if option.startswith("--")]
            found |= dict.fromkeys([shown(each.name), *names], each)
    return found


def option_value(context: Any, parameter: Any, annotation: Any, name: str, value: Any) -> Any:
    """A parameter's value from YAML. Raises ValueError."""
    kind = next((each for each in (int, float, bool) if each in (annotation, *get_args(annotation))), str)
    if parameter.multiple or parameter.nargs == -1:
        value = list(of_type(tuple[str, ...], name, [value] if isinstance(value, str) else value))
        if parameter.nargs == -1 and not value:
            raise ValueError(f"{name} is an empty list, expected one text or more")
    elif kind is str and isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)  # such as a seed in seed-per-clip
    else:
        if kind is int and isinstance(value, str):
            with suppress(ValueError):
                value = int(value)
        value = of_type(kind, name, value)
    try:
        parameter.process_value(context, value)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        raise ValueError(f"{name} is {value!r}: {error.message}") from error  # type: ignore[attr-defined]
    return value


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
        shown(name): str(value) if isinstance(value, Path) else value
        for name, value in context.params.items()
        if name not in EXCLUDED and value is not None and value not in ("", [], ())
    }
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    write_text(path, f"# vidrd generate --config {path.name}\n{text}")
