"""Conversion between formats: a corpus comes back as it was, and every change is told."""

import json

import pytest

from nerc.__main__ import main
from nerc.config import FORMATS
from nerc.data.conll import read_conll

# Words with emoji, combining marks, a no-break space and (between tabs) two blanks in a word.
ODD = """-DOCSTART- O

# sent_id = first
Zoe\u0308\tB-PER
😀\tO
New\u00a0York\tB-LOC
of  old\tI-LOC
👩‍👩‍👧\tO

Kiwi\tI-PER
Tui\tB-PER
Puke\tI-LOC

-DOCSTART- O

# sent_id = last
#\tO
नमस्ते\tO
"""


@pytest.fixture
def convert(capsys):
    """Runs the command; the lines that it prints."""

    def run(*arguments) -> list[str]:
        main(["convert", *map(str, arguments)])
        return capsys.readouterr().out.splitlines()

    return run


def content(path) -> list[tuple]:
    return [(s.words, s.tags, s.document) for s in read_conll(path)]


@pytest.mark.parametrize("name", FORMATS)
def test_a_corpus_comes_back_from_each_format_as_it_was(name, tmp_path, convert):
    if name == "spacy":
        pytest.importorskip("spacy", reason="spaCy is not installed")
    (tmp_path / "in.txt").write_text(ODD)
    convert(tmp_path / "in.txt", tmp_path / "there", "--to", name)
    convert(tmp_path / "there", tmp_path / "back.txt", "--from", name)
    assert content(tmp_path / "back.txt") == content(tmp_path / "in.txt")
    names = [line for line in (tmp_path / "back.txt").read_text().split("\n") if "sent_id" in line]
    assert names == ["# sent_id = first", "# sent_id = last"]


def test_spans_of_a_tool_are_fitted_to_words_and_every_change_is_told(tmp_path, convert):
    task = {
        "text": "Ann Lee's plan. Go to Bern!",
        "label": [[0, 6, "PER"], [4, 7, "PER"], [21, 26, "LOC"]],
    }
    (tmp_path / "in.jsonl").write_text(json.dumps(task) + "\n")
    said = convert(tmp_path / "in.jsonl", tmp_path / "out.txt", "--from", "doccano")
    place = f"{tmp_path / 'in.jsonl'}:1"
    assert said[1:4] == [
        f"{place}: ' Bern' was trimmed to 'Bern'",
        f"{place}: PER 'Ann Le' became 'Ann Lee', whole words",
        f"{place}: PER 'Lee' was left out: it overlaps PER 'Ann Lee'",
    ]
    assert content(tmp_path / "out.txt") == [
        (("Ann", "Lee", "'s", "plan", "."), ("B-PER", "I-PER", "O", "O", "O"), 1),
        (("Go", "to", "Bern", "!"), ("O", "O", "B-LOC", "O"), 1),
    ]
