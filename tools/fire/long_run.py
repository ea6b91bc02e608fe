"""Memory and handles of a long run: `python -m tools.fire.long_run --clips 2000`, on Linux."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MEBIBYTE = 2**20
SETTLED = 0.1  # of the clips, until caches are filled


def main() -> None:
    """Make a video of many clips of the built-in model, and print what the process holds from time to time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=2000)
    clips = parser.parse_args().clips
    with tempfile.TemporaryDirectory(prefix="vidrd_fire_") as folder:
        states, video = Path(folder) / "kept", Path(folder) / "v.mp4"
        command = [sys.executable, "-m", "vidrd_core.cli", "generate", "a red circle", "--clips", str(clips)]
        command += ["--steps", "1", "--threads", "1", "-q", "-o", str(video), "--state-dir", str(states)]
        process = subprocess.Popen(command, cwd=Path(__file__).resolve().parents[2])
        rows: list[tuple[int, float, int]] = []
        while process.poll() is None:
            made = len(list(states.glob("clip_*.safetensors"))) if states.is_dir() else 0
            try:
                pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
                handles = len(os.listdir(f"/proc/{process.pid}/fd"))
            except (OSError, IndexError):
                break
            if made >= max(1, int(len(rows) * clips / 20)):
                rows.append((made, pages * os.sysconf("SC_PAGE_SIZE") / MEBIBYTE, handles))
                print(f"| {made} | {rows[-1][1]:.0f} | {handles} |", flush=True)
            time.sleep(0.2)
        if process.wait():
            sys.exit(f"error: {' '.join(command)} failed")
    first, last = next(row for row in rows if row[0] >= SETTLED * clips), rows[-1]
    print(f"clips {first[0]} to {last[0]}: {last[1] - first[1]:+.0f} MiB, {last[2] - first[2]:+d} handles")


if __name__ == "__main__":
    main()
