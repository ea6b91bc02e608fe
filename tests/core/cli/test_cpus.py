"""How the command's threads share the processor."""

import os
import subprocess
import sys

import pytest

from vidrd_core.cli import cpus


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """A function that says of which groups the process is, and what the files of groups hold."""
    monkeypatch.setattr(cpus, "GROUPS", tmp_path / "fs")
    monkeypatch.setattr(cpus, "OWN_GROUP", tmp_path / "own")

    def make(own, files):
        (tmp_path / "own").write_text(own)
        for name, content in files.items():
            path = tmp_path / "fs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    return make


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),  # in a container
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "10000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {}, None),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),  # a service's slice
        ("0::/a/b\n", {"a/b/cpu.max": "200000 100000\n", "a/cpu.max": "300000 100000\n"}, 2),
        (
            "4:cpu,cpuacct:/d\n2:memory:/d\n",
            {"cpu/d/cpu.cfs_quota_us": "50000", "cpu/d/cpu.cfs_period_us": "10000"},
            5,
        ),
        ("4:cpu,cpuacct:/d\n", {"cpu/cpu.cfs_quota_us": "20000", "cpu/cpu.cfs_period_us": "10000"}, 2),
        ("4:cpu,cpuacct:/d\n", {"cpu/d/cpu.cfs_quota_us": "-1", "cpu/d/cpu.cfs_period_us": "100000"}, None),
        ("5:cpuset:/d\n", {"cpu/d/cpu.cfs_quota_us": "1", "cpu/d/cpu.cfs_period_us": "1"}, None),
        ("", {"cpu.max": "200000 100000\n"}, None),
        ("0::/\n", {"cpu.max": "many\n"}, None),
        ("0::/\n", {"cpu.max": "1 0\n"}, None),
        ("nothing", {"cpu.max": "1 1\n"}, None),
    ],
)
def test_the_limit_of_a_container_is_known(groups, own, files, expected):
    groups(own, files)
    assert cpus.cpus_of_group() == expected


def test_without_control_groups_there_is_no_limit(groups):
    assert cpus.cpus_of_group() is None


def test_threads_are_as_many_as_the_container_may_use(groups, monkeypatch):
    for name in ("OMP_NUM_THREADS", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")  # so that they are restored
        monkeypatch.delenv(name)
    monkeypatch.setattr(cpus, "usable_cpus", lambda: 8)
    groups("0::/\n", {"cpu.max": "800000 100000\n"})
    cpus.share_cpus()
    assert "OMP_NUM_THREADS" not in os.environ
    groups("0::/\n", {"cpu.max": "200000 100000\n"})
    cpus.share_cpus()
    assert os.environ["OMP_NUM_THREADS"] == "2"
    assert os.environ["GOMP_SPINCOUNT"] == cpus.SPINS


def test_what_the_user_has_set_stays(groups, monkeypatch):
    groups("0::/\n", {"cpu.max": "100000 100000\n"})
    monkeypatch.setattr(cpus, "usable_cpus", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    cpus.share_cpus()
    assert os.environ["OMP_NUM_THREADS"] == "5"
    assert "GOMP_SPINCOUNT" not in os.environ


def test_it_is_set_before_torch_is_imported():
    code = (
        "import os, sys; from vidrd_core.cli import main; assert 'torch' not in sys.modules; main(['models']);"
        "assert os.environ['GOMP_SPINCOUNT']"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    subprocess.run([sys.executable, "-c", code], check=True, env=env, stdout=subprocess.DEVNULL)
