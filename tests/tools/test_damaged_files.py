"""A small fixed sample of damaged files, and that the harness tells what would be a failure."""

import pytest

from tools.fire.damaged_files import Worker, run, table
from tools.fire.loaders import FAULTS, kinds

OUTCOMES = {"none": "read", "foreign": "undeclared"}


@pytest.fixture(scope="module")
def worker():
    found = Worker()
    yield found
    found.end()


@pytest.mark.parametrize("fault", FAULTS)
def test_the_harness_tells_each_kind_of_failure(worker, tmp_path, monkeypatch, fault):
    monkeypatch.setattr("tools.fire.damaged_files.SECONDS", 1.0 if fault == "hang" else 60.0)
    (tmp_path / "file.txt").write_text(fault)
    assert worker.read("faults", tmp_path / "file.txt")[0] == OUTCOMES.get(fault, fault)


def test_a_sample_of_damaged_files_is_read_or_refused(monkeypatch):
    monkeypatch.setattr("tools.fire.damaged_files.SECONDS", 60.0)  # of a machine that does other work, too
    names = list(kinds())[:-1]
    records = run(names, 20, range(8 * len(names)))
    assert [each for each in records if each["outcome"] not in ("read", "refused")] == []
    assert {each["outcome"] for each in records} == {"read", "refused"}
    assert table(records).count("\n") == len(names) + 2
