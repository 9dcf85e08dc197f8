"""Several annotators: figures by hand and by other libraries, the majority, the command."""

import csv
import json
import random
from itertools import combinations
from pathlib import Path

import pytest
from conftest import refused

from nerc.annotation.agreement import (
    Answers,
    Labelled,
    agreement,
    disagreement_rows,
    disagreements,
    krippendorff_alpha,
    majority,
    tables,
)
from nerc.commands import agreement as command
from nerc.data.tags import to_iob2
from nerc.evaluation.bootstrap import ALL, Interval
from nerc.evaluation.metrics import entity_scores


def answers(**rows: dict[str, str | None]) -> Answers:
    """Answers from texts: by annotator, tags by words; None: skipped."""
    return {
        name: {tuple(words.split()): tags and tuple(tags.split()) for words, tags in given.items()}
        for name, given in rows.items()
    }


THREE = answers(
    anna={"Ada King met Bo": "B-PER I-PER O B-PER", "Oslo won": "B-LOC O", "a b": None, "c": "O"},
    ben={"Ada King met Bo": "B-PER B-PER O B-PER", "Oslo won": "B-ORG O", "a b": "O O"},
    cleo={"Oslo won": "B-ORG O", "d e": "B-PER O", "a b": "O O"},
)


def random_answers(seed: int) -> Answers:
    """Two to four annotators of thirty sentences: each changes some true tags and skips some."""
    generator = random.Random(seed)
    every = ["O", "O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    found = {name: {} for name in "abcd"[: generator.randint(2, 4)]}
    for number in range(30):
        words = tuple(f"{number}-{i}" for i in range(generator.randint(1, 9)))
        truth = generator.choices(every, k=len(words))
        for given in found.values():
            row = [generator.choice(every) if generator.random() < 0.2 else tag for tag in truth]
            if (drawn := generator.random()) < 0.8:
                given[words] = None if drawn < 0.1 else tuple(to_iob2(row))
    return found


def test_f1_of_each_pair_is_that_by_hand():
    pairs = {pair.names: pair for pair in agreement(THREE).pairs}
    assert list(pairs) == [("anna", "ben"), ("anna", "cleo"), ("ben", "cleo")]
    assert [pair.sentences for pair in pairs.values()] == [2, 1, 2]
    # anna has Ada King, Bo, Oslo; ben has Ada, King, Bo, Oslo with another type: Bo is the same.
    f1 = {name: interval.value for name, interval in pairs["anna", "ben"].f1.items()}
    assert f1 == pytest.approx({ALL: 2 / 7, "PER": 2 / 5, "LOC": 0, "ORG": 0})
    assert {name: i.value for name, i in pairs["ben", "cleo"].f1.items()} == {ALL: 1, "ORG": 1}


def test_the_interval_is_that_of_resampled_sentences():
    given = answers(anna={"a": "B-PER", "b": "B-PER"}, ben={"a": "B-PER", "b": "B-LOC"})
    (pair,) = agreement(given).pairs
    # A resample has the first sentence twice (F1 1), once, or never (F1 0), in ratio 1 : 2 : 1.
    assert pair.f1[ALL] == Interval(0.5, 0.0, 1.0)
    (pair,) = agreement({"anna": given["anna"], "ben": given["anna"]}).pairs
    assert pair.f1[ALL].value == 1 and pair.f1["PER"].high == 1


@pytest.mark.parametrize("seed", range(5))
def test_f1_is_symmetric_and_that_of_the_metrics(seed):
    given = random_answers(seed)
    pairs = {pair.names: pair for pair in agreement(given).pairs}
    turned = agreement(dict(reversed(given.items()))).pairs
    assert len(pairs) == len(list(combinations(given, 2)))
    for pair in turned:
        same = pairs[pair.names[::-1]]
        one, two = (given[name] for name in pair.names)
        shared = [words for words in one if one[words] and two.get(words)]
        rows = ([list(of[words]) for words in shared] for of in (one, two))
        micro, by_type = entity_scores(*rows, ["PER", "LOC"])
        assert same.sentences == pair.sentences == len(shared) > 5
        assert same.f1[ALL].value == pair.f1[ALL].value == pytest.approx(micro.f1)
        for name in ("PER", "LOC"):
            assert same.f1[name].value == pair.f1[name].value == pytest.approx(by_type[name].f1)


def test_alpha_is_that_of_krippendorffs_example():
    observers = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]
    units = [[value for value in unit if value != "."] for unit in zip(*observers, strict=True)]
    assert round(krippendorff_alpha(units), 3) == 0.743  # Krippendorff 2011, section C


def test_alpha_is_that_by_hand():
    two = agreement({name: THREE[name] for name in ("anna", "ben")})
    # Twelve tags of six words: five B-PER, four O, one each of three others; two words differ.
    assert two.words == 6
    assert two.alpha == pytest.approx(1 - 11 * 4 / (144 - 25 - 16 - 3))


@pytest.mark.parametrize("seed", range(10))
def test_alpha_is_that_of_other_libraries(seed):
    krippendorff = pytest.importorskip("krippendorff")
    nltk_agreement = pytest.importorskip("nltk.metrics.agreement")
    given = random_answers(seed)
    triples = [
        (name, word, tag)
        for name, rows in given.items()
        for words, tags in rows.items()
        for word, tag in zip(words, tags or (), strict=tags is not None)
    ]
    kinds, words = sorted({t for _, _, t in triples}), sorted({w for _, w, _ in triples})
    counts = [[0] * len(kinds) for _ in words]
    for _, word, tag in triples:
        counts[words.index(word)][kinds.index(tag)] += 1
    found = agreement(given)
    assert found.words == sum(sum(row) > 1 for row in counts)
    assert any(sum(row) == 1 for row in counts)
    by_krippendorff = krippendorff.alpha(value_counts=counts, level_of_measurement="nominal")
    assert found.alpha == pytest.approx(by_krippendorff)
    assert found.alpha == pytest.approx(nltk_agreement.AnnotationTask(data=triples).alpha())


def test_what_cannot_be_computed_is_a_dash():
    apart = agreement(answers(anna={"a": "O", "c": None}, ben={"b": "B-PER", "c": "B-PER"}))
    all_o = agreement(answers(anna={"a b": "O O"}, ben={"a b": "O O"}))
    alone = agreement(answers(anna={"a": "B-PER"}))
    assert [found.words for found in (apart, all_o, alone)] == [0, 2, 0]
    assert [found.alpha for found in (apart, all_o, alone)] == [None] * 3
    assert tables(apart)[1][1:] == [["anna, ben", "0", "-", "-"]]
    assert tables(all_o)[1][1:] == [["anna, ben", "1", "-", "-"]]
    assert tables(alone)[1][1:] == []
    assert all_o.to_json()["pairs"] == [
        {"annotators": ("anna", "ben"), "sentences": 1}
        | {"f1": None, "low": None, "high": None, "types": {}}
    ]


def test_the_tables_count_what_each_annotator_did():
    people, pairs = tables(agreement(THREE))
    assert people == [
        ["Annotator", "sentences", "that nobody else answered", "skipped", "entities"],
        ["anna", "3", "1", "1", "3"],
        ["ben", "3", "0", "0", "4"],
        ["cleo", "3", "1", "0", "2"],
    ]
    assert pairs[0] == [
        *["Annotators", "sentences", "F1", "95 % interval"],
        *["PER F1", "ORG F1", "LOC F1"],
    ]
    # They share an entity in the first sentence alone, so a resample has at most its F1, 2 / 5.
    assert pairs[1] == ["anna, ben", "2", "0.286", "0.000 to 0.400", "0.400", "0.000", "0.000"]
    assert pairs[3] == ["ben, cleo", "2", "1.000", pairs[3][3], "-", "1.000", "-"]


def test_sentences_that_differ_come_in_the_order_of_the_first_annotator():
    given = answers(
        anna={"c": "O", "b": None, "a": "B-PER"},
        ben={"d": "O", "a": "O", "b": "O", "c": "B-LOC"},
        cleo={"d": "B-LOC", "b": "O", "a": None},
    )
    found = disagreements(given)
    assert found == [
        Labelled(("c",), {"anna": ("O",), "ben": ("B-LOC",)}),
        Labelled(("a",), {"anna": ("B-PER",), "ben": ("O",)}),
        Labelled(("d",), {"ben": ("O",), "cleo": ("B-LOC",)}),
    ]
    assert disagreement_rows(found, list(given)) == [
        ["sentence", "anna", "ben", "cleo"],
        ["c", "no entity", "LOC c [0, 1]", ""],
        ["a", "PER a [0, 1]", "no entity", ""],
        ["d", "", "no entity", "LOC d [0, 1]"],
    ]


def test_the_majority_keeps_entities_and_not_tags():
    given = answers(
        anna={"a b c d": "B-PER I-PER O B-LOC", "e f": "B-PER I-PER", "g h": "B-PER B-PER"},
        ben={"a b c d": "B-PER I-PER O O", "e f": "B-PER O", "g h": "B-PER B-PER"},
        cleo={"a b c d": "B-PER O O B-LOC", "e f": "O B-PER", "g h": "B-PER I-PER"},
    )
    decided, undecided = majority(given)
    # Of the tags of "e f", two thirds begin with B-PER, but no two annotators have one entity.
    assert [sentence.words for sentence in undecided] == [("e", "f")]
    assert decided == {
        ("a", "b", "c", "d"): ("B-PER", "I-PER", "O", "B-LOC"),
        ("g", "h"): ("B-PER", "B-PER"),
    }


def test_a_tie_is_undecided_and_who_skipped_has_no_vote():
    given = answers(
        anna={"a b": "B-PER O", "c": "B-LOC", "d": None, "e": "B-PER", "f g": "B-PER O"},
        ben={"a b": "B-PER O", "c": "B-LOC", "d": None, "e": "O", "f g": "B-PER I-PER"},
        cleo={"a b": "O B-LOC", "c": "O", "d": None, "e": None},
        dora={"a b": "B-PER B-LOC", "c": None, "d": None},
    )
    decided, undecided = majority(given)
    # Of "a b", three of four have the person, and two the place.
    assert decided == {("c",): ("B-LOC",), ("d",): None}
    assert [sentence.words for sentence in undecided] == [("a", "b"), ("e",), ("f", "g")]
    assert undecided[1].tags == {"anna": ("B-PER",), "ben": ("O",)}


def test_a_majority_is_more_than_half():
    rows = ["B-PER B-LOC", "B-PER B-LOC", "B-PER O", "O O", "O O"]  # three of five, two of five
    given = answers(**{f"a{i}": {"x y": row} for i, row in enumerate(rows)})
    assert majority(given) == ({("x", "y"): ("B-PER", "O")}, [])


@pytest.mark.parametrize("seed", range(5))
def test_the_majority_of_equal_answers_is_these_answers(seed):
    given = random_answers(seed)["a"]
    assert majority({"a": given, "b": given, "c": {}}) == (given, [])


# ------------------------------------------------------------ the command

ANNA = "Ada B-PER\nKing I-PER\n\nOslo B-LOC\nwon O\n\nx X\ny X\n"
BEN = "Ada B-PER\nKing B-PER\n\nOslo S-LOC\nwon O\n\nx O\ny O\n"


@pytest.fixture
def paths(tmp_path):
    found = [tmp_path / "anna.conll", tmp_path / "round_1.ben.conll"]
    for path, text in zip(found, (ANNA, BEN), strict=True):
        path.write_text(text)
    return found


def printed(capsys, *arguments) -> str:
    command.main([*map(str, arguments)])
    return capsys.readouterr().out


def cells(text: str, first: str) -> list[str]:
    """The cells of the table's row that begins so."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {first} ")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_the_command_prints_and_writes_what_was_found(paths, tmp_path, capsys):
    table, figures = tmp_path / "differing.csv", tmp_path / "figures.json"
    text = printed(capsys, *paths, "--list", table, "--json", figures)
    assert cells(text, "anna") == ["2", "0", "1", "2"]
    # The same: Oslo; anna has Ada King besides, ben has Ada and King.
    assert cells(text, "anna, round_1.ben")[:2] == ["2", "0.400"]
    # Eight tags: three B-PER, one I-PER, two B-LOC, two O; one of four words differs.
    assert "tags of the 4 words that at least two people tagged: 0.696\n" in text
    assert round(1 - 7 * 2 / (64 - 9 - 1 - 4 - 4), 3) == 0.696
    differing = "Ada King\n    anna: PER Ada King [0, 2]\n    round_1.ben: PER Ada [0, 1]; PER King"
    assert f"1 sentence with different tags\n\n{differing} [1, 2]\n" in text
    assert list(csv.reader(table.read_text().splitlines())) == [
        ["sentence", "anna", "round_1.ben"],
        ["Ada King", "PER Ada King [0, 2]", "PER Ada [0, 1]; PER King [1, 2]"],
    ]
    given = command.read_answers(paths, "conll")
    assert json.loads(figures.read_text()) == json.loads(json.dumps(agreement(given).to_json()))
    assert given["anna"] == {("Ada", "King"): ("B-PER", "I-PER")} | {
        ("Oslo", "won"): ("B-LOC", "O"),
        ("x", "y"): None,
    }


def test_the_first_twenty_disagreements_are_printed_and_all_are_listed(tmp_path, capsys):
    one, two = tmp_path / "one.conll", tmp_path / "two.conll"
    one.write_text("".join(f"w{i} B-PER\n\n" for i in range(25)))
    two.write_text("".join(f"w{i} B-ORG\n\n" for i in range(25)))
    text = printed(capsys, one, two, "--list", tmp_path / "all.csv")
    assert "25 sentences with different tags; the first 20\n" in text
    assert "\nw19\n    one: PER w19 [0, 1]\n    two: ORG w19 [0, 1]\n" in text
    assert "\nw20\n" not in text
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 26


def test_copies_with_other_tags_are_counted_and_the_last_tags_count(paths, capsys):
    paths[0].write_text(
        ANNA + "\nOslo B-ORG\nwon O\n\nOslo B-ORG\nwon O\n\nAda B-PER\nKing I-PER\n"
    )
    text = printed(capsys, *paths)
    assert f"{paths[0]}: copies of earlier sentences, which count once: 3\n" in text
    assert "copies of earlier sentences with other tags, of which the last count: 1, " in text
    assert f"the first at {paths[0]}:10\n" in text
    assert "anna: ORG Oslo [0, 1]" in text


def test_files_without_a_common_sentence_are_compared_and_it_is_said(paths, capsys):
    paths[1].write_text("Oslo B-LOC\nwins O\n")
    text = printed(capsys, *paths)
    assert cells(text, "anna, round_1.ben") == ["0", "-", "-"]
    assert "no sentence was answered in two files: all its words must be the same" in text


def test_what_is_wrong_is_said_in_one_line(paths, tmp_path, capsys):
    anna, ben = paths
    (tmp_path / "other").mkdir()
    namesake = tmp_path / "other" / "anna.txt"
    namesake.write_text(ANNA)
    half, soft = tmp_path / "half.conll", tmp_path / "soft.conll"
    half.write_text("a O\n\nb X\nc O\n")
    soft.write_text("a O\n\nb B-PER:0.7|O:0.3\n")
    for arguments, message in {
        (anna,): "found answers of only anna, wanted those of two",
        (anna, namesake): f"{namesake}: another file is named anna, too",
        (anna, half): f"{half}:3: has X at some words, wanted X at all (skipped) or none",
        (anna, soft): f"{soft}:3: has probabilities, wanted one tag for each word",
        (anna, tmp_path / "none"): "none: no such file",
        (anna, ben, "--json", ben): f"--json {ben}: has another use in this command",
        (anna, ben, "--json", tmp_path / "x", "--list", tmp_path / "x"): "has another use",
        (anna, ben, "--list", tmp_path / "no" / "x"): "no such folder",
        (anna, ""): "FILE is empty",
        (): "required: FILE",
    }.items():
        assert message in refused(command, capsys, *arguments)
    assert ben.read_text() == BEN and not (tmp_path / "x").exists()


def test_real_labels_without_one_type_agree_on_the_others(conll2003, tmp_path, capsys):
    text = (conll2003 / "valid.txt").read_text(encoding="utf-8")
    blocks = [b for b in text.split("\n\n") if b.strip() and not b.startswith("-DOCSTART-")][:600]
    sentences = {}
    for block in blocks:
        rows = [line.split() for line in block.splitlines()]
        sentences[tuple(row[0] for row in rows)] = [row[-1] for row in rows]
    for name, dropped in {"all": (), "three": ("B-MISC", "I-MISC")}.items():
        with (tmp_path / f"{name}.txt").open("w", encoding="utf-8") as file:
            for words, tags in sentences.items():
                shown = ["O" if tag in dropped else tag for tag in tags]
                file.writelines(f"{w} {t}\n" for w, t in zip(words, shown, strict=True))
                file.write("\n")
    printed_text = printed(capsys, tmp_path / "all.txt", tmp_path / "three.txt")
    begun = [tag for row in sentences.values() for tag in row if tag.startswith("B-")]
    miscellaneous = begun.count("B-MISC")
    assert miscellaneous > 50
    row = cells(printed_text, "all, three")
    assert row[0] == f"{len(sentences):,}"
    common = 2 * (len(begun) - miscellaneous)
    assert row[1] == f"{common / (common + miscellaneous):.3f}"
    assert row[3:] == ["1.000", "1.000", "1.000", "0.000"]


def test_files_of_a_round_are_named_after_their_annotators():
    for file, name in {
        "round_1.answers.anna.conll": "anna",
        "round_12.adjudication.answers.ben.jsonl": "ben",
        "cleo.v2.conll": "cleo.v2",
    }.items():
        assert command.name_of(Path("labels", file)) == name
