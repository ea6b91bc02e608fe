"""State files: round trips, older versions, and invalid files."""

import copy
import gc
import pickle
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from vidrd_core.io import safetensors
from vidrd_core.io.safetensors import FormatError
from vidrd_core.reuse import ReuseSettings
from vidrd_core.state import ADDED, DETAILS, KIND, NOTES, TENSORS, ClipState


@pytest.fixture(scope="module")
def state(model):
    made = list(model.stream("a red circle", 4, ReuseSettings(3, loop="keep"), steps=2))[2].state
    calls, sound = len(made.record), torch.randn(3, 1, 2, 9, 4, 1)
    return replace(
        made,
        step_noise=torch.randn(3, *made.record.shape[1:]),
        sound_noise=sound[0], sound_latents=sound[1], sound_step_noise=sound[:, :, :, :5] * 2,
        sound_record=torch.randn(calls, 1, 2, 5, 4, 1),
        start_latents=torch.randn(made.record.shape[1:]), sound_start_latents=torch.randn(1, 2, 5, 4, 1),
    )  # fmt: skip


def test_a_state_from_before_step_noise_was_recorded_is_read(model, tmp_path):
    state = model.generate("a red circle", steps=2).state
    tensors = {file: getattr(state, name) for name, (file, _) in TENSORS.items() if name != "step_noise"}
    details = {file: getattr(state, name) for name, (file, _) in DETAILS.items()}
    safetensors.write(tmp_path / "old.safetensors", tensors, KIND, fingerprint=state.fingerprint, **details)
    again = ClipState.load(tmp_path / "old.safetensors")
    assert again.fingerprint == state.fingerprint
    assert len(again.step_noise) == 0


def test_a_state_from_before_loops_and_drift_is_read(model, tmp_path):
    clips = list(model.stream("a red circle", 2, ReuseSettings(anchor=0.5), steps=2))
    for state in (clip.state for clip in clips):
        empty = {name: torch.zeros((0,) * dims) for name, (_, dims) in ADDED.items()}
        tensors = {file: getattr(state, name) for name, (file, _) in TENSORS.items() if name not in ADDED}
        details = {file: getattr(state, name) for name, (file, _) in DETAILS.items()}
        fingerprint = replace(state, **empty).fingerprint
        safetensors.write(tmp_path / "old.safetensors", tensors, KIND, fingerprint=fingerprint, **details)
        again = ClipState.load(tmp_path / "old.safetensors")
        assert again.fingerprint == fingerprint
        assert (again.statistics is None) == (state.index > 0)
    with pytest.raises(ValueError, match="statistics of the first clip, which this state, written by an older"):
        model.extend(again, "a red circle", ReuseSettings(anchor=0.5))


def test_a_state_knows_its_size(state):
    assert state.get_ram_usage() == 4 * sum(getattr(state, name).numel() for name in TENSORS)


def test_a_state_that_is_put_away_takes_no_memory_and_is_the_same(state, tmp_path):
    away = state.put_away(tmp_path / "away.safetensors")
    assert away.get_ram_usage() < state.get_ram_usage() / 4
    state.save(tmp_path / "saved.safetensors")
    away.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "saved.safetensors").read_bytes()
    copies = {"deep": copy.deepcopy(away), "pickled": pickle.loads(pickle.dumps(away)), "replaced": replace(away)}
    for each in (away, copies["deep"], copies["pickled"], copies["replaced"], copy.copy(away)):
        assert each.fingerprint == state.fingerprint
        assert all(torch.equal(getattr(each, name), getattr(state, name)) for name in TENSORS)
        assert all(getattr(each, name) == getattr(state, name) for name in (*DETAILS, *NOTES))
    assert replace(away, index=away.index + 1).fingerprint != state.fingerprint
    with pytest.raises(AttributeError, match="no attribute 'colour'"):
        away.colour  # noqa: B018
    away_file, one = away.waiting.path, away.waiting
    del away
    gc.collect()
    assert away_file.exists(), "while somebody needs it"
    del one
    gc.collect()
    assert not away_file.exists()
    assert copies["deep"].fingerprint == ClipState.load(tmp_path / "saved.safetensors").fingerprint


def test_a_state_whose_file_was_removed_can_be_shown_and_says_what_is_wrong(state, tmp_path):
    away = state.put_away(tmp_path / "away.safetensors")
    away.waiting.path.unlink()
    assert repr(away) == f"<ClipState of clip 2, {state.frames} frames>"
    with pytest.raises(FileNotFoundError, match="was removed while the program ran"):
        away.frames  # noqa: B018


def test_a_clip_after_a_state_that_is_put_away_has_the_same_bits(model, tmp_path):
    settings = ReuseSettings(3, loop="keep", anchor=0.5)
    first = model.generate("a red circle", settings, steps=2).state
    straight = model.extend(first, "a red circle", settings).state
    again = model.extend(first.put_away(tmp_path / "away.safetensors"), "a red circle", settings).state
    assert again.fingerprint == straight.fingerprint


def test_a_state_that_is_put_away_keeps_no_view_of_something_large_alive(state, tmp_path):
    away = replace(state, step_noise=state.record[:0]).put_away(tmp_path / "away.safetensors")
    held = [value for value in away.__dict__.values() if isinstance(value, torch.Tensor)]
    assert sum(each.untyped_storage().nbytes() for each in held) <= away.get_ram_usage()


def test_a_state_is_read_as_it_was_written(state, tmp_path):
    path = tmp_path / "clip.safetensors"
    state.save(path)
    again = ClipState.load(path)
    for name in TENSORS:
        assert torch.equal(getattr(again, name), getattr(state, name)), name
    for name in DETAILS:
        assert getattr(again, name) == getattr(state, name), name
    assert [p.name for p in tmp_path.iterdir()] == ["clip.safetensors"]


def test_a_header_length_that_looks_like_a_pickle_is_read(state, tmp_path):
    """A safetensors file begins with the length of its header, and a pickle with 0x80."""
    path, first_bytes = tmp_path / "clip.safetensors", set()
    for padding in range(260):
        padded = ClipState(**{**vars(state), "made_with": {"prompt": padding * "a"}})
        padded.save(path)
        first_bytes.add(path.read_bytes()[0])
        assert ClipState.load(path).made_with == padded.made_with
    assert 0x80 in first_bytes


def test_a_state_records_which_one_it_follows(model):
    clips = list(model.stream("a red circle", 3, steps=2))
    prints = [clip.state.fingerprint for clip in clips]
    assert [clip.state.follows for clip in clips] == ["", *prints[:2]]
    assert len(set(prints)) == 3


def test_the_tail_reaches_back_over_clips(model):
    clips = list(model.stream("a red circle", 3, steps=2))
    video = torch.cat([clip.latents for clip in clips], dim=2)
    halo = model.vae.config.halo
    for clip, end in zip(clips, (8, 16, 24), strict=True):
        for frames in (0, 1, halo, 8):
            assert torch.equal(clip.state.tail(frames), video[:, :, end - frames : end])
    assert torch.equal(clips[2].state.past, video[:, :, 16 - halo : 16])


def test_a_truncated_file_is_refused(state, tmp_path):
    path = tmp_path / "clip.safetensors"
    state.save(path)
    whole = path.read_bytes()
    for length in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError, match="not a whole safetensors file"):
            ClipState.load(path)


def test_a_file_of_another_program_is_refused(tmp_path, model):
    path = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(FormatError, match="holds tensors that vidrd did not write, expected a clip state"):
        ClipState.load(path)
    path.write_text("hello")
    with pytest.raises(FormatError, match="not a whole safetensors file"):
        ClipState.load(path)


def test_pickles_are_refused_without_reading_them(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was run",))

    plain, zipped = tmp_path / "a.safetensors", tmp_path / "b.pt"
    plain.write_bytes(pickle.dumps(Bomb()))
    torch.save({"a": torch.zeros(1)}, zipped)
    for path in (plain, zipped):
        with pytest.raises(FormatError, match=r"is a pickle .* expected safetensors"):
            ClipState.load(path)


def test_missing_files_and_folders_are_reported(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        ClipState.load(tmp_path / "none.safetensors")
    with pytest.raises(FormatError, match="is a folder"):
        ClipState.load(tmp_path)


def test_nan_and_infinity_are_refused(state, tmp_path):
    path = tmp_path / "clip.safetensors"
    ClipState(**{**vars(state), "noise": state.noise * float("nan")}).save(path)
    with pytest.raises(FormatError, match="its noise holds numbers that are not finite"):
        ClipState.load(path)


@pytest.mark.parametrize("name", ["sound_latents", "sound_record", "sound_step_noise"])
def test_audio_tensors_that_do_not_fit_are_refused(state, tmp_path, name):
    path = tmp_path / "clip.safetensors"
    other = getattr(state, name)
    replace(state, **{name: other.narrow(other.ndim - 3, 0, 3)}).save(path)
    with pytest.raises(FormatError, match="the tensors of its sound do not fit each other"):
        ClipState.load(path)


@pytest.mark.parametrize("name", ["start_latents", "sound_start_latents"])
def test_latents_of_a_second_pass_that_do_not_fit_are_refused(state, tmp_path, name):
    path = tmp_path / "clip.safetensors"
    replace(state, **{name: getattr(state, name)[:, :, 1:]}).save(path)
    with pytest.raises(FormatError, match=r"its start has shape .*, its record "):
        ClipState.load(path)


@pytest.mark.parametrize("name", TENSORS)
def test_a_flipped_bit_is_detected(state, tmp_path, name):
    path = tmp_path / "clip.safetensors"
    state.save(path)
    data = bytearray(path.read_bytes())
    values = getattr(state, name).contiguous().numpy().tobytes()
    data[data.index(values) + 4] ^= 1  # of the second number's least
    path.write_bytes(data)
    with pytest.raises(FormatError, match="is damaged: it does not hold what was saved"):
        ClipState.load(path)


def test_changed_metadata_is_detected(state, tmp_path):
    path = tmp_path / "clip.safetensors"
    state.save(path)
    data = path.read_bytes()
    seed = b'\\"seed\\": 0'  # in JSON within JSON
    assert data.count(seed) == 1
    path.write_bytes(data.replace(seed, seed[:-1] + b"1"))
    with pytest.raises(FormatError, match="is damaged: it does not hold what was saved"):
        ClipState.load(path)


@pytest.mark.parametrize(("name", "message"), [("extra", "has surplus extra"), ("noise", "lacks noise")])
def test_unexpected_and_missing_tensors_are_named(state, tmp_path, name, message):
    path = tmp_path / "clip.safetensors"
    state.save(path)
    tensors, details = safetensors.read(path, KIND)
    tensors = {key: value for key, value in tensors.items() if key != name} | (
        {name: torch.zeros(2)} if name == "extra" else {}
    )
    safetensors.write(path, tensors, **details)
    with pytest.raises(FormatError, match=f"is not a whole clip state: it {message}"):
        ClipState.load(path)


@pytest.mark.parametrize("name", ["noise", "record", "anchor", "start"])
def test_details_cannot_stand_for_tensors(state, tmp_path, name):
    path = tmp_path / "clip.safetensors"
    state.save(path)
    tensors, details = safetensors.read(path, KIND)
    safetensors.write(path, {**tensors, name: torch.zeros(1)}, **{**details, name: 5})
    with pytest.raises(FormatError, match=f"is not a whole clip state: it has surplus {name}"):
        ClipState.load(path)


def test_a_record_that_is_one_number_is_refused(state, tmp_path):
    path = tmp_path / "clip.safetensors"
    state.save(path)
    tensors, details = safetensors.read(path, KIND)
    tensors = {**tensors, "record": torch.tensor(1.0)}
    tensors.pop("injected", None)
    safetensors.write(path, tensors, **details)
    with pytest.raises(FormatError, match="is not a whole clip state: it lacks injected"):
        ClipState.load(path)


def test_a_state_that_cannot_be_written_leaves_no_file(state, tmp_path):
    path = tmp_path / "no such folder" / "clip.safetensors"
    with pytest.raises(OSError, match="cannot write"):
        state.save(path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {"record": s.record[:0]}, r"record has shape \(0, 1, 4, 4, 8, 8\), expected \(1, "),
        (lambda s: {"record": s.record[..., :4]}, "record has shape"),
        (lambda s: {"record": s.record.repeat(1, 1, 1, 3, 1, 1)}, "its record has 12 frames, expected 1 to 8"),
        (lambda s: {"past": s.past[:, :2]}, "past has shape"),
        (lambda s: {"latents": s.latents[:, :, 1:]}, "latents has shape"),
        (lambda s: {"sigmas": s.sigmas[:1]}, r"sigmas has shape \(1,\), expected \(2,\)"),
        (lambda s: {"past": s.past.int()}, r"past has shape .* and int32 numbers, expected 5 dimensions"),
        (lambda s: {"index": "1"}, "its index is '1', expected int"),
        (lambda s: {"index": -1}, "it is of clip -1"),
        (lambda s: {"repeated": 8}, "8 of its 8 frames repeat"),
        (lambda s: {"made_with": None}, "its made_with is None, expected dict"),
        (lambda s: {"made_with": {"reuse": 3}}, "its reuse is 3, expected dict"),
        (lambda s: {"frame_positions": [0, 1]}, r"numbers \[0, 1\] for 8 frames"),
        (lambda s: {"frame_positions": ["a"] * 8}, "for 8 frames"),
    ],
)
def test_tensors_that_do_not_fit_each_other_are_refused(state, tmp_path, change, message):
    path = tmp_path / "clip.safetensors"
    ClipState(**{**vars(state), **change(state)}).save(path)
    with pytest.raises(FormatError, match=message):
        ClipState.load(path)


def test_fields_can_be_read_by_their_older_names(state):
    for old, new in (("levels", "call_sigmas"), ("opening", "first_clip_record"), ("numbers", "frame_positions")):
        assert getattr(state, old) is getattr(state, new)
