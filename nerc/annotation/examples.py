"""Annotated texts as files and tools of other people have them, and the sentences in them."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

from nerc.data import sentences, spans
from nerc.data.corpus import Sentence
from nerc.data.spans import Change, Span
from nerc.data.tags import NOT_ASKED
from nerc.data.words import Text, is_seen, words
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
    asked: tuple[int, ...] | None = None  # the numbers of the words that have labels; None: all
    left_out: tuple[str, ...] = ()  # what else its file says of it

    @property
    def word_texts(self) -> tuple[str, ...]:
        """The words; () where the file has none."""
        return tuple(self.text[start:end] for start, end in self.words or ())

    @property
    def blanks(self) -> list[bool]:
        """Whether something stands between each word and the next; after the last, a blank does."""
        starts = [*(start for start, _ in self.words[1:]), len(self.text) + 1]
        return [start > end for start, (_, end) in zip(starts, self.words, strict=True)]

    @property
    def tags(self) -> tuple[str, ...]:
        """IOB2 tags of the words; InputError where the spans do not fit them."""
        tags, changes = spans.fit(Text(self.text, self.words), self.spans)
        if changes:
            raise InputError(f"{self.location}: {changes[0].problem}")
        return with_asked(tags, self.asked)

    def asked_places(self) -> list[tuple[int, int]]:
        """Where each run of neighbouring words that are asked starts and ends in the text."""
        runs: list[tuple[int, int]] = []
        for i in self.asked or ():
            start, end = self.words[i]
            if i and runs and runs[-1][1] == self.words[i - 1][1]:
                start = runs.pop()[0]
            runs.append((start, end))
        return runs

    def line_words(self) -> tuple[str, ...]:
        """The words, all seen, none of which breaks a line or a column; else InputError."""
        words = self.word_texts
        odd = [word for word in words if word != word.strip(" ") or re.search(r"[\t\r\n]", word)]
        if odd:
            raise InputError(f"{self.location}: the word {odd[0]!r} cannot stand in columns")
        if unseen := [word for word in words if not is_seen(word)]:
            raise InputError(
                f"{self.location}: the word {unseen[0]!r} has no character that is seen; remove it"
            )
        return words

    def comment(self, name: str, value: str) -> str:
        """A line that names the sentence (sent_id) or its document (newdoc id)."""
        if re.search(r"[\r\n]", value):
            raise InputError(f"{self.location}: its {name} {value!r} does not fit into a line")
        return f"# {name} = {value}\n"


@dataclass(frozen=True)
class Source:
    """A file of examples, or a folder, and what its reader has to say of it."""

    path: Path
    columns: str | None = None  # --columns, for formats that have columns
    partly: bool = False  # whether an example may have labels for some of its words alone
    faults: Faults = field(default_factory=Faults)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Target:
    """Where examples are written, and how."""

    path: Path  # a new file, or a new folder
    scheme: str = "iob2"  # of the tags, for formats that have tags
    types: tuple[str, ...] = ()  # that a question allows
    inventory: tuple[str, ...] = ()  # types of all the files that are written together


def with_asked(tags: tuple[str, ...], asked: Collection[int] | None) -> tuple[str, ...]:
    """IOB2 tags with NOT_ASKED for each O whose word is not asked; None: all are."""
    if asked is None:
        return tags
    return tuple(NOT_ASKED if t == "O" and i not in asked else t for i, t in enumerate(tags))


def of_tags(
    text: Text, tags: Sequence[str], location: str, id: str | None, document: str | None
) -> Example:
    """The example of a sentence: a text with words, and IOB2 tags of them."""
    return Example(
        text=text.text,
        spans=tuple(spans.of_tags(text, tags)),
        location=location,
        words=text.spans,
        document=document,
        id=id,
    )


def of_sentence(sentence: Sentence, id: str | None, document: str | None) -> Example:
    """The example of a sentence, whose text is its words with a blank between them."""
    text = Text.of_words(sentence.words)
    return of_tags(text, sentence.tags, sentence.location, id, document)


def split(example: Example, cut: Cut) -> Iterator[tuple[Example, list[Change]]]:
    """The sentences of an example, whose spans fit words, each with what was changed.

    An example with words is one sentence. Else its text is cut into words and into sentences; an
    entity is never divided.
    """
    text = Text(example.text, example.words or tuple(cut(example.text)))
    checked, changes = spans.check(text, example.spans)
    parts = [replace(example, words=text.spans, spans=tuple(checked))]
    if example.words is None:
        parts = divided(parts[0], sentences.split(example.text))
    name = example.document or example.id or example.location
    for number, part in enumerate(parts, start=1):
        if len(parts) > 1:
            id = example.id and f"{example.id}.{number}"
            part = replace(part, document=name, id=id)
        text = Text(part.text, part.words)
        tags, more = spans.fit(text, part.spans)
        yield replace(part, spans=tuple(spans.of_tags(text, tags))), [*changes, *more]
        changes = []


def divided(
    example: Example, bounds: Sequence[tuple[int, int]], ids: Sequence[str | None] | None = None
) -> list[Example]:
    """The sentences of an example with words; bounds: where they start and end; ids: their names.

    Two sentences are joined where a word or an entity begins in one and ends in the other.
    """
    starts = [0, *(start for start, _ in bounds[1:])]
    joined = set()  # sentences that continue the one before
    for start, end in [*example.words, *((span.start, span.end) for span in example.spans)]:
        joined |= set(range(bisect_right(starts, start), bisect_left(starts, end)))
    firsts = [number for number in range(len(starts)) if number not in joined]
    before = [start for start, _ in example.words]
    begun = [starts[number] for number in firsts]
    own: dict[int, list[Span]] = {}  # by where their part begins
    for span in example.spans:
        own.setdefault(begun[bisect_right(begun, span.start) - 1], []).append(span)
    parts = []
    for first, after in zip(firsts, [*firsts[1:], None], strict=True):
        end = len(example.text) if after is None else starts[after]
        words = example.words[bisect_left(before, starts[first]) : bisect_left(before, end)]
        if not words:
            continue
        start, last = words[0][0], words[-1][1]
        part = replace(
            example,
            text=example.text[start:last],
            words=tuple((a - start, b - start) for a, b in words),
            spans=tuple(
                s._replace(start=s.start - start, end=s.end - start)
                for s in own.get(starts[first], ())
            ),
            id=ids[first] if ids else example.id,
            left_out=() if parts else example.left_out,
        )
        parts.append(part)
    return parts


# ------------------------------------------------------------ how texts are cut into words


def cutter(name: str) -> Cut:
    """The cutter of words that --words names."""
    if name == "rules":
        return words
    if name == "blanks":
        return lambda text: [match.span() for match in re.finditer(r"[^ \t\r\n]+", text)]
    spacy, language = import_spacy(f"--words {name}"), name.partition(":")[2]
    try:
        tokenizer = spacy.blank(language).tokenizer
    except ImportError as error:  # of the language, or of a library that it needs
        raise InputError(f"--words {name}: {error}") from None
    return lambda text: [
        (token.idx, token.idx + len(token)) for token in tokenizer(text) if not token.is_space
    ]


def import_spacy(what: str) -> ModuleType:
    """The library spaCy, which what needs."""
    try:
        return import_module("spacy")
    except ImportError as error:
        raise InputError(f"{what} needs the library spaCy; pip install spacy ({error})") from None
