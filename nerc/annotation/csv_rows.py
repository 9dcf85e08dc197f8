"""Tables of words (CSV, RFC 4180): a word a row, with its tag and the sentence that it is in.

Nothing in a cell is interpreted: NA, null, 007 and quotes are words.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice

from nerc import files
from nerc.annotation.examples import Example, Source, Target, of_sentence
from nerc.data.columns import SNIFFED, is_header_wanted
from nerc.data.conll import bare_note, is_bare_type
from nerc.data.corpus import Sentence
from nerc.data.tags import entities, is_tag, to_iob2, to_scheme
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
    header, places, rows = _columns(source, _rows(source))
    count, num_blocks = len(header[1]), 0
    head = list(islice(rows, SNIFFED))
    is_bare = source.columns is not None and _is_bare(head, places["tag"])
    rows = chain(head, rows)
    if not _is_header(source, header, head, places["tag"], is_bare=is_bare):
        rows = chain([header], rows)
    sizes: list[int] = []  # words of each entity
    fault_of = partial(_fault, places=places, count=count, is_bare=is_bare)
    for block in _blocks(rows, places):
        num_blocks += 1
        faults = [(line, fault) for line, cells in block if (fault := fault_of(cells))]
        for line, fault in faults:
            source.faults.add(f"{source.path}:{line}", fault)
        if faults:
            continue
        line, first = block[0]
        words = tuple(_cell(cells, places["word"]) for _, cells in block)
        tags = [_cell(cells, places["tag"]) for _, cells in block]
        tags = to_iob2([f"I-{tag}" if is_bare and tag != "O" else tag for tag in tags])
        sizes += [entity.end - entity.start for entity in entities(tags)]
        sentence = Sentence(words, tuple(tags), f"{source.path}:{line}", 0)
        id, document = (_cell(first, places.get(name)) or None for name in ("id", "document"))
        yield of_sentence(sentence, id, document)
    if is_bare:
        source.notes.append(bare_note(source.path, sizes))
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


def _columns(source: Source, rows: Iterator[Row]) -> tuple[Row, dict[str, int], Iterator[Row]]:
    """The first row, where the columns are, by it or by --columns, and the other rows."""
    line, header = next(rows, (1, []))
    names = [re.sub(r"[\W_]", "", cell).lower() for cell in header]
    found = {
        name: [place for place, cell in enumerate(names) if cell in aliases]
        for name, aliases in _NAMES.items()
    }
    if source.columns is not None:
        numbers = {str(place + 1): [place] for place in range(len(header))}
        for name, column in zip(("word", "tag"), source.columns.split(","), strict=True):
            named = [place for place, cell in enumerate(header) if cell.strip() == column]
            found[name] = numbers.get(column, named)
    for name in ("word", "tag"):
        if len(found[name]) != 1:
            number = f"{len(found[name])} of the columns" if found[name] else "none of the columns"
            raise InputError(
                f"{source.path}:{line}: {number} {', '.join(header[:10])} "
                f"{'are' if found[name] else 'is'} named as that of the {name}; give --columns "
                f"WORD,TAG, their names or numbers"
            )
    return (line, header), {name: where[0] for name, where in found.items() if where}, rows


def _is_bare(head: Sequence[Row], place: int) -> bool:
    """Whether the tags are O and types without a prefix, as in columns (nerc.data.conll)."""
    tags = {_cell(cells, place) for _, cells in head if len(cells) > place and any(cells)}
    return "O" in tags and len(tags) > 1 and all(map(is_bare_type, tags - {"O"}))


def _is_header(source: Source, row: Row, head: Sequence[Row], place: int, *, is_bare: bool) -> bool:
    """Whether the first row names the columns; InputError where it may also be a word's."""
    line, cells = row
    cell = _cell(cells, place)
    if is_tag(cell):
        return False
    is_name = re.sub(r"[\W_]", "", cell).lower() in _NAMES["tag"]
    if not is_bare or is_name or is_header_wanted(source.columns) or not is_bare_type(cell):
        return True
    if all(_cell(others, place) != cell for _, others in head if len(others) > place):
        raise InputError(
            f"{source.path}:{line}: {cell!r} may be a name of the column or a type; in the first "
            f"case, give --columns by the names, else write the type as B-{cell}, and B- or I- "
            f"before the others"
        )
    return False


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


def _fault(
    cells: Sequence[str], places: dict[str, int], count: int, *, is_bare: bool
) -> str | None:
    if len(cells) != count:
        return f"found {len(cells)} cells, wanted {count}, as in the first row"
    word, tag = cells[places["word"]], _cell(cells, places["tag"])
    if not word.strip():
        return "the word is empty"
    if re.search(r"[\t\r\n]", word):
        return f"the word {word[:60]!r} has a tab or a line end; a quote in a cell is written twice"
    if is_bare and tag != "O" and not is_bare_type(tag):
        return f"{tag[:60]!r}, wanted O or a type without a prefix, as the tags before have none"
    if not is_bare and not is_tag(tag):
        return (
            f"{tag[:60]!r} is no tag, wanted O or one such as B-PER; types without a prefix may "
            f"stand with O in the column that --columns names"
        )
    return None


def write_csv(examples: Iterable[Example], target: Target) -> None:
    """A row for each word, with the number and the name of its sentence."""
    with target.path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_HEADER)
        for number, example in enumerate(examples, start=1):
            tags = to_scheme(example.tags, target.scheme)
            about = [example.document or "", number, example.id or ""]
            for word, tag in zip(example.word_texts, tags, strict=True):
                writer.writerow([*about, word, tag])
