"""Shards of python -m nerc predict: any number of them, joined, are one run, byte for byte."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import files, refused
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nerc.commands import predict
from nerc.data import shards, synthetic
from nerc.data.texts import Item

ROOT = Path(__file__).parents[1]
SENTENCES = [list(words) for words, *_ in synthetic.generate("test", 60)]


def lines_of_text() -> bytes:
    return "\n".join(" ".join(words) for words in SENTENCES).encode()


def lines_of_json() -> bytes:
    rows = [{"words": words, "id": i} for i, words in enumerate(SENTENCES)]
    rows[7], rows[40] = {"text": 5, "id": 7}, {"text": "Zo\u00eb of Paris"}
    return "".join(json.dumps(row) + "\n" for row in rows).encode() + b"[\n\xff\n"


def columns() -> bytes:
    """Four documents, below a header."""
    texts = ["".join(f"NN {word}\n" for word in words) for words in SENTENCES]
    for i in (0, 15, 16, 40):
        texts[i] = f"-DOCSTART- O\n\n{texts[i]}"
    return "\n".join(["POS TOKEN", "# a comment", *texts[:30], "\n", *texts[30:]]).encode()


def paragraphs() -> bytes:
    text = "\ufeff" + "\r\n\r\n".join(
        "\n".join([*map(" ".join, SENTENCES[i : i + 3]), "Zo\u00eb left. \U0001f600"])
        for i in range(0, 60, 3)
    )
    found = text.encode() + b"\n\nbad \xff\n\nlast one"
    assert found.count(b"\n\n") + found.count(b"\r\n\r\n") == 21
    return found


INPUTS = {
    "text": (lines_of_text, ()),
    "json": (lines_of_json, ()),
    "conll": (columns, ("--columns", "TOKEN")),
    "paragraphs": (paragraphs, ()),
}


@pytest.fixture(scope="module")
def by_document(taught, tmp_path_factory) -> Path:
    """A store whose revision model_primary is that of taught, but reads documents."""
    repo = tmp_path_factory.mktemp("documents") / "models"
    shutil.copytree(taught, repo)
    for name, changed in (("config.json", {"context": "document"}), ("run.json", {"files": {}})):
        path = repo / "model_primary" / name
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    return repo


def run(store: Path, *flags) -> int:
    """The exit code of the command."""
    try:
        predict.main([*map(str, ("--repo", store, "--num-threads", 1, *flags))])
    except SystemExit as stop:
        return stop.code
    return 0


def in_shards(store: Path, place: Path, count: int, *flags) -> tuple[bytes, list[int]]:
    """The joined answer of shards, and all exit codes, the last one that of joining."""
    how = (*flags, "--output", place)
    codes = [run(store, *how, "--shard", f"{i}/{count}") for i in range(1, count + 1)]
    codes.append(predict_join(place, count))
    return place.read_bytes(), codes


def predict_join(place: Path, count: int) -> int:
    try:
        predict.main(["--join", str(count), "--output", str(place)])
    except SystemExit as stop:
        return stop.code
    return 0


@pytest.mark.parametrize("to", ["json", "conll"])
@pytest.mark.parametrize("form", INPUTS)
def test_joined_shards_are_the_answer_of_one_run(taught, tmp_path, monkeypatch, capsys, form, to):
    make, flags = INPUTS[form]
    one, two, empty = (tmp_path / name for name in ("one.txt", "two.txt", "empty.txt"))
    one.write_bytes(make())
    lines = make().splitlines(keepends=True)
    two.write_bytes(b"".join(lines[: len(lines) // 2]))
    empty.write_bytes(b"")
    flags = (*flags, "--format", form, "--to", to, "--input", one, empty, two)
    code = run(taught, *flags, "--output", tmp_path / "whole")  # each file is one stretch
    said = capsys.readouterr().err.splitlines()
    whole = (tmp_path / "whole").read_bytes()
    assert (code == 2) == (form in ("json", "paragraphs"))
    monkeypatch.setattr(shards, "STRETCH", 400)
    joined, codes = in_shards(taught, tmp_path / "joined", 3, *flags)
    assert joined == whole and whole
    sizes = [(tmp_path / f"joined.{i}-of-3").stat().st_size for i in (1, 2, 3)]
    assert sum(sizes) == len(whole) and 4 * min(sizes) > max(sizes)
    assert codes[-1] == code and max(codes) == code
    named = [line for line in said if "one.txt:" in line or "two.txt:" in line]
    again = capsys.readouterr().err.splitlines()
    assert sorted(named) == sorted(line for line in again if "one.txt:" in line or "two." in line)
    assert bool(named) == (code == 2)


@pytest.mark.parametrize("form", ["conll", "paragraphs"])
def test_no_document_is_cut_where_the_model_reads_documents(
    by_document, tmp_path, monkeypatch, form
):
    make, flags = INPUTS[form]
    (tmp_path / "in.txt").write_bytes(make())
    flags = (*flags, "--format", form, "--input", tmp_path / "in.txt")
    run(by_document, *flags, "--output", tmp_path / "whole")
    monkeypatch.setattr(shards, "STRETCH", 300)
    joined, _ = in_shards(by_document, tmp_path / "joined", 2, *flags)
    assert joined == (tmp_path / "whole").read_bytes() and b"confidence" in joined
    assert all((tmp_path / f"joined.{i}-of-2").stat().st_size for i in (1, 2))


def test_every_shard_knows_from_the_head_that_columns_do_not_count_words(
    taught, tmp_path, monkeypatch
):
    monkeypatch.setattr(shards, "STRETCH", 1)
    (tmp_path / "in.txt").write_text("He PRP\n\n1 CD\n\n1 CD\n\n1 CD\n")
    flags = ("--format", "conll", "--to", "conll", "--input", tmp_path / "in.txt")
    joined, codes = in_shards(taught, tmp_path / "joined", 2, *flags)
    assert joined.split()[::2] == [b"He", b"1", b"1", b"1"] and codes == [0, 0, 0]


def test_more_shards_than_stretches_and_no_text_at_all(taught, tmp_path):
    source = tmp_path / "in.txt"
    for text in ("in Paris\nto Rome", ""):
        source.write_text(text)
        assert run(taught, "--input", source, "--output", tmp_path / "whole") == 0
        joined, codes = in_shards(taught, tmp_path / "joined", 3, "--input", source)
        assert joined == (tmp_path / "whole").read_bytes() and codes == [0] * 4


LINES = st.sampled_from(
    [b"", b" ", b"a O", b"Zo\xc3\xab", b"\xff", b"-DOCSTART- O", b"-DOCSTART- -X-"]
)
RANDOM_LINES = st.builds(
    lambda rows, ends, last: b"".join(a + b for a, b in zip(rows, ends, strict=False)) + last,
    st.lists(LINES, max_size=30),
    st.lists(st.sampled_from([b"\n", b"\r\n"]), min_size=30, max_size=30),
    LINES,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(RANDOM_LINES, st.integers(1, 12), st.sampled_from(["line", "text", "document"]))
def test_stretches_hold_every_line_once_and_know_what_is_before_them(
    tmp_path, monkeypatch, content, size, unit
):
    monkeypatch.setattr(shards, "STRETCH", size)
    (tmp_path / "file").write_bytes(content)
    lines = list(io.BytesIO(content))
    found = []
    with (tmp_path / "file").open("rb") as file:
        for stretch in shards.stretches(file, "file", unit):
            before = b"".join(lines[: len(found)])
            assert stretch.start == len(before)
            assert stretch.characters == len(before.decode(errors="replace"))
            if found and unit != "line":
                last = lines[len(found) - 1]
                is_document = lines[len(found)].startswith(b"-DOCSTART-")
                assert is_document if unit == "document" else not last.strip()
            found += stretch.lines(file, "file")
    assert found == [*enumerate(lines, 1)]


def test_what_is_computed_together_depends_on_files_alone_but_for_a_pipe_on_what_has_come():
    def sizes(stretches: list[int]) -> list[int]:
        def slowly():
            for stretch in stretches:
                time.sleep(0.02)
                yield replace(Item.of("in Paris"), stretch=stretch)

        with predict.read_ahead(slowly(), 3, by_document=False) as chunks:
            return [len(chunk) for chunk in chunks]

    assert sizes([1, 1, 1, 1, 1, 2, 2, 5]) == [3, 2, 2, 1]
    assert sizes([0] * 4) == [1] * 4


def test_lines_that_could_not_be_read_are_counted_by_joining_and_by_a_part_that_is_there(
    taught, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(shards, "STRETCH", 1)
    (tmp_path / "in.txt").write_bytes(b"\xff\nin Paris\n\xff\n\xff\n")
    how = ("--input", tmp_path / "in.txt")
    _, codes = in_shards(taught, tmp_path / "out", 2, *how)
    assert codes == [2, 2, 2]
    told = "inputs could not be read, named in the logs of the shards; the others are answered"
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"3 {told}")
    assert run(taught, *how, "--output", tmp_path / "out", "--shard", "1/2") == 2
    assert f"2 {told}" in capsys.readouterr().err


@pytest.fixture
def parts(taught, tmp_path, monkeypatch) -> Path:
    """The output of two shards, not yet joined; the file of answers is notes.jsonl."""
    monkeypatch.setattr(shards, "STRETCH", 400)
    (tmp_path / "in.txt").write_bytes(lines_of_text())
    how = ("--input", tmp_path / "in.txt", "--output", tmp_path / "notes.jsonl")
    assert [run(taught, *how, "--shard", f"{i}/2") for i in (1, 2)] == [0, 0]
    return tmp_path / "notes.jsonl"


def test_parts_that_are_missing_damaged_or_of_another_run_are_not_joined(
    taught, by_document, parts, capsys
):
    how = ("--input", parts.parent / "in.txt", "--output", parts, "--shard", "2/2")
    join = ("--join", 2, "--output", parts)
    part, record = (parts.with_name(f"notes.jsonl.2-of-2{end}") for end in ("", ".json"))
    said = refused(predict, capsys, "--join", 3, "--output", parts)
    assert "lacks the parts 1/3 2/3 3/3; run each with --shard" in said
    for path in (record, part):
        content = path.read_bytes()
        path.unlink()
        assert "2" in refused(predict, capsys, *join)
        path.write_bytes(content)
    part.write_bytes(content[:-1])
    said = refused(predict, capsys, *join)
    assert f"{part}: has {len(content) - 1:,} bytes, wanted {len(content):,}; delete it" in said
    record.write_text('{"source": {}, "sizes": [3, -1], "num_bad": 0}')
    assert "numbers of 0 or more" in refused(predict, capsys, *join)
    record.unlink()
    capsys.readouterr()
    for store, more, what in (
        (taught, ("--to", "conll"), "to"),
        (by_document, (), "model"),
    ):
        assert run(store, *how, *more) == 0
        capsys.readouterr()
        said = refused(predict, capsys, *join)
        assert f"2-of-2: differs from {parts}.1-of-2 in what it was made from ({what});" in said
    source = parts.parent / "in.txt"
    os.utime(source, ns=(0, 0))
    assert run(taught, *how) == 0
    capsys.readouterr()
    assert "made from (input);" in refused(predict, capsys, *join)
    assert not parts.exists()


def test_a_part_that_is_there_is_not_made_again_unless_its_input_has_changed(taught, parts):
    how = ("--input", parts.parent / "in.txt", "--output", parts, "--shard", "1/2")
    part = parts.with_name("notes.jsonl.1-of-2")
    before = part.stat().st_ino
    assert run(taught, *how) == 0 and part.stat().st_ino == before
    (parts.parent / "in.txt").write_text("in Paris\n")
    assert run(taught, *how) == 0 and len(part.read_text().splitlines()) == 1
    (parts.parent / "in.txt").write_bytes(b"\xff\n")
    assert run(taught, *how, "--strict") == 2  # it ends before the part is whole
    assert not part.with_name(f"{part.name}.json").exists()


@pytest.mark.slow
def test_a_shard_that_is_stopped_leaves_no_part(taught, tmp_path):
    source = tmp_path / "in.txt"
    source.write_text("in Paris\n" * 300_000)
    how = ["--repo", taught, "--num-threads", 1, "--input", source, "--output", tmp_path / "out"]
    command = [sys.executable, "-m", "nerc", "predict", *map(str, how), "--shard", "1/1"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as process:
        while len(files(tmp_path)) == 1:
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143 and b"interrupted by SIGTERM" in process.stderr.read()
    assert files(tmp_path) == {"in.txt"}


def test_flags_of_shards_are_checked_in_one_line(taught, tmp_path, capsys):
    (tmp_path / "in.txt").write_text("in Paris\n")
    os.mkfifo(tmp_path / "pipe")
    given = ("--repo", taught, "--input", tmp_path / "in.txt")
    output = ("--output", tmp_path / "out")
    for shard in ("0/4", "5/4", "1", "1/", "a/b", "-1/4", "1/10000"):
        said = refused(predict, capsys, *given, *output, f"--shard={shard}")
        assert f"--shard must be I/N, such as 1/4, with I from 1 to N, not {shard!r}" in said
    assert "--output must be" in refused(predict, capsys, *given, "--shard", "1/2")
    for source in ((), ("--input", "-")):
        said = refused(predict, capsys, "--repo", taught, *source, *output, "--shard", "1/2")
        assert "--input must be files that every shard reads" in said
    pipe = ("--input", tmp_path / "pipe")
    assert "is a pipe" in refused(predict, capsys, "--repo", taught, *pipe, *output, "--shard=1/2")
    assert "--input must be left out" in refused(predict, capsys, *given[2:], *output, "--join=2")
    assert "--output must be" in refused(predict, capsys, "--join", 2)
    assert "--join must be 1 to 9999" in refused(predict, capsys, "--join=-1", *output)
