"""Corpus and Sentence; CoNLL files, data sets on the Hub, the built-in corpus.

Whatever the source, a Corpus holds IOB2 tags, and every word of it is there: what cannot be used is
an error that says where it stands, or is counted in Corpus.notes, which the scripts print.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import datasets
import httpx2
import huggingface_hub

from nerc.data import synthetic
from nerc.data.conll import _TagAudit, read_conll, read_words
from nerc.data.corpus import Corpus, Sentence
from nerc.data.tags import is_tag, to_iob2
from nerc.data.words import DOCSTART
from nerc.errors import InputError

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


class MissingSplit(InputError):
    """A corpus has no such split."""


# ------------------------------------------------------------ data sets on the Hub


def read_hub(name: str, split: str) -> Corpus:
    """Read one split of a data set on the Hub with word and tag columns, tags by their names."""
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


def from_dataset(rows: datasets.Dataset, source: str) -> Corpus:
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
            location = f"{source}:{row_number}"
            if words is None or labels is None or len(words) != len(labels):
                raise InputError(
                    f"{location}: {len(words or ())} words but {len(labels or ())} tags"
                )
            if not all(isinstance(word, str) for word in words):
                raise InputError(f"{location}: not all of {words!r} are words")
            if names is not None:
                if wrong := [n for n in labels if n is None or not 0 <= n < len(names)]:
                    raise InputError(
                        f"{location}: the label {wrong[0]} is none of the {len(names)} that the "
                        f"set names; leave words without a label out of it"
                    )
                labels = [names[label] for label in labels]
            if wrong := [label for label in labels if not is_tag(str(label))]:
                raise InputError(f"{location}: {wrong[0]!r} is no tag, wanted O, B-TYPE or I-TYPE")
            document += words[:1] == [DOCSTART]
            if not words:
                num_empty += 1
            elif words[0] != DOCSTART:
                yield Sentence(tuple(words), tuple(labels), location, document)

    corpus = Corpus.of(audit.to_iob2(sentences()))
    if not len(corpus):
        raise InputError(f"{source}: no sentence in it")
    empty = (f"{source}: {num_empty} rows hold no word",) if num_empty else ()
    return Corpus(corpus.table, audit.notes() + empty)


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
            tuple(labels if as_written else to_iob2(labels)),
            f"sample/{split}:{i}",
            document,
        )
        for i, (words, labels, document) in enumerate(synthetic.generate(name, num))
    )
    if not len(found):
        raise InputError(f"--corpus {corpus}: too small to hold {split} sentences; ask for more")
    return found
