"""Entities by characters: which of overlapping ones are kept, and long texts."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nerc.annotation.examples import Example, split
from nerc.data import spans
from nerc.data.spans import Span
from nerc.data.tags import entities
from nerc.data.words import Text, words


def test_of_overlapping_entities_the_longest_is_kept_and_the_others_are_told():
    text = Text.of_words("a b c d e f g".split())  # word i is at 2 * i
    found = [("S", 2, 3), ("L", 2, 7), ("L", 2, 7), ("M", 6, 9), ("E", 8, 13), ("E", 0, 1)]
    tags, changes = spans.fit(text, [Span(*span) for span in found])
    assert tags == ("B-E", "B-L", "I-L", "I-L", "B-E", "I-E", "I-E")
    assert [str(change) for change in changes] == [
        "L 'b c d' is there twice; one was kept",
        "M 'd e' overlaps L 'b c d'; it was left out",
        "S 'b' overlaps L 'b c d'; it was left out",
    ]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.sampled_from("AB"), st.integers(0, 9), st.integers(1, 6)), max_size=9))
def test_what_is_kept_is_chosen_as_if_each_pair_were_compared(found):
    text = Text.of_words("a b c d e f g h i j k l m n o".split())
    given = [Span(type_, 2 * first, 2 * (first + n) - 1) for type_, first, n in found]
    kept = []
    for type_, first, n in sorted(found, key=lambda f: (-f[2], f[1])):
        if all(first + n <= a or b <= first for _, a, b in kept):
            kept.append((type_, first, first + n))
    tags, changes = spans.fit(text, given)
    assert entities(tags) == sorted(kept, key=lambda k: k[1])
    assert len(changes) == len(found) - len(kept)


@pytest.mark.parametrize("is_wrong", [False, True])
def test_a_long_text_takes_seconds(is_wrong):
    num = 6_000
    line = "Ann went to the town of old. "
    found = [Span("PER", at, at + 3 - is_wrong) for at in range(0, num * len(line), len(line))]
    example = Example(text=line * num, spans=tuple(found), location="here")
    began = time.process_time()
    parts = list(split(example, words))
    assert time.process_time() - began < 6  # half a minute, if each is compared with each
    assert len(parts) == num
    assert {part.tags for part, _ in parts} == {("B-PER", *"OOOOOOO")}
