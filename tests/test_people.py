"""Questions to people and their answers: every fault is named where it stands, nothing is lost."""

import json
import os

import pytest
from conftest import logged, write_conll

from nerc.annotation import people
from nerc.data.pool import Query
from nerc.errors import InputError

WORDS = [("Kiwi", "grows", "in", "Te", "Puke"), ("no", "name"), ("Tui", "sings"), ("a", "b")]
TYPES = frozenset({"PER", "LOC"})


@pytest.fixture
def asked(tmp_path) -> list[Query]:
    """Four sentences, asked for in round 3; of the first, a place is proposed."""
    proposed = ("O", "O", "O", "B-LOC", "I-LOC")
    found = [Query(3, "mnlp", 0.5, f"here:{i}", words, None) for i, words in enumerate(WORDS)]
    found[0] = found[0]._replace(proposed=proposed)
    asked = round_of(found, tmp_path)
    assert not asked.is_asked()
    asked.write()
    assert asked.is_asked()
    return found


def round_of(queries, path, *formats) -> people.Round:
    folder = people.Folder(path, formats or ("jsonl", "conll"), TYPES)
    return people.Round(folder, "round_3", queries)


def rows(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "round_3.jsonl").read_text().splitlines()]


def put(folder, *answers) -> None:
    """The rows with what answers change, as the file of answers; text stands as it is."""
    pairs = zip(rows(folder), answers, strict=False)
    lines = [a if isinstance(a, str) else json.dumps(row | a) for row, a in pairs]
    (folder / "round_3.answers.jsonl").write_text("\n".join(lines))


def read(asked, folder) -> list[Query]:
    return people.Folder(folder, ("jsonl", "conll"), TYPES).ask(asked, 3)


def faults(asked, folder) -> list[str]:
    with logged() as said, pytest.raises(InputError) as error:
        read(asked, folder)
    assert str(error.value).startswith(f"{max(len(said), 1)} fault") or len(said) == 20
    return [line.partition("round_3.answers.")[2] for line in said]


def test_what_is_proposed_can_be_accepted(asked, tmp_path):
    assert rows(tmp_path)[0]["entities"] == [
        {"type": "LOC", "text": "Te Puke", "start": 14, "end": 21}
    ]
    put(tmp_path, *[{"answer": "accept"}] * 4)
    found = read(asked, tmp_path)
    assert [q.tags for q in found] == [asked[0].proposed, *(("O",) * 2 for _ in range(3))]
    assert [q._replace(tags=None) for q in found] == asked


def test_the_conll_file_can_be_answered_by_copying_it(asked, tmp_path):
    text = (tmp_path / "round_3.conll").read_text()
    (tmp_path / "round_3.answers.conll").write_text(text)
    assert [q.tags for q in read(asked, tmp_path)][0] == asked[0].proposed


def test_half_an_answer_waits_for_the_rest_and_does_not_say_copy(asked, tmp_path):
    with pytest.raises(
        people.WaitingForAnswers, match="waits for labels of 4 sentences: copy .*round_3"
    ):
        read(asked, tmp_path)
    put(tmp_path, {"answer": "skip"}, {}, {"answer": "accept"})
    with pytest.raises(people.WaitingForAnswers) as waiting:
        read(asked, tmp_path)
    assert "2 more sentences (2 are done)" in str(waiting.value)
    assert "the first of them: no name" in str(waiting.value) and "copy" not in str(waiting.value)


@pytest.mark.parametrize(
    "change, fault",
    [
        ({"entities": [{"start": 0, "end": 6, "type": "PER"}]}, "'Kiwi g' begins or ends within a"),
        ({"entities": [{"start": 5, "end": 4, "type": "PER"}]}, "the entity 5 to 4 is not within"),
        ({"entities": [{"start": "0", "end": 4, "type": "PER"}]}, '[0].start is "0", wanted'),
        ({"entities": [{"start": False, "end": 4, "type": "PER"}]}, "start is false, wanted"),
        ({"entities": [{"start": 0, "end": 4, "type": ""}]}, "has the type '', wanted a name"),
        ({"entities": [{"start": 0, "end": 4, "type": "FRUIT"}]}, "FRUIT is not among PER, LOC"),
        (
            {"entities": [{"start": 0, "end": 4, "type": "PER", "text": "grows"}]},
            "the entity 0 to 4 covers 'Kiwi', and not 'grows'",
        ),
        (
            {"entities": [{"start": 0, "end": 10, "type": "PER"}, {"start": 5, "end": 10,
                                                                   "type": "LOC"}]},
            "LOC 'grows' overlaps PER 'Kiwi grows'",
        ),
        ({"entities": [{"start": 0, "end": 4}]}, "entities[0] has no type"),
        ({"entities": None}, "entities is null, wanted a list"),
        ({"text": "Kiwi grows"}, "the word 'in' does not follow in the text 'Kiwi grows'"),
        ({"words": []}, "'Kiwi grows in Te Puke' of the text is in no word"),
        ({"words": ["Kea"], "text": "Kea", "entities": []}, "was not asked for: Kea"),
        ({"answer": "yes"}, 'answer is "yes", wanted "accept", "skip" or null'),
        ('"Kiwi"', 'its content is "Kiwi", wanted an object'),
        ('{"words": ["Kiwi"]}', "has no entities"),
        ("{", "is not JSON"),
        ({"n": float("inf")}, "is not JSON: Out of range"),
        ({"words": ["\ud800"]}, "has half a surrogate pair"),
    ],
)  # fmt: skip
def test_a_fault_is_named_where_it_stands(asked, tmp_path, change, fault):
    wrong = change if isinstance(change, str) else {"answer": "accept"} | change
    put(tmp_path, wrong, *[{"answer": "accept"}] * 3)
    before = (tmp_path / "round_3.answers.jsonl").read_bytes()
    (found,) = faults(asked, tmp_path)
    assert found.startswith("jsonl:1: ") and fault in found
    assert (tmp_path / "round_3.answers.jsonl").read_bytes() == before


def test_every_fault_of_a_conll_file_is_named(asked, tmp_path):
    text = "Kiwi B-\ngrows O\nin\nTe B-LOC\nPuke I-LOC\n\nno O\nname X\n\nTui B-PRE\nsings O\n"
    (tmp_path / "round_3.answers.conll").write_text(text)
    found = faults(asked, tmp_path)
    assert [line.partition(": ")[0] for line in found] == [f"conll:{n}" for n in (1, 3, 7, 10)]
    assert "wanted O or a tag such as B-PER, or X" in found[0] and "has X at some words" in found[2]


def test_a_fault_of_one_file_hides_none_of_the_other(asked, tmp_path):
    put(tmp_path, "{")
    (tmp_path / "round_3.answers.conll").write_text("Kiwi B-FRUIT\ngrows O\n")
    assert [line.partition(": ")[0] for line in faults(asked, tmp_path)] == ["jsonl:1", "conll:1"]


def test_words_with_spaces_can_be_answered_by_copying(tmp_path):
    words = ("New York", "wins")
    asked = [Query(3, "mnlp", 0.5, "here:1", words, None, proposed=("B-LOC", "O"))]
    round_of(asked, tmp_path).write()
    text = (tmp_path / "round_3.conll").read_text()
    (tmp_path / "round_3.answers.conll").write_text(f"\ufeff{text}")  # as some editors begin files
    assert [q.tags for q in read(asked, tmp_path)] == [("B-LOC", "O")]


def test_answers_that_differ_are_named_with_both_places(asked, tmp_path):
    put(tmp_path, *[{"answer": "accept"}] * 4)
    write_conll(tmp_path / "round_3.answers.conll", [(WORDS[1], ("B-PER", "O"), 0)])
    (found,) = faults(asked, tmp_path)
    assert found.startswith("conll:3: has another answer in ") and found.endswith("jsonl:2")


def test_of_very_many_faults_the_first_are_named(asked, tmp_path):
    (tmp_path / "round_3.answers.jsonl").write_text("rubbish\n" * 50)
    assert len(faults(asked, tmp_path)) == 20
    (tmp_path / "round_3.answers.jsonl").write_bytes(b"\xff\xfe")
    assert "is not UTF-8" in faults(asked, tmp_path)[0]


@pytest.mark.parametrize("kind", ["jsonl", "conll"])
def test_answers_are_read_from_files_that_end(asked, tmp_path, kind):
    path = tmp_path / f"round_3.answers.{kind}"
    os.mkfifo(path)
    assert faults(asked, tmp_path) == [f"{kind}: is a pipe, wanted a file"]
    path.unlink()
    path.symlink_to("/dev/zero")
    assert faults(asked, tmp_path) == [f"{kind}: is a device, wanted a file"]


def test_questions_of_another_run_are_not_taken_for_this_ones(asked, tmp_path):
    with pytest.raises(InputError, match="does not ask what this run asks"):
        round_of(asked[:3], tmp_path).is_asked()
    (tmp_path / "round_3.jsonl").write_text("")
    with pytest.raises(InputError, match="or was changed"):
        round_of(asked, tmp_path).is_asked()


# ------------------------------------------------------------ tools


def of_tool(name: str, row: dict, entities: list, by: str = "ben") -> dict:
    """The row of a question as a tool exports it after a person marked entities (start, end, type).

    The shapes are those of each tool's documentation.
    """
    if name == "label-studio":
        result = [
            {"value": {"start": a, "end": b, "labels": [t]}, "type": "labels"}
            for a, b, t in entities
        ]
        about = {"id": 1, "completed_by": {"id": 7, "email": by}, "was_cancelled": False}
        return {"id": 11, **row, "annotations": [about | {"result": result}]}
    if name == "prodigy":
        spans = [{"start": a, "end": b, "label": t} for a, b, t in entities]
        return row | {"spans": spans, "answer": "accept", "_annotator_id": by}
    return {"id": 3, "text": row["text"], "label": [[*e] for e in entities], "Comments": []}


@pytest.mark.parametrize("name", ["label-studio", "prodigy", "doccano"])
def test_a_tool_is_asked_and_answers(name, asked, tmp_path):
    asked[2] = asked[2]._replace(proposed=("B-PER", "O"), confidence=0.25)
    asked[0] = asked[0]._replace(confidence=0.5)
    (tmp_path / "labels").mkdir()
    folder = people.Folder(tmp_path / "labels", [name], TYPES)
    with pytest.raises(people.WaitingForAnswers, match="import .*round_3.* has the types"):
        folder.ask(asked, 3)
    suffix = "json" if name == "label-studio" else "jsonl"
    text = (tmp_path / "labels" / f"round_3.{suffix}").read_text()
    rows = json.loads(text) if suffix == "json" else [json.loads(s) for s in text.splitlines()]
    shown = [row.get("data", row)["text"] for row in rows]
    assert shown == ["Tui sings", "Kiwi grows in Te Puke", "no name", "a b"]  # the doubtful first
    if name == "label-studio":
        assert [row["predictions"][0]["score"] for row in rows] == [0.25, 0.5, 0, 0]
        (region,) = rows[0]["predictions"][0]["result"]
        assert region["value"] == {"start": 0, "end": 3, "text": "Tui", "labels": ["PER"]}
        assert '<Label value="LOC"/>' in (tmp_path / "labels" / "label_config.xml").read_text()
    entities = [[], [(14, 21, "LOC")], [], [(2, 3, "PER")]]
    done = [of_tool(name, row, e) for row, e in zip(rows, entities, strict=True)]
    answers = tmp_path / "labels" / f"round_3.answers.{suffix}"
    answers.write_text("\n".join(map(json.dumps, done)) if suffix == "jsonl" else json.dumps(done))
    assert [q.tags for q in folder.ask(asked, 3)] == [
        ("O", "O", "O", "B-LOC", "I-LOC"),
        ("O", "O"),
        ("O", "O"),
        ("O", "B-PER"),
    ]


# ------------------------------------------------------------ several annotators


def put_of(folder, name: str, **tags) -> None:
    """The answers of a person about the sentences that begin with these words."""
    by_first = {words[0]: words for words in WORDS}
    rows = [(by_first[first], of.split(), 0) for first, of in tags.items()]
    write_conll(folder / f"round_3.answers.{name}.conll", rows)


def test_people_who_differ_are_asked_again_and_the_last_word_counts(asked, tmp_path):
    put_of(tmp_path, "anna", Kiwi="B-PER O O B-LOC I-LOC", no="O O", Tui="B-PER O", a="X X")
    put_of(tmp_path, "ben", Kiwi="O O O B-LOC I-LOC", no="O O", Tui="B-LOC O", a="O B-PER")
    with pytest.raises(people.WaitingForAnswers) as waiting:
        read(asked, tmp_path)
    assert "the adjudication of round 3 waits for labels of 2 sentences" in str(waiting.value)
    rows = (tmp_path / "round_3.adjudication.jsonl").read_text().splitlines()
    assert [json.loads(row)["text"] for row in rows] == ["Kiwi grows in Te Puke", "Tui sings"]
    text = (tmp_path / "round_3.adjudication.conll").read_text()
    (tmp_path / "round_3.adjudication.answers.conll").write_text(text.replace("Tui B-PER", "Tui O"))
    assert [q.tags for q in read(asked, tmp_path)] == [
        ("B-PER", "O", "O", "B-LOC", "I-LOC"),
        ("O", "O"),
        ("O", "O"),
        ("O", "B-PER"),  # whoever skipped it has no say
    ]


def test_a_majority_decides_where_asked_for(asked, tmp_path):
    put_of(tmp_path, "anna", Kiwi="B-PER O O B-LOC I-LOC", no="O O", Tui="B-PER O", a="O O")
    put_of(tmp_path, "ben", Kiwi="O O O B-LOC I-LOC", no="O O", Tui="B-PER O", a="O O")
    put_of(tmp_path, "cleo", Kiwi="O O O B-LOC O", no="B-LOC O", Tui="B-LOC O", a="O O")
    folder = people.Folder(tmp_path, ("jsonl", "conll"), TYPES, annotators=3, majority=True)
    assert [q.tags for q in folder.ask(asked, 3)] == [
        ("O", "O", "O", "B-LOC", "I-LOC"),
        ("O", "O"),
        ("B-PER", "O"),
        ("O", "O"),
    ]


def test_each_sentence_waits_for_as_many_people_as_are_wanted(asked, tmp_path):
    put_of(tmp_path, "anna", Kiwi="O O O O O", no="O O", Tui="O O", a="O O")
    put_of(tmp_path, "ben", Kiwi="O O O O O", Tui="O O")
    folder = people.Folder(tmp_path, ("jsonl", "conll"), TYPES, annotators=2)
    with pytest.raises(people.WaitingForAnswers, match="answers by 2 people to 2 more sentences"):
        folder.ask(asked, 3)


def test_how_far_people_agree_is_told(asked, tmp_path):
    put_of(tmp_path, "anna", Kiwi="B-PER O O B-LOC I-LOC", no="O O", Tui="B-PER O", a="O O")
    put_of(tmp_path, "ben", Kiwi="B-PER O O B-LOC O", no="O O", Tui="B-PER O", a="O O")
    with logged() as said, pytest.raises(people.WaitingForAnswers):
        read(asked, tmp_path)
    # Two of three entities are equal: precision and recall are 2/3.
    assert any(line.startswith("anna and ben both answered 4 sentences: F1 0.667") for line in said)
    assert any(line.startswith("1 sentence with different answers; Krippend") for line in said)


def test_what_looks_like_answers_and_is_not_read_is_told(asked, tmp_path):
    (tmp_path / "round_3.answers.txt").write_text("Kiwi B-PER\n")
    with logged() as said, pytest.raises(people.WaitingForAnswers):
        read(asked, tmp_path)
    (told,) = [line for line in said if "is not read" in line]
    wanted = "round_3.answers.jsonl or round_3.answers.conll"
    assert told == f"{tmp_path / 'round_3.answers.txt'}: is not read; answers belong in {wanted}"


def test_several_people_are_asked_for_files_with_their_names(asked, tmp_path):
    folder = people.Folder(tmp_path, ("jsonl", "conll"), TYPES, annotators=2)
    with pytest.raises(people.WaitingForAnswers, match=r"to round_3\.answers\.NAME\.jsonl"):
        folder.ask(asked, 3)


@pytest.mark.parametrize("name", ["prodigy", "doccano"])
def test_questions_that_nobody_answered_are_no_answers(name, asked, tmp_path):
    folder = people.Folder(tmp_path / "labels", [name], TYPES)
    with pytest.raises(people.WaitingForAnswers):
        folder.ask(asked, 3)
    text = (tmp_path / "labels" / "round_3.jsonl").read_text()
    (tmp_path / "labels" / "round_3.answers.jsonl").write_text(text)
    with pytest.raises(people.WaitingForAnswers, match="answers to 4 more sentences"):
        folder.ask(asked, 3)
