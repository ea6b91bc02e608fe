"""The long-video benchmark; timings are not checked."""

import long_video
import pytest
from long_video import LATE, Calls, report, stream_chain, take_turns


@pytest.fixture(autouse=True)
def prompt(monkeypatch):
    """A prompt that the model of the tests knows."""
    monkeypatch.setattr(long_video, "PROMPT", "a red circle")


def test_chains_count_their_frames_and_calls(model):
    chain = stream_chain(model, 3, steps=2)
    assert (chain["clips"], chain["frames"], chain["calls"]) == (3, 24, [2, 2, 2])
    assert len(chain["seconds"]) == 3
    assert 0 < sum(chain["seconds"]) < chain["total"]
    assert 0 < chain["loaded"] <= chain["peak"]


def test_turns_make_clips_1_2_and_10(model):
    calls = Calls(model)
    rounds = take_turns(model, repeats=2, steps=1)["rounds"]
    assert [sorted(taken) for taken in rounds] == [[1, 2, LATE]] * 2
    assert calls.count == LATE - 1 + 3 * 3  # the first round only warms up


def test_the_report_compares_the_longest_chain_with_the_second():
    chains = [
        {
            "clips": n,
            "frames": 8 * n,
            "seconds": [2.0] * n,
            "calls": [5] * n,
            "total": 3.0 * n,
            "loaded": 100,
            "peak": p,
        }
        for n, p in ((1, 150), (4, 200), (64, 210))
    ]
    text = report(chains, [{"1": 2.0, "2": 4.0, "10": 5.0}, {"1": 2.0, "2": 4.0, "10": 4.0}])
    assert "| 64 | 512 | 192.0 | 2.00 | 2.00 | 1.00 | 5 | 0.375 | 0.625 | 100 | 210 |" in text
    assert "peak memory, 64 clips / 4 clips: 1.050" in text
    assert "above the loaded model, 64 clips / 4 clips: 1.100" in text
    assert "seconds, clip 10 / clip 2: 1.125 (1.000 to 1.250 in 2 rounds)" in text
