"""Convert dataclasses of settings from and to JSON and YAML values, with errors that name setting and value."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

Config = TypeVar("Config")
MOST_VALUES = 1_000_000  # in a YAML file, with all that its aliases stand for
DIGITS = 40  # of a whole number in JSON

# What messages call a type: one value, several values.
_TYPE_NAMES: dict[Any, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("text", "texts"),
    bool: ("true or false", "true or false"),
    dict: ("names with values", "names with values"),
    type(None): ("null", "null"),
}


class RepeatedError(ValueError):
    """YAML that gives a key twice, or values too often by aliases."""


def parse_json(text: str | bytes, **options: Any) -> Any:
    """The values of a foreign JSON text.

    Args:
        text: The text, in UTF-8 if it is bytes.
        **options: Those of `json.loads`.

    Returns:
        Dicts, lists, strings, numbers, booleans, None.

    Raises:
        ValueError: It is no JSON, is nested too deep, or has a whole number of more than 40 digits.
    """

    def whole(digits: str) -> int:
        if len(digits) > DIGITS:
            raise ValueError(f"a whole number of {len(digits)} digits")
        return int(digits)

    try:
        return json.loads(text, parse_int=whole, **options)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file strictly: a key given twice in one mapping is an error, not the last one's win.

    Args:
        path: The file, in UTF-8.

    Returns:
        The values: dicts, lists, strings, numbers, booleans, None.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not UTF-8, not YAML, or gives a key twice; the message names the file and the line.
        ModuleNotFoundError: PyYAML is not installed.
    """
    import yaml

    class StrictLoader(yaml.SafeLoader):
        """YAML's safe loader that raises ValueError for a key given twice."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            lines: dict[Any, int] = {}
            for key_node, _ in node.value:
                if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
                    continue  # "<<" may be repeated; a key that is no scalar is refused by the safe loader itself
                key, line = self.construct_object(key_node), key_node.start_mark.line + 1
                if key in lines:
                    raise RepeatedError(
                        f"{path}, line {line}: {key_node.value} is given twice, first in line {lines[key]}: "
                        "remove one of them"
                    )
                lines[key] = line
            return super().construct_mapping(node, deep)

    def size(node: Any) -> int:
        """How many values a node stands for, each alias counted with all that it stands for."""
        if id(node) not in sizes:
            sizes[id(node)] = MOST_VALUES  # of one that holds itself
            parts = node.value if isinstance(node, yaml.CollectionNode) else ()
            pairs = [part for pair in parts for part in pair] if isinstance(node, yaml.MappingNode) else parts
            sizes[id(node)] = 1 + sum(map(size, pairs))
        return sizes[id(node)]

    sizes: dict[int, int] = {}
    try:
        loader = StrictLoader(Path(path).read_text(encoding="utf-8"))
        root = loader.get_single_node()
        if root is None:
            return None
        if size(root) > MOST_VALUES:
            raise RepeatedError(f"{path} has aliases that stand for more than {MOST_VALUES:,} values: write less")
        return loader.construct_document(root)
    except RepeatedError:
        raise
    except (RecursionError, OverflowError) as error:
        raise ValueError(f"{path} is not YAML that can be read: {error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not YAML: byte {error.start} is not UTF-8 text") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}, line {mark.line + 1}" if mark else f"{path}"
        raise ValueError(f"{where} is not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    except ValueError as error:  # as of a month of 13
        raise ValueError(f"{path} has a value that cannot be read: {error}") from error


def to_dict(config: Any) -> dict[str, Any]:
    """Convert a dataclass, with those inside it, to a dict of JSON-ready values."""
    return dataclasses.asdict(config)


def from_dict(kind: type[Config], values: dict[str, Any], what: str = "") -> Config:
    """Make a configuration from JSON or YAML values.

    Lists become tuples, and a string that reads as a number becomes one where a number is expected (YAML reads
    `1e-4`, without a point, as text).

    Args:
        kind: The dataclass.
        values: Its settings by name; those with a default may be missing.
        what: What error messages call the configuration; the name of its class by default.

    Returns:
        An instance of `kind`.

    Raises:
        ValueError: A setting is unknown, missing, of the wrong type or out of its range; the message names it.
    """
    what = what or kind.__name__
    if not isinstance(values, dict):
        raise ValueError(f"{what} is {values!r}, expected names with values")
    known = {field.name for field in dataclasses.fields(kind) if field.init}  # type: ignore[arg-type]
    if unknown := sorted(map(str, set(values) - known)):
        raise ValueError(f"{what} has no setting {meant(unknown, known)}; it has {', '.join(sorted(known))}")
    required = [f.name for f in dataclasses.fields(kind) if f.init and _has_no_default(f)]  # type: ignore[arg-type]
    if missing := [name for name in required if name not in values]:
        raise ValueError(f"{what} lacks {', '.join(missing)}")
    hints = get_type_hints(kind)
    try:
        typed = {key: of_type(hints[key], key, value) for key, value in values.items()}
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error
    return kind(**typed)


def meant(unknown: list[str], known: Collection[str]) -> str:
    """Unknown names as text, with the known name that is most like the first one."""
    near = get_close_matches(unknown[0], known, 1)
    return ", ".join(unknown) + (f" (did you mean {near[0]}?)" if near else "")


def _has_no_default(field: dataclasses.Field) -> bool:
    """Whether a field must be given."""
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def of_type(hint: Any, name: str, value: Any) -> Any:
    """Convert a JSON or YAML value to the type of its setting.

    Args:
        hint: The type, as in a dataclass of settings.
        name: What error messages call the setting.
        value: The value.

    Returns:
        The value; a list becomes a tuple, and a text that reads as a number becomes one where a number is expected.

    Raises:
        ValueError: The value is of another type.
    """
    origin, options = get_origin(hint), get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if isinstance(value, list) and origin is tuple:
        inner = get_args(hint)[0]
        if get_origin(inner) is tuple and not all(isinstance(entry, list) for entry in value):
            raise ValueError(f"{name} is {value!r}, expected {_type_name(hint)}")
        return tuple(of_type(inner, name, entry) for entry in value)
    if origin is Literal:
        if value not in get_args(hint):
            raise ValueError(f"{name} is {value!r}, expected one of {', '.join(map(str, get_args(hint)))}")
        return value
    if origin is dict and isinstance(value, dict) and get_args(hint)[1] is not Any:
        return {key: of_type(get_args(hint)[1], f"{name}.{key}", entry) for key, entry in value.items()}
    if float in options and isinstance(value, str):
        with suppress(ValueError):
            return float(value)
    if isinstance(value, int) and value.bit_length() > 64:
        raise ValueError(f"{name} is a whole number of more than 64 bits")
    kinds = tuple(get_origin(each) or each for each in options)
    kinds = (*kinds, int) if float in kinds else kinds
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ValueError(f"{name} is {value!r}, expected {_type_name(hint)}")
    return value


def check_types(config: Any) -> None:
    """Raise ValueError if a setting of a dataclass, as a foreign file gave it, has another type."""
    for name, hint in get_type_hints(type(config)).items():
        value = getattr(config, name)
        if isinstance(value, str) and hint is float:
            raise ValueError(f"{name} is {value!r}, expected {_type_name(hint)}")
        of_type(hint, name, list(value) if isinstance(value, tuple) else value)


def _type_name(hint: Any, several: bool = False) -> str:
    """What messages call a type, or several values of it."""
    if get_origin(hint) is tuple:
        return f"{'lists' if several else 'a list'} of {_type_name(get_args(hint)[0], several=True)}"
    if isinstance(hint, UnionType):
        return " or ".join(_type_name(each, several) for each in get_args(hint))
    names = _TYPE_NAMES.get(get_origin(hint) or hint)
    return names[several] if names else getattr(hint, "__name__", str(hint))


def changes(now: dict[str, Any], before: dict[str, Any]) -> str:
    """The settings that differ from what they were, of those that both have, as text; "" if none does."""
    return ", ".join(
        f"{name} {value!r} (then {before[name]!r})"
        for name, value in now.items()
        if name in before and before[name] != value
    )
