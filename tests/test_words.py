"""Raw text is cut into words as CoNLL-2003 is, and no character is lost."""

import random
import re

import pytest

from nerc.data import sources
from nerc.data.words import Text, words


def cut(text: str) -> list[str]:
    return [text[start:end] for start, end in words(text)]


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("Don't say he won't.", "Do n't say he wo n't ."),
        ("John's U.S. team beat O'Brien's 6-4!", "John 's U.S. team beat O'Brien 's 6-4 !"),
        ("It cost C$3,000.50 (5%) -- or $1.", "It cost C$ 3,000.50 ( 5 % ) -- or $ 1 ."),
        ("D. Smith of Acme Inc. said so...", "D. Smith of Acme Inc. said so ..."),
        ("3. Germany 1:02.3", "3. Germany 1:02.3"),
        ("He left. She came", "He left . She came"),
        ("the one-day AT&T row of 1996-08-22", "the one-day AT&T row of 1996-08-22"),
        ("“Wow”, she wrote…", "“ Wow ” , she wrote …"),
        ("tel. +44 20, hit .500 in the U.S.-led", "tel . +44 20 , hit .500 in the U.S.-led"),
        ("  \t ", ""),
        ("Angela Mer\u00adkel visited", "Angela Mer\u00adkel visited"),  # a soft hyphen
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 x",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 x",
        ),
        ("習近平訪問了巴黎。", "習 近 平 訪 問 了 巴 黎 。"),
        ("A公司2024年", "A 公 司 2024 年"),
        ("ที่นี่", "ที่ นี่"),
        ("John’s\u200e 10%\u200e, can't\u200b go", "John ’s 10 % , ca n't go"),  # marks at the ends
    ],
)
def test_words_are_those_of_the_training_data(text, wanted):
    assert cut(text) == wanted.split()


@pytest.mark.parametrize(
    "text",
    [
        "Zoe\u0308 in Mu\u0308nchen",  # combining marks
        "\U0001f469\u200d\U0001f469\u200d\U0001f467 went to Paris \U0001f1eb\U0001f1f7",  # emoji
        "a\tb  c\u00a0d\u3000e\r",  # white space of many kinds
        "東京 の John",
        "x" * 5000 + "...---",
        "\u200b\x07'n't''s$$",
    ],
)
def test_every_character_that_is_seen_is_of_one_word(text):
    spans = words(text)
    assert all(start < end for start, end in spans)
    assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:], strict=False))
    assert "".join(cut(text)) == "".join(text.replace("\u200b", "").split())


@pytest.mark.parametrize("text", ["\u0600 foo", "\u0600 12", "\u06dd\u0600 foo"])
def test_no_sign_takes_a_blank_with_it(text):
    assert "".join(text[start:end] for start, end in words(text)) == text.replace(" ", "")


def test_what_readers_see_as_one_character_is_not_parted():
    family = "\U0001f469\u200d\U0001f469\u200d\U0001f467"
    assert cut(f"Zoe\u0308,{family}!") == ["Zoe\u0308", ",", family, "!"]


def test_conll2003_comes_back_from_its_own_text(conll2003):
    """Of its validation words, joined by blanks, next to all are cut as they were."""
    total = kept = 0
    for sentence in sources.load(str(conll2003), "validation"):
        spans, start = set(words(" ".join(sentence.words))), 0
        for word in sentence.words:
            kept += (start, start + len(word)) in spans
            start += len(word) + 1
        total += len(sentence.words)
    assert kept / total > 0.999


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("an exam-\nple of Ger-\r\n  many.", "an example of Germany ."),
        ("Anglo-\nAmerican, 6-\n4, F-\nsixteen", "Anglo-American , 6-4 , F-sixteen"),
        ("Mer\u00ad\nkel, Mu\u0308n\u2010\nchen", "Merkel , Mu\u0308nchen"),
        ("pre-\nand post-war, he -\nor she--\nthey", "pre - and post-war , he - or she -- they"),
        ("one-\n\ntwo -\nthree", "one - two - three"),
        ("the U.S.-\nled Zoe-\nlie's", "the U.S.-led Zoelie 's"),
        ("東京-\n大阪", "東 京 - 大 阪"),
    ],
)
def test_a_word_that_a_line_end_parts_is_one_word(text, wanted):
    found = Text.of_wrapped(text)
    assert found.words == tuple(wanted.split())
    covered = [text[start:end] for start, end in found.spans]
    assert "".join("".join(covered).split()) == "".join(text.split())
    assert [word.strip() for word in covered] == covered
    assert all(a[1] <= b[0] for a, b in zip(found.spans, found.spans[1:], strict=False))


def test_words_read_as_if_no_line_end_had_parted_them(conll2003):
    draw, num_parted = random.Random(0), 0
    for sentence in list(sources.load(str(conll2003), "validation"))[:500]:
        text = " ".join(sentence.words)
        parted = re.sub(r"\b[A-Za-z][a-z]{2}(?=[a-z]{4})", lambda m: f"{m[0]}-\n", text)
        wrapped = re.sub(r"(?<=[A-Z0-9]-)(?=[A-Za-z]{4})", "\n", parted)  # these hyphens stay
        wrapped = "".join(draw.choice(["\n", "\n \t", "\r\n"]) if c == "\n" else c for c in wrapped)
        num_parted += wrapped.count("\n")
        found = Text.of_wrapped(wrapped)
        assert found.words == Text.of(text).words
        covered = "".join(wrapped[start:end] for start, end in found.spans)
        assert "".join(covered.split()) == "".join(parted.split())
    assert num_parted > 500


def test_lines_without_parted_words_are_cut_as_any_text(conll2003):
    for sentence in list(sources.load(str(conll2003), "validation"))[:500]:
        text = "\n".join(sentence.words)
        if "-\n" not in text:
            assert Text.of_wrapped(text) == Text.of(text)
