"""The analysis of an ablation's records where the answer is known."""

import json

import numpy as np
import pytest

from vidrd_core.evaluation.ablation import paper_sweeps, video_name
from vidrd_core.evaluation.ablation_analysis import analyze, group_by_point, video_figures
from vidrd_core.evaluation.confidence import frechet_to, jackknife_interval, paired_trend, statistic_trend
from vidrd_core.evaluation.runner import encode_features
from vidrd_core.metrics.frechet import Moments


def test_figures_of_a_record():
    record = {"name": "a", "seam_ratio": [0.5, 2.0], "flow_jump": [None, 90.0], "loopiness": {"8": 0.1, "16": 0.7}}
    found = video_figures(record, 16)
    assert found == {"seam_ratio": 1.25, "flow_jump": 90, "seam_error": 1, "loopiness": 0.7}


def rows(*means, spread=1.0, count=100):
    rng = np.random.default_rng(0)
    return [dict(enumerate(mean + spread * rng.standard_normal(count))) for mean in means]


def test_trends():
    rising = paired_trend([0, 1, 2, 4], rows(0, 1, 2, 3))
    assert (rising.direction, rising.correlation) == (1, 1)
    assert rising.low < 3 < rising.high
    assert rising.high - rising.low == pytest.approx(2 * 1.96 * np.sqrt(2) / 10, rel=0.3)
    assert paired_trend([0, 1, 2], rows(3, 2, 0)).direction == -1
    assert paired_trend([0, 1, 2], rows(0, 0.05, 0.01)).direction == 0
    flat = paired_trend([0, 1], rows(1, 1, spread=0))
    assert (flat.change, flat.direction, flat.correlation) == (0, 0, 0)


def test_only_videos_with_both_ends_count():
    few = [{0: 1.0, 1: 2.0}, {5: 1.0, 0: 3.0, 1: 4.0}]
    assert paired_trend([0, 1], few).change == 2
    with pytest.raises(ValueError, match="there are 1 videos of both ends, expected two or more"):
        paired_trend([0, 1], [{0: 1.0}, {0: 2.0}])


def gaussians(*means, count=300, dim=4):
    rng = np.random.default_rng(1)
    return [mean + rng.standard_normal((count, dim)) for mean in means]


def standard():
    moments = Moments()
    moments.add(np.random.default_rng(2).standard_normal((20_000, 4)))
    return frechet_to(moments)


def test_the_jackknife_of_a_mean_is_the_textbook_interval():
    (values,) = gaussians(3, dim=1)
    found = jackknife_interval(values[:150], lambda v: float(v.mean()))
    assert found.value == values[:150].mean()
    assert found.high - found.value == pytest.approx(1.96 * values[:150].std(ddof=1) / np.sqrt(150))
    many = jackknife_interval(values, lambda v: float(v.mean()))  # by groups
    assert many.high - many.low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(300), rel=0.1)
    with pytest.raises(ValueError, match="there are 1 videos, expected two or more"):
        jackknife_interval(values[:1], lambda v: float(v.mean()))


def test_the_interval_of_a_distance_matches_the_spread_over_samples():
    rng = np.random.default_rng(5)
    found = [jackknife_interval(rng.standard_normal((100, 4)) + 1, standard()) for _ in range(60)]
    spread = np.std([each.value for each in found])
    assert np.mean([each.high - each.value for each in found]) == pytest.approx(1.96 * spread, rel=0.25)
    assert all(each.low < each.value < each.high for each in found)


def test_distances_that_grow():
    near, middle, far = gaussians(0, 0.5, 1)
    assert jackknife_interval(far, standard()).value == pytest.approx(4, rel=0.15)  # four means that are 1 apart
    found = statistic_trend([0, 1, 2], [near, middle, far], standard())
    assert (found.direction, found.correlation) == (1, 1)
    assert found.low < 4 < found.high
    same = statistic_trend([0, 1], gaussians(0, 0), standard())
    assert same.direction == 0
    with pytest.raises(ValueError, match="the ends have 300 and 20 videos, expected the same two or more"):
        statistic_trend([0, 1], [near, far[:20]], standard())


def records(better, loops, videos=40):
    """Records of all points: a higher setting moves features nearer by `better`, and adds `loops` to loopiness."""
    rng = np.random.default_rng(3)
    for each in paper_sweeps(8):
        for place, point in enumerate(each.points):
            for number in range(videos):
                features = rng.standard_normal(4) + 1 - better * place / len(each.points)
                yield {
                    "name": video_name(number, point), "text": "x", "fps": 8.0, "width": 64, "height": 64,
                    "seams": [8], "seam_ratio": [1.0], "loopiness": {"16": loops * place + rng.normal()},
                    "features": {"fvd": encode_features(features)},
                }  # fmt: skip


@pytest.mark.parametrize(
    ("better", "loops", "verdict"),
    [(1, 1, "is seen."), (-1, 1, "is seen in part."), (1, -1, "is seen in part."), (-1, -1, "is not seen.")],
)
def test_the_papers_claim_is_tested_against_the_metrics(better, loops, verdict):
    statistics = {"fvd": ("fvd", standard())}
    for found in analyze(paper_sweeps(8), group_by_point(records(better, loops), 16), statistics):
        assert verdict in found["statement"]
        assert found["trends"]["fvd"]["way"] == -better
        assert found["trends"]["loopiness"]["way"] == loops
        assert found["trends"]["seam_error"]["way"] == 0
        assert "seam_error 0 to 0, no change for certain" in found["statement"]
        assert len(found["figures"]["fvd"]) == len(found["values"]) == len(found["videos"])
        json.dumps(found, allow_nan=False)


def test_points_without_videos_are_refused():
    some = [each for each in records(1, 1, 2) if "M=6" not in each["name"]]
    with pytest.raises(ValueError, match=r"there are no videos of M=6 alpha=4 beta=0\.4"):
        analyze(
            paper_sweeps(8),
            group_by_point([*some, {"name": "0000 M=6 alpha=4 beta=0.4", "reason": "damaged"}], 16),
            {},
        )
