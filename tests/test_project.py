"""The files about the project agree with each other: versions, pins, what CI runs."""

import re
from pathlib import Path

import pytest
import yaml

from vidrd_core import __version__

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def canonical(name):
    """A distribution's name, as PyPI compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins():
    """The versions in constraints.txt by name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {canonical(name): version for name, _, version in (line.partition("==") for line in lines) if version}


def read(name):
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_every_dependency_is_pinned():
    asked = [
        *PROJECT["dependencies"],
        *(each for extra in PROJECT["optional-dependencies"].values() for each in extra),
    ]
    names = {canonical(re.match(r"[\w.-]+", each)[0]) for each in asked} - {"vidrd"}
    assert names <= set(pins())


def test_pins_are_given_once():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()[1:]
    names = [canonical(line.partition("==")[0]) for line in lines]
    assert len(set(names)) == len(names)


def test_pre_commit_uses_the_pinned_versions():
    config = read(".pre-commit-config.yaml")
    hooks = {hook["id"]: (repo, hook) for repo in config["repos"] for hook in repo["hooks"]}
    assert {"ruff-check", "ruff-format", "mypy"} <= set(hooks)
    for name in ("ruff-check", "ruff-format"):
        assert hooks[name][0]["rev"] == f"v{pins()['ruff']}"
    repo, mypy = hooks["mypy"]
    if repo["repo"] == "local":
        assert mypy["language"] == "system"  # the environment's own, which constraints.txt pins
        assert "mypy" in pins()
    else:
        assert repo["rev"] == f"v{pins()['mypy']}"
    for _, hook in hooks.values():
        for each in hook.get("additional_dependencies", []):
            name, _, version = each.partition("==")
            assert pins()[canonical(name)] == version


def test_the_version_is_the_same_everywhere():
    version = PROJECT["version"]
    assert read("CITATION.cff")["version"] == __version__ == version
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", changelog, re.MULTILINE)
    assert released[0] == (version, str(read("CITATION.cff")["date-released"]))
    assert [number for number, _ in released] == sorted((number for number, _ in released), reverse=True)


def test_the_changelog_is_in_the_usual_form():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    kinds = set(re.findall(r"^### (.+)$", changelog, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert "keepachangelog.com/en/1.1.0" in changelog


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda path: path.name)
def test_workflows_pin_actions_by_major_version(path):
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    used = [step["uses"] for job in jobs.values() for step in job["steps"] if "uses" in step]
    assert used
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", each) for each in used)


def test_workflows_run_the_ends_of_the_supported_pythons():
    jobs = read(".github/workflows/ci.yml")["jobs"]
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert any("pip-audit --requirement constraints.txt" in step.get("run", "") for step in jobs["audit"]["steps"])
    for job in (job for name, job in jobs.items() if name != "audit"):
        assert job["strategy"]["matrix"]["python"] == [oldest, "3.13"]
    assert any(step.get("run") == ".ci/run" for step in jobs["linux"]["steps"])
