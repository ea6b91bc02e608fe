"""Every `Example:` in the docstrings of the Python API runs and gives what it shows."""

import doctest
from importlib import import_module

import pytest
import torch

import vidrd_core

VIDEO = ["video", "video.join", "video.reader", "video.sheet", "video.writer"]
MODULES = ["reuse", "sampling", "pipeline", "loading", "state", *VIDEO]
FINDER = doctest.DocTestFinder(exclude_empty=True)


def examples(name: str) -> list[doctest.DocTest]:
    """The docstrings with examples of a module; they see its names and those of `from vidrd_core import *`."""
    module = import_module(f"vidrd_core.{name}")
    names = {each: getattr(vidrd_core, each) for each in vidrd_core.__all__} | vars(module)
    return [found for found in FINDER.find(module, globs=names) if found.examples]


@pytest.mark.parametrize("example", [each for name in MODULES for each in examples(name)], ids=lambda each: each.name)
def test_an_example_gives_what_it_shows(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    results = doctest.DocTestRunner(verbose=False).run(example)
    assert (results.failed, results.attempted) == (0, len(example.examples))


@pytest.mark.parametrize(
    "name",
    [
        "loading.load", "pipeline.VidRD.__call__", "pipeline.VidRD.generate", "pipeline.VidRD.extend",
        "pipeline.VidRD.decode", "video.reader.read_video", "video.sheet.contact_sheet", "video.writer.open_video",
    ],
)  # fmt: skip
def test_what_people_call_first_has_an_example(name):
    module = next(each for each in sorted(MODULES, key=len, reverse=True) if name.startswith(f"{each}."))
    assert f"vidrd_core.{name}" in [each.name for each in examples(module)]
