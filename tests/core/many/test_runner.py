"""Many videos in a folder, whoever makes them."""

import pytest

from vidrd_core.loading import load
from vidrd_core.many.jobs import Job
from vidrd_core.many.manifest import model_identity
from vidrd_core.many.runner import make_videos
from vidrd_core.settings import SampleSettings


class Failing:
    """Makes no videos."""

    def make(self, *given):
        raise RuntimeError("fails")
        yield


def test_a_run_that_failed_holds_its_folder_no_longer(tmp_path):
    model = load("tiny")
    jobs = [Job(0, "0.mp4", ["a red circle"], model.complete(SampleSettings(steps=1)))]
    errors = []  # with their tracebacks, and what these refer to
    for _ in range(2):
        with pytest.raises(RuntimeError, match="fails") as error:
            make_videos(jobs, tmp_path, model_identity(model), Failing(), 1)
        errors.append(error)
