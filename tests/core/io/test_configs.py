"""YAML files are read strictly, and settings by their types."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vidrd_core.evaluation.protocols import load_protocol
from vidrd_core.io.configs import changes, from_dict, read_yaml
from vidrd_core.training.config import load_config
from vidrd_core.training.data import DataConfig


@dataclass(frozen=True)
class Settings:
    count: int = 1
    rate: float = 1.0
    name: str = ""
    on: bool = False
    limit: float | None = None
    sizes: tuple[int, ...] = ()
    pairs: tuple[tuple[int, ...], ...] = ()
    factors: dict[str, float] = field(default_factory=dict)


def test_yaml_is_read(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("base: &base {a: 1}\nmore: {<<: *base, b: [2, x], 3: null}\nname: Zoë\n", encoding="utf-8")
    assert read_yaml(path) == {"base": {"a": 1}, "more": {"a": 1, "b": [2, "x"], 3: None}, "name": "Zoë"}
    path.write_text("base: &base {a: 1}\nmore: {<<: *base, a: 2}\n")
    assert read_yaml(path)["more"] == {"a": 2}, "a merged key may be overridden"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", r"a\.yaml, line 3: a is given twice, first in line 1: remove one of them"),
        ("a:\n  - {b: 1, c: 2}\n  - b: 1\n    c: 2\n    b: 3\n", r"line 5: b is given twice, first in line 3"),
        ("a: {1: x, 0x1: y}\n", r"line 1: 0x1 is given twice, first in line 1"),
        ("a: 1\nb: [\n", r"a\.yaml, line 3 is not YAML: "),
        ("a: 1\n b: 2\n", r"a\.yaml, line 2 is not YAML: mapping values are not allowed here"),
        ("? [a, b]\n: 1\n", r"a\.yaml, line 1 is not YAML: found unhashable key"),
        ("a: \x07\n", r"a\.yaml is not YAML: "),
        ("a: !!python/object:os.system {}\n", r"a\.yaml, line 1 is not YAML: could not determine a constructor"),
    ],
)
def test_yaml_with_a_mistake_is_refused_with_its_line(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_yaml(tmp_path / "a.yaml")


def test_a_file_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_bytes("name: café\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.yaml is not YAML: byte 9 is not UTF-8 text"):
        read_yaml(tmp_path / "a.yaml")
    with pytest.raises(FileNotFoundError):
        read_yaml(tmp_path / "b.yaml")


def test_every_yaml_file_of_the_package_is_read_strictly(tmp_path):
    twice = "{key: 1, key: 2}"
    for read in (
        load_config,
        lambda path: load_protocol(str(path)),
        lambda path: DataConfig(mix=str(path)).all_sources(),
    ):
        (tmp_path / "a.yaml").write_text(twice)
        with pytest.raises(ValueError, match=r"a\.yaml, line 1: key is given twice"):
            read(tmp_path / "a.yaml")


def test_packaged_files_give_no_key_twice():
    import vidrd_core

    files = sorted(Path(vidrd_core.__file__).parent.rglob("*.yaml"))
    assert len(files) >= 5
    assert all(read_yaml(path) for path in files)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 1.5}, "count is 1.5, expected a whole number"),
        ({"count": True}, "count is True, expected a whole number"),
        ({"rate": "fast"}, "rate is 'fast', expected a number"),
        ({"rate": True}, "rate is True, expected a number"),
        ({"name": 3}, "name is 3, expected text"),
        ({"on": 1}, "on is 1, expected true or false"),
        ({"limit": "none"}, "limit is 'none', expected a number or null"),
        ({"sizes": 3}, "sizes is 3, expected a list of whole numbers"),
        ({"sizes": ["a"]}, "sizes is 'a', expected a whole number"),
        ({"pairs": [1, 2]}, r"pairs is \[1, 2\], expected a list of lists of whole numbers"),
        ({"factors": [1]}, r"factors is \[1\], expected names with values"),
        ({"factors": {"red": "much"}}, "factors.red is 'much', expected a number"),
    ],
)
def test_a_setting_of_another_type_is_refused_with_what_was_expected(values, message):
    with pytest.raises(ValueError, match=f"^the settings: {message}$"):
        from_dict(Settings, values, "the settings")


def test_numbers_that_yaml_reads_as_text_are_numbers():
    settings = from_dict(Settings, {"rate": "1e-4", "limit": "2e3", "factors": {"red": "1e1", "blue": 2}})
    assert settings == Settings(rate=1e-4, limit=2000.0, factors={"red": 10.0, "blue": 2})


def test_changes_are_of_settings_that_both_have():
    assert changes({"a": 1, "b": 2, "new": 3}, {"a": 1, "b": 3, "gone": 4}) == "b 2 (then 3)"


def test_aliases_count_with_all_that_they_stand_for(tmp_path, monkeypatch):
    monkeypatch.setattr("vidrd_core.io.configs.MOST_VALUES", 40)
    path = tmp_path / "a.yaml"
    path.write_text("a: &a [1, 2, 3, 4, 5]\nb: &b [*a, *a]\nc: {d: *b}\n")
    assert read_yaml(path)["c"] == {"d": [[1, 2, 3, 4, 5]] * 2}
    for more in ("e: [*b, *b]\n", "e: &e [*e]\n", "e: &e {x: *b}\nf: {<<: [*e, *e]}\n"):
        path.write_text(f"a: &a [1, 2, 3, 4, 5]\nb: &b [*a, *a]\nc: {{d: *b}}\n{more}")
        with pytest.raises(ValueError, match=r"a\.yaml has aliases that stand for more than 40 values"):
            read_yaml(path)


@pytest.mark.parametrize("text", ["a: 2001-13-01", f"a: {'9' * 5000}", "[" * 2000])
def test_values_that_yaml_cannot_make_are_refused_by_file(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"a\.yaml (has a value that cannot be read|is not YAML that can be read)"):
        read_yaml(tmp_path / "a.yaml")
