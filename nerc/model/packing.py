"""Packs sequences of unlike length into the rows of a grid, so that little of it is padding."""

from collections import deque
from collections.abc import Sequence


def rounded_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def longest_first(lengths: Sequence[int]) -> deque[int]:
    """The numbers of the sequences of these lengths; not of empty ones."""
    numbers = (i for i, length in enumerate(lengths) if length)
    return deque(sorted(numbers, key=lambda i: -lengths[i]))


def take_rows(
    left: deque[int], lengths: Sequence[int], width: int, *, gap: int = 0, least: int = 0
) -> list[list[int]]:
    """Take sequences from left, which has the longest first, into rows of this width.

    Each row takes the longest sequence left, until that is shorter than least, and then the
    shortest ones that fit beside it, with a gap between any two.
    """
    rows = []
    while left and lengths[left[0]] >= least:
        row = [left.popleft()]
        room = width - lengths[row[0]]
        while left and gap + lengths[left[-1]] <= room:
            row.append(left.pop())
            room -= gap + lengths[row[-1]]
        rows.append(row)
    return rows
