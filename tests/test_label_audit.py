"""The audit of weak labels: its tables, for labels whose errors are known."""

import json
import re

import pytest
from conftest import refused
from matplotlib.image import imread

from nerc.commands import audit as command

GOLD = """\
Ada B-PER
met O
Bo B-PER

Oslo B-LOC
won O

Red B-ORG
Star I-ORG
of O
Rome B-LOC

no O
one O
"""
WEAK = """\
Ada B-PER
met O
Bo B-ORG

Oslo B-LOC
won B-MISC

Red O
Star I-ORG
of O
Rome O

unknown B-PER
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "train.txt").write_text(GOLD)
    (tmp_path / "llm.txt").write_text(WEAK)
    return tmp_path


def audit(capsys, *flags) -> tuple[dict[str, dict[str, list[str]]], str]:
    """The tables that an audit prints, by first cell of header and row; and all that it prints."""
    command.main([*map(str, flags)])
    text = capsys.readouterr().out
    tables = {}
    for block in (b for b in text.strip().split("\n\n") if b.startswith("|")):
        rows = [[cell.strip() for cell in line.split(" | ")] for line in block.splitlines()]
        header, _, *rows = [[cell.strip("| ") for cell in row] for row in rows]
        tables[header[0]] = {"header": header[1:]} | {row[0]: row[1:] for row in rows}
    return tables, text


def test_with_experts_the_errors_are_counted(folder, capsys):
    found, text = audit(capsys, "--corpus", folder)
    assert "3 of these sentences have expert labels too" in text
    # Right: Ada, Oslo. Bo has another type, Star is a part of Red Star, won is none, Rome missed.
    assert found["Type"]["all types"] == ["5", "0.400", "0.400", "0.400"]
    assert found["Type"]["PER"] == ["2", "1.000", "0.500", "0.667"]
    kinds = dict(zip(found["Entities"]["header"], found["Entities"][""], strict=True))
    wrong = {"wrong type": "1", "wrong boundary": "1", "spurious": "1", "missed": "1"}
    assert kinds == {"correct": "2"} | wrong
    assert found["gold \\ weak"] == {
        "header": ["PER", "ORG", "LOC", "MISC", "missed"],
        "PER": ["1", "1", "0", "0", "0"],
        "ORG": ["0", "1", "0", "0", "0"],
        "LOC": ["0", "0", "1", "0", "1"],
        "MISC": ["0", "0", "0", "0", "0"],
        "spurious": ["0", "0", "0", "1", "0"],
    }


def test_the_words_and_entities_that_are_most_often_wrong_are_named(folder, capsys):
    (folder / "train.txt").write_text(f"{GOLD}\nBo B-PER\nin O\nRome B-LOC\n")
    (folder / "llm.txt").write_text(f"{WEAK}\nBo B-ORG\nin O\nRome B-LOC\n")
    _, text = audit(capsys, "--corpus", folder)
    blocks = [block.replace("|", " ").split("\n") for block in text.strip().split("\n\n")]
    tables = {rows[0].split()[0]: [row.split() for row in rows[2:]] for rows in blocks if rows[2:]}
    assert tables["Word"] == [
        ["Bo", "PER", "ORG", "2", "2", "100.0", "%"],
        ["Red", "ORG", "O", "1", "1", "100.0", "%"],
        ["Rome", "LOC", "O", "1", "2", "50.0", "%"],
        ["won", "O", "MISC", "1", "1", "100.0", "%"],
    ]
    assert sorted(" ".join(row) for row in tables["Entity"]) == [
        "- won (MISC) spurious 1 1 100.0 %",
        "Bo (PER) Bo (ORG) wrong type 2 2 100.0 %",
        "Red Star (ORG) Star (ORG) wrong boundary 1 1 100.0 %",
        "Rome (LOC) - missed 1 2 50.0 %",
    ]
    assert tables["Entity"][0][:2] == ["Bo", "(PER)"]


def test_the_tables_are_written_as_data_and_as_a_page(folder, capsys):
    (folder / "llm.txt").write_text(WEAK.replace("unknown", "<script>"))
    flags = ["--html", folder / "audit.html", "--json", folder / "audit.json"]
    found, _ = audit(capsys, "--corpus", folder, *flags)
    data = json.loads((folder / "audit.json").read_text())
    assert data["sentences_with_experts"] == 3
    tables = data["tables"]
    types = tables["agreement by type"]
    assert types["columns"] == ["Type", "in gold", "precision", "recall", "F1"]
    assert types["rows"][0] == ["all types", 5, 0.4, 0.4, pytest.approx(0.4)]
    assert ["words without a label", 0, 0.0] in tables["weak labels"]["rows"]
    assert ["sentences", 4, None] in tables["weak labels"]["rows"]
    assert ["Xx", 6, pytest.approx(4 / 6), "yes"] in tables["word shapes"]["rows"]
    assert tables["words most often wrong"]["rows"][1] == ["Red", "ORG", "O", 1, 1, 1.0]
    text = (folder / "audit.html").read_text()
    assert "Audit of the weak labels" in text and text.count("<script") == 2
    page = json.loads(re.search(r'id="data">(.*?)</script>', text)[1])
    assert [table["title"] for table in page["tables"]] == [name.capitalize() for name in tables]
    assert page["tables"][2]["rows"][1] == ["all types", *found["Type"]["all types"]]
    assert "no such folder" in refused(command, capsys, "--html", folder / "none" / "x")


def test_a_type_may_be_called_as_what_stands_for_all_or_for_none(folder, capsys):
    plain, _ = audit(capsys, "--corpus", folder)
    for name, labels in {"train.txt": GOLD, "llm.txt": WEAK}.items():
        (folder / name).write_text(labels.replace("PER", "all").replace("MISC", "-"))
    found, _ = audit(capsys, "--corpus", folder)
    assert found["Type"]["all types"] == plain["Type"]["all types"]
    assert found["Type"]["all"] == plain["Type"]["PER"]
    # The types are in alphabetical order now: LOC, ORG, -, all.
    assert found["gold \\ weak"]["-"] == plain["gold \\ weak"]["MISC"]
    assert found["gold \\ weak"]["spurious"] == ["0", "0", "1", "0", "0"]


def test_word_shapes_stand_in_cells_of_their_own(folder, capsys):
    (folder / "llm.txt").write_text(f"{WEAK}\na|b O\n")
    assert "| x\\|x " in audit(capsys, "--corpus", folder)[1]


def test_invalid_tags_and_repairs_have_rows(folder, capsys):
    found, _ = audit(capsys, "--corpus", folder)
    assert found[""]["inside tags that continue no entity, as written"] == ["1", ""]
    assert found[""]["sentences with such tags, as written"] == ["1", "25.0 %"]
    invalid = found["Slice"]["inside tags that continue no entity: some"]
    assert invalid == ["2", *["0.000"] * 3]
    assert found["Repair"]["none"] == ["5", "0.400", "0.400", "0.400"]
    assert found["Repair"]["well-formed"] == ["3", "0.500", "0.667", "0.571"]


def test_without_experts_only_the_weak_labels_are_described(folder, capsys):
    (folder / "train.txt").unlink()
    found, text = audit(capsys, "--corpus", folder)
    assert found[""]["words in entities"] == ["6", "60.0 %"] and "Type" not in found
    # Ada, Bo, Oslo and Star of six words with a capital, won and unknown of four without.
    assert found["Word shape"]["Xx"] == ["6", "66.7 %", "yes"]
    assert found["Word shape"]["x"] == ["4", "50.0 %", "yes"]
    assert "none of these sentences has expert labels too" in text
    message = refused(command, capsys, "--corpus", folder, "--expert", "1")
    assert "has no train.txt" in message


def test_repeated_sentences_are_reported(folder, capsys):
    (folder / "llm.txt").write_text(f"{WEAK}\n{WEAK}")
    gold = (folder / "train.txt").read_text()
    (folder / "train.txt").write_text(f"{gold}\n{gold.replace('B-LOC', 'B-ORG', 1)}")
    _, text = audit(capsys, "--corpus", folder)
    assert "6 of these sentences have expert labels too (3 different)" in text
    wanted = "1 expert sentences repeat earlier ones with other tags; the last tags count"
    assert f"{folder}: {wanted}" in text


def test_an_amount_of_experts_is_drawn(folder, capsys):
    for seed in range(5):  # in some, no repair leaves a sentence
        flags = ["--corpus", folder, "--expert", "1", "--seed", seed]
        found, text = audit(capsys, *flags)
        assert "1 of these sentences have expert labels too" in text
        assert list(found["Repair"])[-1] == "inventory well-formed form"
    message = refused(command, capsys, "--corpus", folder, "--expert", "4")
    assert "there are only 3 sentences with expert and weak labels" in message


def test_repair_auto_says_what_it_chose(folder, capsys):
    _, text = audit(capsys, "--corpus", folder, "--repair", "auto")
    assert text.count("repair auto chooses none: entities without a usual word shape are") == 1


def test_repair_inventory_uses_the_types_of_the_experts(folder, capsys):
    text = WEAK.replace("won B-MISC", "won B-DATE")
    (folder / "llm.txt").write_text(text)
    found, text = audit(capsys, "--corpus", folder, "--repair", "inventory")
    assert (
        "inventory: 1 of 6 weakly labelled entities" in text and "entities: DATE" not in found[""]
    )
    (folder / "train.txt").unlink()
    message = refused(command, capsys, "--corpus", folder, "--repair", "inventory")
    assert "compares with expert labels, and there are none" in message


def test_each_source_has_a_row(folder, capsys):
    (folder / "llm.two.txt").write_text(GOLD)
    found, _ = audit(capsys, "--corpus", folder)
    assert found["Slice"]["source: llm.txt"][1:] == ["0.400"] * 3
    assert found["Slice"]["source: llm.two.txt"] == ["5", *["1.000"] * 3]


def test_in_iob1_an_i_that_begins_an_entity_is_valid(folder, capsys):
    (folder / "llm.txt").write_text(GOLD.replace("B-", "I-"))
    found, _ = audit(capsys, "--corpus", folder)
    assert found[""]["sentences with such tags, as written"] == ["0", "0.0 %"]
    assert found["Type"]["all types"][1:] == found["Repair"]["well-formed"][1:] == ["1.000"] * 3


def test_the_plots_are_drawn(folder, capsys, tmp_path):
    audit(capsys, "--corpus", folder, "--plots", tmp_path / "plots")
    for name in ("places", "scores", "confusion"):
        assert imread(tmp_path / f"plots/{name}.png").std() > 0.01


def test_a_corpus_without_weak_labels_is_refused(folder, capsys):
    (folder / "llm.txt").unlink()
    assert "has no llm.txt" in refused(command, capsys, "--corpus", folder)


def test_the_audit_of_conll2003_is_that_of_another_count(conll2003, capsys):
    """Strict entities, counted without nerc: all 0.456; PER 0.753, LOC 0.599, ORG 0.316."""
    found, _ = audit(capsys, "--corpus", conll2003)
    f1 = {name: row[-1] for name, row in found["Type"].items()}
    assert f1["all types"] == "0.456"
    assert [f1[name] for name in ("PER", "LOC", "ORG", "MISC")] == [
        "0.753",
        "0.599",
        "0.316",
        "0.047",
    ]
    assert found[""]["inside tags that continue no entity, as written"][0] == "590"
