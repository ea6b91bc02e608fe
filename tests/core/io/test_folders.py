"""Names that lead out of a folder, on any system, and walks that come to an end."""

import os

import pytest

from vidrd_core.io.folders import leads_out, walk_once


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "..\\x",
        "a/../../x",
        "a\\..\\..\\x",
        "a/..\\../x",
        "/etc/x",
        "\\\\host\\share\\x",
        "C:\\x",
        "c:x",
        "..",
        "a/../..",
    ],
)
def test_what_leads_out_on_any_system_leads_out_on_all(name):
    assert leads_out(name)


@pytest.mark.parametrize(
    "name", ["x", "a/b", "a\\b", "a/../x", "..x", "a..b/..c", "12:30 take", "", ".", "./x", "ü/x"]
)
def test_what_stays_inside(name):
    assert not leads_out(name)


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_that_lead_back_are_left_out(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a")
    (tmp_path / "other").symlink_to(tmp_path / "a" / "b")  # which leads to no folder that it is in
    refused = {}
    found = [at for at, _, _ in walk_once(tmp_path, lambda path, reason: refused.setdefault(str(path), reason))]
    assert sorted(os.path.relpath(at, tmp_path) for at in found) == [".", "a", "a/b", "other", "other/up"]
    assert set(refused) == {str(tmp_path / "a/b/up"), str(tmp_path / "other/up/b")}


@pytest.mark.skipif(
    os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything"
)
def test_folders_that_cannot_be_read_are_told(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o000)
    refused = {}
    list(walk_once(tmp_path, lambda path, reason: refused.setdefault(path.name, reason)))
    assert refused["closed"].startswith("cannot be read")
