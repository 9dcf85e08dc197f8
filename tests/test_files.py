"""Reads files that others wrote: refuses what does not end, and JSON that lacks its shape."""

import os
import socket

import pytest

from nerc.errors import InputError, visible
from nerc.files import Wanted, check_input, parse_json, read_json, read_text, write_json
from nerc.tables import latex, markdown


def test_only_a_file_that_ends_is_read(tmp_path):
    file, folder, pipe, link = (tmp_path / name for name in ("file", "folder", "pipe", "link"))
    file.write_text("\ufeffwords")
    folder.mkdir()
    os.mkfifo(pipe)
    link.symlink_to(link)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for path, found in (
            (folder, "is a folder"),
            (pipe, "is a pipe"),
            (tmp_path / "socket", "is a socket"),
            (tmp_path / "none", "no such file"),
            (file / "inside", "no such file"),
            (link, "cannot be read"),
            (tmp_path / ("x" * 300), "cannot be read"),
            (tmp_path / "a\0b", "cannot be read"),
        ):
            with pytest.raises(InputError, match=found):
                check_input(path)
    assert read_text(file) == "words"


def test_devices_and_endless_files_are_refused_at_once(tmp_path):
    for device in ("/dev/zero", "/dev/null", "/dev/stdin"):
        if os.path.realpath(device).startswith("/dev/"):
            with pytest.raises(InputError, match=r"is a device|is a pipe"):
                check_input(tmp_path / device)
    sparse = tmp_path / "sparse.json"
    with sparse.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(InputError, match="1,099,511,627,776 bytes, wanted at most"):
        read_json(sparse, dict)


@pytest.mark.parametrize(
    ("text", "shape", "fault"),
    [
        ('{"a": 1}', {"a": str}, "a is 1, wanted text"),
        ('{"a": true}', {"a": int}, "a is true, wanted a whole number"),
        ('{"a": 1.5}', {"a": int | None}, "a is 1.5, wanted a whole number or null"),
        ('{"a": null}', {"a": float}, "a is null, wanted a finite number"),
        ("{}", {"a": float}, "has no a"),
        ('{"a": {"b": {}}}', {"a": {str: {"c": int}}}, "has no a.b.c"),
        ('{"a": {"b": [1, "x"]}}', {"a": {"b": [int]}}, r'a\.b\[1\] is "x", wanted a whole number'),
        ("3", {str: int}, "its content is 3, wanted an object"),
        ("{}", [int], "wanted a list"),
        ("2", Wanted("above 2", lambda v: v > 2, int), "is 2, wanted above 2"),
        ('"2"', Wanted("above 2", lambda v: v > 2, int), 'is "2", wanted a whole number'),
        ("NaN", object, "is not JSON"),
        ("[1e999]", object, "is not JSON"),
        ("[1e999]", [float], r"\[0\] is Infinity, wanted a finite number"),
        ("1" * 400, float, "wanted a finite number"),
        ('"\\ud800"', object, "half a surrogate pair"),
        ("[" * 100_000, object, "^is not JSON that can be read: it is nested too deeply$"),
        ("1" * 10_000, object, "^is not JSON that can be read: a number has too many digits$"),
        ("{", dict, "is not JSON"),
        ('{"a": {"b": 1, "b": 2}}', dict, "has 'b' twice in one object"),
    ],
)
def test_json_that_lacks_its_shape_is_refused_with_the_field(text, shape, fault):
    with pytest.raises(InputError, match=fault):
        parse_json(text, shape)


def test_json_of_its_shape_is_read(tmp_path):
    shape = {"a": float, "b?": {str: [int]}, "c?": int, "d": bool | None, "e": object}
    values = {"a": 1, "b": {"x": [1], "y": []}, "c": None, "d": None, "e": True, "more": 0}
    path = tmp_path / "values.json"
    path.write_text(str(values).replace("'", '"').replace("None", "null").replace("True", "true"))
    assert read_json(path, shape) == values


def test_text_from_files_is_shown_without_control_characters():
    assert visible("Zürich 😀 東京") == "Zürich 😀 東京"
    assert visible("\x1b[31mred\x07\u202e\udc80") == r"\x1b[31mred\x07\u202e\udc80"
    table = markdown([["a|b", "c"], ["\x1b[2J", "1"]])
    assert r"a\|b" in table and "\x1b" not in table
    assert len({len(line) for line in table.splitlines()}) == 1
    assert "\x1b" not in latex([["\x1b"]])
    assert markdown([["a", "O"], ["b", "1"]]).splitlines()[1] == "| -- | -: |"


def test_no_file_is_written_in_the_place_of_a_folder_or_of_what_a_link_leads_to(tmp_path):
    folder, pipe, link = tmp_path / "folder", tmp_path / "pipe", tmp_path / "link"
    folder.mkdir()
    os.mkfifo(pipe)
    link.symlink_to(pipe)  # as to a device, which a user with all rights would replace
    for path in (folder, pipe, link):
        with pytest.raises(InputError, match="is a folder or a device, wanted a file"):
            write_json(path, {})
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "pipe", "link"}
    assert folder.is_dir() and pipe.is_fifo() and link.is_symlink()
