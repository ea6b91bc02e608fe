"""Many clips are made in parts, with the same bits and the same caching as in one chain."""

import importlib

import numpy as np
import pytest

from .graphs import frames_of
from .test_kept_clips import CACHES, SIX, caching, changed, restart  # noqa: F401 - a fixture
from .test_long_video import clips_in, long_video, written_in


@pytest.fixture
def in_parts(pack, monkeypatch):
    """A function that sets how many clips a part has."""
    module = importlib.import_module("custom_nodes_vidrd.nodes.long_video_part")
    return lambda clips: monkeypatch.setattr(module, "CLIPS", clips)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"travel": 2, "seed_per_clip": ",,7", "cfg_per_clip": "3.25", "alpha_per_clip": ",,,1"},
        {"travel": -1, "loop": "close", "preset": "keep moving", "format": "png"},
    ],
)
def test_a_video_in_parts_is_that_of_one_chain(execute, output, in_parts, settings):
    made, kind = [], settings.get("format", "mp4")
    for clips in (8, 2):
        in_parts(clips)
        prefix = f"in_{clips}_{settings.get('travel')}"
        ran, errors, refused = execute(long_video(SIX[:5], prefix=prefix, **settings))
        assert (errors, refused) == ([], {})
        assert clips_in(ran) == written_in(ran) == [1, 2, 3, 4, 5]
        assert len([name for name in ran if name.rpartition(".")[2].startswith("part_")]) == (3 if clips == 2 else 0)
        made.append(frames_of(output / prefix / f"v_00001_{'' if kind == 'png' else '.mp4'}"))
    assert np.array_equal(*made)
    assert len(execute.server.shown) == 1, "one result of the run, the whole video"


@pytest.mark.parametrize(
    ("change", "again", "written"),
    [
        ({"seed_per_clip": ",,,7"}, [4, 5], [4, 5]),
        ({"clips": 6}, [6], [5, 6]),
        ({"clips": 4, "prompts": SIX[:4]}, [], [4]),
        ({"fps": 12.0}, [], [1, 2, 3, 4, 5]),
        ({"filename_prefix": "elsewhere/v"}, [], [1, 2, 3, 4, 5]),
    ],
)
def test_only_changed_clips_run_again_where_nothing_is_kept_on_disk(execute, in_parts, change, again, written):
    in_parts(2)
    execute(long_video(SIX[:5], 5, prefix="change_parts"))
    assert clips_in(execute(long_video(SIX[:5], 5, prefix="change_parts"))[0]) == []
    ran, errors, refused = execute(long_video(**{"prompts": SIX[:5], "clips": 5, "prefix": "change_parts", **change}))
    assert (errors, refused) == ([], {})
    assert (clips_in(ran), written_in(ran)) == (again, written)


def test_every_cache_and_a_restart_find_the_clips_of_parts(caching, runs, host, in_parts):  # noqa: F811
    in_parts(2)
    execute = caching()
    assert runs(execute, long_video(SIX)) == (6, 6)
    assert runs(execute, long_video(changed(3))) == (4, 4)
    assert runs(execute, long_video(changed(3))) == (0, 0)
    restart(host)
    assert runs(caching(), long_video(changed(3, "a white star growing"))) == (4, 4)
    restart(host)
    assert runs(caching(), long_video(SIX, fps=9.0)) == (0, 6)
    assert runs(caching(), long_video(SIX, prefix="elsewhere_in_parts", fps=9.0)) == (0, 0)


def test_parts_go_on_from_a_state_and_a_video_and_tell_their_clips(execute, output, in_parts, page):
    in_parts(2)
    graph = long_video(SIX[:2], prefix="parts_on")
    more = long_video(SIX[2:5], prefix="parts_on")["long"]
    more["inputs"] |= {"state": ["long", 1], "before": ["long", 0]}
    _, errors, refused = execute({**graph, "more": more})
    assert (errors, refused) == ([], {})
    assert {node for node, _ in page.texts} == {"long", "more"}
    assert [text for node, text in page.texts if node == "more" and "written" in text] == [
        f"clip {k} of 3: written, {frames} frames, {frames / 8:.1f} s" for k, frames in ((1, 16), (2, 20), (3, 24))
    ]
    in_parts(8)
    execute(long_video(SIX[:5], prefix="parts_at_once"))
    videos = [output / name / "v_00001_.mp4" for name in ("parts_on", "parts_at_once")]
    assert np.array_equal(*map(frames_of, videos))
