"""Tables as people have them: read right, or refused with the file and the line."""

import csv
import json
from pathlib import Path

import pytest

from vidrd_core.data.files import find_files, read_table
from vidrd_core.io.tables import VIDEO_SUFFIXES, read_rows, read_text, read_text_lines

HEAD = "file_name,caption\n"


def written(tmp_path, content, name="t.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ('a.mp4,"a dog\nb.mp4,a cat\nc.mp4,a bird\n', "line 2: its quotation mark is never closed"),
        ('a.mp4,a cow\nb.mp4,"a dog\nc.mp4,"a cat"\n', "line 3: text follows after a closing quotation mark"),
        (
            'a.mp4,"a dog" runs\n',
            "line 2: text follows after a closing quotation mark: write a quotation mark inside",
        ),
        ('a.mp4,"a dog\nb.mp4,a cat"\nc.mp4,a bird\n', "line 2: a quoted field goes on over a line that looks like"),
        ('a.mp4,a cow\n"b.mp4,a dog\nc.mp4","a cat"\n', "line 3: its file_name has a line break"),
        (
            "a.mp4,a dog, running\n",
            "line 2 has 3 fields, expected 2 as in the first line: put a field with ',' in it",
        ),
        ('a.mp4,"a dog\nb.webm,a cat"\nc.mp4,a bird\n', "line 2: a quoted field goes on over a line that looks like"),
        ('vid1,"a dog\nvid12,a cat"\nvid3,a bird\n', "line 2: a quoted field goes on over a line that looks like"),
        ('dQw4w9WgXcQ,"a dog\n9bZkp7q19f0,a cat"\n', "line 2: a quoted field goes on over a line that looks like"),
        ('x/dog,"a dog\nx/cat,a cat"\nx/y,a bird\n', "line 2: a quoted field goes on over a line that looks like"),
        ("a.mp4,a cow\nb.mp4\n", "line 3: its caption is empty: fill it in, or leave the line out"),
        ("a.mp4,a cow\nb.mp4,  \n", "line 3: its caption is empty"),
        (",a cow\n", "line 2: its file_name is empty"),
        ("a.mp4,one\n\na.mp4,two\n", "line 4 has a.mp4 again, with another caption than in line 2"),
        ("a.mp4,one\n./a.mp4,two\n", "line 3 has a.mp4 again"),
        ("a.mp4,a\0dog\n", "line 2 has a null character"),
        (f"a.mp4,{'x' * 200_000}\n", "line 2: it has a field of more than 131,072 characters"),
        (f'a.mp4,"{"x" * 99}\n' + "b.mp4,a cat\n" * 20_000, "line 2: it has a field of more than 131,072 characters"),
        ("", "has no lines below its first, which names columns"),
    ],
)
def test_odd_rows_are_refused_by_file_and_line(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_table(written(tmp_path, HEAD + rows))
    assert str(tmp_path / "t.csv") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            (HEAD + "a.mp4,a dog\nb.mp4,caf\xe9\n").encode("latin-1"),
            "line 3 is no UTF-8 text: save the file as UTF-8",
        ),
        ((HEAD + "a.mp4,a dog\n").encode("utf-16"), "line 1 is no UTF-8 text"),
        ((HEAD + "a.mp4,a dog\n").encode("utf-16-le"), "line 1 has a null character"),
        ("file_name,caption,Caption\na.mp4,one,two\n", "line 1 names the column caption twice"),
        ("a.mp4,a dog\nb.mp4,a cat\n", "line 2: expected columns for a file .* got a.mp4, a dog"),
        ("", "has no lines: expected CSV whose first line names columns"),
        ('"file_name,caption\na.mp4,a dog\n', "line 1: its quotation mark is never closed"),
    ],
)
def test_odd_tables_are_refused_by_file_and_line(tmp_path, content, message):
    with pytest.raises(ValueError, match=rf"t\.csv,? {message}"):
        read_table(written(tmp_path, content))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"file_name": "a.mp4", "caption": ["a", "b"]}', r"line 2: caption is \['a', 'b'\], expected text"),
        ('{"file_name": "a.mp4", "caption": NaN}', "line 2: caption is nan, expected text"),
        ('{"file_name": "a.mp4", "caption": null}', "line 2: its caption is empty"),
        ('{"file_name": 1, "caption": "x"}', "line 2: file_name is 1, expected text"),
        ('{"file_name": "a.mp4", "caption": "\\ud800"}', "line 2: caption is .*ud800.*, expected text"),
        ('{"file_name": "a.mp4", "caption": "x", "caption": "y"}', "line 2 names the column caption twice"),
        ('{"file_name": "a.mp4", "caption": "x", "Caption": "y"}', "line 2 names the column caption twice"),
        ("[" * 100_000, "line 2 is not JSON"),
        ('[\n{"file_name": "a.mp4", "caption": "x"}\n]', "line 2 is not JSON: expected JSON lines, not one list"),
        ('{"file_name": "a.mp4", "caption": "a dog', "line 2 is not JSON"),
    ],
)
def test_odd_json_lines_are_refused_by_file_and_line(tmp_path, line, message):
    content = '{"file_name": "0.mp4", "caption": "a cow"}\n' + line
    with pytest.raises(ValueError, match=rf"t\.jsonl, {message}"):
        read_table(written(tmp_path, content, "t.jsonl"))


CAPTIONS = {
    "a.mp4": "a dog",
    "sub/b.mp4": 'he says "hi, there", and leaves',
    "c.mp4": 'a 6" nail; rusty',
    "d.mp4": "two lines, of text: a, b, and c.mov, 3, 4",
    "e.mp4": "caf\xe9 \u2028 \u732b",
    "clip_6": "two lines, 4k, in the 1990s",
}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize(
    ("delimiter", "name"), [(",", "t.csv"), (";", "t.csv"), ("\t", "t.csv"), ("\t", "t.tsv"), (",", "t.tsv")]
)
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_what_pythons_writer_writes_is_read(tmp_path, end, mark, delimiter, name, quoting):
    path = tmp_path / name
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(mark)
        writer = csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=quoting)
        writer.writerow(["number", "File_Name", "caption", "remark"])
        for number, (file_name, caption) in enumerate(CAPTIONS.items()):
            writer.writerow(
                [number, file_name, caption.replace("two lines, ", f"two lines,{end}"), f"seen{end}by hand"]
            )
    assert read_table(path) == {name: " ".join(text.split()) for name, text in CAPTIONS.items()}


def test_unusual_tables_are_read(tmp_path):
    rows = 'a.mp4, "one, two"\n\n.\\sub\\b.mp4,a 6" nail,,\nc.mp4,x\nc.mp4,x\n,,\n'
    path = written(tmp_path, HEAD + rows)
    assert read_table(path) == {"a.mp4": "one, two", "sub/b.mp4": 'a 6" nail', "c.mp4": "x"}
    assert [number for number, _ in read_rows(path)] == [2, 4, 5, 6], "lines as an editor counts them"
    lines = [json.dumps({"File_Name": name, "text": text}, ensure_ascii=False) for name, text in CAPTIONS.items()]
    path = written(tmp_path, "\ufeff" + "\r\n\r\n".join(lines), "t.jsonl")
    assert read_table(path) == {name: " ".join(text.split()) for name, text in CAPTIONS.items()}


def test_a_row_with_a_line_break_is_named_by_its_first_line(tmp_path):
    rows = 'a.mp4,"one\ntwo\nthree"\nb.mp4,"x" y\n'
    with pytest.raises(ValueError, match="line 5: text follows"):
        read_table(written(tmp_path, HEAD + rows))


def test_a_line_of_a_caption_is_no_row(tmp_path):
    rows = 'clip_1,"a dog\n1990s, in black and white"\nclip_2,"one, two\nrunning, fast"\n'
    assert read_table(written(tmp_path, HEAD + rows))["clip_2"] == "one, two running, fast"


def test_nested_json_may_have_names_in_two_spellings(tmp_path):
    line = '{"file_name": "a.mp4", "caption": "x", "details": {"x": 1, "X": {"y": 2}}}'
    assert next(read_rows(written(tmp_path, line, "t.jsonl")))[1]["details"] == {"x": 1, "X": {"y": 2}}


def test_files_are_found_by_their_names_and_the_others_are_mentioned(tmp_path):
    """macOS takes letters apart in names of files: e and an accent."""
    (tmp_path / "sub").mkdir()
    names = {"cafe\u0301.mp4": "caf\xe9.mp4", "sub/na\xefve.mp4": "nai\u0308ve.mp4", "sub/b.mp4": "./sub/b.mp4"}
    for name in names:
        (tmp_path / name).touch()
    rows = "".join(f"{listed},of {number}\n" for number, listed in enumerate(names.values()))
    table = written(tmp_path, HEAD + rows + "gone.mp4,x\nlost.mp4,y\n", "table.csv")
    with pytest.warns(UserWarning, match=r"2 of the 5 files in .*table\.csv are not in .*, such as gone\.mp4"):
        found = list(find_files(tmp_path, VIDEO_SUFFIXES, "a video", table))
    assert {Path(each.source).name: each.caption for each in found} == {
        Path(name).name: f"of {number}" for number, name in enumerate(names)
    }


def test_a_swallowed_row_of_numbers_is_noticed(tmp_path):
    rows = 'label,id,start,end\n"running,abc,1,2\njumping",def,3,4\n'
    with pytest.raises(ValueError, match="line 2: a quoted field goes on over a line that looks like a row"):
        list(read_rows(written(tmp_path, rows)))


def test_text_without_its_mark_and_by_lines(tmp_path):
    path = written(tmp_path, "\ufeffone\u2028two\r\nthree\x0cfour\rfive")
    assert read_text(path) == "one\u2028two\r\nthree\x0cfour\rfive"
    assert read_text_lines(path) == ["one\u2028two", "three\x0cfour", "five"]
