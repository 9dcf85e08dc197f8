"""Reads CoNLL files: one word per line, tags of any usual scheme; every error names its lines."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from nerc.data import columns as layout
from nerc.data.columns import Block, Columns, is_label
from nerc.data.corpus import Corpus, Sentence
from nerc.data.tags import (
    SPECIAL_TAGS,
    entities,
    is_tag,
    num_invalid_inside,
    ordered,
    to_iob2,
    types_of,
)
from nerc.data.words import DOCSTART, is_seen
from nerc.errors import Faults, InputError
from nerc.files import MOST_LINE, bounded_lines, check_input, to_utf8
from nerc.tables import counted

_NUMBER = r"[-+]?(?:[0-9.,]*|[0-9.,]+e[-+]?[0-9]+|nan|inf(?:inity)?)%?"
_LIKE_SOFT = re.compile(rf".*\|.*|.*:{_NUMBER}", re.IGNORECASE)
# A tag, in which no colon has a number after it, and its probability.
_SOFT = re.compile(r"((?:[^\s:]|:(?![0-9.]+\W))+):([01](?:\.[0-9]*)?|\.[0-9]+)")
_SEVERAL = re.compile(r".+[,;|/+](?:[BIESLUM]-.+|O)")
_BARE = re.compile(r"(?![BIESLUMX]$)[^\W\d_][\w-]*")  # a type without a prefix
_BOM = "\ufeff"

Cell = tuple[str, dict[str, float] | None]  # the tag, and probabilities, if a weak label has any


def read_conll(
    path: str | Path,
    *,
    weak: bool = False,
    columns: str | None = None,
    faults: Faults | None = None,
) -> Corpus:
    """Read a CoNLL file: a word per line in columns split by tabs or blanks, one of them the tag's.

    Blank lines end sentences; after them, -DOCSTART- lines begin documents, and lines that begin
    with # are comments. Columns are found as nerc.data.columns says, unless columns (the flag
    --columns) names them; then tags may be types without a prefix, too, of which each run is an
    entity. Tags become IOB2, but weak ones stay as they are. Weak labels may also be a special
    tag, which means no label, or IOB2 tags with probabilities, B-PER:0.7|O:0.2, of which the most
    probable is the tag (see Corpus.soft). The corpus's first note says what was understood of the
    file. InputError counts all faults of the file and shows the first; with faults, they are added
    there instead, and the sentences without faults are read.
    """
    file = _File(Path(path), columns, weak=weak)
    if faults is not None:
        file.faults = faults
    notes: list[str] = []
    corpus = Corpus.of(convert(file.sentences(), str(path), notes, as_written=weak))
    if faults is None:
        file.faults.check()
    if not len(corpus) and not file.faults.number:
        raise InputError(f"{path}: no sentence in it, wanted lines 'word ... tag'")
    words = (word for of_words in file.soft.values() for word in of_words if word)
    types = types_of(tag for probabilities in words for tag in probabilities)
    notes = [file.summary(corpus), *file.notes(corpus), *notes]
    return Corpus(corpus.table, tuple(notes), types, file.soft)


def read_words(path: Path) -> Corpus:
    """Read the words of a CoNLL file, for sentences without labels."""
    file = _File(path, None, weak=False, only_words=True)
    corpus = Corpus.of(file.sentences())
    file.faults.check()
    if not len(corpus):
        raise InputError(f"{path}: no sentence in it, wanted a word per line")
    return Corpus(corpus.table, (file.summary(corpus), *file.notes(corpus)))


class _File:
    """A file while it is read: its columns, its faults, and what else is to be said of it."""

    def __init__(
        self, path: Path, given: str | None, *, weak: bool, only_words: bool = False
    ) -> None:
        self.path, self.given, self.weak, self.only_words = path, given, weak, only_words
        self.columns: Columns | None = None
        self.is_bare = False  # whether the tags are O and types without a prefix
        self.hint = ""  # which --columns may help where a cell is no tag
        self.comments: list[int] = []  # line numbers
        self.faults = Faults()
        self.num_marks = 0
        self.schemes: set[str] = set()  # prefixes of tags
        self.soft: dict[str, list] = {}  # probabilities of weak labels, by location
        self.cells: dict[str, Cell | None] = {}  # what was read already; None: a fault

    def sentences(self) -> Iterator[Sentence]:
        """The sentences without faults, with tags as they are written; see check()."""
        lines, header = self._lines(), None
        is_cell = None if self.only_words else self._is_cell
        try:
            if layout.is_header_wanted(self.given):
                header = layout.take_header(lines, self.given)
                layout.places(self.given, header)
            rest = layout.blocks(lines)
            if not (head := list(islice(rest, layout.SNIFFED))):
                return
            self.columns = layout.understand(head, self.given, header, is_cell)
            self.is_bare = self._is_bare(head, header)
            self.hint = self._hint(head)
        except layout.Unclear as error:
            raise InputError(f"{self.path}: {error}") from None
        for block in chain(head, rest):
            if (sentence := self._sentence(block)) is not None:
                yield sentence

    def _is_bare(self, head: Sequence[Block], header: Sequence[str] | None) -> bool:
        """Whether tags have no prefix, by the first sentences of a file with --columns."""
        columns = self.columns
        if self.given is None or columns.tag is None:
            return False
        lines = self._rows(head)
        counts = Counter(cells[columns.tag] for cells in lines)
        unlabelled = SPECIAL_TAGS if self.weak else ()
        types = [cell for cell in counts if cell not in ("O", *unlabelled)]
        if not counts["O"] or not types or not all(map(is_bare_type, types)):
            return False
        word, first = lines[0][columns.word], lines[0][columns.tag]
        if header is None and len(types) > 1 and first != "O" and counts[first] == 1:
            raise layout.Unclear(
                f"the first line, {word!r} with {first!r}, may be a header; if so, give --columns "
                f"{word},{first}, else write the type as B-{first}, and B- or I- before the others"
            )
        return True

    def _rows(self, head: Sequence[Block]) -> list[list[str]]:
        count = self.columns.count
        return [cells for block in head for _, cells in block.lines if len(cells) == count]

    def _hint(self, head: Sequence[Block]) -> str:
        """Which --columns may help where a cell is no tag, by the first sentences."""
        count, word, tag = self.columns.count, self.columns.word, self.columns.tag
        if self.given is not None or tag is None:
            return ""
        rows = self._rows(head)
        for place in range(word + 1, count):
            if place != tag and all(self._is_cell(row[place]) for row in rows):
                flag = f"{word + 1},{place + 1}"
                return f"; if column {place + 1} holds the tags, give --columns {flag}"
        cells = {row[tag] for row in rows}
        if "O" in cells and all(map(is_bare_type, cells - {"O"})):
            flag = f"{word + 1},{tag + 1}"
            return f"; if these are types without a prefix, give --columns {flag}"
        return "; if another column holds the tags, give --columns" if count > word + 2 else ""

    def _sentence(self, block: Block) -> Sentence | None:
        columns, faults_before = self.columns, self.faults.number
        lines = self._without_comments(block)
        words, labels, probabilities = [], [], []
        for place, (number, cells) in enumerate(lines):
            if fault := self._fault_of_line(cells, place):
                self._add_fault(number, fault)
                continue
            words.append(cells[columns.word].removeprefix(columns.prefix))
            if columns.tag is None:
                continue
            cell = cells[columns.tag]
            if cell not in self.cells:
                self.cells[cell] = self._read_cell(cell, number)
            elif self.cells[cell] is None:
                self._add_fault(number, self._fault_of_cell(cell))
            tag, of_word = self.cells[cell] or ("O", None)
            labels.append(tag)
            probabilities.append(of_word)
        if self.faults.number > faults_before or not lines:
            return None
        location = f"{self.path.name}:{lines[0][0]}"
        if any(probabilities):
            self.soft[location] = probabilities
        tags = None if columns.tag is None else tuple(labels)
        return Sentence(tuple(words), tags, location, block.document)

    def _without_comments(self, block: Block) -> list[layout.Line]:
        if not block.marked:
            return block.lines
        are_rows = [self.columns.is_row(cells, self._is_cell) for _, cells in block.marked]
        first = are_rows.index(True) if any(are_rows) else len(are_rows)
        self.comments += [number for number, _ in block.marked[:first]]
        return block.marked[first:] + block.lines

    def _fault_of_line(self, cells: list[str], place: int) -> str | None:
        """What is wrong with a line, but for its tag; place: of the word in its sentence."""
        columns = self.columns
        if cells[0] == DOCSTART:
            return layout.NO_DOCUMENT
        if len(cells) == 1 and columns.tag is not None:
            return f"found one column, {cells[0]!r}, wanted 'word ... tag'"
        if len(cells) != columns.count:
            hint = ""
            if cells[0][:1] == "#":
                hint = "; a comment stands before a sentence, not in it"
            found = counted(len(cells), "column")
            return f"found {found}, wanted {columns.count}, as in the first line{hint}"
        if columns.index is not None and cells[0] != str(columns.index + place):
            return (
                f"column 1 counts the words of each sentence before this line, and here is "
                f"{cells[0]!r}; give --columns"
            )
        if self.only_words and columns.count > columns.word + 1 and not is_label(cells[-1]):
            return (
                f"found {columns.count} columns of which the last, {cells[-1]!r}, is no tag, "
                f"wanted a word per line, and an empty line after each sentence"
            )
        word = cells[columns.word]
        if columns.prefix and not (word.startswith(columns.prefix) and word != columns.prefix):
            return f"the word {word!r} lacks {columns.prefix!r}, which all before it begin with"
        if not is_seen(word):
            return f"the word {word!r} has no character that is seen"
        if not word:
            return "the word is empty"
        return None

    def _is_cell(self, cell: str) -> bool:
        """Whether a cell can be one of a tag's column."""
        return is_label(cell) or (self.weak and _LIKE_SOFT.fullmatch(cell) is not None)

    def _read_cell(self, cell: str, number: int) -> Cell | None:
        """The tag of a cell that was not seen before; None, and a fault, where it is none."""
        if fault := self._fault_of_cell(cell):
            self._add_fault(number, fault)
            return None
        tag, probabilities = f"I-{cell}" if self.is_bare and not is_label(cell) else cell, None
        if self.weak and _LIKE_SOFT.fullmatch(cell):
            probabilities = _probabilities(cell)
            tag = max(probabilities, key=probabilities.get)
        if tag not in SPECIAL_TAGS and tag != "O":
            self.schemes.add(tag[0])
        return tag, probabilities

    def _fault_of_cell(self, cell: str) -> str | None:
        """Why a cell holds no tag, and what to do."""
        if self.weak and _LIKE_SOFT.fullmatch(cell):
            if _probabilities(cell) is not None:
                return None
            return (
                f"{cell!r}, wanted IOB2 tags, each once, with probabilities whose sum is at most "
                f"1, such as B-PER:0.7|O:0.2"
            )
        if _SEVERAL.fullmatch(cell):
            return f"{cell!r} holds several tags; keep one of them, or give each its own column"
        if all(_SOFT.fullmatch(part) for part in cell.split("|")):
            return f"{cell!r} has probabilities, which only weak labels (llm.txt) may have"
        if self.is_bare:
            if cell == "O" or is_bare_type(cell) or (self.weak and cell in SPECIAL_TAGS):
                return None
            return f"{cell!r}, wanted O or a type without a prefix, as the tags before have none"
        if is_tag(cell) or (self.weak and cell in SPECIAL_TAGS):
            return None
        hint = f", wanted O or a tag such as B-PER{', or X for none' if self.weak else ''}"
        if cell in "BIESLUM":
            hint = ", wanted a type after it, such as B-GENE"
        elif re.fullmatch(r"[^\W\d_]{2,}", cell):
            hint = ", wanted B- or I- before a type"
            if self.given is not None:
                hint += "; only O and types may stand without a prefix"
        return f"{cell!r} in column {self.columns.tag + 1} is no tag{hint}{self.hint}"

    def _add_fault(self, number: int, fault: str) -> None:
        self.faults.add(f"{self.path}:{number}", fault)

    def _lines(self) -> Iterator[tuple[int, str]]:
        """Line numbers, from 1, and lines; only a line feed ends a line."""
        check_input(self.path)
        with self.path.open("rb") as file:
            for number, line in bounded_lines(file, str(self.path)):
                if len(line) > MOST_LINE:
                    raise InputError(f"{self.path}:{number}: has more than {MOST_LINE:,} bytes")
                try:
                    text = line.decode("utf-8")
                except UnicodeDecodeError as error:
                    raise InputError(
                        f"{self.path}:{number}: byte 0x{line[error.start]:02x} at position "
                        f"{error.start + 1} is not UTF-8; {to_utf8(error)}"
                    ) from None
                if text[:1] == _BOM:  # also where files were joined
                    text = text.removeprefix(_BOM)
                    self.num_marks += number > 1
                if "\r" in text and "\r" in text.rstrip("\r\n"):
                    raise InputError(
                        f"{self.path}:{number}: holds a carriage return, which ends lines on some "
                        f"systems; convert the file so that line feeds end its lines"
                    )
                yield number, text

    # ------------------------------------------------------------ what was understood

    def summary(self, corpus: Corpus) -> str:
        """A line that says what was understood of the file."""
        documents = len(set(corpus.table["document"].to_pylist()))
        sizes = {"sentence": len(corpus), "word": corpus.num_words, "document": documents}
        sizes = ", ".join(counted(number, noun) for noun, number in sizes.items())
        if self.columns.tag is None:
            return f"{self.path}: {sizes}; {self.columns}"
        counts = corpus.tag_counts()
        types = types_of(counts)
        begun = {t: counts[f"B-{t}"] for t in types}
        if self.weak:  # whose tags stay as they are
            begun = Counter(t[2:] for s in corpus for t in to_iob2(s.tags) if t[:2] == "B-")
        scheme = "no prefixes" if self.is_bare else _scheme(self.schemes)
        kinds = ", ".join(f"{t} {begun[t]:,}" for t in ordered(types)) or "no entity"
        return f"{self.path}: {sizes}; {self.columns}, {scheme}; {kinds}"

    def notes(self, corpus: Corpus) -> list[str]:
        """What is odd about the file, though it can be read."""
        notes = []
        if self.comments:
            comments = counted(len(self.comments), "comment line")
            where = f"{self.path}:{self.comments[0]}"
            notes.append(f"{where}: {comments}, the first one here; they begin with #")
        if self.num_marks:
            marks = counted(self.num_marks, "byte-order mark")
            notes.append(f"{self.path}: removed {marks} at the head of later lines")
        if self.columns.tag is None:
            return notes
        if self.is_bare:
            sizes = [e.end - e.start for sentence in corpus for e in entities(sentence.tags)]
            notes.append(bare_note(self.path, sizes))
        if _is_mixed(self.schemes):
            shown = ", ".join(f"{prefix}-" for prefix in sorted(self.schemes))
            notes.append(
                f"{self.path}: the prefixes {shown} belong to several schemes; S- and U- are read "
                f"as an entity of one word, E- and L- as the end of one, I- and M- as its inside"
            )
        alike: dict[str, list[str]] = {}
        for name in sorted(types_of(corpus.tag_counts())):
            alike.setdefault(re.sub(r"\W+$", "", name).lower(), []).append(name)
        groups = [names for names in alike.values() if len(names) > 1]
        odd = [names for names in alike.values() if len(names) == 1 and re.search(r"\W$", names[0])]
        if groups or odd:
            shown = "; ".join(", ".join(map(repr, names)) for names in [*groups, *odd][:5])
            notes.append(
                f"{self.path}: types that differ by case or by a mark at the end are different "
                f"types: {shown}; if they are not meant so, correct the file"
            )
        return notes


def _scheme(prefixes: set[str]) -> str:
    """The tagging scheme, as far as its prefixes tell."""
    if _is_mixed(prefixes):
        return "several schemes"
    if prefixes & set("ESLUM"):
        return "BILOU" if prefixes & set("LU") else "BMES" if "M" in prefixes else "BIOES"
    return "IOB1" if prefixes == {"I"} else "IOB"


def _is_mixed(prefixes: set[str]) -> bool:
    """Whether no scheme has all the prefixes: BIOES has no L- or U-, and BMES no I-."""
    return not any(prefixes <= set(scheme) for scheme in ("BIES", "BILU", "BMES"))


def is_bare_type(cell: str) -> bool:
    """Whether a cell can be a type that stands without a prefix."""
    return _BARE.fullmatch(cell) is not None and not is_label(cell)


def bare_note(path: Path, sizes: Sequence[int]) -> str:
    """What tags without a prefix leave open; sizes: words of each entity."""
    return (
        f"{path}: the tags have no prefix, so each run of words with one type is an entity; "
        f"{sum(size > 1 for size in sizes):,} of {len(sizes):,} have several words and may be "
        f"neighbours"
    )


def _probabilities(cell: str) -> dict[str, float] | None:
    """B-PER:0.7|O:0.2 -> {"B-PER": 0.7, "O": 0.2}; None where that is wrong."""
    matches = [_SOFT.fullmatch(part) for part in cell.split("|")]
    probabilities = {match[1]: float(match[2]) for match in matches if match}
    ok = len(probabilities) == len(matches) and 0 < sum(probabilities.values()) <= 1 + 1e-6
    if not ok or not all(re.fullmatch(r"O|[BI]-\S+", tag) for tag in probabilities):
        return None
    return probabilities


def num_plain_begins(labels: Sequence[str]) -> int:
    """How many B- tags do not follow an entity of their type, which IOB1 begins with I-."""
    before = ("O", *labels)
    return sum(
        label[:2] == "B-" and previous[2:] != label[2:]
        for previous, label in zip(before, labels, strict=False)
    )


def convert(
    sentences: Iterable[Sentence], source: str, notes: list[str], *, as_written: bool = False
) -> Iterator[Sentence]:
    """The sentences with IOB2 tags, or as they are; in the end, notes count irregular tags."""
    num_unlabelled = num_inside = num_begins = 0
    for sentence in sentences:
        labels = sentence.tags
        num_unlabelled += sum(label in SPECIAL_TAGS for label in labels)
        num_inside += num_invalid_inside(labels)
        num_begins += num_plain_begins(labels)
        yield sentence if as_written else sentence._replace(tags=tuple(to_iob2(labels)))
    if num_unlabelled:
        notes.append(
            f"{source}: {num_unlabelled} words with the tag [CLS], [SEP] or X have no label; they "
            f"are read, but neither learnt nor scored"
        )
    # In IOB1, I- begins entities and B- only separates neighbours; no scheme allows both.
    if num_inside and num_begins:
        notes.append(
            f"{source}: {num_inside} I- tags do not continue an entity; each begins one, as in "
            f"conlleval"
        )
