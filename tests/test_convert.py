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
        f"{place}: LOC ' Bern' has white space at an end; it was removed",
        f"{place}: PER 'Ann Le' begins or ends within a word; it became 'Ann Lee'",
        f"{place}: PER 'Lee' overlaps PER 'Ann Lee'; it was left out",
    ]
    assert content(tmp_path / "out.txt") == [
        (("Ann", "Lee", "'s", "plan", "."), ("B-PER", "I-PER", "O", "O", "O"), 1),
        (("Go", "to", "Bern", "!"), ("O", "O", "B-LOC", "O"), 1),
    ]


def region(start: int, end: int, type_: str, **more) -> dict:
    return {"type": "labels", "value": {"start": start, "end": end, "labels": [type_]}, **more}


def test_an_export_of_label_studio_has_more_than_answers(tmp_path, convert):
    comment = {"type": "textarea", "value": {"start": 0, "end": 3, "text": ["a singer"]}}
    annotated = {"id": 1, "completed_by": 1, "was_cancelled": False}
    tasks = [
        {
            "id": 7,
            "data": {"text": "Ann sings ."},
            "annotations": [
                annotated | {"result": [region(0, 3, "PER", meta={"text": ["sure"]}), comment]}
            ],
            "drafts": [{"result": [], "user": "ben@example.org"}],
            "predictions": [17],
        },
        {
            "data": {"text": "Bern sings ."},
            "annotations": [annotated | {"result": [region(0, 4, "PER")], "was_cancelled": True}],
            "predictions": [18],
        },
        {"data": {"text": "Nobody sings ."}, "annotations": [], "drafts": [], "predictions": [19]},
    ]
    export = tmp_path / "export.json"
    export.write_text(json.dumps(tasks))
    said = convert(export, tmp_path / "out.txt", "--from", "label-studio")
    assert said[:3] == [
        f"{export}: object 1 (task 7), annotations[0]: left out 1 other result, 1 note, 1 draft",
        f"{export}: left out 1 unanswered text",
        f"{export}: left out 1 skipped text",
    ]
    assert content(tmp_path / "out.txt") == [(("Ann", "sings", "."), ("B-PER", "O", "O"), 0)]


def test_a_small_export_of_label_studio_has_tasks_that_nobody_answered(tmp_path, convert, capsys):
    label = [{"start": 0, "end": 3, "text": "Ann", "labels": ["PER"]}]
    rows = [
        {"text": "Ann sings .", "id": 1, "label": label, "annotator": 1, "annotation_id": 5},
        {"text": "Nobody sings .", "id": 2, "annotator": None, "annotation_id": None},
    ]
    export = tmp_path / "export.json"
    export.write_text(json.dumps(rows))
    said = convert(export, tmp_path / "out.txt", "--from", "label-studio")
    assert said[0] == f"{export}: left out 1 unanswered text"
    assert content(tmp_path / "out.txt") == [(("Ann", "sings", "."), ("B-PER", "O", "O"), 0)]

    export.write_text(json.dumps([*rows, rows[0] | {"annotator": 2, "annotation_id": 6}]))
    with pytest.raises(SystemExit):
        convert(export, tmp_path / "both.txt", "--from", "label-studio")
    assert "several people (1, 2) answered 1 of its texts" in capsys.readouterr().err
    convert(export, tmp_path / "one.txt", "--from", "label-studio", "--annotator", 2)
    assert content(tmp_path / "one.txt") == content(tmp_path / "out.txt")


@pytest.mark.parametrize("shares, sizes", [("80 10 10", [8, 1, 1]), ("50 0 50", [5, 5])])
def test_a_split_gives_each_part_whole_documents_and_loses_none(shares, sizes, tmp_path, convert):
    blocks = [f"-DOCSTART- O\n\nword{i} B-PER\n\nmore{i} O\n\n" for i in range(10)]
    (tmp_path / "in.txt").write_text("".join(blocks))
    convert(tmp_path / "in.txt", tmp_path / "data", "--split", *shares.split())
    names = ["train.txt", "valid.txt", "test.txt"] if len(sizes) == 3 else ["train.txt", "test.txt"]
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == sorted(names)
    parts = [[words[0] for words, *_ in content(tmp_path / "data" / name)] for name in names]
    assert [len(part) for part in parts] == [2 * size for size in sizes]
    every = sorted(word for part in parts for word in part)
    assert every == sorted(f"{kind}{i}" for kind in ("word", "more") for i in range(10))
    for part in parts:
        assert {word[4:] for word in part[::2]} == {word[4:] for word in part[1::2]}


def test_too_few_documents_for_a_split_are_refused(tmp_path, capsys):
    (tmp_path / "in.txt").write_text("-DOCSTART- O\n\na O\n\n-DOCSTART- O\n\nb O\n")
    with pytest.raises(SystemExit):
        main(["convert", f"{tmp_path}/in.txt", f"{tmp_path}/data", *"--split 80 10 10".split()])
    assert "2 documents cannot be divided into 3 parts" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


# ------------------------------------------------------------ what language models write


def test_entities_that_are_only_quoted_are_found_in_the_order_of_the_text(tmp_path, convert):
    quoted = ["PER Ann", "LOC Bern", "PER Ann Lee", "ORG Annex"]
    entities = [dict(zip(("type", "text"), text.split(" ", 1), strict=True)) for text in quoted]
    # Ann within Annex is no mention of Ann; Ann  Lee has two blanks in the text.
    text = "Annex: Ann saw Bern. Ann  Lee did not."
    (tmp_path / "in.jsonl").write_text(json.dumps({"text": text, "entities": entities}))
    convert(tmp_path / "in.jsonl", tmp_path / "llm.txt", "--from", "jsonl")
    assert content(tmp_path / "llm.txt") == [
        (("Annex", ":", "Ann", "saw", "Bern", "."), ("B-ORG", "O", "B-PER", "O", "B-LOC", "O"), 1),
        (("Ann", "Lee", "did", "not", "."), ("B-PER", "I-PER", "O", "O", "O"), 1),
    ]


@pytest.mark.parametrize(
    "entities, message",
    [
        ([{"type": "PER", "text": "Bob"}], "the entity 'Bob' is not in the text"),
        ([{"type": "PER", "text": "Ann"}] * 2, "the entity 'Ann' is not in the text once more"),
        ([{"text": "Ann"}], "entities[0] has no type"),
        ([{"type": "PER", "start": 0}], "entities[0] has no text, or start without end"),
        ([{"type": "PER", "text": "Ann", "start": 1, "end": 4}], "covers 'nn ', and not 'Ann'"),
        ([{"type": "A B C", "text": "Ann", "start": -3, "end": 4}], "is not within the text"),
    ],
)
def test_what_a_language_model_invents_is_refused(entities, message, tmp_path, capsys):
    (tmp_path / "in.jsonl").write_text(json.dumps({"text": "Ann wins", "entities": entities}))
    with pytest.raises(SystemExit) as refused:
        main(["convert", f"{tmp_path}/in.jsonl", f"{tmp_path}/llm.txt", "--from", "jsonl"])
    assert refused.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "llm.txt").exists()


def test_answers_correct_the_sentences_with_the_same_words(tmp_path, convert):
    (tmp_path / "in.txt").write_text("a B-PER\nb O\n\nc O\n\na B-PER\nb O\n\nd B-LOC\n")
    rows = [
        {"text": "a b", "entities": [{"type": "LOC", "start": 2, "end": 3}], "answer": "accept"},
        {"text": "c", "entities": [{"type": "LOC", "start": 0, "end": 1}], "answer": None},
        {"text": "d", "entities": [], "answer": "skip"},
    ]
    (tmp_path / "done.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    paths = tmp_path / "in.txt", tmp_path / "out.txt"
    said = convert(*paths, "--corrections", tmp_path / "done.jsonl")
    place = tmp_path / "done.jsonl"
    assert said[1:5] == [
        f"{place}: left out 1 unanswered text",
        f"{place}: left out 1 skipped text",
        f"{place}: 1 answer, which change 2 sentences",
        f"{tmp_path / 'in.txt'}:1: PER 'a' corrected to LOC 'b'",
    ]
    tags = [("O", "B-LOC"), ("O",), ("O", "B-LOC"), ("B-LOC",)]
    assert [t for _, t, _ in content(tmp_path / "out.txt")] == tags


def test_a_correction_of_no_sentence_is_refused(tmp_path, capsys):
    (tmp_path / "in.txt").write_text("a B-PER\n")
    (tmp_path / "done.jsonl").write_text('{"text": "b", "entities": []}')
    line = [f"{tmp_path}/in.txt", f"{tmp_path}/out.txt", "--corrections", f"{tmp_path}/done.jsonl"]
    with pytest.raises(SystemExit):
        main(["convert", *line])
    assert "done.jsonl:1: no sentence has exactly these words: b" in capsys.readouterr().err
    assert not (tmp_path / "out.txt").exists()


def test_an_answer_about_a_single_entity_is_no_answer_about_the_text(tmp_path, capsys):
    row = {"text": "Ann met Ben", "spans": [{"start": 0, "end": 3, "label": "PER"}]}
    row |= {"answer": "accept", "_view_id": "ner"}
    (tmp_path / "in.jsonl").write_text(json.dumps(row))
    with pytest.raises(SystemExit):
        main(["convert", f"{tmp_path}/in.jsonl", f"{tmp_path}/out.txt", "--from", "prodigy"])
    assert "in.jsonl:1: answers a question about one entity (ner.teach)" in capsys.readouterr().err


def task(*annotations, text="Ann met Ben") -> dict:
    """A task of Label Studio; annotations: for each, who answered, and (start, end, type)."""
    of = [
        {
            "completed_by": by,
            "result": [
                {"type": "labels", "value": {"start": a, "end": b, "labels": [t]}}
                for a, b, t in spans
            ],
        }
        for by, spans in annotations
    ]
    return {"id": 1, "data": {"text": text}, "annotations": of}


def refusal(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as refused:
        main(["convert", *map(str, arguments)])
    assert refused.value.code == 2
    return capsys.readouterr().err


def test_no_output_replaces_an_input_or_another_output(tmp_path, capsys):
    corpus, answers, out = (tmp_path / name for name in ("train.txt", "a.jsonl", "out.txt"))
    corpus.write_text("a B-PER\n")
    answers.write_text('{"text": "a", "entities": []}')
    for arguments in (
        (corpus, corpus),
        (corpus, out, "--list", corpus),
        (corpus, out, "--list", out),
        (corpus, answers, "--to", "jsonl", "--corrections", answers),
        (corpus, out, "--corrections", answers, "--list", answers),
        (corpus, tmp_path, "--split", "100", "0", "0"),
    ):
        assert "has another use in this command" in refusal(capsys, *arguments)
    assert corpus.read_text() == "a B-PER\n" and answers.read_text()[0] == "{"
    assert not out.exists()


def test_a_part_that_gets_nothing_must_not_be_there_from_before(tmp_path, capsys):
    (tmp_path / "in.txt").write_text("a B-PER\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "valid.txt").write_text("old O\n")
    message = refusal(capsys, tmp_path / "in.txt", tmp_path / "data", *"--split 100 0 0".split())
    assert "valid.txt: is there, and --split gives it nothing" in message


def test_parts_of_a_split_are_all_written_or_none(tmp_path, capsys):
    # The test part, which is written last, has a word that cannot stand in columns.
    words = ["a", "b", "-DOCSTART-"]
    rows = [{"text": w, "words": [w], "entities": [], "document": w} for w in words]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arguments = (tmp_path / "in.jsonl", tmp_path / "data", "--from", "jsonl", "--split")
    for seed in range(3):  # in whichever part it is
        message = refusal(capsys, *arguments, "40", "30", "30", "--seed", seed)
        assert "cannot stand in columns" in message and not (tmp_path / "data").exists()


def test_two_answers_of_one_person_to_one_task_are_refused(tmp_path, capsys, convert):
    tasks = [task((1, [(0, 3, "PER")]), (1, []))]
    (tmp_path / "in.json").write_text(json.dumps(tasks))
    paths = tmp_path / "in.json", tmp_path / "out.txt"
    message = refusal(capsys, *paths, "--from", "label-studio")
    assert "object 1 (task 1): was answered twice by the same person" in message
    # The same text in two tasks may be two sentences of a corpus: that is told.
    tasks = [task((1, [(0, 3, "PER")])), task((1, []))]
    (tmp_path / "in.json").write_text(json.dumps(tasks))
    said = convert(*paths, "--from", "label-studio")
    assert "object 2 (task 1), annotations[0]: the first of 1 text that occur before" in said[0]
    assert len(content(tmp_path / "out.txt")) == 2


def test_types_of_corrections_are_renamed_as_those_of_the_corpus(tmp_path, convert):
    (tmp_path / "in.txt").write_text("a B-LOC\n\nb O\n")
    (tmp_path / "done.conll").write_text("b B-LOC\n")
    convert(
        *(tmp_path / "in.txt", tmp_path / "out.txt", "--map", "LOC=PLACE"),
        *("--corrections", tmp_path / "done.conll", "--corrections-from", "conll"),
    )
    assert [t for _, t, _ in content(tmp_path / "out.txt")] == [("B-PLACE",), ("B-PLACE",)]


def test_the_list_has_all_that_was_changed_or_left_out(tmp_path, convert):
    tasks = [
        task((1, [(0, 4, "A B")])),
        task((1, []), text=" "),
        {"data": {"text": "no answer"}, "annotations": []},
    ]
    (tmp_path / "in.json").write_text(json.dumps(tasks))
    paths = tmp_path / "in.json", tmp_path / "out.txt"
    convert(*paths, "--from", "label-studio", "--list", tmp_path / "list.txt")
    place = tmp_path / "in.json"
    assert (tmp_path / "list.txt").read_text().splitlines() == [
        f"{place}: left out 1 unanswered text",
        f"{place}: the type 'A B' is written A_B",
        f"{place}: left out 1 text without a word",
        f"{place}: cut 2 texts into words and sentences",
        f"{place}: object 1 (task 1), annotations[0]: A_B 'Ann ' has white space at an end; it was "
        f"removed",
    ]


def test_an_input_without_an_answer_says_why_nothing_is_left(tmp_path, capsys):
    tasks = [{"data": {"text": "no answer"}, "annotations": []}]
    (tmp_path / "in.json").write_text(json.dumps(tasks))
    message = refusal(capsys, tmp_path / "in.json", tmp_path / "o.txt", "--from", "label-studio")
    assert "left out 1 unanswered text; no sentence is left" in message


def test_a_text_of_prodigy_without_spans_is_not_answered(tmp_path, convert):
    rows = [{"text": "Ann met Ben"}, {"text": "Ann won", "spans": []}]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    said = convert(tmp_path / "in.jsonl", tmp_path / "out.txt", "--from", "prodigy")
    assert said[0] == f"{tmp_path / 'in.jsonl'}: left out 1 unanswered text"
    assert [words for words, *_ in content(tmp_path / "out.txt")] == [("Ann", "won")]
