"""Sequences of unlike length in the rows of a grid."""

import random

import pytest

from nerc.model.packing import longest_first, rounded_up, take_rows


@pytest.mark.parametrize("gap", [0, 1, 3])
@pytest.mark.parametrize("least", [0, 11])
def test_rows_hold_each_sequence_once_and_are_no_wider_than_asked(gap, least):
    draw = random.Random(0)
    for _ in range(50):
        lengths = [draw.randint(0, 20) for _ in range(draw.randint(1, 40))]
        left = longest_first(lengths)
        assert [lengths[i] for i in left] == sorted(filter(None, lengths), reverse=True)
        rows = take_rows(left, lengths, 20, gap=gap, least=least)
        held = [i for row in rows for i in row]
        assert sorted([*held, *left]) == [i for i, length in enumerate(lengths) if length]
        assert all(sum(lengths[i] for i in row) + gap * (len(row) - 1) <= 20 for row in rows)
        assert all(lengths[row[0]] >= least for row in rows)
        assert all(lengths[i] < least for i in left)


def test_a_row_takes_the_longest_sequence_and_then_the_shortest():
    lengths = [9, 2, 9, 3, 1]
    assert take_rows(longest_first(lengths), lengths, 16) == [[0, 4, 1, 3], [2]]
    assert take_rows(longest_first(lengths), lengths, 16, gap=1) == [[0, 4, 1], [2, 3]]


def test_sequences_shorter_than_the_least_are_taken_only_beside_longer_ones():
    lengths, left = [9, 5, 4], longest_first([9, 5, 4])
    assert take_rows(left, lengths, 13, least=6) == [[0, 2]] and [*left] == [1]


def test_rounded_up():
    assert [rounded_up(size, 8) for size in (0, 1, 8, 9)] == [0, 8, 8, 16]
