"""Videos made by workers of Ray are those of one process, and a worker that dies costs its own batch at most."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from vidrd_core.data.executors import Ray
from vidrd_core.loading import load
from vidrd_core.many.jobs import Job
from vidrd_core.many.manifest import model_identity
from vidrd_core.many.replicas import Replicas
from vidrd_core.many.runner import InProcess, make_videos
from vidrd_core.settings import SampleSettings

ROOT = Path(__file__).parents[3]
PROMPTS = ["a red circle moving right", "a blue star spinning", "a green square bouncing", "a yellow ring growing"]

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _needs_ray():
    pytest.importorskip("ray", reason="Ray is not installed")


def finish(*command, **options):
    """Run Python with the package of this checkout in its workers, too."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *map(str, command)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, **options,
    )  # fmt: skip


def load_dying(deaths: Path, times: int):
    """The built-in model, in a process that ends without a word at the first clips of seed 2."""
    model = load("tiny")
    original = model.generate_many

    def generate_many(prompts, seeds, *given, **settings):
        if 2 in seeds and len(list(deaths.iterdir())) < times:
            (deaths / str(os.getpid())).touch()
            os._exit(3)
        return original(prompts, seeds, *given, **settings)

    model.generate_many = generate_many
    return model


def make(folder: Path, deaths: Path, times: int) -> None:
    """Make four videos in two batches by two workers, and print what became of each; 0 deaths: in this process."""
    model = load("tiny")
    jobs = [
        Job(number, f"{number}.mp4", [prompt], model.complete(SampleSettings(seed=number, steps=1)))
        for number, prompt in enumerate(PROMPTS)
    ]
    outcomes = {}

    def keep(result):
        outcomes[result.job.number] = str(result.error or "")

    def run(maker):
        make_videos(jobs, folder, model_identity(model), maker, 2, on_result=keep)

    if times:
        with Replicas(Ray(workers=2), partial(load_dying, deaths, times), 2) as replicas:
            run(replicas)
    else:
        run(InProcess(model))
    print(json.dumps(outcomes, sort_keys=True))


@pytest.mark.parametrize("times", [1, 2])
def test_a_batch_whose_worker_dies_is_tried_once_more(tmp_path, times):
    (tmp_path / "deaths").mkdir()
    outcomes = {}
    for name, deaths in (("ray", times), ("here", 0)):
        code = "import sys; from pathlib import Path; from tests.core.many.test_replicas import make\n"
        code += f"make(Path({str(tmp_path / name)!r}), Path({str(tmp_path / 'deaths')!r}), {deaths})"
        out, err = finish("-c", code, cwd=ROOT).communicate(timeout=300)
        assert "Traceback" not in err
        outcomes[name] = json.loads(out.splitlines()[-1])
    assert len(list((tmp_path / "deaths").iterdir())) == times
    assert outcomes["here"] == dict.fromkeys("0123", "")
    made = {path.name: path.read_bytes() for path in (tmp_path / "here").glob("*.mp4")}
    if times == 2:
        assert outcomes["ray"].pop("2") == outcomes["ray"].pop("3")
        made = {name: made[name] for name in ("0.mp4", "1.mp4")}
    assert set(outcomes["ray"].values()) == {""}
    assert {path.name: path.read_bytes() for path in (tmp_path / "ray").glob("*.mp4")} == made
    assert {path.name for path in (tmp_path / "ray").iterdir()} == {*made, "manifest.jsonl", ".lock"}


def test_the_command_on_ray_is_stopped_and_resumed_and_makes_the_same_files(tmp_path):
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
    given = ["--prompts-file", "prompts.txt", "--steps", 20, "--batch", 2, "--threads", 1, "--scale", 1]
    command = ["-m", "vidrd_core.cli", "generate", *given]
    on_ray = [*command, "-o", "ray", "--ray", "--workers", 2]
    process = finish(*on_ray, cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("ray/*.part-*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines()[-1].endswith("of 4 videos are in ray; the same command makes the others")
    assert not list(tmp_path.glob("ray/*.part-*"))
    for run in (on_ray, [*command, "-o", "here"]):
        process = finish(*run, cwd=tmp_path)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert ": 4 videos" in out
    made = [{path.name: path.read_bytes() for path in (tmp_path / name).glob("*.mp4")} for name in ("ray", "here")]
    assert made[0] == made[1]
    assert len(made[0]) == 4
    lists = [(tmp_path / name / "manifest.jsonl").read_text().splitlines() for name in ("ray", "here")]
    assert [line.partition(', "seconds"')[0] for line in lists[0]] == [
        line.partition(', "seconds"')[0] for line in lists[1]
    ]
