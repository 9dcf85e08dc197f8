"""Reads texts that have no labels: lines of raw text or JSON, paragraphs, CoNLL columns."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from nerc import files
from nerc.data.columns import (
    NO_DOCUMENT,
    begins_document,
    is_header_wanted,
    is_label,
    num_counted,
    places,
    split_columns,
)
from nerc.data.sentences import split
from nerc.data.words import DOCSTART, Text
from nerc.errors import InputError

Numbered = Iterable[tuple[int, bytes]]  # numbers and lines of a file
Rows = Iterable[tuple[str, str, str | None]]  # location and text of a line, or what is wrong


@dataclass(frozen=True)
class Item(Text):
    """A text from the input, or what is wrong with its line."""

    location: str = ""
    error: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)  # of a JSON object, or of a sentence
    offset: int = 0  # characters before it in its file
    stretch: int = 0  # of the input, from 1; 0: of a pipe, which has none


def rows(numbered: Numbered, name: str) -> Iterator[tuple[str, str, str | None]]:
    """The location and the text of each line, or what is wrong with it."""
    for number, line in numbered:
        text, fault = "", None
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            fault = "is not UTF-8"
        if len(line) > files.MOST_LINE:
            fault = f"has more than {files.MOST_LINE:,} bytes"
        yield f"{name}:{number}", text.removesuffix("\n").removesuffix("\r"), fault


def of_lines(rows: Rows, read: Callable[[str], Item]) -> Iterator[Item]:
    """Each line is a text."""
    for location, line, fault in rows:
        item = Item(error=fault) if fault else read(line)
        yield replace(item, location=location)


def of_paragraphs(numbered: Numbered, name: str, first: int = 1, place: int = 0) -> Iterator[Item]:
    """The sentences of prose whose lines are wrapped; a blank line ends a paragraph.

    first: the number of the first line; place: characters before it.
    """
    parts, size, fault = [], 0, None  # size: in characters
    for number, line in chain(numbered, [(0, b"")]):
        location, error = f"{name}:{number}", None
        if len(line) > files.MOST_LINE:
            raise InputError(f"{location}: has more than {files.MOST_LINE:,} bytes; wrap its lines")
        codec = "utf-8-sig" if number == 1 else "utf-8"
        try:
            part = line.decode(codec)
        except UnicodeDecodeError:
            part, error = line.decode(codec, errors="replace"), "is not UTF-8"
        size += len(part)
        if size > files.MOST_LINE:
            error = f"is more than {files.MOST_LINE:,} characters after the last blank line"
        if error and fault is None:
            error = f"{error}, so its paragraph, from {name}:{first} on, is not read"
            fault = Item(location=location, error=error)
            parts.clear()
        if part.strip():
            parts += [] if fault else [part]
            continue
        if fault:
            yield fault
        else:
            yield from of_paragraph("".join(parts), name, first, place)
        place += size
        parts, first, size, fault = [], number + 1, 0, None


def of_paragraph(text: str, name: str, line: int, place: int) -> Iterator[Item]:
    """The sentences of a paragraph that begins at a line and a place, in characters, of a file."""
    seen, document = 0, line
    for start, end in split(text):
        line += text.count("\n", seen, start)
        seen = start
        fields = {"file": name, "start": place + start, "end": place + end}
        about = {"location": f"{name}:{line}", "fields": fields, "offset": place + start}
        yield replace(Item.of_wrapped(text[start:end]), document=document, **about)


def of_object(line: str) -> Item:
    """The text of a line of JSON."""
    try:
        value = files.parse_json(line)
    except InputError as error:
        return Item(error=str(error))
    fields = value if isinstance(value, dict) else {}
    text, words = fields.get("text"), fields.get("words")
    if isinstance(text, str) and words is None:
        return replace(Item.of(text), fields=fields)
    if text is None and is_words(words):
        return replace(Item.of_words(words), fields=fields)
    wanted = 'wanted {"text": "..."} or {"words": ["...", ...]}, words without blanks'
    return Item(error=wanted, fields=fields)


def is_words(value: Any) -> bool:
    """Whether value is a list of words that are not empty and have no white space."""
    return isinstance(value, list) and all(isinstance(w, str) and w.split() == [w] for w in value)


@dataclass
class Head:
    """What the head of a file of CoNLL columns tells of the lines after it."""

    place: int | None = None  # of the column of the words, where --columns names it
    all_counted: bool = True  # whether the lines of every text so far are counted


def of_conll(rows: Rows, given: str | None, head: Head | None = None) -> Iterator[Item]:
    """A column holds words, the first one unless --columns (given) names another.

    Empty lines separate texts. Lines that begin with # at the head of a text are comments, unless
    they have the columns of its last line. Numbers that count the lines of a text are refused
    without --columns; a single one, where each text before it has such numbers, too. head: what the
    lines before tell; it learns from these.
    """
    head, document = head or Head(), 0
    sentence: list[tuple[str, str, str | None]] = []
    for location, line, fault in chain(rows, [("", "", None)]):
        cells = ["?"] if fault else split_columns(line)
        has_words = cells[:1] == [DOCSTART] and any(row[1][:1] != "#" for row in sentence)
        if cells and not begins_document(cells, in_sentence=has_words):
            if head.place is None and given is not None and cells[0][:1] != "#":
                head.place = places(given, cells)[0]
                if is_header_wanted(given):
                    continue
            sentence.append((location, line, fault))
            continue
        while sentence and is_comment(sentence[0][1], sentence[-1][1]):
            del sentence[0]
        if sentence:
            item = of_sentence(sentence, head.place or 0)
            table = [] if given or item.error else [split_columns(row[1]) for row in sentence]
            size = num_counted(table)
            head.all_counted &= size > 0 or item.error is not None
            if size > 1 or (size == 1 and head.all_counted):
                error = "column 1 counts the words; say by --columns which one holds them, such as "
                item = Item(location=item.location, error=f"{error}2 (1 if they are words)")
            yield replace(item, document=document)
        sentence = []
        document += bool(cells)


def is_comment(line: str, last: str) -> bool:
    """Whether the first line of a text is a comment; last: its last line."""
    cells = split_columns(line)
    if line is last:  # it stands alone
        return line[:1] == "#" and len(cells) > 1 and not is_label(cells[-1])
    is_alike = len(cells) == len(split_columns(last)) and ("\t" in line) == ("\t" in last)
    return line[:1] == "#" and not is_alike


def of_sentence(lines: Sequence[tuple[str, str, str | None]], place: int) -> Item:
    """The words of a sentence, or the first fault: without one of its words it is another one."""
    first = lines[0][0]
    table = [split_columns(line) for _, line, _ in lines]
    for (location, _, fault), cells in zip(lines, table, strict=True):
        if fault is None and not "".join(cells[place : place + 1]):
            fault = f"has no word in column {place + 1}"
        elif fault is None and cells[0] == DOCSTART:
            fault = f"the line {NO_DOCUMENT}"
        if fault:
            error = f"{fault}, so its sentence, from {first} on, is not read"
            return Item(location=location, error=error)
    return replace(Item.of_words(cells[place] for cells in table), location=first)
