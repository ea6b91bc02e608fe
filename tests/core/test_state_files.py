"""What files of states say of their clips, and how the clips branch."""

import base64
import io
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from vidrd_core.io import safetensors
from vidrd_core.io.safetensors import FormatError
from vidrd_core.reuse import ReuseSettings
from vidrd_core.state import KIND, ClipState
from vidrd_core.state_files import PREVIEW_SIDE, StateSummary, branches, preview_of


def clip(previous=None, prompt="a red star", seed=0, preview="", made=1):
    """A state after another one, whose latents are `made` alone."""
    latents = torch.full((1, 1, 2, 1, 1), float(made))
    state = ClipState.of_clip(
        previous,
        ReuseSettings(1),
        noise=latents.clone(),
        latents=latents,
        record=latents[None].clone(),
        first_clip_record=latents[None].clone(),
        sigmas=torch.tensor([1.0, 0.0]),
        call_sigmas=torch.tensor([1.0]),
        solver="ddim",
        model_signature="model",
        frame_positions=[0, 1],
        made_with={"prompt": prompt, "seed": seed},
    )
    return replace(state, preview=preview)


@pytest.fixture
def save(tmp_path):
    """Save a state; the time of each file is a second after that of the one before."""
    seconds = iter(range(1000))

    def saved(name, state):
        path = tmp_path / f"{name}.safetensors"
        state.save(path)
        os.utime(path, (second := next(seconds), second))
        return StateSummary.of(path)

    return saved


def places(found):
    return {(each.index, each.row): [state.path.stem for state in each.states] for each in found}


def test_a_state_tells_of_its_clip_without_its_tensors(save):
    picture = preview_of(np.zeros((3, 4, 4, 3), np.uint8))
    found = save("a", second := clip(first := clip(), "a blue ring", 7, picture))
    assert (found.index, found.prompt, found.seed) == (1, "a blue ring", 7)
    assert (found.fingerprint, found.ancestors) == (second.fingerprint, (first.fingerprint,))
    assert found.preview == base64.b64decode(picture)
    again = ClipState.load(found.path)
    assert (again.ancestors, again.preview) == (second.ancestors, picture)


def test_a_picture_and_ancestors_do_not_change_which_clip_it_is():
    state = clip(clip())
    assert replace(state, ancestors=[], preview="x").fingerprint == state.fingerprint


def test_clips_whose_states_were_not_saved_have_their_places(save):
    line = [clip()]
    for number in range(3):
        line.append(clip(line[-1], made=number))
    other = clip(line[1], made=9)
    found = branches([save("last", line[3]), save("other", other), save("after", clip(other))])
    assert places(found) == {
        (0, 0): [],
        (1, 0): [],
        (2, 0): [],
        (3, 0): ["last"],
        (2, 1): ["other"],
        (3, 1): ["after"],
    }
    assert [each.parent for each in found if each.index == 2] == [line[1].fingerprint] * 2


def test_the_video_with_the_newest_state_comes_first_and_the_older_branch_goes_on_in_its_row(save):
    first, second = clip(made=1), clip(made=2)
    states = [save("old", first), save("long", one := clip(first)), save("branch", clip(first, made=5))]
    states += [save("new", second), save("longer", clip(one))]
    assert places(branches(states)) == {
        (0, 0): ["old"], (1, 0): ["long"], (2, 0): ["longer"], (1, 1): ["branch"], (0, 2): ["new"],
    }  # fmt: skip
    states.append(save("newest", clip(second)))
    assert places(branches(states))[0, 0] == ["new"]


def test_a_state_saved_twice_is_one_clip(save):
    found = branches([save("once", clip()), save("again", clip())])
    assert places(found) == {(0, 0): ["again", "once"]}


def test_files_of_earlier_versions_know_the_last_clip_alone(save):
    line = [clip()]
    for _ in range(3):
        line.append(clip(line[-1]))
    old = [replace(each, ancestors=[]) for each in line]
    assert places(branches([save("3", old[3])])) == {(2, 0): [], (3, 0): ["3"]}
    whole = branches([save("2", old[2]), save("1", old[1]), save("0", old[0]), save("last", old[3])])
    assert [(each.index, each.row) for each in whole] == [(0, 0), (1, 0), (2, 0), (3, 0)]
    assert clip(old[3]).ancestors == [old[2].fingerprint, old[3].fingerprint]


def test_many_clips_need_no_recursion(save):
    found = save("a", clip())
    names = tuple(f"{number:012d}" for number in range(3000))
    (far,) = [each for each in branches([replace(found, ancestors=names, index=3000)]) if each.states]
    assert (far.index, far.row) == (3000, 0)


def test_clips_that_claim_to_follow_each_other_are_shown_once(save):
    one, two = save("a", clip()), save("b", clip(seed=1))
    circle = [replace(one, ancestors=(two.fingerprint,)), replace(two, ancestors=(one.fingerprint,))]
    alone = replace(one, ancestors=(one.fingerprint,))
    for found in (branches(circle), branches([alone]), branches([*circle, alone])):
        names = [each.fingerprint for each in found]
        assert sorted(set(names)) == sorted(names)
    assert len(branches(circle)) == 2


def test_a_preview_is_small_and_moves():
    frames = np.stack([np.full((200, 300, 3), 8 * j, np.uint8) for j in range(30)])
    with Image.open(io.BytesIO(base64.b64decode(preview_of(frames)))) as picture:
        assert picture.size == (PREVIEW_SIDE, 64)
        assert picture.n_frames == 8
        for j in range(8):
            picture.seek(j)
            assert abs(int(np.asarray(picture.convert("RGB")).mean()) - 8 * 4 * j) <= 3
    with Image.open(io.BytesIO(base64.b64decode(preview_of(frames[:1, :5, :2])))) as picture:
        assert (picture.size, picture.n_frames) == ((2, 5), 1)
    assert preview_of(frames[:0]) == ""


@pytest.mark.parametrize(
    "details",
    [
        {},
        {"fingerprint": "a", "index": "1"},
        {"fingerprint": "a", "index": 1, "ancestors": 3},
        {"fingerprint": "", "index": 1},
        {"fingerprint": "a", "index": -1},
        {"fingerprint": "a", "index": 2**40},
    ],
)
def test_metadata_that_are_none_of_a_state_are_refused(tmp_path, details):
    path = tmp_path / "a.safetensors"
    safetensors.write(path, {"a": torch.zeros(1)}, KIND, **details)
    with pytest.raises(FormatError, match="damaged"):
        StateSummary.of(path)
    safetensors.write(path, {"a": torch.zeros(1)}, "UNet3D")
    with pytest.raises(FormatError, match="expected a clip state"):
        StateSummary.of(path)


def test_a_tensor_of_8_bits_is_refused_by_name(tmp_path):
    path = tmp_path / "a.safetensors"
    clip().save(path)
    tensors, details = safetensors.read(path, KIND)
    tensors["latents"] = tensors["latents"].to(torch.float8_e4m3fn)
    safetensors.write(path, tensors, **details)
    with pytest.raises(FormatError, match=r"its latents has shape .* float8_e4m3fn numbers, expected 5 dimensions"):
        ClipState.load(path)


@pytest.mark.parametrize("change", [{"ancestors": "abc"}, {"preview": 3}])
def test_damaged_notes_are_refused(tmp_path, change):
    path = tmp_path / "a.safetensors"
    clip().save(path)
    tensors, details = safetensors.read(path, KIND)
    details.pop("kind")
    safetensors.write(path, tensors, KIND, **{**details, **change})
    with pytest.raises(FormatError, match=next(iter(change))):
        ClipState.load(path)
