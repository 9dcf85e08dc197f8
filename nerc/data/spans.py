"""Entities given by characters: checked against their text, then fitted to its words.

What has to be changed to fit is described; what cannot be trusted is an InputError, whose message
lacks the place of the text.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from operator import itemgetter
from typing import NamedTuple

from nerc.data.tags import Entity, entities, entity_tags, is_type
from nerc.data.words import Text
from nerc.errors import InputError


class Span(NamedTuple):
    """An entity by its characters."""

    type: str
    start: int
    end: int  # exclusive
    text: str | None = None  # what the span covers, as its file says
    place: str | None = None  # in its file, if messages shall give it


class Change(NamedTuple):
    """What did not fit, and what was done."""

    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}"


def of_tags(text: Text, tags: Sequence[str]) -> list[Span]:
    """The spans of the entities that IOB2 tags of the words give."""
    spans = []
    for type_, first, last in entities(tags):
        start, end = text.spans[first][0], text.spans[last - 1][1]
        spans.append(Span(type_, start, end, text.text[start:end]))
    return spans


def check(text: Text, spans: Sequence[Span]) -> tuple[list[Span], list[Change]]:
    """The spans with what they cover, without white space at their ends; and what was changed.

    JavaScript counts UTF-16 units: a character beyond U+FFFF counts twice. Where only that count
    gives the text that the spans state (or whole words, if they state none), the spans are
    converted. InputError where no count does.
    """
    changes = []
    if not all(_is_right(text, span) for span in spans):
        place = _by_utf16(text.text)
        converted = [_moved(span, place) for span in spans]
        are_right = all(span is not None and _is_right(text, span) for span in converted)
        if are_right and converted != list(spans):
            spans = converted
            changes.append(Change("offsets count UTF-16 units", "they were converted"))
    beyond = re.search("[\U00010000-\U0010ffff]", text.text)  # what counts twice
    num_plain = beyond.start() if beyond else len(text.text)
    checked = []
    for span in spans:
        covered = text.text[span.start : span.end]
        if fault := _fault(text, span, num_plain):
            raise InputError(fault)
        trimmed = covered.strip()
        if trimmed != covered:
            problem = f"{span.type} {covered!r} has white space at an end"
            changes.append(Change(problem, "it was removed"))
        start = span.start + len(covered) - len(covered.lstrip())
        checked.append(Span(span.type, start, start + len(trimmed), trimmed))
    return checked, changes


def _fault(text: Text, span: Span, num_plain: int) -> str | None:
    """Why a span cannot be trusted; num_plain: of characters before the first beyond U+FFFF."""
    which = f"the entity {span.start} to {span.end}" + (f" ({span.place})" if span.place else "")
    if not _is_within(text, span):
        return f"{which} is not within the text, which has {len(text.text)} characters"
    covered = text.text[span.start : span.end]
    if not covered.strip():
        return f"{which} covers white space alone"
    if not is_type(span.type):
        return (
            f"{which}, {covered!r}, has the type {span.type!r}, wanted a name such as PER, which "
            f"is no tag and has no blank, | or probability; convert renames types with --map"
        )
    if _is_right(text, span):
        return None
    if span.text is not None:
        return f"{which} covers {covered!r}, and not {span.text!r}"
    if span.end <= num_plain:
        return None
    return (
        f"{which}, {covered!r}, has no whole words, whether characters beyond U+FFFF count once "
        f"or, as in UTF-16, twice; correct the offsets"
    )


def _is_within(text: Text, span: Span) -> bool:
    return 0 <= span.start < span.end <= len(text.text)


def _is_right(text: Text, span: Span) -> bool:
    """Whether a span covers what it states, but for white space, or has whole words."""
    if not _is_within(text, span):
        return False
    if span.text is not None:
        return _plain(text.text[span.start : span.end]) == _plain(span.text)
    return _is_bound(text, span.start, 0) and _is_bound(text, span.end, 1)


def _is_bound(text: Text, place: int, side: int) -> bool:
    """Whether a word starts (side 0) or ends (side 1) at a place."""
    word = bisect_left(text.spans, place, key=itemgetter(side))
    return word < len(text.spans) and text.spans[word][side] == place


def _plain(text: str) -> str:
    """The text as tools may show it: a line end as a blank, or as two characters."""
    return re.sub(r"\s|\\n", " ", text).strip()


def _by_utf16(text: str) -> dict[int, int]:
    """The place of each character, by the number of UTF-16 units before it."""
    place, units = {}, 0
    for i, character in enumerate(text):
        place[units] = i
        units += 1 + (ord(character) > 0xFFFF)
    return place | {units: len(text)}


def _moved(span: Span, place: dict[int, int]) -> Span | None:
    if span.start not in place or span.end not in place:
        return None
    return span._replace(start=place[span.start], end=place[span.end])


def fit(text: Text, spans: Sequence[Span]) -> tuple[tuple[str, ...], list[Change]]:
    """IOB2 tags of the words for checked spans, and what was changed.

    A span that ends within a word gets the whole word. Of overlapping spans the longest is kept, of
    equally long ones the first.
    """
    starts, ends = [start for start, _ in text.spans], [end for _, end in text.spans]
    fitted, changes = [], []
    for span in spans:
        first, last = bisect_right(ends, span.start), bisect_left(starts, span.end)
        covered = text.text[span.start : span.end]
        if first >= last:
            raise InputError(f"{span.type} {covered!r} covers no word of {text.text!r}")
        start, end = starts[first], ends[last - 1]
        if (start, end) != (span.start, span.end):
            whole = text.text[start:end]
            problem = f"{span.type} {covered!r} begins or ends within a word"
            changes.append(Change(problem, f"it became {whole!r}"))
        fitted.append(Entity(span.type, first, last))
    tags = ["O"] * len(text.spans)
    kept: dict[int, Entity] = {}  # by each of their words
    for entity in sorted(fitted, key=_longest_first):
        # What is as long or longer, and overlaps, covers the first word or the last.
        others = [kept[word] for word in (entity.start, entity.end - 1) if word in kept]
        if entity in others:
            changes.append(Change(f"{_shown(text, entity)} is there twice", "one was kept"))
        elif others:
            other = min(others, key=_longest_first)
            problem = f"{_shown(text, entity)} overlaps {_shown(text, other)}"
            changes.append(Change(problem, "it was left out"))
        else:
            places = range(entity.start, entity.end)
            kept |= dict.fromkeys(places, entity)
            tags[entity.start : entity.end] = entity_tags(entity.type, len(places))
    return tuple(tags), changes


def _longest_first(entity: Entity) -> tuple[int, int]:
    return entity.start - entity.end, entity.start


def _shown(text: Text, entity: Entity) -> str:
    start, end = text.spans[entity.start][0], text.spans[entity.end - 1][1]
    return f"{entity.type} {text.text[start:end]!r}"
