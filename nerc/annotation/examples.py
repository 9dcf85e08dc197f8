"""Annotated texts as files and tools of other people have them, and the sentences in them."""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nerc.data import sentences, spans
from nerc.data.corpus import Sentence
from nerc.data.spans import Change, Span
from nerc.data.words import Text, words
from nerc.errors import Faults, InputError

Places = tuple[tuple[int, int], ...]  # start and end (exclusive) of pieces of a text
Cut = Callable[[str], Sequence[tuple[int, int]]]  # finds the words of a text


@dataclass(frozen=True, kw_only=True)
class Example:
    """A text with its entities, as one person or one file gives them."""

    text: str
    spans: tuple[Span, ...]
    location: str
    words: Places | None = None  # None: the file has no words
    document: str | None = None  # its name
    id: str | None = None
    annotator: str | None = None
    answer: str | None = "accept"  # or skip; None: not answered yet
    score: float | None = None  # confidence in a proposal, 0 to 1
    proposal: bool = False  # whether a model made the spans
    left_out: tuple[str, ...] = ()  # what else its file says of it

    @property
    def tags(self) -> tuple[str, ...]:
        """IOB2 tags of the words, which the spans must fit."""
        tags, changes = spans.fit(Text(self.text, self.words), self.spans)
        assert not changes, changes
        return tags


@dataclass(frozen=True)
class Source:
    """A file of examples, or a folder, and what its reader has to say of it."""

    path: Path
    columns: str | None = None  # --columns, for formats that have columns
    faults: Faults = field(default_factory=Faults)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Target:
    """Where examples are written, and how."""

    path: Path  # a new file, or a new folder
    scheme: str = "iob2"  # of the tags, for formats that have tags
    types: tuple[str, ...] = ()  # that a question allows


def of_sentence(sentence: Sentence, location: str) -> Example:
    """The example of a sentence, whose text is its words with a blank between them."""
    text = Text.of_words(sentence.words)
    return Example(
        text=text.text,
        spans=tuple(spans.of_tags(text, sentence.tags)),
        location=location,
        words=text.spans,
    )


def split(example: Example, cut: Cut) -> Iterator[tuple[Example, list[Change]]]:
    """The sentences of an example, whose spans fit words, each with what was changed.

    An example with words is one sentence. Else its text is cut into words and into sentences; an
    entity is never divided.
    """
    text = Text(example.text, example.words or tuple(cut(example.text)))
    checked, changes = spans.check(text, example.spans)
    if example.words is not None:
        yield _fitted(example, text, checked, changes)
        return
    bounds = _without_divided(sentences.split(example.text), checked)
    starts = [start for start, _ in text.spans]
    for number, (start, end) in enumerate(bounds, start=1):
        first, last = bisect_left(starts, start), bisect_left(starts, end)
        places = tuple((a - start, b - start) for a, b in text.spans[first:last])
        if not places:
            continue
        own = [s._replace(start=s.start - start, end=s.end - start) for s in checked]
        own = [s for s in own if 0 <= s.start < end - start]
        part = replace(example, text=example.text[start:end], words=places)
        if len(bounds) > 1:
            name = example.document or example.id or example.location
            id = example.id and f"{example.id}.{number}"
            part = replace(part, document=name, id=id)
        yield _fitted(part, Text(part.text, places), own, changes)
        changes = []


def _without_divided(bounds: Places, checked: Sequence[Span]) -> list[tuple[int, int]]:
    """The sentences, joined where an entity begins in one and ends in the next."""
    joined: list[tuple[int, int]] = []
    for start, end in bounds:
        if joined and any(s.start < joined[-1][1] and s.end > start for s in checked):
            joined[-1] = joined[-1][0], end
        else:
            joined.append((start, end))
    return joined


def _fitted(
    example: Example, text: Text, checked: Sequence[Span], changes: list[Change]
) -> tuple[Example, list[Change]]:
    tags, more = spans.fit(text, checked)
    fitted = tuple(spans.of_tags(text, tags))
    return replace(example, spans=fitted, words=text.spans), [*changes, *more]


# ------------------------------------------------------------ how texts are cut into words


def cutter(name: str) -> Cut:
    """The cutter of words that --words names."""
    if name == "rules":
        return words
    if name == "blanks":
        return lambda text: [match.span() for match in re.finditer(r"[^ \t\r\n]+", text)]
    raise InputError(f"--words {name}: wanted rules or blanks")
