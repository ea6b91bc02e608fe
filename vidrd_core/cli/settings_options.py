"""Command-line options made from settings dataclasses, each written once there with its help.

The dataclasses are read from their source, not imported: their modules import PyTorch, for which `--help` and shell
completion should not wait.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

REQUIRED = inspect.Parameter.empty
WIDEST_CHOICES = 20  # characters beside an option


@dataclass(frozen=True)
class Field:
    """A field of a settings dataclass.

    Args:
        name: Its name.
        annotation: Its type; a `Literal` for choices.
        default: Its default; `REQUIRED` without one.
        help: The first sentence of its entry in the docstring's Args.
    """

    name: str
    annotation: Any
    default: Any
    help: str


@dataclass(frozen=True)
class Group:
    """The fields of one settings dataclass as options.

    Args:
        settings: The dataclass, as "module:Class".
        panel: The heading under which the help shows them.
        partial: Whether the command gets a dict of the values that were given, instead of an instance.
        leave_out: Fields that are no options.
        defaults: What the help says of every default, in place of the dataclass's.
    """

    settings: str
    panel: str
    partial: bool = False
    leave_out: tuple[str, ...] = ()
    defaults: str = ""

    @property
    def fields(self) -> list[Field]:
        """The fields that become options."""
        module, _, name = self.settings.partition(":")
        return [field for field in read_fields(module, name) if field.name not in self.leave_out]

    def collect(self, values: dict[str, Any]) -> Any:
        """What the command gets: a dict of values that are not None, or an instance of the dataclass."""
        if self.partial:
            return {name: value for name, value in values.items() if value is not None}
        module, _, name = self.settings.partition(":")
        return getattr(import_module(module), name)(**values)


@dataclass(frozen=True)
class Shape:
    """What an option has beyond its dataclass's field.

    Args:
        metavar: The placeholder for its value in the help.
        names: Its names, by default "--" and the field's; after the first that begins with "--", hidden aliases.
        default: What the help says of a default that is None.
        parser: Makes the value of the text.
    """

    metavar: str = ""
    names: tuple[str, ...] = ()
    default: str = ""
    parser: Callable[[str], Any] | None = None


def nonempty_path(text: str) -> Path:
    """A path; an empty one, as of an unset shell variable, is refused, for it would mean the working directory."""
    if not text.strip():
        raise typer.BadParameter("it is empty: give a name")
    return Path(text)


@lru_cache
def _parsed(module: str) -> ast.Module:
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


def read_fields(module: str, name: str) -> list[Field]:
    """The fields of a dataclass in a module's source.

    Args:
        module: Its dotted name; packages above it are imported, it is not.
        name: The class; its fields have simple types, `Literal` ones and literal defaults.
    """
    node = next(each for each in _parsed(module).body if isinstance(each, ast.ClassDef) and each.name == name)
    helps = argument_docs(ast.get_docstring(node) or "")
    names = {"Path": Path, "Literal": Literal}
    found = []
    for each in node.body:
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            own = each.target.id
            annotation = eval(ast.unparse(each.annotation), {"__builtins__": __builtins__}, names)
            default = REQUIRED if each.value is None else ast.literal_eval(each.value)
            found.append(Field(own, annotation, default, helps.get(own, "")))
    return found


@lru_cache
def solver_names() -> tuple[str, ...]:
    """The names of the functions in `vidrd_core.sampling` that are decorated with `solver`."""
    return tuple(
        each.name
        for each in _parsed("vidrd_core.sampling").body
        if isinstance(each, ast.FunctionDef)
        and any(isinstance(d, ast.Call) and getattr(d.func, "id", "") == "solver" for d in each.decorator_list)
    )


def argument_docs(docstring: str) -> dict[str, str]:
    """The first sentence of each entry under Args: in a docstring of Google's convention."""
    section = re.search(r"^Args:\n((?:[ ]+.*\n?|\n)*)", docstring, re.M)
    entries = re.split(r"^ {4}(\*{0,2}\w+): ", section[1], flags=re.M)[1:] if section else []
    texts = dict(zip(entries[::2], (" ".join(text.split()) for text in entries[1::2]), strict=True))
    return {name: re.split(r"(?<=[.])\s+(?=[A-Z\"`(])", text, maxsplit=1)[0] for name, text in texts.items()}


def option(field: Field, panel: str, shape: Shape, defaults: str = "") -> tuple[Any, Any]:
    """The annotation and the default of a field's parameter in a command."""
    annotation, choices = field.annotation, _choices(field)
    names = shape.names or (f"--{field.name.replace('_', '-')}",)
    default = None if field.default is REQUIRED else field.default
    shown: str | bool = defaults or shape.default
    if not shown and default not in (None, "", False):
        shown = str(default)
    details: dict[str, Any] = {"help": field.help, "rich_help_panel": panel, "show_default": shown or False}
    if annotation is not bool:
        details["metavar"] = "|".join(choices) or shape.metavar or field.name.upper().replace("_", "-")
    if len("|".join(choices)) > WIDEST_CHOICES:
        details["metavar"] = "NAME"
        details["help"] += f" Choices: {', '.join(choices)}."
    if choices:
        details["autocompletion"] = lambda incomplete: [each for each in choices if each.startswith(incomplete)]
        annotation = str if field.default is not None else str | None
    if shape.parser or annotation in (Path, Path | None):
        details["parser"] = shape.parser or nonempty_path
    return Annotated[annotation, typer.Option(*names, **details)], field.default


def _choices(field: Field) -> tuple[str, ...]:
    if field.name == "solver":
        return solver_names()
    for each in (field.annotation, *get_args(field.annotation)):
        if get_origin(each) is Literal:
            return tuple(map(str, get_args(each)))
    return ()


def command(*, shapes: dict[str, Shape], **groups: Group) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that gives a command the options of settings groups.

    Args:
        shapes: What options have beyond their fields, by the fields' names.
        **groups: By the name of the function's parameter, its group.

    Returns:
        A decorator of a function whose parameters are those of its own, as Typer takes them, and one for each group.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        parameters: list[inspect.Parameter] = []
        own = inspect.signature(function, eval_str=True).parameters
        for name, parameter in own.items():
            if name not in groups:
                parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
                continue
            group = groups[name]
            for field in group.fields:
                annotation, default = option(field, group.panel, shapes.get(field.name, Shape()), group.defaults)
                if group.partial and default is not REQUIRED:
                    annotation = Annotated[_optional(get_args(annotation)[0]), annotation.__metadata__[0]]
                    default = None
                parameters.append(
                    inspect.Parameter(
                        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
                    )
                )

        def run(**given: Any) -> None:
            arguments = {name: given[name] for name in own if name not in groups}
            for name, group in groups.items():
                arguments[name] = group.collect({field.name: given[field.name] for field in group.fields})
            function(**arguments)

        run.__name__, run.__doc__, run.__module__ = function.__name__, function.__doc__, function.__module__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return decorate


def _optional(annotation: Any) -> Any:
    return annotation if type(None) in get_args(annotation) else annotation | None
