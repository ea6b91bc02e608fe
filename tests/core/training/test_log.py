"""A stage's log, and what it reports of each line."""

import json
import math
from types import SimpleNamespace

import pytest

from vidrd_core.cli.train import JsonProgress
from vidrd_core.training.log import Log
from vidrd_core.training.progress import LogLine, PlainProgress


class Lines(PlainProgress):
    def __init__(self):
        self.lines = []

    def log(self, line):
        self.lines.append(line)


@pytest.fixture
def log(tmp_path):
    tracked = []
    accelerator = SimpleNamespace(is_main_process=True, trackers=[], log=lambda values, step: tracked.append(values))
    log = Log(accelerator, tmp_path, "clip", 100, Lines())
    log.tracked = tracked
    return log


def entries(log):
    return [json.loads(line) for line in log.path.read_text().splitlines()]


def test_a_line_has_losses_and_metrics_in_the_file_and_apart_in_the_report(log):
    log.begin(20)
    log.write(30, {"mse": 0.5}, {"psnr": 20.0})
    log.write(40, {})
    assert entries(log) == [{"step": 30, "mse": 0.5, "psnr": 20.0}], "no line without figures"
    (line,) = log.progress.lines
    assert (line.stage, line.step, line.steps, line.losses, line.metrics) == (
        "clip", 30, 100, {"mse": 0.5}, {"psnr": 20.0},
    )  # fmt: skip
    assert line.eta == pytest.approx(7 * line.seconds, rel=0.5), "70 steps are left, at the pace of these 10"
    assert log.tracked == [{"clip/mse": 0.5, "clip/psnr": 20.0}]


def test_before_the_first_step_of_a_process_the_time_left_is_unknown(log):
    log.begin(20)
    log.write(20, {"held_out_mse": 0.5})
    assert log.progress.lines[0].eta is None


def test_numbers_that_are_not_finite_are_null(log, capsys):
    log.write(1, {"held_out_mse": math.nan}, {"psnr": math.inf})
    assert entries(log) == [{"step": 1, "held_out_mse": None, "psnr": None}]
    JsonProgress().log(LogLine("clip", 1, 2, {"mse": math.nan}, {"psnr": math.inf}, 1.0, None))
    printed = json.loads(capsys.readouterr().out)
    assert (printed["losses"], printed["metrics"], printed["eta"]) == ({"mse": None}, {"psnr": None}, None)


def test_lines_after_a_step_and_one_that_was_cut_short_are_removed(log):
    for step in (1, 2, 3):
        log.write(step, {"mse": 0.1 * step})
    with log.path.open("a") as file:
        file.write('{"step": 2, "ms')
    log.truncate(2)
    assert [entry["step"] for entry in entries(log)] == [1, 2]
    log.write(2, {"held_out_mse": 0.1})
    assert log.holds(2, "held_out_")
    assert not log.holds(1, "held_out_")
    assert not log.holds(3, "mse")


def test_a_plain_line_has_five_digits(capsys):
    PlainProgress().log(LogLine("clip", 30, 100, {"mse": 0.123456789}, {"steps_per_s": 3.0}, 1.0, 2.0))
    assert capsys.readouterr().out == 'clip: {"step": 30, "mse": 0.12346, "steps_per_s": 3.0}\n'
