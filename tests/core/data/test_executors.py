"""Results do not depend on where parts are processed."""

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from vidrd_core.cli import main
from vidrd_core.data.captions import CaptionerError
from vidrd_core.data.executors import InProcess, Processes, Ray, in_order

from .media import moving, write_video

ROOT = Path(__file__).parents[3]
HIDING = """import os, sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == os.environ["HIDDEN"]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
"""


def test_results_come_in_the_order_of_their_parts():
    parts = [range(10_000_000), range(2), range(5_000_000), range(3)]  # the first takes longest
    for executor in (InProcess(), Processes(2)):
        assert list(in_order(executor, sum, parts)) == [49999995000000, 1, 12499997500000, 3]
    assert list(in_order(Processes(2), sum, [])) == []


def work_long(folder):
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(600)


@pytest.mark.slow
def test_workers_end_when_the_process_that_started_them_is_killed(tmp_path):
    code = "import sys; from tests.core.data.test_executors import Processes, work_long\n"
    code += "if __name__ == '__main__': list(Processes(2).map(work_long, sys.argv[1:] * 2))"
    starter = subprocess.Popen([sys.executable, "-c", code, tmp_path], cwd=ROOT)
    while len(workers := [int(path.name) for path in tmp_path.iterdir()]) < 2:
        assert starter.poll() is None
        time.sleep(0.1)
    starter.kill()
    starter.wait()
    there = [psutil.Process(pid) for pid in workers if psutil.pid_exists(pid)]
    assert not psutil.wait_procs(there, timeout=20)[1]


def data_without(package, tmp_path, *options):
    """`vidrd data videos` where a package is not installed, nor in its workers: exit code and stderr."""
    (tmp_path / "hiding").mkdir()
    (tmp_path / "hiding" / "sitecustomize.py").write_text(HIDING)
    write_video(tmp_path / "films" / "a.mp4", moving(1))
    environment = {**with_path(tmp_path / "hiding"), "HIDDEN": package}
    command = [sys.executable, "-m", "vidrd_core.cli", "data", "videos", "films", "-o", "out", *options]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    return done.returncode, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("options", [("--workers", "2"), ("--ray", "--workers", "2")])
def test_what_is_missing_in_a_worker_is_one_line(tmp_path, options):
    if "--ray" in options:
        pytest.importorskip("ray", reason="Ray is not installed")
    code, err = data_without("scenedetect", tmp_path, *options)
    assert (code, len(err.splitlines())) == (2, 1), err
    assert "scene detection needs PySceneDetect, which is missing: pip install scenedetect-headless" in err


def fail(name):
    raise CaptionerError(f"the model {name} cannot be loaded")


def die(_):
    os._exit(3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("work", "error"),
    [
        ("fail", "CaptionerError: the model blip cannot be loaded"),
        ("die", r"WorkerDiedError: a worker of Ray failed \(.*\): run the same command again to continue"),
    ],
)
def test_errors_in_workers_of_ray_are_those_of_the_work(work, error):
    pytest.importorskip("ray", reason="Ray is not installed")
    code = f"from tests.core.data.test_executors import {work}\nfrom vidrd_core.data.executors import Ray\n"
    code += f"try: list(Ray(workers=1).map({work}, ['blip']))\n"
    code += "except Exception as error: print(f'{type(error).__name__}: {error}')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=with_path(), capture_output=True, text=True)
    assert re.match(error, done.stdout.splitlines()[-1])
    assert "Traceback" not in done.stderr


def test_an_address_where_no_ray_answers_is_one_line(tmp_path, monkeypatch, capsys):
    """Ray itself would try for ever."""
    monkeypatch.setattr("vidrd_core.data.executors._ray", lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        Ray(f"127.0.0.1:{port}").check()
        Ray(f"ray://localhost:{port}").check()
    (tmp_path / "films").mkdir()
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}", "127.0.0.1", "127.0.0.1:many"):
        command = ["data", "videos", str(tmp_path / "films"), "-o", str(tmp_path / "out"), "--ray-address", address]
        assert main(command) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        expected = f"no Ray answers at {address}" if address.endswith(str(port)) else "expected HOST:PORT"
        assert len(lines) == 1
        assert expected in lines[0]
    assert not (tmp_path / "out").exists()
    assert Ray("auto").check() is Ray(None).check() is None


def with_path(*folders):
    """The environment of a process whose workers find the package as this one does."""
    paths = [*map(str, folders), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
