"""Command-line options generated from settings dataclasses, whose docstrings hold their help.

The dataclasses are parsed from their source, not imported: their modules import PyTorch, which takes seconds, and
`--help` and shell completion should not wait for it.
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
MAX_CHOICES_WIDTH = 20  # characters, beside an option in the help


@dataclass(frozen=True)
class Field:
    """A field of a settings dataclass.

    Args:
        name: Its name.
        annotation: Its type; a `Literal` for choices.
        default: Its default value; `REQUIRED` without one.
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
        leave_out: Fields that do not become options.
        defaults: The text that the help shows as every default, in place of the dataclass's.
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
        """Convert parsed options to what the command receives.

        Args:
            values: The value of each field's option.

        Returns:
            A dict of the values that are not None if the group is partial, else an instance of the dataclass.
        """
        if self.partial:
            return {name: value for name, value in values.items() if value is not None}
        module, _, name = self.settings.partition(":")
        return getattr(import_module(module), name)(**values)


@dataclass(frozen=True)
class Shape:
    """How an option differs from what its dataclass's field gives.

    Args:
        metavar: The placeholder for its value in the help.
        names: Its names, by default "--" and the field's; after the first that begins with "--", hidden aliases.
        default: The text that the help shows for a default of None.
        parser: Converts the text to the value.
        complete: Completes an incomplete value, for shells.
    """

    metavar: str = ""
    names: tuple[str, ...] = ()
    default: str = ""
    parser: Callable[[str], Any] | None = None
    complete: Callable[[str], list[str]] | None = None


def nonempty_path(text: str) -> Path:
    """Parse a path, and refuse an empty one, which would mean the working directory. Raises typer.BadParameter."""
    if not text.strip():
        raise typer.BadParameter("it is empty: give a name")
    return Path(text)


@lru_cache
def _parsed(module: str) -> ast.Module:
    """The syntax tree of a module, which is not imported."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


def read_fields(module: str, name: str) -> list[Field]:
    """Parse the fields of a dataclass from a module's source.

    Args:
        module: The module's dotted name; packages above it are imported, it is not.
        name: The class. Its fields have simple or `Literal` types and literal defaults.

    Returns:
        The fields in their order.
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


def constant(module: str, name: str) -> Any:
    """The literal value that a module, which is not imported, assigns to a name."""
    found = (each for each in _parsed(module).body if isinstance(each, ast.Assign))
    return next(ast.literal_eval(each.value) for each in found if name in map(ast.unparse, each.targets))


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
    """Make a field's parameter in a command.

    Args:
        field: The field.
        panel: The heading under which the help shows it.
        shape: How the option differs from the field.
        defaults: The text that the help shows as the default.

    Returns:
        Typer's annotation, and the default.
    """
    annotation, choices = field.annotation, _choices(field)
    names = shape.names or (f"--{field.name.replace('_', '-')}",)
    default = None if field.default is REQUIRED else field.default
    shown: str | bool = defaults or shape.default
    if not shown and default is not None and default is not False and default != "":  # 0 is shown
        shown = f"{default:g}" if isinstance(default, float) else str(default)
    details: dict[str, Any] = {"help": field.help, "rich_help_panel": panel, "show_default": shown or False}
    if annotation is not bool:
        details["metavar"] = "|".join(choices) or shape.metavar or field.name.upper().replace("_", "-")
    if len("|".join(choices)) > MAX_CHOICES_WIDTH:
        details["metavar"] = "NAME"
        details["help"] += f" Choices: {', '.join(choices)}."
    if shape.complete:
        details["autocompletion"] = shape.complete
    if choices:
        details["autocompletion"] = lambda incomplete: [each for each in choices if each.startswith(incomplete)]
        annotation = str if field.default is not None else str | None
    if shape.parser or annotation in (Path, Path | None):
        details["parser"] = shape.parser or nonempty_path
    return Annotated[annotation, typer.Option(*names, **details)], field.default


def _choices(field: Field) -> tuple[str, ...]:
    """The values that a field with choices can have; () for other fields."""
    if field.name == "solver":
        return solver_names()
    for each in (field.annotation, *get_args(field.annotation)):
        if get_origin(each) is Literal:
            return tuple(map(str, get_args(each)))
    return ()


def command(*, shapes: dict[str, Shape], **groups: Group) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that gives a command the options of settings groups.

    Args:
        shapes: How options differ from their fields, by the fields' names.
        **groups: The group of options that each of these parameters of the function receives.

    Returns:
        A decorator for a function with parameters as Typer takes them, and one for each group.
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
    """A type that also allows None."""
    return annotation if type(None) in get_args(annotation) else annotation | None
