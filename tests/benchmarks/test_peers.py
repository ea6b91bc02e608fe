"""The arguments and the report of the benchmark of ComfyUI methods; its measurements are tested in a ComfyUI."""

import sys

import peers
import pytest


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--comfyui", "nowhere"], "is nowhere, expected the folder that ComfyUI's main.py is in"),
        (["--comfyui", ".", "--pack", "nowhere"], "--pack is nowhere, expected the folder of a pack"),
    ],
)
def test_wrong_folders_are_refused(words, message, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "main.py").touch()
    monkeypatch.setattr(sys, "argv", ["peers.py", *words])
    with pytest.raises(SystemExit):
        peers.main()
    assert message in " ".join(capsys.readouterr().err.split())


def record(name, seconds, **more):
    about = {"name": name, "seconds": seconds, "shown": 24, "passed": 96}
    return {**about, **dict.fromkeys(peers.FIGURES, 0.5), **more}


def test_methods_are_compared_video_by_video():
    found = {
        "clip": 8, "peers": ["ours", "windows"], "absent": {"others": "no node Others"},
        "records": [
            record("ours", 2.4, loopiness=0.2), record("ours", 4.8, loopiness=0.4),
            record("windows", 4.8), record("windows", 7.2),
        ],
        "lengths": [
            {"name": name, "frames": frames, "grown": grown, "seconds": 1.6, "shown": 16}
            for name in ("ours", "windows") for frames, grown in ((16, 10.0), (32, None))
        ]
        + [{"name": "ours", "frames": 64, "failed": "why"}, {"name": "windows", "frames": 64, "failed": "why"}],
    }  # fmt: skip
    text = peers.report(found)
    assert "| ours | 0.25 | 0.150 | 0.50 ± 0.00 |" in text  # 96 frames are 6 clips of two halves, for 24 frames
    assert "| 0.30 ± 0.20 |" in text
    assert "seconds a shown frame, windows / ours: 1.75 (1.50 to 2.00 in 2 videos)" in text
    assert "others: left out, no node Others" in text
    assert "| windows | 10 |  | failed |" in text
