"""Corpus and Sentence; CoNLL files, data sets on the Hub, the built-in corpus.

Whatever the source, a Corpus holds IOB2 tags, and every word of it is there: what cannot be used is
an error that says where it stands, or is counted in Corpus.remarks, which the scripts print.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from nerc import sample, tags
from nerc.config import InputError
from nerc.text import DOCSTART
from nerc.text import columns as text_columns

CONLL2003_ON_THE_HUB = "lhoestq/conll2003"
FILES = {
    "train": "train.txt",
    "validation": "valid.txt",
    "test": "test.txt",
    "llm": "llm.txt",
    "unlabelled": "unlabelled.txt",
}
_OF_FOLDERS = {"llm": "cheap labels", "unlabelled": "sentences without labels"}

# Training sentences of --corpus sample: enough to learn from in minutes on a laptop.
SAMPLE_SENTENCES = 8000
# Validation and test of the built-in corpus have this share of its training sentences each.
SAMPLE_HELD_OUT = 0.125


_SCHEMA = pa.schema(
    {
        "words": pa.list_(pa.string()),
        "tags": pa.list_(pa.string()),
        "origin": pa.string(),
        "document": pa.int64(),
    }
)
_CHUNK = 10_000  # sentences per Arrow batch
_LIKE_SOFT = re.compile(r".*\|.*|.*:(?:[-+]?[0-9.,]*|nan|inf)")
_SOFT = re.compile(r"(\S+?):([01](?:\.[0-9]*)?|\.[0-9]+)")  # a tag and its probability


class MissingSplit(InputError):
    """A corpus has no such split."""


class Sentence(NamedTuple):
    """Words with one IOB2 tag each (None: unlabelled), where they stood, and their document."""

    words: tuple[str, ...]
    tags: tuple[str, ...] | None
    origin: str
    document: int


@dataclass(frozen=True)
class Corpus:
    """Sentences in an Arrow table with the columns words, tags, origin and document.

    A word of cheap labels may carry a special tag ([CLS], [SEP], X): it has no label.
    """

    table: pa.Table
    remarks: tuple[str, ...] = ()
    # Types that the corpus may have where this is a part of it.
    types: frozenset[str] = frozenset()
    # By origin of cheap sentences: of each word the probabilities of its tags, where there are any.
    soft: Mapping[str, Sequence[Mapping[str, float] | None]] = field(default_factory=dict)

    @classmethod
    def of(cls, sentences: Iterable[Sentence], remarks: Sequence[str] = ()) -> "Corpus":
        """Read sentences, of which only a chunk at a time exists as Python objects."""
        sentences = iter(sentences)
        batches = []
        while chunk := list(islice(sentences, _CHUNK)):
            columns = [list(column) for column in zip(*chunk, strict=True)]
            batches.append(pa.RecordBatch.from_arrays(_arrays(columns), schema=_SCHEMA))
        return cls(pa.Table.from_batches(batches, schema=_SCHEMA), tuple(remarks))

    def __len__(self) -> int:
        return self.table.num_rows

    def __iter__(self) -> Iterator[Sentence]:
        for batch in self.table.to_batches(max_chunksize=_CHUNK):
            for words, tags_, origin, document in zip(*batch.to_pydict().values(), strict=True):
                yield Sentence(
                    tuple(words), None if tags_ is None else tuple(tags_), origin, document
                )

    def __getitem__(self, index: int) -> Sentence:
        (sentence,) = self.select([index])
        return sentence

    @classmethod
    def joined(cls, parts: Sequence["Corpus"]) -> "Corpus":
        """The sentences of parts, one after the other."""
        types = frozenset().union(*(part.entity_types() for part in parts))
        remarks = tuple(dict.fromkeys(remark for part in parts for remark in part.remarks))
        soft = {origin: of_words for part in parts for origin, of_words in part.soft.items()}
        tables = [part.table for part in parts if len(part)] or [parts[0].table]
        return cls(pa.concat_tables(tables), remarks, types, soft)

    def select(self, indices: Sequence[int]) -> "Corpus":
        """The sentences at indices, in that order."""
        rows = self.table.take(pa.array(indices, type=pa.int64()))
        return Corpus(rows, self.remarks, self.entity_types(), self.soft)

    def renamed(self, types: Mapping[str, str]) -> "Corpus":
        """The corpus with entity types called as types says; O: what is no entity then.

        A remark says how many entities became what; InputError names a type that does not occur.
        """
        if not types:
            return self
        if absent := set(types) - tags.types_of(self.tag_counts()):
            raise InputError(
                f"--map: no entity of {self[0].origin.partition(':')[0]} is a {min(absent)}"
            )
        new, counts = [], Counter()
        for sentence in self:
            labels = list(sentence.tags)
            for entity in tags.entities(labels):
                if entity.type in types:
                    name = types[entity.type]
                    counts[entity.type, name] += 1
                    length = entity.end - entity.start
                    whole = [f"B-{name}", *[f"I-{name}"] * (length - 1)]
                    labels[entity.start : entity.end] = ["O"] * length if name == "O" else whole
            new.append(sentence._replace(tags=tuple(labels)))
        said = "; ".join(f"{n:,} {a} count as {b}" for (a, b), n in sorted(counts.items()))
        return Corpus.of(new, (*self.remarks, f"of its entities, {said}"))

    def entity_types(self) -> frozenset[str]:
        """The entity types of the tags, and of what this corpus is a part of."""
        return self.types | tags.types_of(self.tag_counts())

    def inventory(self) -> tuple[str, ...]:
        """The labels of a model that learns from this corpus."""
        return tags.inventory(self.entity_types())

    def describe(self) -> dict[str, int | str]:
        """Size and fingerprint, for run.json."""
        size = {"sentences": len(self), "words": self.num_words}
        return size | {"sha256": self.fingerprint()}

    @property
    def num_words(self) -> int:
        return pc.sum(pc.list_value_length(self.table["words"])).as_py() or 0

    def tag_counts(self) -> Counter[str]:
        """How often each tag occurs."""
        counts = pc.value_counts(pc.list_flatten(self.table["tags"])).to_pylist()
        return Counter({row["values"]: row["counts"] for row in counts})

    def fingerprint(self) -> str:
        """SHA-256 of words, tags and probabilities: equal for equal sentences, read anywhere."""
        digest = hashlib.sha256()
        for origin in self.table["origin"].to_pylist() if self.soft else ():
            digest.update(json.dumps(self.soft.get(origin)).encode())
        for column in ("words", "tags"):
            for chunk in self.table[column].chunks:
                lines = pc.binary_join(chunk, "\t").to_pylist()
                digest.update("".join(f"{line}\n" for line in lines).encode())
        return digest.hexdigest()


def _arrays(columns: list[list]) -> list[pa.Array]:
    return [pa.array(column, type=f.type) for column, f in zip(columns, _SCHEMA, strict=True)]


# ------------------------------------------------------------ CoNLL files


def read_conll(path: str | Path, *, cheap: bool = False, as_written: bool = False) -> Corpus:
    """Read a CoNLL file: a line a word, columns apart by tabs or spaces, word first, tag last.

    Blank lines end sentences, -DOCSTART- lines begin documents. With cheap, a word may carry one of
    the special tags, which stand for no label, or IOB2 tags with probabilities, B-PER:0.7|O:0.2,
    of which the likeliest is its tag (see Corpus.soft). as_written leaves tags in the scheme they
    are in. Raises InputError with file and line.
    """
    path = Path(path)
    audit = _TagAudit(str(path), as_written=as_written)
    soft: dict[str, list] | None = {} if cheap else None
    corpus = Corpus.of(audit.to_iob2(_conll_sentences(path, soft)))
    if not len(corpus):
        raise InputError(f"{path}: no sentence in it, wanted lines 'word ... tag'")
    words = (word for of_words in (soft or {}).values() for word in of_words if word)
    types = tags.types_of(tag for probabilities in words for tag in probabilities)
    return Corpus(corpus.table, audit.remarks(), types, soft or {})


def read_words(path: Path) -> Corpus:
    """Read the first column of a CoNLL file, for sentences without labels."""
    sentences, words = [], []
    for number, text in _lines(path):
        columns = text_columns(text)
        if columns and columns[0] != DOCSTART:
            if len(columns) > 1 and not tags.is_tag(columns[-1]):
                raise InputError(
                    f"{path}:{number}: found {len(columns)} columns of which the last, "
                    f"{columns[-1]!r}, is no tag, wanted a word a line, and an empty line after "
                    f"each sentence"
                )
            words.append(columns[0])
        elif words:
            origin = f"{path.name}:{number - len(words)}"
            sentences.append(Sentence(tuple(words), None, origin, 0))
            words = []
    if words:
        sentences.append(Sentence(tuple(words), None, f"{path.name}:{number - len(words) + 1}", 0))
    if not sentences:
        raise InputError(f"{path}: no sentence in it, wanted a word a line")
    return Corpus.of(sentences)


def _conll_sentences(path: Path, soft: dict[str, list] | None) -> Iterator[Sentence]:
    """The sentences as they stand in the file, in whatever scheme its tags are.

    Of cheap labels, which soft is for, it gets the probabilities.
    """
    words: list[str] = []
    labels: list[str] = []
    of_words: list[dict[str, float] | None] = []
    document, first_line = 0, 0

    def sentence() -> Sentence:
        origin = f"{path.name}:{first_line}"
        if any(of_words):
            soft[origin] = of_words
        return Sentence(tuple(words), tuple(labels), origin, document)

    for number, text in _lines(path):
        columns = text_columns(text)
        if columns and columns[0] != DOCSTART:
            if len(columns) < 2:
                raise InputError(
                    f"{path}:{number}: found one column, {columns[0]!r}, wanted 'word ... tag'"
                )
            tag, probabilities = columns[-1], None
            if soft is not None and _LIKE_SOFT.fullmatch(tag):
                probabilities = _probabilities(tag, f"{path}:{number}")
                tag = max(probabilities, key=probabilities.get)
            if not (tags.is_tag(tag) or (soft is not None and tag in tags.SPECIAL_TAGS)):
                raise InputError(
                    f"{path}:{number}: {tag!r} in the last column is no tag, wanted O or "
                    f"a tag of IOB1, IOB2, BIOES or BILOU such as B-PER"
                    f"{'' if soft is None else ', or X for none'}"
                )
            first_line = first_line if words else number
            words.append(columns[0])
            labels.append(tag)
            of_words.append(probabilities)
            continue
        if words:
            yield sentence()
            words, labels, of_words = [], [], []
        document += bool(columns)
    if words:
        yield sentence()


def _probabilities(cell: str, origin: str) -> dict[str, float]:
    """B-PER:0.7|O:0.2 -> {"B-PER": 0.7, "O": 0.2}."""
    matches = [_SOFT.fullmatch(part) for part in cell.split("|")]
    found = {match[1]: float(match[2]) for match in matches if match}
    ok = len(found) == len(matches) and 0 < sum(found.values()) <= 1 + 1e-6
    if not ok or not all(re.fullmatch(r"O|[BI]-\S+", tag) for tag in found):
        raise InputError(
            f"{origin}: {cell!r} in the last column, wanted IOB2 tags, each once, with "
            f"probabilities that are 1 together at most, such as B-PER:0.7|O:0.2"
        )
    return found


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line numbers, from 1, and lines; only a line feed ends a line."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise InputError(
                        f"{path}:{number}: byte 0x{line[error.start]:02x} at position "
                        f"{error.start + 1} is not UTF-8; convert the file to UTF-8"
                    ) from None
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, wanted a CoNLL file") from None
    except PermissionError:
        raise InputError(f"{path}: may not be read; check its permissions") from None


def num_plain_begins(labels: Sequence[str]) -> int:
    """How many B- do not follow an entity of their type, which in IOB1 begins with I-."""
    before = ("O", *labels)
    return sum(
        label[:2] == "B-" and previous[2:] != label[2:]
        for previous, label in zip(before, labels, strict=False)
    )


class _TagAudit:
    """Brings sentences to IOB2 and counts what was not as it should be."""

    def __init__(self, source: str, *, as_written: bool = False) -> None:
        self.source, self.as_written = source, as_written
        self.num_unlabelled = self.num_orphans = self.num_plain_begins = 0

    def to_iob2(self, sentences: Iterable[Sentence]) -> Iterator[Sentence]:
        for sentence in sentences:
            labels = sentence.tags
            self.num_unlabelled += sum(label in tags.SPECIAL_TAGS for label in labels)
            self.num_orphans += tags.num_orphans(labels)
            self.num_plain_begins += num_plain_begins(labels)
            yield (
                sentence if self.as_written else sentence._replace(tags=tuple(tags.to_iob2(labels)))
            )

    def remarks(self) -> tuple[str, ...]:
        found = []
        if self.num_unlabelled:
            found.append(
                f"{self.source}: {self.num_unlabelled} words with the tag [CLS], [SEP] or X have "
                f"no label; they are read but neither trained on nor judged"
            )
        # In IOB1, I- begins entities and B- only parts neighbours; a file that does both is ill.
        if self.num_orphans and self.num_plain_begins:
            found.append(
                f"{self.source}: {self.num_orphans} tags go on with an entity that is not there; "
                f"each begins one, as conlleval reads them"
            )
        return tuple(found)


# ------------------------------------------------------------ data sets on the Hub


def read_hub(name: str, split: str) -> Corpus:
    """Read one split of a data set on the Hub with word and tag columns, tags by their names."""
    import datasets
    import httpx2
    import huggingface_hub

    huggingface_hub.logging.set_verbosity_error()  # of five retries, the outcome is said below
    try:
        builder = datasets.load_dataset_builder(name)
        splits = sorted(builder.info.splits or {})
        if splits and split not in splits:
            raise MissingSplit(f"{name}: has no split {split!r}, only {', '.join(splits)}")
        rows = datasets.load_dataset(name, split=split)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise InputError(
            f"{name}: no such data set on the Hub, and no such folder ({error})"
        ) from None
    except (OSError, httpx2.HTTPError) as error:
        raise InputError(
            f"{name}: is no folder here, and the Hub cannot be reached ({type(error).__name__}: "
            f"{error}); give --corpus a folder with train.txt, valid.txt and test.txt, or sample, "
            f"which needs no network"
        ) from None
    except (RuntimeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name}: the library datasets cannot load it: {error}") from None
    return from_dataset(rows, f"{name}/{split}")


def from_dataset(rows: "datasets.Dataset", source: str) -> Corpus:  # noqa: F821
    """A Corpus from a data set of the library datasets; rows of -DOCSTART- part documents."""
    word_column = _one_of(rows.column_names, ("tokens", "words"), source)
    tag_column = _one_of(rows.column_names, ("ner_tags", "tags", "labels", "ner"), source)
    feature = rows.features[tag_column]
    names = getattr(getattr(feature, "feature", feature), "names", None)
    audit = _TagAudit(source)
    num_empty = 0

    def sentences() -> Iterator[Sentence]:
        nonlocal num_empty
        document = 0
        for row_number, row in enumerate(rows):
            words, labels = row[word_column], row[tag_column]
            origin = f"{source}:{row_number}"
            if words is None or labels is None or len(words) != len(labels):
                raise InputError(f"{origin}: {len(words or ())} words but {len(labels or ())} tags")
            if not all(isinstance(word, str) for word in words):
                raise InputError(f"{origin}: not all of {words!r} are words")
            if names is not None:
                if wrong := [n for n in labels if n is None or not 0 <= n < len(names)]:
                    raise InputError(
                        f"{origin}: the label {wrong[0]} is none of the {len(names)} that the data "
                        f"set names; leave words without a label out of it"
                    )
                labels = [names[label] for label in labels]
            if wrong := [label for label in labels if not tags.is_tag(str(label))]:
                raise InputError(f"{origin}: {wrong[0]!r} is no tag, wanted O, B-TYPE or I-TYPE")
            document += words[:1] == [DOCSTART]
            if not words:
                num_empty += 1
            elif words[0] != DOCSTART:
                yield Sentence(tuple(words), tuple(labels), origin, document)

    corpus = Corpus.of(audit.to_iob2(sentences()))
    if not len(corpus):
        raise InputError(f"{source}: no sentence in it")
    empty = (f"{source}: {num_empty} rows hold no word",) if num_empty else ()
    return Corpus(corpus.table, audit.remarks() + empty)


def _one_of(columns: Sequence[str], wanted: Sequence[str], source: str) -> str:
    for name in wanted:
        if name in columns:
            return name
    raise InputError(
        f"{source}: has no column {' or '.join(wanted)}, only {', '.join(columns)}; is it a data "
        f"set for named-entity recognition?"
    )


# ------------------------------------------------------------ named corpora


def load(corpus: str, split: str) -> Corpus:
    """One split (train, validation, test or llm) of --corpus; InputError where there is none."""
    if corpus.partition(":")[0] == "sample":
        return _load_sample(corpus, split)
    if corpus != "conll2003":
        if Path(corpus).is_dir():
            return _load_folder(Path(corpus), split)
        if Path(corpus).exists():
            raise InputError(f"--corpus {corpus}: is a file, wanted a folder with {FILES['train']}")
        if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", corpus):
            raise InputError(f"--corpus {corpus}: no such folder")
    if split in _OF_FOLDERS:
        raise MissingSplit(
            f"--corpus {corpus}: is no folder, and only folders have {_OF_FOLDERS[split]}; give "
            f"one with {FILES[split]}, or --corpus sample"
        )
    return read_hub(CONLL2003_ON_THE_HUB if corpus == "conll2003" else corpus, split)


def load_as_written(corpus: str) -> Corpus:
    """The cheap labels of --corpus, of all sources, with tags as they were written."""
    if corpus.partition(":")[0] == "sample":
        return _load_sample(corpus, "llm", as_written=True)
    folder = Path(corpus)
    if corpus == "conll2003" or not folder.is_dir():
        return load(corpus, "llm")
    paths = [*sorted(folder.glob(FILES["llm"])), *sorted(folder.glob("llm.?*.txt"))]
    if not paths:
        return _load_folder(folder, "llm")
    return Corpus.joined([read_conll(path, cheap=True, as_written=True) for path in paths])


def _load_folder(folder: Path, split: str) -> Corpus:
    path = folder / FILES[split]
    if not path.exists():
        there = sorted(file.name for file in folder.glob("*.txt"))
        names = " and no llm.NAME.txt, which hold" if split == "llm" else ", which holds"
        held = _OF_FOLDERS.get(split, f"the {split} sentences")
        raise MissingSplit(
            f"--corpus {folder}: has no {path.name}{names} {held} "
            f"(there: {', '.join(there[:10]) or 'no file NAME.txt'})"
        )
    if split == "unlabelled":
        return read_words(path)
    return read_conll(path, cheap=split == "llm")


def _load_sample(corpus: str, split: str, *, as_written: bool = False) -> Corpus:
    if split == "unlabelled":
        raise MissingSplit(f"--corpus {corpus}: has no unlabelled sentences of its own")
    match = re.fullmatch(r"sample(?::([0-9]{1,9}))?(:missing)?", corpus)
    num = int(match[1] or SAMPLE_SENTENCES) if match else 0
    if not num:
        raise InputError(
            f"--corpus {corpus}: wanted sample or sample:SENTENCES, 1 to 999999999, as "
            f"sample:1000, or sample:1000:missing, whose cheap labels err in another way"
        )
    name = "llm-missing" if split == "llm" and match[2] else split
    if split in ("validation", "test"):
        num = max(1, round(num * SAMPLE_HELD_OUT))
    found = Corpus.of(
        Sentence(
            tuple(words),
            tuple(labels if as_written else tags.to_iob2(labels)),
            f"sample/{split}:{i}",
            document,
        )
        for i, (words, labels, document) in enumerate(sample.generate(name, num))
    )
    if not len(found):
        raise InputError(f"--corpus {corpus}: too small to hold {split} sentences; ask for more")
    return found


def check_tags(corpus: Corpus, inventory: Sequence[str], name: str) -> None:
    """Raise InputError, with the first place, where corpus has a tag that the model has not."""
    unknown = set(corpus.tag_counts()) - set(inventory)
    if not unknown:
        return
    for sentence in corpus:
        for word, tag in zip(sentence.words, sentence.tags, strict=True):
            if tag in unknown:
                known = ", ".join(tag for tag in inventory if tag not in tags.SPECIAL_TAGS)
                raise InputError(
                    f"{sentence.origin}: {tag!r} of the word {word!r} is not among the tags of "
                    f"{name}, which are {known}; evaluate.py's --map renames types (--map "
                    f"{tag[2:]}=O counts them as no entity), or train on data that has it"
                )
