"""Videos written, read back, interrupted and refused."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from vidrd_core import video
from vidrd_core.video import contact_sheet, open_video, read_video
from vidrd_core.video.sheet import _SEAM
from vidrd_core.video.sinks import FileSink, FolderSink

KINDS = ["v.mp4", "v.webm", "v.gif", "v"]


def clip(frames: int = 12, height: int = 64, width: int = 64) -> np.ndarray:
    """A red disc and a green square that move over a gradient, uint8 [F, H, W, 3]."""
    y, x = np.mgrid[:height, :width]
    shown = []
    for t in range(frames):
        picture = np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 60 + t % 64)], -1)
        centre = width * (0.4 + 0.25 * np.sin(t / 5))
        picture[(x - centre) ** 2 + (y - height / 2) ** 2 < (height / 5) ** 2] = [230, 30, 40]
        picture[(abs(x - width * 0.7) < 7) & (abs(y - centre) < 7)] = [30, 220, 60]
        shown.append(picture)
    return np.stack(shown).astype(np.uint8)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / (np.mean((a.astype(float) - b) ** 2) + 1e-9)))


def write(path: Path, frames: np.ndarray, **settings: object) -> None:
    with open_video(path, **settings) as writer:  # type: ignore[arg-type]
        writer.write(frames)


def spoilt_by(error: type[BaseException], path: Path, **settings: object) -> None:
    """Write five frames, then fail."""
    with open_video(path, **settings) as writer:  # type: ignore[arg-type]
        writer.write(clip(5))
        raise error


# ---------------------------------------------------------------- round trips


# Smooth frames measure the encoder; sharp coloured edges at scale 1 would measure half-resolution colour.
@pytest.mark.parametrize(("name", "least"), [("v.mp4", 40), ("v.webm", 36), ("v.gif", 34)])
def test_round_trip_is_close(tmp_path: Path, name: str, least: float) -> None:
    frames = clip()
    write(tmp_path / name, frames, scale=4)
    back, fps = read_video(tmp_path / name)
    assert back.shape == (12, 256, 256, 3)
    assert back.dtype == np.uint8
    assert fps == 8
    assert psnr(back, frames.repeat(4, 1).repeat(4, 2)) > least


def test_png_folder_is_exact_and_knows_its_rate(tmp_path: Path) -> None:
    write(tmp_path / "frames", clip(), fps=12.5, metadata={"prompt": "a red disc, ein Würfel, 方"})
    back, fps = read_video(tmp_path / "frames")
    assert np.array_equal(back, clip())
    assert fps == 12.5
    assert sorted(os.listdir(tmp_path / "frames"))[::11] == ["frame_000000.png", "frame_000011.png"]
    with Image.open(tmp_path / "frames" / "frame_000000.png") as first:
        assert first.info["prompt"] == "a red disc, ein Würfel, 方"


@pytest.mark.parametrize("name", ["v.mp4", "v.webm"])
@pytest.mark.parametrize("colour", [(230, 30, 40), (30, 220, 60), (20, 40, 230), (0, 0, 0), (255, 255, 255)])
def test_flat_colours_survive(tmp_path: Path, name: str, colour: tuple[int, int, int]) -> None:
    write(tmp_path / name, np.full((2, 16, 16, 3), colour, np.uint8))
    back, _ = read_video(tmp_path / name)
    assert np.abs(back.astype(int) - colour).max() <= 4


@pytest.mark.parametrize("fps", [7.5, 8, 30])
@pytest.mark.parametrize("count", [1, 2, 9])
@pytest.mark.parametrize("name", ["v.mp4", "v.webm", "v.gif"])
def test_count_rate_and_duration(tmp_path: Path, name: str, count: int, fps: float) -> None:
    write(tmp_path / name, clip(count, 16, 16), fps=fps)
    back, rate = read_video(tmp_path / name)
    assert len(back) == count
    assert rate == pytest.approx(fps, rel=1e-3 if name != "v.gif" else 0.12)
    with av.open(str(tmp_path / name)) as container:
        assert container.duration is not None
        assert container.duration / 1e6 == pytest.approx(count / fps, abs=0.011)


def test_gif_rate_is_whole_where_rounding_explains_it(tmp_path: Path) -> None:
    for fps in (8, 12, 16, 24, 30):
        write(tmp_path / "v.gif", clip(20, 16, 16), fps=fps)
        assert read_video(tmp_path / "v.gif")[1] == fps


def test_mp4_is_what_browsers_play(tmp_path: Path) -> None:
    write(tmp_path / "v.mp4", clip())
    boxes = (tmp_path / "v.mp4").read_bytes()
    assert boxes.index(b"moov") < boxes.index(b"mdat")
    assert b"moof" not in boxes
    with av.open(str(tmp_path / "v.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.frames == 12
        times = [frame.time for frame in container.decode(stream)]
    assert times == pytest.approx([i / 8 for i in range(12)])


@pytest.mark.parametrize(
    ("name", "size"), [("v.mp4", (64, 48)), ("v.webm", (64, 48)), ("v.gif", (63, 47)), ("v", (63, 47))]
)
def test_odd_sizes_are_padded_only_where_they_must(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    frames = clip(3, 63, 47)
    write(tmp_path / name, frames)
    back, _ = read_video(tmp_path / name)
    assert back.shape[1:3] == size
    assert psnr(back[:, :63, :47], frames) > 24


def test_scale_repeats_pixels(tmp_path: Path) -> None:
    write(tmp_path / "v", clip(2), scale=3)
    assert np.array_equal(read_video(tmp_path / "v")[0], clip(2).repeat(3, 1).repeat(3, 2))


@pytest.mark.parametrize("name", KINDS)
def test_many_writes_equal_one(tmp_path: Path, name: str) -> None:
    frames = clip()
    (tmp_path / "one").mkdir()
    write(tmp_path / "one" / name, frames)
    with open_video(tmp_path / name) as writer:
        writer.write(frames[:1])
        writer.write(torch.from_numpy(frames[1:8]))
        writer.write(frames[8:])
        assert writer.frames_written == 12
    assert np.array_equal(read_video(tmp_path / name)[0], read_video(tmp_path / "one" / name)[0])


@pytest.mark.parametrize("name", ["v.mp4", "v.webm"])
def test_metadata_is_in_the_container(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, clip(2), metadata={"comment": "made by hand", "prompt": '{"a": "Würfel"}'})
    with av.open(str(tmp_path / name)) as container:
        tags = {key.lower(): value for key, value in container.metadata.items()}
    assert tags["comment"] == "made by hand"
    assert tags["prompt"] == '{"a": "Würfel"}'


def test_gif_keeps_metadata_as_a_comment(tmp_path: Path) -> None:
    write(tmp_path / "v.gif", clip(3), metadata={"prompt": "p" * 600})
    assert len(read_video(tmp_path / "v.gif")[0]) == 3
    data = (tmp_path / "v.gif").read_bytes()
    block, text = data.rindex(b"!\xfe") + 2, b""
    while data[block]:
        text, block = text + data[block + 1 : block + 1 + data[block]], block + 1 + data[block]
    assert json.loads(text) == {"prompt": "p" * 600}
    assert data[block:] == b"\0;"


# ---------------------------------------------------------------- what is left behind


@pytest.fixture(params=KINDS)
def older(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """An older video of two white frames, alone in its folder."""
    path = tmp_path / str(request.param)
    write(path, np.full((2, 16, 16, 3), 255, np.uint8))
    return path


def is_alone_and_old(path: Path) -> bool:
    return os.listdir(path.parent) == [path.name] and read_video(path)[0].shape == (2, 16, 16, 3)


def test_nothing_under_the_final_name_until_close(older: Path) -> None:
    writer = open_video(older)
    writer.write(clip())
    assert read_video(older)[0].shape == (2, 16, 16, 3)
    writer.close()
    writer.close()
    assert read_video(older)[0].shape == (12, 64, 64, 3)
    assert os.listdir(older.parent) == [older.name]


def test_an_exception_leaves_the_older_video(older: Path) -> None:
    with pytest.raises(RuntimeError):
        spoilt_by(RuntimeError, older)
    assert is_alone_and_old(older)


def test_no_frames_leave_the_older_video(older: Path) -> None:
    with open_video(older):
        pass
    assert is_alone_and_old(older)


def test_no_frames_leave_no_file(tmp_path: Path) -> None:
    for name in KINDS:
        open_video(tmp_path / name).close()
    assert os.listdir(tmp_path) == []


def test_an_interrupt_keeps_the_frames(older: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        spoilt_by(KeyboardInterrupt, older)
    assert len(read_video(older)[0]) == 5
    assert os.listdir(older.parent) == [older.name]


def test_keep_on_names_other_exceptions(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        spoilt_by(RuntimeError, tmp_path / "v.mp4", keep_on=(RuntimeError,))
    assert len(read_video(tmp_path / "v.mp4")[0]) == 5


@pytest.mark.parametrize("name", KINDS)
def test_an_interrupt_inside_write_or_close_falls_between_frames(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = FileSink if "." in name else FolderSink
    add, finish = sink.add, sink.finish

    def interrupted_add(self: FileSink, frame: np.ndarray) -> None:
        if self.count == 3:
            signal.raise_signal(signal.SIGINT)
        add(self, frame)  # type: ignore[arg-type]

    def interrupted_finish(self: FileSink) -> None:
        signal.raise_signal(signal.SIGINT)
        finish(self)  # type: ignore[arg-type]

    monkeypatch.setattr(sink, "add", interrupted_add)
    monkeypatch.setattr(sink, "finish", interrupted_finish)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), open_video(tmp_path / name) as writer:
        writer.write(clip())
    assert writer.frames_written == len(read_video(tmp_path / name)[0]) == 4
    assert os.listdir(tmp_path) == [name]
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_killed_process_leaves_a_part_that_plays(tmp_path: Path) -> None:
    script = f"""
import numpy as np
from vidrd_core.video import open_video
for name in {KINDS}:
    writer = open_video(r"{tmp_path}/" + name)
    for i in range(20):
        writer.write(np.full((1, 64, 64, 3), 10 * i, np.uint8))
    globals()[name] = writer
print("written", flush=True)
input()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(video.__file__).parents[2],
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == b"written"
    process.kill()
    process.communicate()
    left = sorted(tmp_path.iterdir())
    assert len(left) == 4
    for path in left:
        assert ".part-" in path.name
        frames, fps = read_video(path)
        assert len(frames) >= 19
        assert fps == 8
        assert abs(int(frames[18].mean()) - 180) <= 3


def test_a_shorter_folder_leaves_no_old_frames(tmp_path: Path) -> None:
    write(tmp_path / "v", clip(9))
    write(tmp_path / "v", clip(4))
    assert len(os.listdir(tmp_path / "v")) == 4


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "v.mp4").symlink_to(tmp_path / "disk" / "real.mp4")
    write(tmp_path / "v.mp4", clip(2))
    assert (tmp_path / "v.mp4").is_symlink()
    assert os.listdir(tmp_path / "disk") == ["real.mp4"]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to measure memory")
@pytest.mark.parametrize("name", ["v.mp4", "v.webm", "v.gif"])
def test_memory_does_not_grow_with_the_length(tmp_path: Path, name: str) -> None:
    def resident() -> float:
        with suppress(AttributeError, OSError):  # glibc: what earlier tests freed would hide growth
            ctypes.CDLL(None).malloc_trim(0)
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    frame = np.zeros((1, 96, 96, 3), np.uint8)
    with open_video(tmp_path / name) as writer:
        for i in range(600):
            frame[:, i % 96] = i % 251
            writer.write(frame)
            if i == 59:
                before = resident()
        grown = resident() - before
    assert grown < 6, f"540 more frames took {grown:.0f} MiB (their pixels: 14 MiB)"


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("name", ["v.avi", "v.png", "v.mp3"])
def test_an_unknown_suffix_names_the_known(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=rf"'\{name[1:]}' is not \.mp4, \.webm, \.gif or, .* a folder"):
        open_video(tmp_path / name)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fps": 0}, "got 0"),
        ({"fps": float("nan")}, "got nan"),
        ({"fps": 60}, "at most 50 frames a second, got 60"),
        ({"scale": 0}, "got 0"),
        ({"scale": 1.5}, r"got 1\.5"),
    ],
)
def test_impossible_settings(tmp_path: Path, settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_video(tmp_path / "v.gif", **settings)  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []


def test_frames_that_do_not_fit(tmp_path: Path) -> None:
    with open_video(tmp_path / "v.mp4") as writer:
        for frames, message in [
            (clip(1)[0], r"\[F, H, W, 3\] with at least one frame, got \[64, 64, 3\]"),
            (clip(1)[:0], r"got \[0, 64, 64, 3\]"),
            (clip(1)[..., :1], r"got \[1, 64, 64, 1\]"),
            (clip(1) / 255.0, "uint8 from 0 to 255, got float64"),
            (torch.zeros(1, 8, 8, 3, dtype=torch.bfloat16), "got torch.bfloat16"),
            (clip(1).tolist(), "got list"),
        ]:
            with pytest.raises(ValueError, match=message):
                writer.write(frames)  # type: ignore[arg-type]
        writer.write(clip(2))
        with pytest.raises(ValueError, match="first were 64 x 64 pixels, these are 48 x 32"):
            writer.write(clip(1, 32, 48))
        writer.write(clip(2))
    with pytest.raises(ValueError, match="is closed"):
        writer.write(clip(2))
    assert len(read_video(tmp_path / "v.mp4")[0]) == 4


@pytest.mark.parametrize("name", KINDS)
def test_a_missing_folder_is_named_at_once(tmp_path: Path, name: str) -> None:
    path = tmp_path / "missing" / name
    with pytest.raises(FileNotFoundError, match=r"cannot write .*missing.*: the folder does not exist"):
        open_video(path)


def test_a_folder_for_a_file_and_a_file_for_a_folder(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").mkdir()
    (tmp_path / "v").write_text("a file")
    with pytest.raises(IsADirectoryError, match="a folder of that name is there"):
        open_video(tmp_path / "v.mp4")
    with pytest.raises(NotADirectoryError, match="a file is where a folder should be"):
        open_video(tmp_path / "v")
    assert sorted(os.listdir(tmp_path)) == ["v", "v.mp4"]


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"holds other files \(thesis\.txt\)"):
        open_video(f"{tmp_path}/")
    assert os.listdir(tmp_path) == ["thesis.txt"]


@contextmanager
def unwritable_folder() -> Iterator[Path]:
    """A folder this process may not write in; root becomes nobody for the while."""
    folder = Path(tempfile.mkdtemp())
    root = os.geteuid() == 0
    folder.chmod(0o555)
    try:
        if root:
            os.seteuid(65534)
        yield folder
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
        folder.rmdir()


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX permissions")
def test_an_unwritable_folder_is_named_at_once() -> None:
    for name in KINDS:
        with (
            unwritable_folder() as folder,
            pytest.raises(PermissionError, match="no permission to write there; choose another"),
        ):
            open_video(folder / name)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 200 KiB, empty."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if not sys.platform.startswith("linux") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root on Linux can mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def write_noise(writer: video.VideoWriter, frames: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1, 96, 96, 3), dtype=np.uint8)
    while writer.frames_written < frames:
        writer.write(np.roll(noise, 7 * writer.frames_written, 1))


@pytest.mark.parametrize("name", KINDS)
def test_a_full_disk(small_disk: Path, name: str) -> None:
    writer = open_video(small_disk / name)
    with (
        pytest.raises(OSError, match=r"cannot write .*: the disk is full; free some space") as caught,
        writer,
    ):
        write_noise(writer, float("inf"))
    assert caught.value.errno == errno.ENOSPC
    assert writer.frames_written > 3
    assert os.listdir(small_disk) == []


def test_a_disk_too_full_for_the_index_keeps_the_fragments(small_disk: Path) -> None:
    with open_video(small_disk / "v.mp4") as writer:
        while next(small_disk.iterdir()).stat().st_size < 120_000:
            write_noise(writer, writer.frames_written + 1)
    assert os.listdir(small_disk) == ["v.mp4"]
    frames, fps = read_video(small_disk / "v.mp4")
    assert (len(frames), fps) == (writer.frames_written, 8)


def test_a_video_that_cannot_be_put_in_place_is_not_lost(tmp_path: Path) -> None:
    writer = open_video(tmp_path / "v.mp4")
    writer.write(clip(3))
    (tmp_path / "v.mp4").mkdir()
    with pytest.raises(OSError, match=r"could not finish .*v\.mp4.* What was written is in .*part-") as caught:
        writer.close()
    assert len(read_video(str(caught.value).rsplit("is in ", 1)[1])[0]) == 3


# ---------------------------------------------------------------- reading


def test_reading_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such video"):
        read_video(tmp_path / "v.mp4")
    with pytest.raises(ValueError, match="no frames"):
        read_video(tmp_path)


def test_reading_foreign_files(tmp_path: Path) -> None:
    write(tmp_path / "v.mp4", clip(2))
    Image.new("RGB", (8, 8)).save(tmp_path / "image.png")
    foreign = {
        "text.mp4": b"hello world\n" * 200,
        "empty.mp4": b"",
        "image.mp4": (tmp_path / "image.png").read_bytes(),
        "list.mp4": b"ffconcat version 1.0\nfile v.mp4\n",
    }
    for name, content in foreign.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} is damaged, or no mp4, webm or gif video"):
            read_video(tmp_path / name)


@pytest.mark.parametrize("name", ["v.mp4", "v.webm"])
def test_reading_a_file_cut_in_half(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, clip(40))
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"is damaged after \d+ frames|is cut off at"):
        read_video(tmp_path / name)


def test_reading_a_damaged_png_folder(tmp_path: Path) -> None:
    write(tmp_path / "v", clip(3))
    second = tmp_path / "v" / "frame_000001.png"
    second.write_bytes(second.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"frame_000001\.png is damaged"):
        read_video(tmp_path / "v")
    Image.new("RGB", (8, 8)).save(second)
    with pytest.raises(ValueError, match=r"mixes frames of \(64, 64, 3\) and \(8, 8, 3\)"):
        read_video(tmp_path / "v")


def test_foreign_png_folders_are_read_by_number(tmp_path: Path) -> None:
    for number in (10, 9, 100):
        Image.new("L", (4, 4), number).save(tmp_path / f"shot-{number}.png")
    frames, fps = read_video(tmp_path)
    assert frames[:, 0, 0, 0].tolist() == [9, 10, 100]
    assert fps == video.DEFAULT_FPS


# ---------------------------------------------------------------- contact sheets


def test_contact_sheet_lays_frames_in_rows(tmp_path: Path) -> None:
    first, second = clip(6), clip(4, 32, 48)
    sheet = contact_sheet([first, torch.from_numpy(second)], tmp_path / "sheet.png", every=2, scale=2, gap=3)
    pixels = np.asarray(sheet)
    assert sheet.size == (3 * 128 + 2 * 3 + 2 * 3, 128 + 64 + 3 * 3)
    assert np.array_equal(pixels[3:131:2, 134:262:2], first[2])
    assert np.array_equal(pixels[134:198:2, 102:198:2], second[2])
    with Image.open(tmp_path / "sheet.png") as saved:
        assert np.array_equal(np.asarray(saved), pixels)


def test_contact_sheet_marks_seams_and_writes_labels() -> None:
    plain = contact_sheet([clip(6, 16, 16)])
    seams = contact_sheet([clip(6, 16, 16)], seam_every=2)
    labelled = contact_sheet([clip(6, 16, 16)], labels=["a long label " * 6])
    assert seams.width == plain.width + 2 * (2 + 2)
    assert (np.asarray(seams) == _SEAM).all(-1).any(0).sum() == 2 * 2
    assert labelled.width == plain.width
    assert labelled.height > plain.height + 20
    assert (np.asarray(labelled)[: -plain.height] > 200).any()


def test_contact_sheet_refusals(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got 1 videos and 2 labels"):
        contact_sheet([clip(2)], labels=["a", "b"])
    with pytest.raises(ValueError, match="got 0 videos"):
        contact_sheet([])
    with pytest.raises(ValueError, match="every=0"):
        contact_sheet([clip(2)], every=0)
    with pytest.raises(FileNotFoundError, match="the folder does not exist"):
        contact_sheet([clip(2)], tmp_path / "missing" / "sheet.png")
