"""Tables of words (CSV, RFC 4180): a word a row, with its tag and the sentence that it is in.

Nothing in a cell is interpreted: NA, null, 007 and quotes are words.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from nerc import files
from nerc.annotation.examples import Example, Source, Target, of_sentence
from nerc.data.corpus import Sentence
from nerc.data.tags import is_tag, to_iob2, to_scheme
from nerc.errors import InputError

Row = tuple[int, list[str]]  # the number of its line, and its cells

# Names of columns, in small letters and digits alone: "Sentence #" is sentence.
_NAMES = {
    "word": ("word", "words", "token", "tokens", "form"),
    "tag": ("tag", "tags", "ner", "nertag", "nertags", "label", "labels", "iob", "bio"),
    "sentence": ("sentence", "sentenceid", "sentenceno", "sentencenumber", "sentenceidx"),
    "id": ("sentid",),
    "document": ("document", "documentid", "doc", "docid"),
}
_HEADER = ["document", "sentence", "sent_id", "word", "tag"]


def read_csv(source: Source) -> Iterator[Example]:
    """The sentences of a table; another cell in one of three columns, or an empty row, ends one."""
    places, count, rows = _columns(source, _rows(source))
    num_blocks = 0
    for block in _blocks(rows, places):
        num_blocks += 1
        faults = [(line, fault) for line, cells in block if (fault := _fault(cells, places, count))]
        for line, fault in faults:
            source.faults.add(f"{source.path}:{line}", fault)
        if faults:
            continue
        line, first = block[0]
        words = tuple(_cell(cells, places["word"]) for _, cells in block)
        tags = to_iob2([_cell(cells, places["tag"]) for _, cells in block])
        sentence = Sentence(words, tuple(tags), f"{source.path}:{line}", 0)
        id, document = (_cell(first, places.get(name)) or None for name in ("id", "document"))
        yield of_sentence(sentence, id, document)
    if num_blocks == 1 and not {"sentence", "id"} & set(places):
        raise InputError(
            f"{source.path}: no empty row, and no column named sentence, tells where sentences end"
        )


def _rows(source: Source) -> Iterator[Row]:
    text = files.read_text(source.path, newline="")
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            yield reader.line_num, cells
    except csv.Error as error:
        raise InputError(
            f"{source.path}:{reader.line_num}: {error}; a cell that holds a quote or a separator "
            f"stands between quotes, and has its own quotes twice"
        ) from None


def _columns(source: Source, rows: Iterator[Row]) -> tuple[dict[str, int], int, Iterator[Row]]:
    """Where the columns are, by the first row or --columns; their number; the rows of words."""
    line, header = next(rows, (1, []))
    names = [re.sub(r"[\W_]", "", cell).lower() for cell in header]
    found = {
        name: [place for place, cell in enumerate(names) if cell in aliases]
        for name, aliases in _NAMES.items()
    }
    if source.columns is not None:
        numbers = {str(place + 1): place for place in range(len(header))}
        cells = {cell.strip(): place for place, cell in enumerate(header)}
        for name, column in zip(("word", "tag"), source.columns.split(","), strict=True):
            found[name] = [p for p in [numbers.get(column, cells.get(column))] if p is not None]
    for name in ("word", "tag"):
        if len(found[name]) != 1:
            number = f"{len(found[name])} of the columns" if found[name] else "none of the columns"
            raise InputError(
                f"{source.path}:{line}: {number} {', '.join(header[:10])} "
                f"{'are' if found[name] else 'is'} named as that of the {name}; give --columns "
                f"WORD,TAG, their names or numbers"
            )
    places = {name: where[0] for name, where in found.items() if where}
    if is_tag(header[places["tag"]].strip()):  # there is no header
        rows = chain([(line, header)], rows)
    return places, len(header), rows


def _blocks(rows: Iterable[Row], places: dict[str, int]) -> Iterator[list[Row]]:
    """The rows of each sentence; an empty cell means that the sentence goes on."""
    marks = [places[name] for name in ("sentence", "id", "document") if name in places]
    block: list[Row] = []
    for line, cells in rows:
        is_row = any(cells)
        if block and not (is_row and _is_same(block[0][1], cells, marks)):
            yield block
            block = []
        if is_row:
            block.append((line, cells))
    if block:
        yield block


def _is_same(first: Sequence[str], cells: Sequence[str], marks: Sequence[int]) -> bool:
    """Whether a row continues the sentence that the row first begins."""
    return all(cells[mark : mark + 1] in ([""], [], first[mark : mark + 1]) for mark in marks)


def _cell(cells: Sequence[str], place: int | None) -> str:
    """A cell without blanks around it, as in columns; "" where there is no such column."""
    return "" if place is None else cells[place].strip(" ")


def _fault(cells: Sequence[str], places: dict[str, int], count: int) -> str | None:
    if len(cells) != count:
        return f"found {len(cells)} cells, wanted {count}, as in the first row"
    word, tag = cells[places["word"]], _cell(cells, places["tag"])
    if not word.strip():
        return "the word is empty"
    if re.search(r"[\t\r\n]", word):
        return f"the word {word[:60]!r} has a tab or a line end; a quote in a cell is written twice"
    if not is_tag(tag):
        return f"{tag[:60]!r} is no tag, wanted O or one such as B-PER; or give --columns"
    return None


def write_csv(examples: Iterable[Example], target: Target) -> None:
    """A row for each word, with the number and the name of its sentence."""
    with target.path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_HEADER)
        for number, example in enumerate(examples, start=1):
            tags = to_scheme(example.tags, target.scheme)
            about = [example.document or "", number, example.id or ""]
            for (start, end), tag in zip(example.words, tags, strict=True):
                writer.writerow([*about, example.text[start:end], tag])
