"""Where does the time of `vidrd generate` go, from the prompt to the MP4?

    python benchmarks/stages.py                      # 64 px with the built-in model, 256 and 512 px at half width
    python benchmarks/stages.py --sizes 256 --steps 25

Each command runs in this process, with timers around the parts; time in a part that another one calls counts for the
inner one. The larger sizes have ModelScope's architecture at half width with random weights. A thread writes frames
beside the next clip's sampling: its share is no part of the whole.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from training import make_model

from vidrd_core.cli import main as vidrd
from vidrd_core.cli import request
from vidrd_core.video.writer import VideoWriter

PROMPT = "a red circle moving right"
BUILT_IN = 64  # pixels of the built-in model
WHOLE = ("UNet", "sampling beside it", "text", "decoding", "model", "rest")


class Timers(threading.local):
    """Seconds by part; in each thread the innermost part counts."""

    def __init__(self, seconds: Counter[str]) -> None:
        self.seconds = seconds
        self.inner = [0.0]  # seconds of parts inside each part that runs

    def around(self, name: str, work: Callable[[], Any]) -> Any:
        """Do some work of a part."""
        began = time.perf_counter()
        self.inner.append(0.0)
        try:
            return work()
        finally:
            taken = time.perf_counter() - began
            self.seconds[name] += taken - self.inner.pop()
            self.inner[-1] += taken

    def items(self, name: str, found: Iterator[Any]) -> Iterator[Any]:
        """The items of an iterator, each of which is work of a part."""
        end = object()
        while (item := self.around(name, lambda: next(found, end))) is not end:
            yield item

    def replace(self, owner: Any, method: str, name: str) -> Callable[[], None]:
        """Count a method, or the iterator that it gives, as work of a part. Returns what undoes it."""
        before = getattr(owner, method)

        def replaced(*given: Any, **named: Any) -> Any:
            found = self.around(name, lambda: before(*given, **named))
            return self.items(name, found) if isinstance(found, Iterator) else found

        setattr(owner, method, replaced)
        return lambda: setattr(owner, method, before)


def measure(size: int, given: argparse.Namespace, folder: Path) -> Counter[str]:
    """The seconds of each part of one command."""
    seconds: Counter[str] = Counter()
    timers = Timers(seconds)
    load = request.load

    def load_timed(*options: Any, **named: Any) -> Any:
        model = timers.around("model", lambda: load(*options, **named))
        timers.replace(model, "stream", "sampling beside it")
        timers.replace(model.text_encoder, "encode", "text")
        timers.replace(model.unet, "forward", "UNet")
        timers.replace(model.vae, "decode_stream", "decoding")
        return model

    request.load = load_timed
    undo = [timers.replace(VideoWriter, name, "writing") for name in ("write", "close")]
    model = [] if size == BUILT_IN else ["--model", folder / "model", "--width", size, "--height", size]
    command = ["generate", PROMPT, "--clips", given.clips, "--steps", given.steps, "--quiet", *model]
    with redirect_stdout(io.StringIO()):
        code = timers.around("rest", lambda: vidrd([*map(str, command), "-o", str(folder / f"{size}.mp4")]))
    if code:
        raise SystemExit("the command failed")
    request.load = load
    for each in undo:
        each()
    return seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[BUILT_IN, 256, 512])
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--clips", type=int, default=2)
    given = parser.parse_args()
    print(f"| pixels | seconds | {' | '.join(WHOLE)} | writing |")
    print(f"|---|---|{'---|' * len(WHOLE)}---|")
    with tempfile.TemporaryDirectory() as name:
        if any(size != BUILT_IN for size in given.sizes):
            make_model(Path(name), argparse.Namespace(width="half"))
        for size in given.sizes:
            found = measure(size, given, Path(name))
            whole = sum(found[part] for part in WHOLE)
            shares = [f"{found[part] / whole:.1%}" for part in (*WHOLE, "writing")]
            print(f"| {size} | {whole:.1f} | {' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    main()
