"""Rows of a contact sheet that grows clip by clip."""

import numpy as np
import pytest

from vidrd_core.procedural import world
from vidrd_core.reports.contact_sheet_rows import add_clip, draw_sheet

from ..metrics.test_seams import moving, ping_pong


def test_clips_are_appended_to_a_row_or_begin_one():
    first, second = moving(8), moving(8)[::-1]
    rows = add_clip(add_clip(add_clip((), "a", first, False), "", second, True), "b", first[:4], False)
    assert [(row.label, [len(clip) for clip in row.clips]) for row in rows] == [("a", [8, 8]), ("b", [4])]
    np.testing.assert_array_equal(rows[0].video, np.concatenate([first, second]))
    assert rows[0].boundaries.seams == (8,)
    assert rows[1].boundaries.seams == ()


def test_rows_of_several_clips_have_figures_after_their_label():
    video = ping_pong(3)
    rows = add_clip((), "mirror", video[:8], False)
    assert rows[0].summary() == "mirror"
    for start in (8, 16):
        rows = add_clip(rows, "", video[start : start + 8], True)
    report = rows[0].report
    assert rows[0].summary() == (
        f"mirror: seam ratio {report.seam_ratio:.2f}, worst step {report.worst_step:.2f}, "
        f"loopiness {report.loopiness:.2f}"
    )
    assert report.loopiness > 0.9


def test_rows_of_drawn_clips_tell_whether_they_show_the_same():
    instance = world.random_instance(np.random.default_rng(4), ["drift right"])
    video = world.render(instance, 14)
    rows = add_clip((), "M 2", video[:8], False, world.describe(instance))
    assert add_clip(rows, "", video[8:], True)[0].summary().endswith("identity kept 1 of 1, position error 0.0")
    assert "identity" not in add_clip(add_clip((), "M 2", video[:8], False), "", video[8:], True)[0].summary()


def test_frames_have_the_requested_height():
    rows = add_clip(add_clip((), "", moving(4), False), "", moving(6), False)
    low, high = draw_sheet(rows, 16), draw_sheet(rows, 128)
    assert low.height < 80
    assert high.height > 2 * 128
    assert high.width > 6 * 128


def test_invalid_rows_are_refused():
    with pytest.raises(ValueError, match="there are no rows"):
        draw_sheet((), 16)
    with pytest.raises(ValueError, match="there is no row to append to"):
        add_clip((), "", moving(4), True)
    with pytest.raises(ValueError, match="clips of one row are 64 x 64 and 64 x 32 pixels, expected one size"):
        add_clip(add_clip((), "", moving(4), False), "", moving(4)[:, :32], True)
