"""What a language model replies, aligned with the words of a sentence: nothing is guessed."""

import json

import pytest

from nerc.annotation.alignment import Fault, Misfit, Target
from nerc.annotation.prompt import as_json, inline

WORDS = (
    'Mr. O\'Neill , of " AT&T Corp. " , met U.S.-led forces in New York and in new york .'.split()
)
TYPES = ("PER", "ORG", "LOC")
TARGET = Target(WORDS, TYPES)
TEXT = " ".join(WORDS)


def tags(**entities: str) -> tuple[str, ...]:
    """Tags of WORDS from PER="1-2" (first word, and the one after the last)."""
    row = ["O"] * len(WORDS)
    for type_, places in entities.items():
        for place in places.split():
            start, end = map(int, place.split("-"))
            row[start:end] = [f"B-{type_}"] + [f"I-{type_}"] * (end - start - 1)
    return tuple(row)


NAMES = tags(PER="1-2", ORG="5-7", LOC="13-15")
RIGHT = (
    'Mr. <PER>O\'Neill</PER> , of " <ORG>AT&T Corp.</ORG> " , met U.S.-led forces in '
    "<LOC>New York</LOC> and in new york ."
)


def test_the_words_of_the_sentence_are_those_that_the_tests_count():
    assert (WORDS[1], WORDS[5:7], WORDS[13:15]) == ("O'Neill", ["AT&T", "Corp."], ["New", "York"])


@pytest.mark.parametrize(
    "reply",
    [
        RIGHT,
        f"Here it is:\n\n{RIGHT}\n\nAnything else?",
        f"```\n{RIGHT}\n```",
        f"<think>\n{TEXT}\nor <LOC>so\n</think>\n{RIGHT}",
        f"{RIGHT}\n{RIGHT}",  # twice, alike
        RIGHT.replace("O'Neill", "O’Neill").replace('"', "``"),
        RIGHT.replace(' " <ORG>', " “<ORG>").replace('</ORG> "', "</ORG>''"),
        RIGHT.replace(" ,", ",").replace(" .", ".").replace("<LOC>New York", "<LOC>New  York"),
        RIGHT.upper(),  # the tags, too
        RIGHT.replace("<LOC>New York</LOC>", "<LOC> New York </LOC>"),
        RIGHT.replace("Mr. <PER>O'Neill</PER> ,", "Mr.<PER> O'Neill </PER>,"),
        RIGHT.replace(" and in ", "\nand in "),  # the sentence on two lines
        RIGHT.replace("York", "YORK"),
    ],
)
def test_a_reply_that_differs_in_case_blanks_and_quotes_is_read(reply):
    assert TARGET.tags(reply, "inline") == NAMES


def test_a_sentence_without_tags_has_no_entity():
    assert TARGET.tags(TEXT, "inline") == tags()


@pytest.mark.parametrize(
    ("reply", "fault", "told"),
    [
        ("", Fault.EMPTY, "empty"),
        ("\n ", Fault.EMPTY, "empty"),
        (RIGHT.replace("forces", "troops"), Fault.CHANGED, "'troops' instead of 'forces'"),
        (RIGHT.replace("met ", ""), Fault.MISSING, "'' instead of 'met'"),
        (RIGHT.replace("met ", "has met "), Fault.EXTRA, "'has' instead of ''"),
        (RIGHT.replace("met U.S.-led", "U.S.-led met"), Fault.ORDER, "The words differ"),
        (RIGHT.replace("LOC>", "CITY>"), Fault.UNKNOWN_TYPE, "the types are PER, ORG, LOC"),
        (RIGHT.replace("York<", "<LOC>York</LOC><"), Fault.NESTED, "overlaps another entity"),
        (RIGHT.replace("</LOC>", ""), Fault.UNCLOSED, "<LOC> has no end"),
        (RIGHT.replace("</LOC>", "</PER>"), Fault.UNCLOSED, "</PER> ends nothing"),
        (RIGHT.replace("<LOC>", ""), Fault.UNCLOSED, "</LOC> ends nothing"),
        (RIGHT.replace("U.S.-led", "<LOC>U.S.</LOC>-led"), Fault.WITHIN_WORD, "'U.S.' begins or"),
        (RIGHT.replace(" met", " <PER> </PER>met"), Fault.NO_WORD, "no word in it"),
        (f"{RIGHT}\n{TEXT}", Fault.TWO_ANSWERS, "not alike"),
        ("I'm sorry, but I cannot help with that.", Fault.REFUSED, "did not come back"),
        ("I cannot identify people in this text.", Fault.CHANGED, "The words differ"),
        (f"Sentence: {RIGHT}", Fault.EXTRA, "'Sentence:' instead of ''"),
        (json.dumps({"entities": []}), Fault.CHANGED, "The words differ"),
    ],
)
def test_an_inline_reply_that_is_not_certain_is_a_fault(reply, fault, told):
    with pytest.raises(Misfit) as misfit:
        TARGET.tags(reply, "inline")
    assert misfit.value.fault == fault and told in str(misfit.value)


def entities(*rows) -> str:
    names = ("text", "type", "occurrence")
    return json.dumps({"entities": [dict(zip(names, row, strict=False)) for row in rows]})


LISTED = [("O'Neill", "PER"), ("AT&T Corp.", "ORG", 1), ("New York", "LOC", 1)]


@pytest.mark.parametrize(
    "reply",
    [
        entities(*LISTED),
        entities(*LISTED, LISTED[0]),  # the same entity twice is one
        f"Sure:\n```json\n{entities(*LISTED)}\n```",
        f"{{not JSON}} {entities(*LISTED)}",
        f"<think>{entities()}</think>{entities(*LISTED)}",
        entities(("o’neill", "per"), ("AT&T  corp.", "Org"), ("New York", "LOC")),
    ],
)
def test_json_is_read_however_it_is_wrapped(reply):
    assert TARGET.tags(reply, "json") == NAMES


def test_an_occurrence_counts_places_with_the_words_as_they_are_written():
    assert TARGET.tags(entities(("new york", "LOC", 1)), "json") == tags(LOC="17-19")
    # Where none is written so, case does not count.
    assert TARGET.tags(entities(("NEW YORK", "LOC", 2)), "json") == tags(LOC="17-19")
    assert TARGET.tags(entities(("in", "LOC", 2)), "json") == tags(LOC="16-17")


@pytest.mark.parametrize(
    ("reply", "fault", "told"),
    [
        ("{}", Fault.INVALID_JSON, "no valid JSON object"),
        (entities(*LISTED)[:-1], Fault.INVALID_JSON, "no valid JSON object"),
        ('{"entities": [{"text": "O\'Neill"}]}', Fault.INVALID_JSON, "has no entities[0].type"),
        ('{"entities": "none"}', Fault.INVALID_JSON, 'entities is "none", wanted a list'),
        ("I am unable to help.", Fault.REFUSED, "no JSON"),
        (entities(("O'Neill", "HERO")), Fault.UNKNOWN_TYPE, "HERO is no type"),
        (entities(("Neill", "PER")), Fault.WITHIN_WORD, "within a word"),
        (entities(("O'Neal", "PER")), Fault.ABSENT, "not in the sentence"),
        (entities(("", "PER")), Fault.NO_WORD, "has no text"),
        (entities(("in", "LOC")), Fault.OCCURRENCE, "occurs 2 times"),
        (entities(("New York", "LOC", 2)), Fault.OCCURRENCE, "no occurrence 2, only 1"),
        (entities(("O'Neill", "PER", 0)), Fault.OCCURRENCE, "no occurrence 0"),
        (entities(("New York", "LOC"), ("York", "ORG")), Fault.NESTED, "overlaps"),
        (entities(("O'Neill", "PER"), ("O'Neill", "ORG")), Fault.NESTED, "overlaps"),
        (f"{entities(*LISTED)}\n{entities()}", Fault.TWO_ANSWERS, "several JSON objects"),
        ("[" * 100_000 + '{"entities": ' + "[" * 100_000, Fault.INVALID_JSON, "no valid JSON"),
    ],
)
def test_json_that_is_not_certain_is_a_fault(reply, fault, told):
    with pytest.raises(Misfit) as misfit:
        TARGET.tags(reply, "json")
    assert misfit.value.fault == fault and told in str(misfit.value)


def test_what_looks_like_a_tag_in_the_sentence_itself_is_text():
    target = Target("use <b> , as Ann said".split(), TYPES)
    target.check("inline")
    assert target.tags("use <b> , as <PER>Ann</PER> said", "inline") == (*"OOOO", "B-PER", "O")
    like_ours = Target("write <PER> here".split(), TYPES)
    with pytest.raises(Misfit) as misfit:
        like_ours.check("inline")
    assert misfit.value.fault == Fault.LIKE_TAGS
    like_ours.check("json")
    assert like_ours.tags(entities(("<PER>", "ORG")), "json") == ("O", "B-ORG", "O")


@pytest.mark.parametrize(
    "name",
    ["лицо", "人名", "1st", "A/B", "R&D", "x:y", "o'x", "PER*", "(P)", "ﬁ", "think", "e\u0301"],
)
def test_types_may_have_any_name(name):
    target = Target("Ann met Bo".split(), [name])
    for row in (("O", "O", f"B-{name}"), (f"B-{name}", "O", "O")):
        for show, form in ((inline, "inline"), (as_json, "json")):
            assert target.tags(show(target.words, row), form) == row
    with pytest.raises(Misfit) as misfit:
        Target(["write", f"<{name}>", "here"], [name]).check("inline")
    assert misfit.value.fault == Fault.LIKE_TAGS


@pytest.mark.parametrize("word", ["İstanbul", "Straße", "e\u0301t\u00e9", "😀", "''", "ﬁn"])
def test_words_whose_length_changes_with_their_case_keep_their_places(word):
    target = Target(["in", word, "now"], TYPES)
    wanted = ("O", "B-LOC", "O")
    assert target.tags(f"in <LOC>{word}</LOC> now", "inline") == wanted
    assert target.tags(f"IN <LOC>{word.casefold()}</LOC>  now", "inline") == wanted
    assert target.tags(entities((word, "LOC")), "json") == wanted


@pytest.mark.parametrize("row", [NAMES, tags(), tags(LOC="17-19 13-15 0-1", PER="1-2")])
def test_what_the_examples_show_is_read_back(row):
    assert TARGET.tags(inline(WORDS, row), "inline") == row
    assert TARGET.tags(as_json(WORDS, row), "json") == row
