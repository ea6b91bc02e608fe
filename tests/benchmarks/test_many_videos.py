"""The benchmark of many videos: rates without the start, and ratios in turns."""

from argparse import Namespace

import many_videos as script
import pytest


def test_a_rate_counts_from_the_first_finished_videos():
    assert script.rate([10.0, 12.0, 14.0, 16.0], 1) == 0.5
    assert script.rate([10.0, 10.5, 12.0, 12.5], 2) == 1.0
    with pytest.raises(ValueError, match="there are 2 videos, expected more than the 2"):
        script.rate([1.0, 2.0], 2)


def test_the_report_has_ratios_of_neighbouring_runs():
    text = script.report({"one process": [1.0, 2.0, 1.0], "two workers": [1.9, 3.6, 2.0]})
    assert text == "one process: 1.000 videos a second\ntwo workers: 1.90 times as many (1.80 to 2.00 in 3 rounds)"


def test_videos_of_the_same_bytes_are_made_by_the_command(tmp_path):
    given = Namespace(videos=3, clips=1, steps=1)

    def one(path):
        return script.make(path, given, "--batch", "1")

    rates = script.compare({"one process": one, "two workers": one}, {"one process": 1, "two workers": 1}, 1)
    assert [len(each) for each in rates.values()] == [1, 1]

    def other(path):
        return script.make(path, given, "--batch", "1", "--seed", "5")

    with pytest.raises(ValueError, match=r"1\.mp4.* differ"):
        script.compare({"one process": one, "two workers": other}, {"one process": 1, "two workers": 1}, 1)
