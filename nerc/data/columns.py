"""Finds out which columns of a file hold words and tags; refuses what is not certain.

Words may follow a number, and tags may stand in several columns. What the first sentences of a file
leave open, --columns decides.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from nerc.data.tags import SPECIAL_TAGS, is_tag
from nerc.data.words import DOCSTART
from nerc.errors import InputError

SNIFFED = 1000  # sentences at the head of a file, by which its columns are told
# Types of chunks (Tjong Kim Sang & Buchholz 2000), which CoNLL-2003 has in a column of their own.
_CHUNKS = set("NP VP PP ADVP ADJP SBAR PRT CONJP INTJ LST UCP PNP".split())
_NAME = re.compile(r"(?![BIESLUM](?:-|$))[\w -]+")  # of a column; B and B- are tags without a type
_LANGUAGE = re.compile(r"([a-z]{2,3}(?:-[a-z]+)?:)\S.*")  # en:Paris, as in WikiANN

Line = tuple[int, list[str]]  # its number in the file, from 1, and its cells

NO_DOCUMENT = (
    f"{DOCSTART} begins a document only after an empty line, and with no tag or O; put an empty "
    f"line before it, or another word in its place"
)


class Unclear(InputError):
    """Which columns hold what is not certain; the message lacks the name of the file."""


class Block(NamedTuple):
    """The lines of a sentence, and the number of its document."""

    document: int
    marked: list[Line]  # at its head, which begin with #: comments, or words
    lines: list[Line]


@dataclass(frozen=True)
class Columns:
    """Which columns hold what, counted from 0."""

    count: int  # of every line
    word: int
    tag: int | None  # None: only words are read
    index: int | None = None  # where the first one begins to count the words of each sentence
    prefix: str = ""  # that every word of the file has, and that is not part of it

    def is_row(self, cells: Sequence[str], is_cell: Callable[[str], bool]) -> bool:
        """Whether a line that begins with # is a word with its tag, and not a comment."""
        if len(cells) != self.count or (self.index is not None and cells[0] != str(self.index)):
            return False
        return self.tag is None or is_cell(cells[self.tag])

    def __str__(self) -> str:
        place = f"word in column {self.word + 1}"
        if self.tag is not None:
            place += f", tag in column {self.tag + 1}"
        without = f", {self.prefix!r} removed from every word" if self.prefix else ""
        return f"{place} of {self.count}{without}"


def split_columns(line: str) -> list[str]:
    """Cells of a line, none for a separator; between tabs, a word may hold blanks, or be absent."""
    if not line.strip():
        # A no-break space with a tag is a word; alone it is white space, which separates sentences.
        return []
    line = line.rstrip(" \t\r\n")
    if "\t" in line:
        return [cell.strip(" ") for cell in line.split("\t")]
    return [cell for cell in line.split(" ") if cell]


def begins_document(cells: Sequence[str], *, in_sentence: bool) -> bool:
    """Whether a line begins a document: without a tag, and, in a sentence, with the cell -X-."""
    if cells[0] != DOCSTART or any(is_tag(cell) and cell != "O" for cell in cells):
        return False
    return not in_sentence or "-X-" in cells


def blocks(lines: Iterable[tuple[int, str]]) -> Iterator[Block]:
    """The sentences of numbered lines, which end at empty lines and where documents begin."""
    document = 0
    block = Block(document, [], [])
    for number, text in lines:
        cells = split_columns(text)
        if cells and not begins_document(cells, in_sentence=bool(block.lines)):
            is_marked = cells[0][:1] == "#" and not block.lines
            (block.marked if is_marked else block.lines).append((number, cells))
            continue
        if block.marked or block.lines:
            yield block
        document += bool(cells)
        block = Block(document, [], [])
    if block.marked or block.lines:
        yield block


def is_label(cell: str) -> bool:
    """Whether a cell is a tag, or a special tag, which means no label."""
    return is_tag(cell) or cell in SPECIAL_TAGS


def num_counted(table: Sequence[Sequence[str]]) -> int:
    """How many of a sentence's lines a first column of several counts, from 0 or 1; else 0."""
    # CoNLL-U has lines of contractions, 1-2, and of words that are not in the text, 8.1, too.
    numbers = [cells[0] for cells in table if not re.fullmatch(r"[0-9]+[-.][0-9]+", cells[0])]
    first = int(numbers[:1] == ["1"])
    is_counted = numbers == [str(i) for i in range(first, first + len(numbers))]
    return len(numbers) if is_counted and all(len(cells) > 1 for cells in table) else 0


def is_header_wanted(given: str | None) -> bool:
    """Whether --columns names columns by the cells of a header, and not by numbers."""
    return given is not None and not re.fullmatch(r"[0-9]+(,[0-9]+)?", given)


def take_header(lines: Iterator[tuple[int, str]], given: str) -> list[str]:
    """The cells of the first line that has what --columns names, or that is no comment."""
    for _, text in lines:
        cells = split_columns(text)
        if cells and (set(given.split(",")) <= set(cells) or cells[0][:1] != "#"):
            return cells
    return []


def places(given: str, cells: Sequence[str]) -> list[int]:
    """The columns that --columns names; cells: of the header, or of the first line for numbers."""
    names = given.split(",")
    if not is_header_wanted(given):
        found = [int(name) - 1 for name in names]
        if 0 <= min(found) and max(found) < len(cells):
            return found
        raise Unclear(f"--columns {given}: the first line has {len(cells)} columns, from 1")
    if missing := [name for name in names if name not in cells]:
        shown = ", ".join(cells[:20])
        raise Unclear(f"--columns {given}: the first line has no cell {missing[0]!r}, only {shown}")
    if repeated := [name for name in names if cells.count(name) > 1]:
        raise Unclear(
            f"--columns {given}: the first line has {cells.count(repeated[0])} cells "
            f"{repeated[0]!r}; rename all but one, or delete the line and give numbers"
        )
    return [cells.index(name) for name in names]


def understand(
    head: Sequence[Block],
    given: str | None,
    header: Sequence[str] | None,
    is_cell: Callable[[str], bool] | None,
) -> Columns:
    """The columns of a file, by its first sentences, or by --columns (given) and a header.

    is_cell: whether a cell can be that of a tag; None: only words are read. Raises Unclear where
    the columns are not certain.
    """
    head = [block for block in head if block.lines] or [b._replace(lines=b.marked) for b in head]
    head = _without_faults(head) or head
    count = len(header or head[0].lines[0][1])
    table = [cells for block in head for _, cells in block.lines if len(cells) == count]
    index = None
    if given is not None:
        word, *others = places(given, header or head[0].lines[0][1])
        tag = None if is_cell is None else others[0]
    else:
        index = _index(head, count)
        word = int(index is not None)
        tag = None if is_cell is None else _find_tag(table, word, is_cell)
        if tag is not None and not is_cell(table[0][tag]):
            _check_header(table, is_cell, is_first=head[0].document == 0)
    return Columns(count, word, tag, index, _common_prefix(row[word] for row in table))


def _without_faults(head: Sequence[Block]) -> list[Block]:
    """The sentences without lines that should begin a document (NO_DOCUMENT)."""
    found = [b._replace(lines=[row for row in b.lines if row[1][0] != DOCSTART]) for b in head]
    return [block for block in found if block.lines]


def _index(head: Sequence[Block], count: int) -> int | None:
    """Where the first column begins to count the words of every sentence; None: it holds words."""
    lines = [cells for block in head for _, cells in block.lines]
    numbers = [cells[0] for cells in lines]
    if not all(re.fullmatch(r"[0-9]+(?:[-.][0-9]+)?", number) for number in numbers):
        return None
    for start in (0, 1):
        counted = [str(i) for block in head for i in range(start, start + len(block.lines))]
        if counted == numbers and count > 2 and len(lines) > 2:
            return start
        if counted == numbers and (count > 2 or len(lines) > 2):
            raise Unclear(
                "column 1 counts words, or they are numbers; give --columns, such as "
                f"{'1,2' if count == 2 else f'2,{count}'}"
            )
    if len(lines) > (2 if count > 2 else 10) and count > 1:
        raise Unclear("column 1 holds nothing but numbers; give --columns, such as 2,3")
    return None


def _find_tag(table: Sequence[Sequence[str]], word: int, is_cell: Callable[[str], bool]) -> int:
    """The column of the tags: the last one, unless another is certain to be it."""
    last = len(table[0]) - 1
    if last <= word:
        return last
    types: dict[int, set[str]] = {}  # of the columns that hold tags alone
    for place in range(word + 1, last + 1):
        cells = {row[place] for row in table}
        if all(map(is_cell, cells)):
            types[place] = {cell[2:] for cell in cells if cell[1:2] == "-"}
    named = [place for place, found in types.items() if found and not found <= _CHUNKS]
    if named == [last] or not named or (last not in types and _looks_like_tags(table, last)):
        return last
    if len(named) > 1 or last in types:
        shown = [p for p in types if p in (*named, last)]
        found = [f"column {p + 1}: {', '.join(sorted(types[p])[:4]) or 'O alone'}" for p in shown]
        flags = " or ".join(f"{word + 1},{p + 1}" for p in shown)
        raise Unclear(f"several columns hold tags ({'; '.join(found)}), so give --columns {flags}")
    return named[0]


def _check_header(
    table: Sequence[Sequence[str]], is_cell: Callable[[str], bool], *, is_first: bool
) -> None:
    """Raise Unclear where a column has a cell that is no tag only in the first line.

    is_first: whether no document begins before that line; --columns takes names only from there.
    """
    names, *rows = table
    has_numbers = len(names) > 2 and all(row[0].isdecimal() for row in rows)
    word = int(has_numbers)
    found = []
    for place in range(word + 1, len(names)):
        cells = {row[place] for row in rows}
        types = {cell[2:] for cell in cells if cell[1:2] == "-"}
        is_named = types and not types <= _CHUNKS and all(map(is_cell, cells))
        if is_named and _NAME.fullmatch(names[place]):
            found.append(place)
    if not found or any(map(is_cell, names)):
        return
    flags = [f"{names[word]},{names[place]}" for place in found]
    can_name = is_first and all(re.fullmatch(r"[^\s,]*[^\s,\d][^\s,]*,[^\s,]+", f) for f in flags)
    is_once = all(names.count(names[place]) == 1 for place in (word, *found))
    advice = f"give --columns {' or '.join(flags)}" if can_name and is_once else "delete it"
    raise Unclear(
        f"the first line looks like a header, as {names[found[0]]!r} in column {found[0] + 1} is "
        f"no tag, and the cells below it are; {advice}, or, if it is a word, correct its tag"
    )


def _looks_like_tags(table: Sequence[Sequence[str]], place: int) -> bool:
    """Whether a column has a tag with a type somewhere: then its other cells are faults."""
    return any(is_tag(row[place]) and row[place] != "O" for row in table)


def _common_prefix(words: Iterable[str]) -> str:
    """The language that every word begins with (en:), if there is one."""
    words = iter(words)
    first = next(words, "")
    match = _LANGUAGE.fullmatch(first)
    prefix = match[1] if match else ""
    others = set(chain([first], words))
    is_common = all(word.startswith(prefix) and len(word) > len(prefix) for word in others)
    return prefix if len(others) > 1 and is_common else ""
