"""Frozen dataclasses of settings from JSON and YAML values, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from contextlib import suppress
from difflib import get_close_matches
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

Config = TypeVar("Config")


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as JSON-ready values."""
    return dataclasses.asdict(config)


def from_dict(kind: type[Config], values: dict[str, Any], what: str = "") -> Config:
    """A configuration from JSON or YAML values; lists become tuples. Errors call it `what`, or by its class.

    Raises ValueError naming any setting that this version does not know, that is missing or of another type.
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
    return kind(**{key: _of_type(hints[key], key, value) for key, value in values.items()})


def meant(unknown: list[str], known: Collection[str]) -> str:
    """Unknown names, with the known one that the first may stand for."""
    near = get_close_matches(unknown[0], known, 1)
    return ", ".join(unknown) + (f" (did you mean {near[0]}?)" if near else "")


def _has_no_default(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _of_type(hint: Any, name: str, value: Any) -> Any:
    """A value as its setting's type has it. Raises ValueError if it cannot be."""
    if isinstance(value, list) and get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        if get_origin(inner) is tuple and not all(isinstance(entry, list) for entry in value):
            raise ValueError(f"{name} is {value!r}, expected {_called(hint)}")
        return tuple(_of_type(inner, name, entry) for entry in value)
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ValueError(f"{name} is {value!r}, expected one of {', '.join(map(str, get_args(hint)))}")
        return value
    if hint is float and isinstance(value, str):  # what YAML makes of 1e-4
        with suppress(ValueError):
            return float(value)
    kinds = tuple(get_origin(each) or each for each in (get_args(hint) if isinstance(hint, UnionType) else (hint,)))
    kinds = (*kinds, int) if float in kinds else kinds
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ValueError(f"{name} is {value!r}, expected {_called(hint)}")
    return value


def _called(hint: Any) -> str:
    """What errors call a type."""
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        return f"a list of {_called(inner).replace('a list', 'lists')}"
    return getattr(hint, "__name__", str(hint)) if get_origin(hint) is None else str(hint)


def changes(now: dict[str, Any], before: dict[str, Any]) -> str:
    """What is otherwise than it was, of the settings that both know; "" if nothing."""
    return ", ".join(
        f"{name} {value!r} (then {before[name]!r})"
        for name, value in now.items()
        if name in before and before[name] != value
    )
