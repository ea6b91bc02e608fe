"""Convert dataclasses of settings from and to JSON and YAML values, with errors that name setting and value."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from contextlib import suppress
from difflib import get_close_matches
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

Config = TypeVar("Config")


def to_dict(config: Any) -> dict[str, Any]:
    """Convert a dataclass, with those inside it, to a dict of JSON-ready values."""
    return dataclasses.asdict(config)


def from_dict(kind: type[Config], values: dict[str, Any], what: str = "") -> Config:
    """Make a dataclass from JSON or YAML values; lists become tuples.

    Args:
        kind: The dataclass.
        values: Its fields by name.
        what: What error messages call it; by default the name of the class.

    Returns:
        An instance of `kind`.

    Raises:
        ValueError: A field is unknown, missing, or of another type; the message names it.
    """
    what = what or kind.__name__
    if not isinstance(values, dict):
        raise ValueError(f"{what} is {values!r}, expected names with values")
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(map(str, set(values) - known)):
        raise ValueError(f"{what} has no setting {meant(unknown, known)}; it has {', '.join(sorted(known))}")
    required = [f.name for f in dataclasses.fields(kind) if _has_no_default(f)]  # type: ignore[arg-type]
    if missing := [name for name in required if name not in values]:
        raise ValueError(f"{what} lacks {', '.join(missing)}")
    hints = get_type_hints(kind)
    return kind(**{key: _converted(hints[key], key, value) for key, value in values.items()})


def meant(unknown: list[str], known: Collection[str]) -> str:
    """A message's list of unknown names, with the known name that is closest to the first one."""
    near = get_close_matches(unknown[0], known, 1)
    return ", ".join(unknown) + (f" (did you mean {near[0]}?)" if near else "")


def _has_no_default(field: dataclasses.Field) -> bool:
    """Whether a field must be given."""
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _converted(hint: Any, name: str, value: Any) -> Any:
    """A value converted to the type of its field. Raises ValueError if that is not possible."""
    if isinstance(value, list) and get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        if get_origin(inner) is tuple and not all(isinstance(entry, list) for entry in value):
            raise ValueError(f"{name} is {value!r}, expected {_type_name(hint)}")
        return tuple(_converted(inner, name, entry) for entry in value)
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ValueError(f"{name} is {value!r}, expected one of {', '.join(map(str, get_args(hint)))}")
        return value
    if hint is float and isinstance(value, str):  # YAML reads 1e-4 as a string
        with suppress(ValueError):
            return float(value)
    kinds = tuple(get_origin(each) or each for each in (get_args(hint) if isinstance(hint, UnionType) else (hint,)))
    kinds = (*kinds, int) if float in kinds else kinds
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ValueError(f"{name} is {value!r}, expected {_type_name(hint)}")
    return value


def _type_name(hint: Any) -> str:
    """A type's name in error messages."""
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        return f"a list of {_type_name(inner).replace('a list', 'lists')}"
    return getattr(hint, "__name__", str(hint)) if get_origin(hint) is None else str(hint)


def changes(now: dict[str, Any], before: dict[str, Any]) -> str:
    """The settings that differ from earlier ones, for a message; "" if none. Settings of only one side are ignored.

    Args:
        now: The settings by name.
        before: The earlier ones.

    Returns:
        Text such as "seed 1 (then 0), steps 5 (then 4)".
    """
    return ", ".join(
        f"{name} {value!r} (then {before[name]!r})"
        for name, value in now.items()
        if name in before and before[name] != value
    )
