"""A ComfyUI server under fire: killed in Long Videos, and a queue of workflows that are cancelled at random.

`python -m tools.fire.server --kills 200`, `python -m tools.fire.server --queue 300`, with COMFYUI_PATH, the folder of
a ComfyUI, and COMFYUI_PYTHON, its Python (by default this one). The server has folders of its own.

After a kill the server is started again and the same video is queued again: it must have the frames of the
undisturbed one. After the queue the host must live, each video and state that it tells of must be whole, and nothing
half-written may be left.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "example_workflows" / "3_long_video_in_one_node.json"
STATES = ROOT / "example_workflows" / "5_save_resume_branch.json"
PATIENCE = 300.0  # seconds for a start, and for a video


class Server:
    """A ComfyUI server.

    Args:
        checkout: The folder with its `main.py`.
        base: A folder for its models, inputs, outputs and node packs.
    """

    def __init__(self, checkout: Path, base: Path) -> None:
        self.checkout, self.base = checkout, base
        (base / "custom_nodes").mkdir(parents=True, exist_ok=True)
        if not (link := base / "custom_nodes" / "VidRD").exists():
            link.symlink_to(ROOT)
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        python = os.environ.get("COMFYUI_PYTHON", sys.executable)
        command = [python, "main.py", "--cpu", "--port", str(self.port), "--base-directory", str(self.base)]
        log = (self.base / "server.log").open("ab")
        self.process = subprocess.Popen(command, cwd=self.checkout, stdout=log, stderr=log)
        begun = time.monotonic()
        while time.monotonic() - begun < PATIENCE:
            if self.process.poll() is not None:
                break
            with contextlib.suppress(OSError):
                self.get("/system_stats")
                return
            time.sleep(0.2)
        sys.exit(f"error: ComfyUI does not start, see {self.base / 'server.log'}")

    def get(self, path: str) -> Any:
        """The answer to a request."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return json.load(answer)

    def post(self, path: str, body: Any) -> Any:
        """The answer to a request with a body; None for an empty one."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def queue(self, prompt: dict[str, Any]) -> str:
        """Queue a prompt; its id."""
        return str(self.post("/prompt", {"prompt": prompt})["prompt_id"])

    def result(self, number: str) -> dict[str, Any]:
        """Wait for a prompt's entry in the history."""
        begun = time.monotonic()
        while time.monotonic() - begun < PATIENCE:
            if found := self.get(f"/history/{number}"):
                return dict(found[number])
            time.sleep(0.05)
        raise RuntimeError("the host does not come to an end")

    def kill(self) -> None:
        """Kill it, without a word."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def example(server: Server, path: Path, **settings: Any) -> dict[str, Any]:
    """An example workflow as a prompt, with settings of its nodes that have them."""
    from tests.workflows.convert import to_prompt

    prompt = to_prompt(json.loads(path.read_text(encoding="utf-8")), server.get("/object_info"))
    for node in prompt.values():
        for name, value in settings.items():
            if name in node["inputs"] and not isinstance(node["inputs"][name], list):
                node["inputs"][name] = value
    return prompt


def written(server: Server, entry: dict[str, Any]) -> list[Path]:
    """The files in the output folder of which a prompt's history tells."""
    found = []
    for output in entry["outputs"].values():
        for values in output.values():
            for each in values if isinstance(values, list) else ():
                if isinstance(each, dict) and each.get("type") == "output":
                    found.append(server.base / "output" / each.get("subfolder", "") / each["filename"])
    return found


def unfit(folder: Path, known: set[tuple[Path, int]]) -> list[str]:
    """What is wrong with the files in an output folder, but for those that are `known` to be whole since a time."""
    from vidrd_core.state import ClipState
    from vidrd_core.video import read_video

    wrong = []
    for path in sorted(folder.rglob("*")):
        if (key := (path, path.stat().st_mtime_ns)) in known:
            continue
        known.add(key)
        try:
            if path.suffix in (".mp4", ".webm", ".gif") and ".part-" not in path.name:
                read_video(path)
            elif path.suffix == ".safetensors":
                ClipState.load(path)
        except ValueError as error:
            wrong.append(str(error))
    return wrong


def video_of(server: Server, prompt: dict[str, Any]) -> Any:
    """Queue a prompt, and the frames of its video. Raises RuntimeError if there is none."""
    from vidrd_core.video import read_video

    entry = server.result(server.queue(prompt))
    found = [path for path in written(server, entry) if path.suffix == ".mp4"]
    if len(found) != 1:
        raise RuntimeError(f"a run ended as {entry['status']}")
    return read_video(found[0])[0]


def kills(server: Server, count: int, seed: int) -> list[str]:
    """Kill the server in Long Videos: a text for each fault."""
    rng, faults, hits = np.random.default_rng(seed), [], 0
    with environment(VIDRD_KEEP_GB="0"):
        server.start()
        prompts = [example(server, EXAMPLE, clips=6, steps=4, seed=number) for number in range(count)]
        begun = time.monotonic()
        expected = [video_of(server, prompt) for prompt in prompts]
        seconds = (time.monotonic() - begun) / count
        server.kill()
    server.start()
    known: set[tuple[Path, int]] = set()
    for number, prompt in enumerate(prompts):
        identity = server.queue(prompt)
        time.sleep(rng.uniform(0, seconds))
        hits += not server.get(f"/history/{identity}")
        server.kill()
        wrong = unfit(server.base / "output", known)
        server.start()
        try:
            if not np.array_equal(video_of(server, prompt), expected[number]):
                wrong.append("the video differs from the undisturbed one")
        except RuntimeError as error:
            wrong.append(str(error))
        wrong += [f"{each.name} is left over" for each in (server.base / "output").rglob("*.part-*")]
        faults += [f"kill {number}: {each}" for each in wrong]
        print("".join(f"kill {number}: {each}\n" for each in wrong), end="", flush=True)
    server.kill()
    print("| server | kills | before the end | seconds of a video | faults |\n| - | - | - | - | - |")
    print(f"| Long Video | {count} | {hits} | {seconds:.2f} | {len(faults)} |")
    return faults


def cancelled(server: Server, count: int, seed: int) -> list[str]:
    """Queue workflows and cancel at random moments: a text for each fault."""
    rng, ends = np.random.default_rng(seed), Counter[str]()
    server.start()
    identities = []
    for number in range(count):
        path, clips = (STATES, {}) if number % 3 == 0 else (EXAMPLE, {"clips": int(rng.integers(4, 8))})
        identities.append(server.queue(example(server, path, steps=3, seed=number, **clips)))
    alive, waiting = True, set(identities)
    while waiting and alive:
        time.sleep(rng.exponential(1.0))
        alive = server.process is not None and server.process.poll() is None
        if not alive:
            break
        if rng.random() < 0.5:
            server.post("/interrupt", {})
        elif waiting and rng.random() < 0.3:
            gone = sorted(waiting)[rng.integers(len(waiting))]
            server.post("/queue", {"delete": [gone]})
        queue = server.get("/queue")
        queued = {each[1] for name in ("queue_running", "queue_pending") for each in queue[name]}
        waiting &= queued
    faults = [] if alive else ["the host died"]
    if alive:
        history = server.get("/history")
        for identity in identities:
            entry = history.get(identity)
            said = "taken out of the queue" if entry is None else _end_of(entry)
            ends[said] += 1
            if entry is not None and said == "success":
                faults += [
                    f"{path} is told of, and is not there" for path in written(server, entry) if not path.exists()
                ]
        last = example(server, EXAMPLE, clips=4, steps=3, seed=10**6)
        try:
            video_of(server, last)
        except RuntimeError as error:
            faults.append(f"after it {error}")
    server.kill()
    faults += unfit(server.base / "output", set())
    faults += [f"{said} in {number} runs" for said, number in ends.items() if said.startswith("error")]
    faults += [f"{each.name} is left over" for each in (server.base / "output").rglob("*.part-*")]
    print("| ended as | runs |\n| - | - |")
    print("\n".join(f"| {said} | {number} |" for said, number in ends.most_common()))
    return faults


def _end_of(entry: dict[str, Any]) -> str:
    """How a prompt ended, by its history."""
    messages = dict(entry["status"]["messages"])
    if "execution_interrupted" in messages:
        return "interrupted"
    if error := messages.get("execution_error"):
        return f"error: {error['exception_message'].strip()[:100]}"
    return str(entry["status"]["status_str"])


@contextlib.contextmanager
def environment(**values: str) -> Iterator[None]:
    """A context with other environment variables."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def main() -> None:
    """Read the options, try, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=0, help="kills in Long Videos")
    parser.add_argument("--queue", type=int, default=0, help="workflows in a queue that are cancelled at random")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not (checkout := os.environ.get("COMFYUI_PATH")):
        sys.exit("error: COMFYUI_PATH is not set, expected the folder of a ComfyUI")
    faults = []
    for count, tried in ((options.kills, kills), (options.queue, cancelled)):
        if count:
            with tempfile.TemporaryDirectory(prefix="vidrd_fire_") as folder:
                server = Server(Path(checkout), Path(folder))
                try:
                    faults += tried(server, count, options.seed)
                finally:
                    server.kill()
    print(f"{len(faults)} faults", *faults, sep="\n")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
