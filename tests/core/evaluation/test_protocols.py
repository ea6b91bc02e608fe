"""Protocols: their prompts, and how videos are divided among classes."""

import pytest

from vidrd_core.evaluation.protocols import Protocol, apportion, load_protocol


def test_ucf101_is_the_papers_protocol():
    ucf = load_protocol("ucf101")
    assert (ucf.videos, ucf.network_frames, len(ucf.prompts)) == (10_000, 16, 101)
    assert ucf.status.startswith("Not run by this project")
    assert len(set(ucf.prompts.values())) == 101
    assert "TaiChi" in ucf.prompts


def test_videos_are_apportioned_to_classes():
    assert apportion({"b": 1, "a": 2}, 9) == {"a": 6, "b": 3}
    assert apportion({"a": 1, "b": 1, "c": 1}, 10) == {"a": 4, "b": 3, "c": 3}
    counts = {f"c{i}": 70 + i for i in range(101)}
    found = apportion(counts, 10_000)
    assert sum(found.values()) == 10_000
    whole = sum(counts.values())
    assert all(abs(found[name] - 10_000 * count / whole) < 1 for name, count in counts.items())
    with pytest.raises(ValueError, match="there are no classes"):
        apportion({}, 3)


def test_texts_come_class_by_class():
    two = Protocol("two", "", 4, 8, {"a": "an a", "b": "a b"})
    assert two.texts({"b": 3, "a": 1}) == ["an a", "a b", "a b", "a b"]


@pytest.mark.parametrize(("name", "value", "message"), [
    ("videos", 0, "videos is 0, expected 1 or more"),
    ("network_frames", 0, "network_frames is 0"),
    ("prompts", {}, "prompts are empty"),
    ("prompts", {"a": " "}, "prompts are empty"),
])  # fmt: skip
def test_invalid_protocols_are_refused(name, value, message):
    given = {"name": "x", "status": "", "videos": 1, "network_frames": 1, "prompts": {"a": "b"}, name: value}
    with pytest.raises(ValueError, match=message):
        Protocol(**given)
