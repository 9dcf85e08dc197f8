"""Reads CoNLL files: one word per line, tags of any usual scheme; every error names its line."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from nerc.data.corpus import Corpus, Sentence
from nerc.data.tags import SPECIAL_TAGS, is_tag, num_invalid_inside, to_iob2, types_of
from nerc.data.words import DOCSTART, split_columns
from nerc.errors import InputError
from nerc.files import MOST_LINE, bounded_lines, check_input

_NUMBER = r"[-+]?(?:[0-9.,]*|[0-9.,]+e[-+]?[0-9]+|nan|inf(?:inity)?)%?"
_LIKE_SOFT = re.compile(rf".*\|.*|.*:{_NUMBER}", re.IGNORECASE)
# A tag, in which no colon has a number after it, and its probability.
_SOFT = re.compile(r"((?:[^\s:]|:(?![0-9.]+\W))+):([01](?:\.[0-9]*)?|\.[0-9]+)")


def read_conll(path: str | Path, *, weak: bool = False) -> Corpus:
    """Read a CoNLL file: a word per line, columns split by tabs or spaces, word first, tag last.

    Blank lines end sentences, -DOCSTART- lines begin documents. Tags become IOB2, but weak ones
    stay as they are. Weak labels may also be a special tag, which means no label, or IOB2 tags with
    probabilities, B-PER:0.7|O:0.2, of which the most probable is the tag (see Corpus.soft). Raises
    InputError with file and line.
    """
    path = Path(path)
    notes: list[str] = []
    soft: dict[str, list] | None = {} if weak else None
    corpus = Corpus.of(convert(_conll_sentences(path, soft), str(path), notes, as_written=weak))
    if not len(corpus):
        raise InputError(f"{path}: no sentence in it, wanted lines 'word ... tag'")
    words = (word for of_words in (soft or {}).values() for word in of_words if word)
    types = types_of(tag for probabilities in words for tag in probabilities)
    return Corpus(corpus.table, tuple(notes), types, soft or {})


def read_words(path: Path) -> Corpus:
    """Read the first column of a CoNLL file, for sentences without labels."""
    sentences = []
    for _, rows in _rows_of_sentences(path):
        for number, columns in rows:
            if len(columns) > 1 and not is_tag(columns[-1]):
                raise InputError(
                    f"{path}:{number}: found {len(columns)} columns of which the last, "
                    f"{columns[-1]!r}, is no tag, wanted a word per line, and an empty line after "
                    f"each sentence"
                )
        words = tuple(columns[0] for _, columns in rows)
        sentences.append(Sentence(words, None, f"{path.name}:{rows[0][0]}", 0))
    if not sentences:
        raise InputError(f"{path}: no sentence in it, wanted a word per line")
    return Corpus.of(sentences)


Rows = list[tuple[int, list[str]]]  # of one sentence: line number and columns of each word


def _rows_of_sentences(path: Path) -> Iterator[tuple[int, Rows]]:
    """The number of its document and the rows of each sentence."""
    document, rows = 0, []
    for number, text in _lines(path):
        columns = split_columns(text)
        if columns and columns[0] != DOCSTART:
            rows.append((number, columns))
            continue
        if rows:
            yield document, rows
            rows = []
        document += bool(columns)
    if rows:
        yield document, rows


def _conll_sentences(path: Path, soft: dict[str, list] | None) -> Iterator[Sentence]:
    """The sentences, with tags as they are written; soft collects probabilities of weak labels."""
    for document, rows in _rows_of_sentences(path):
        location = f"{path.name}:{rows[0][0]}"
        cells = [_read_tag(f"{path}:{number}", columns, soft) for number, columns in rows]
        labels, probabilities = zip(*cells, strict=True)
        if any(probabilities):
            soft[location] = list(probabilities)
        yield Sentence(tuple(columns[0] for _, columns in rows), labels, location, document)


def _read_tag(
    location: str, columns: list[str], soft: dict[str, list] | None
) -> tuple[str, dict[str, float] | None]:
    """Tag of a word, and the probabilities, if it is a weak label that has any."""
    if len(columns) < 2:
        raise InputError(f"{location}: found one column, {columns[0]!r}, wanted 'word ... tag'")
    tag, probabilities = columns[-1], None
    if soft is not None and _LIKE_SOFT.fullmatch(tag):
        probabilities = _probabilities(tag, location)
        tag = max(probabilities, key=probabilities.get)
    elif soft is None and all(_SOFT.fullmatch(part) for part in tag.split("|")):
        raise InputError(
            f"{location}: {tag!r} in the last column has probabilities, which only weak labels "
            f"(llm.txt) may have"
        )
    if not (is_tag(tag) or (soft is not None and tag in SPECIAL_TAGS)):
        raise InputError(
            f"{location}: {tag!r} in the last column is no tag, wanted O or a tag of IOB1, IOB2, "
            f"BIOES or BILOU such as B-PER{'' if soft is None else ', or X for none'}"
        )
    return tag, probabilities


def _probabilities(cell: str, location: str) -> dict[str, float]:
    """B-PER:0.7|O:0.2 -> {"B-PER": 0.7, "O": 0.2}."""
    matches = [_SOFT.fullmatch(part) for part in cell.split("|")]
    probabilities = {match[1]: float(match[2]) for match in matches if match}
    ok = len(probabilities) == len(matches) and 0 < sum(probabilities.values()) <= 1 + 1e-6
    if not ok or not all(re.fullmatch(r"O|[BI]-\S+", tag) for tag in probabilities):
        raise InputError(
            f"{location}: {cell!r} in the last column, wanted IOB2 tags, each once, with "
            f"probabilities whose sum is at most 1, such as B-PER:0.7|O:0.2"
        )
    return probabilities


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line numbers, from 1, and lines; only a line feed ends a line."""
    check_input(path)
    with path.open("rb") as file:
        for number, line in bounded_lines(file, str(path)):
            if len(line) > MOST_LINE:
                raise InputError(f"{path}:{number}: has more than {MOST_LINE:,} bytes")
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{path}:{number}: byte 0x{line[error.start]:02x} at position "
                    f"{error.start + 1} is not UTF-8; convert the file to UTF-8"
                ) from None


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
