"""Schemes, entities and transitions, worked out by hand."""

import pytest

from nerc.data import tags
from nerc.data.conll import read_conll


@pytest.mark.parametrize(
    "found, wanted",
    [
        # IOB1: B- only between neighbours of one type
        ("O I-PER I-PER", "O B-PER I-PER"),
        ("I-PER I-ORG", "B-PER B-ORG"),
        ("I-PER B-PER I-PER", "B-PER B-PER I-PER"),
        # IOB2 stays as it is
        ("B-PER I-PER B-PER O B-LOC", "B-PER I-PER B-PER O B-LOC"),
        # BIOES, and BILOU, its twin
        ("B-PER E-PER S-PER S-LOC O", "B-PER I-PER B-PER B-LOC O"),
        ("B-PER I-PER L-PER U-LOC", "B-PER I-PER I-PER B-LOC"),
        ("S-PER I-PER", "B-PER B-PER"),
        # ill-formed: what goes on with nothing begins
        ("I-PER O I-LOC I-ORG", "B-PER O B-LOC B-ORG"),
        ("B-PER I-LOC I-LOC", "B-PER B-LOC I-LOC"),
        # types with hyphens, words without a label
        ("I-GPE-city I-GPE-city", "B-GPE-city I-GPE-city"),
        ("B-PER [CLS] I-PER X", "B-PER [CLS] B-PER X"),
    ],
)
def test_every_scheme_becomes_iob2(found, wanted):
    assert tags.to_iob2(found.split()) == wanted.split()


def test_entities_end_where_another_begins_or_nothing_goes_on():
    labels = "B-PER I-PER B-PER O B-LOC I-ORG I-ORG".split()
    assert tags.entities(labels) == [
        ("PER", 0, 2),
        ("PER", 2, 3),
        ("LOC", 4, 5),
        ("ORG", 5, 7),
    ]
    assert tags.entities([]) == []


def test_orphans_are_tags_that_go_on_with_nothing():
    assert tags.num_invalid_inside("I-PER I-PER O I-LOC B-ORG I-LOC".split()) == 3
    assert tags.num_invalid_inside("B-PER I-PER O".split()) == 0


@pytest.mark.parametrize("text", ["O", "B-PER", "I-x", "S-A-B", "L-1"])
def test_a_tag_is_o_or_prefix_and_type(text):
    assert tags.is_tag(text)


@pytest.mark.parametrize("text", ["", "o", "PER", "B-", "-PER", "Q-PER", "B_PER", "B-P R", "[CLS]"])
def test_anything_else_is_no_tag(text):
    assert not tags.is_tag(text)


def test_inventory_is_the_published_one_for_conll_types():
    wanted = "O B-PER I-PER B-ORG I-ORG B-LOC I-LOC B-MISC I-MISC [CLS] [SEP] X".split()
    assert tags.inventory(["LOC"]) == tags.inventory([]) == tuple(wanted)


def test_inventory_of_other_types_is_stable():
    wanted = "O B-LOC I-LOC B-art I-art B-time I-time [CLS] [SEP] X".split()
    assert tags.inventory(["time", "LOC", "art"]) == tags.inventory(["art", "time", "LOC"])
    assert tags.inventory(["time", "LOC", "art"]) == tuple(wanted)


def test_only_i_tags_depend_on_the_tag_before():
    assert tags.may_follow("B-PER", "I-PER") and tags.may_follow("I-PER", "I-PER")
    assert tags.may_follow(None, "B-PER") and tags.may_follow("I-LOC", "B-PER")
    for before in (None, "O", "B-LOC", "I-LOC"):
        assert not tags.may_follow(before, "I-PER")


@pytest.mark.parametrize(
    "text",
    ["PER", "B", "CARDINAL-X", "misc-law", "E-mail", "b-cell", "x/b-y", "x:y", "I", "a:b:c1"],
)
def test_a_type_is_a_name_that_its_tags_keep(text):
    assert tags.is_type(text)


@pytest.mark.parametrize(
    "text",
    ["", "O", "X", "[CLS]", "[SEP]", "a b", "a\u00a0b", "a\n", "B-PER", "I-x", "A|B", "A|B:0.5"]
    + ["x:1", "x:.5", "x:", "x:nan", "x:12%", "PER,O", "PER/B-LOC"],
)
def test_what_its_tags_do_not_keep_is_no_type(text):
    assert not tags.is_type(text)


@pytest.mark.parametrize(
    "text", ["B", "CARDINAL-X", "misc-law", "E-mail", "x:y", "b-cell", "x/b-y"]
)
def test_tags_of_a_type_come_back_from_columns(text, tmp_path):
    (tmp_path / "a.txt").write_text(f"a B-{text}\nb I-{text}\nc O\n")
    (strict,), (weak,) = (read_conll(tmp_path / "a.txt", weak=weak) for weak in (False, True))
    assert strict.tags == weak.tags == (f"B-{text}", f"I-{text}", "O")
    assert tags.is_type(text)
