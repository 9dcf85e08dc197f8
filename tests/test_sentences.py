"""Raw text is split into sentences where its writer ended them."""

import random
import re
from itertools import groupby

import pytest

from nerc.data import sources
from nerc.data.sentences import split


def parts(text: str) -> list[str]:
    return [text[start:end] for start, end in split(text)]


@pytest.mark.parametrize(
    "text",  # the sentences that are wanted, with | between them
    [
        "He left. |She came!  |Did they meet?",
        "Mr. Smith of Acme Inc. met Gen. J. R. Lee. |They left.",
        "He lives in the U.S. |The price rose 3.5 pct. |It fell.",
        "He met the U.S. Secretary at 5 p.m. Monday, e.g. in Rome.",
        "Page No. 5 has it. |He said no. |She said yes.",
        "See Fig. 3 of Lee et al. 1996. |It is small.",
        "Dr. Who reads papers, e.g. The Times.",
        '"Why?" she asked. |He said "no." |Then he left. |("So?") |“Well!” |Yes.',
        '" I left . |I came . " |He said so . |" No . "',  # words with blanks between them
        "(He left. |She stayed.) |They met.[1] |Now?! |No...",
        "Well... perhaps. |Well… |Now it is late.",
        "1. Germany won. |2. Italy lost.",
        "He was born in 1996. |23 others came. |iPhones came in 2007. |eBay sold them.",
        "Yahoo! said so on www.x.org. |V. 2.1 is out.",
        "a.b.c and 3.4 and end",
        "你好。|“再见！”|真的吗？！|３．１４，是的。",
        "「行く。」と言った。|「はい。」|次。",
        "वह गया। |वह आया॥ |क्या? |हाँ",
        "هل ذهب؟ |نعم.",
        "Είναι εδώ; |Ναι· ο Νίκος, κ. Παππά; όχι.",
        "a; B; c\u037e D",
        "Ի՞նչ է։ |Այո։",
        "A head\n\n|one sentence in\ntwo lines. |The next\r\n\r\n|End\n \t\n\n",
        '" open\n\n|closed . |" Yes . "',
        " \n\n ",
    ],
)
def test_sentences_end_where_the_writer_ended_them(text):
    assert parts(text.replace("|", "")) == [part for p in text.split("|") if (part := p.strip())]


def test_sentences_hold_every_character_but_white_space_once():
    draw = random.Random(0)
    for _ in range(3000):
        text = "".join(draw.choices('aB1 .!?…"“”)(\n\r\t。」।|é', k=draw.randrange(60)))
        spans = split(text)
        assert "".join("".join(parts(text)).split()) == "".join(text.split())
        assert all(text[start:end].strip() == text[start:end] != "" for start, end in spans)
        assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:], strict=False))


def prose(words: tuple[str, ...]) -> str:
    """A sentence as a newspaper prints it, without the blanks before marks."""
    text = " ".join(words)
    quotes = iter(range(len(text)))
    if text.count('"') % 2 == 0:
        text = re.sub(' ?" ?', lambda _: '" ' if next(quotes) % 2 else ' "', text)
    text = text.removesuffix(' "') + '"' * text.endswith(' "')
    text = '"' * text.startswith('" ') + text.removeprefix('" ')
    text = re.sub(r" ([.,;:!?)%]|n't|'s|'re|'ve|'m|'ll|'d)(?!\w)", r"\1", text.replace("( ", "("))
    return re.sub(r"(\w\.)\.$", r"\1", re.sub(" +", " ", text)).strip()


def test_the_sentences_of_conll2003_come_back(conll2003):
    """Of the boundaries in each document's prose; the rest is tables and headlines."""
    right = found = wanted = 0
    corpus = sources.load(str(conll2003), "validation")
    for _, document in groupby(corpus, key=lambda sentence: sentence.document):
        written = [prose(sentence.words) for sentence in document]
        written = [text for text in written if re.search("""[.?!]["')]*$""", text)]
        ends, end = set(), -1
        for text in written:
            end += 1 + len(text)
            ends.add(end)
        text = " ".join(written)
        guessed = {end for _, end in split(text)} - {len(text)}
        ends -= {len(text)}
        right += len(ends & guessed)
        found += len(guessed)
        wanted += len(ends)
    assert wanted > 1000
    assert right / found > 0.995 and right / wanted > 0.98
