"""Finds and reads a corpus: CoNLL files in a folder, a data set on the Hub, the built-in corpus.

A Corpus holds every word of its source. What cannot be used is an error that says where it is, or
is counted in Corpus.notes.
"""

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import datasets
import httpx2
import huggingface_hub

from nerc.config import DataConfig
from nerc.data import synthetic
from nerc.data.conll import convert, read_conll, read_words
from nerc.data.corpus import Corpus, Sentence
from nerc.data.noise import SHARES
from nerc.data.tags import is_tag
from nerc.data.words import DOCSTART
from nerc.errors import InputError

logger = logging.getLogger(__name__)

CONLL2003_ON_THE_HUB = "lhoestq/conll2003"
FILES = {
    "train": "train.txt",
    "validation": "valid.txt",
    "test": "test.txt",
    "llm": "llm.txt",
    "unlabelled": "unlabelled.txt",
}
_ONLY_IN_FOLDERS = {"llm": "weak labels", "unlabelled": "sentences without labels"}

# Training sentences of --corpus sample: enough to learn from in minutes on a laptop.
SAMPLE_SENTENCES = 8000
# Validation and test of the built-in corpus have this share of its training sentences each.
SAMPLE_HELD_OUT = 0.125


class MissingSplit(InputError):
    """A corpus lacks a split."""


@dataclass(frozen=True)
class Sources:
    """What a run reads of a corpus, each part once; None for what is missing or not needed."""

    train: Corpus | None = None  # with expert labels
    weak: Corpus | None = None  # weak labels with the tags as they were written
    unlabelled: Corpus | None = None
    validation: Corpus | None = None
    test: Corpus | None = None
    # Errors that say why optional parts are missing, by their names.
    missing: Mapping[str, MissingSplit] = field(default_factory=dict)


_REQUIRED = {"gold": {"train"}, "llm": {"weak"}, "mixed": {"train", "weak"}}  # by --data


def load_sources(
    data: DataConfig, *, with_train: bool = True, optional: Iterable[str] = ("validation", "test")
) -> Sources:
    """Read what runs of data, which is resolved, learn from, and the optional parts.

    with_train: also the training split, which AcquiredLabels replace. MissingSplit if a part that
    is not optional is missing.
    """
    required = _REQUIRED[data.data] - (set() if with_train else {"train"})
    optional = [*optional, *(["unlabelled"] if data.unlabelled else [])]
    parts, missing = {}, {}
    for part in [*sorted(required), *optional]:
        try:
            parts[part] = load(data.corpus, "llm" if part == "weak" else part, data.columns)
        except MissingSplit as error:
            if part in required:
                raise
            missing[part] = error
    return Sources(**parts, missing=missing)


def read_sources(data: DataConfig, keep: str, *, with_train: bool = True) -> Sources:
    """load_sources(), with a line for each missing split; InputError if --keep needs validation."""
    sources = load_sources(data, with_train=with_train)
    if keep == "best" and (error := sources.missing.get("validation")):
        raise MissingSplit(f"{error}; --keep best chooses by it, --keep last needs none")
    for split in ("validation", "test"):
        if error := sources.missing.get(split):
            logger.info(f"{error}: no report on it")
    return sources


# ------------------------------------------------------------ data sets on the Hub


def read_hub(name: str, split: str) -> Corpus:
    """Read one split of a data set on the Hub that has columns of words and of tags."""
    folder = "--corpus a folder with train.txt, valid.txt and test.txt"
    with hub_errors(name, f"give {folder}, or sample, which needs no network"):
        builder = datasets.load_dataset_builder(name)
        splits = sorted(builder.info.splits or {})
        if splits and split not in splits:
            raise MissingSplit(f"{name}: has no split {split!r}, only {', '.join(splits)}")
        rows = datasets.load_dataset(name, split=split)
    return from_dataset(rows, f"{name}/{split}")


@contextmanager
def hub_errors(name: str, advice: str) -> Iterator[None]:
    """Turn what keeps the library datasets from loading a data set into an InputError.

    advice: what to do where the Hub cannot be reached.
    """
    huggingface_hub.logging.set_verbosity_error()  # the error below says what five retries gave
    try:
        yield
    except InputError:
        raise
    except datasets.exceptions.DatasetNotFoundError as error:
        raise InputError(
            f"{name}: no such data set on the Hub, and no such folder ({error})"
        ) from None
    except (OSError, httpx2.HTTPError) as error:
        if os.path.exists(name):
            raise InputError(f"{name}: the library datasets cannot load it: {error}") from None
        raise InputError(
            f"{name}: is no folder here, and the Hub cannot be reached ({type(error).__name__}: "
            f"{error}); {advice}"
        ) from None
    except (RuntimeError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise InputError(f"{name}: the library datasets cannot load it: {error}") from None


def from_dataset(rows: datasets.Dataset, source: str, first: int = 0) -> Corpus:
    """A Corpus from a data set of the library datasets; a row -DOCSTART- begins a document.

    first: the number of the first row in locations.
    """
    word_column = _find_column(rows.column_names, ("tokens", "words"), source)
    tag_column = _find_column(rows.column_names, ("ner_tags", "tags", "labels", "ner"), source)
    feature = rows.features[tag_column]
    names = getattr(getattr(feature, "feature", feature), "names", None)
    notes: list[str] = []

    def sentences() -> Iterator[Sentence]:
        num_empty = document = 0
        for row_number, row in enumerate(rows, start=first):
            location = f"{source}:{row_number}"
            words, labels = _read_row(row[word_column], row[tag_column], names, location)
            document += words[:1] == (DOCSTART,)
            if not words:
                num_empty += 1
            elif words[0] != DOCSTART:
                yield Sentence(words, labels, location, document)
        if num_empty:
            notes.append(f"{source}: {num_empty} rows hold no word")

    corpus = Corpus.of(convert(sentences(), source, notes))
    if not len(corpus):
        raise InputError(f"{source}: no sentence in it")
    return replace(corpus, notes=tuple(notes))


def _read_row(
    words: list | None, labels: list | None, names: Sequence[str] | None, location: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Words and tags of a row; names: the tags that the labels are numbers of."""
    if words is None or labels is None or len(words) != len(labels):
        raise InputError(f"{location}: {len(words or ())} words but {len(labels or ())} tags")
    if not all(isinstance(word, str) for word in words):
        raise InputError(f"{location}: not all of {words!r} are words")
    if odd := [word for word in words if not word or "\n" in word or "\t" in word]:
        raise InputError(f"{location}: {odd[0]!r} is empty, or has a tab or a line end in it")
    if names is not None:
        if wrong := [n for n in labels if n is None or not 0 <= n < len(names)]:
            raise InputError(
                f"{location}: the label {wrong[0]} is none of the {len(names)} labels of the data "
                f"set; remove words without a label"
            )
        labels = [names[label] for label in labels]
    if wrong := [label for label in labels if not is_tag(str(label))]:
        raise InputError(f"{location}: {wrong[0]!r} is no tag, wanted O, B-TYPE or I-TYPE")
    return tuple(words), tuple(labels)


def _find_column(columns: Sequence[str], wanted: Sequence[str], source: str) -> str:
    for name in wanted:
        if name in columns:
            return name
    raise InputError(
        f"{source}: has no column {' or '.join(wanted)}, only {', '.join(columns)}; is it a data "
        f"set for named-entity recognition?"
    )


# ------------------------------------------------------------ named corpora


def load(corpus: str, split: str, columns: str | None = None) -> Corpus:
    """One split of --corpus (a key of FILES); MissingSplit if it has no such split.

    The tags of llm, which are read from all files of weak labels, stay as they were written.
    columns: --columns, for files of a folder that hold expert labels.
    """
    if corpus in ("sample", "conll2003") and any(
        Path(corpus, name).exists() for name in FILES.values()
    ):
        raise InputError(
            f"--corpus {corpus}: is a corpus that nerc knows, and a folder here; give "
            f".{os.sep}{corpus} for the folder, or rename it"
        )
    if corpus.partition(":")[0] == "sample":
        return _load_sample(corpus, split)
    if corpus != "conll2003":
        if os.path.isdir(corpus):
            return _load_folder(Path(corpus), split, columns)
        if os.path.exists(corpus):
            raise InputError(f"--corpus {corpus}: is a file, wanted a folder with {FILES['train']}")
        if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", corpus):
            raise InputError(f"--corpus {corpus}: no such folder")
    if split in _ONLY_IN_FOLDERS:
        raise MissingSplit(
            f"--corpus {corpus}: is no folder, and only folders have {_ONLY_IN_FOLDERS[split]}; "
            f"give one with {FILES[split]}, or --corpus sample"
        )
    return read_hub(CONLL2003_ON_THE_HUB if corpus == "conll2003" else corpus, split)


def _load_folder(folder: Path, split: str, columns: str | None) -> Corpus:
    path = folder / FILES[split]
    paths = [path] if path.exists() else []
    if split == "llm":
        paths += sorted(folder.glob("llm.?*.txt"))
    if not paths:
        there = sorted(file.name for file in folder.glob("*.txt"))
        names = " and no llm.NAME.txt, which hold" if split == "llm" else ", which holds"
        content = _ONLY_IN_FOLDERS.get(split, f"the {split} sentences")
        raise MissingSplit(
            f"--corpus {folder}: has no {path.name}{names} {content} "
            f"(there: {', '.join(there[:10]) or 'no file NAME.txt'})"
        )
    if split == "unlabelled":
        return read_words(path)
    if split == "llm":
        return Corpus.joined([read_conll(path, weak=True) for path in paths])
    corpus = read_conll(path, columns=columns)
    if split == "train" and not corpus.entity_types():
        raise InputError(
            f"{path}: none of its {corpus.num_words:,} words is of an entity, wanted labels to "
            f"learn from; if another column than the last one holds the tags, give --columns"
        )
    return corpus


def _load_sample(corpus: str, split: str) -> Corpus:
    if split == "unlabelled":
        raise MissingSplit(f"--corpus {corpus}: has no unlabelled sentences of its own")
    match = re.fullmatch(rf"sample(?::([0-9]{{1,9}}))?(?::({'|'.join(SHARES)}))?", corpus)
    num = int(match[1] or SAMPLE_SENTENCES) if match else 0
    if not num:
        raise InputError(
            f"--corpus {corpus}: wanted sample or sample:SENTENCES, 1 to 999999999, such as "
            f"sample:1000, or sample:1000:KIND, whose weak labels have other errors: "
            f"{', '.join(SHARES)}"
        )
    name = f"llm-{match[2]}" if split == "llm" and match[2] else split
    if split in ("validation", "test"):
        num = max(1, round(num * SAMPLE_HELD_OUT))
    generated = Corpus.of(
        Sentence(tuple(words), tuple(labels), f"sample/{split}:{i}", 1 + document)
        for i, (words, labels, document) in enumerate(synthetic.generate(name, num))
    )
    if not len(generated):
        raise InputError(f"--corpus {corpus}: too small to hold {split} sentences; ask for more")
    return generated
