"""The package's imports point one way, and no module is a drawer or a forwarder."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

import vidrd_core

ROOT = Path(vidrd_core.__file__).parent
# Each may import those before it, and itself.
LAYERS = [
    "io",
    "comfy",
    "reuse",
    "anchoring",
    "sampling",
    "settings",
    "inversion",
    "models",
    "video",
    "prompt_schedule",
    "presets",
    "state",
    "state_files",
    "model",
    "sample",
    "pipeline",
    "loading",
    "convert",
    "metrics",
    "data",
    "many",
    "procedural",
    "training",
    "evaluation",
    "reports",
    "baselines",
    "cli",
]


def name_of(path: Path) -> str:
    """The dotted name of a module."""
    name = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
    return name.removesuffix(".__init__")


MODULES = {name_of(path): path for path in ROOT.rglob("*.py")}


def imports(path: Path) -> set[str]:
    """The modules of the package that a module imports, at once or later; not those for type checkers alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("vidrd_core"):
            found |= {each if (each := f"{node.module}.{a.name}") in MODULES else node.module for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in MODULES}
    return found


IMPORTS = {name: imports(path) for name, path in MODULES.items()}


def layer(module: str) -> str:
    """The package or module directly under vidrd_core."""
    return module.split(".")[1] if "." in module else ""


def test_every_module_has_its_layer():
    assert {layer(name) for name in MODULES} - {""} == set(LAYERS)


@pytest.mark.parametrize("module", sorted(name for name in MODULES if layer(name)))
def test_imports_point_one_way(module):
    above = {
        each for each in IMPORTS[module] if layer(each) and LAYERS.index(layer(each)) > LAYERS.index(layer(module))
    }
    assert not above


def test_no_imports_go_round_in_a_circle():
    state: dict[str, str] = defaultdict(str)

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert state[module] != "open", " -> ".join((*path, module))
        if state[module] == "done":
            return
        state[module] = "open"
        for each in sorted(IMPORTS[module]):
            visit(each, (*path, module))
        state[module] = "done"

    for module in sorted(MODULES):
        visit(module, ())


def test_reuse_needs_torch_alone():
    tree = ast.parse((ROOT / "reuse.py").read_text(encoding="utf-8"))
    roots = {
        (node.module or "").split(".")[0] if isinstance(node, ast.ImportFrom) else node.names[0].name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom | ast.Import)
    }
    assert roots - {"torch"} <= {
        "__future__",
        "collections",
        "dataclasses",
        "functools",
        "math",
        "operator",
        "typing",
        "warnings",
    }


def test_modules_are_neither_drawers_nor_crumbs():
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert max(lines.values()) <= 600
    small = [name for name, count in lines.items() if 1 < count < 60]  # one line: the docstring of a package
    assert len(small) <= 20, small


@pytest.mark.parametrize("module", sorted(name for name in MODULES if not MODULES[name].name.startswith("__")))
def test_no_module_only_forwards(module):
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    body = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom | ast.Expr)]
    assert body
