"""Sentence and Corpus: words with IOB2 tags, the document and the place in a file."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nerc.data.tags import SPECIAL_TAGS, entities, entity_tags, inventory, types_of
from nerc.errors import InputError

_SCHEMA = pa.schema(
    {
        "words": pa.list_(pa.string()),
        "tags": pa.list_(pa.string()),
        "location": pa.string(),
        "document": pa.int64(),
    }
)
_CHUNK = 10_000  # sentences per Arrow batch


class Sentence(NamedTuple):
    """Words with one IOB2 tag each (None: unlabelled), their place in a file, their document."""

    words: tuple[str, ...]
    tags: tuple[str, ...] | None
    location: str
    document: int


@dataclass(frozen=True)
class Corpus:
    """Sentences in an Arrow table with the columns words, tags, location and document.

    In weak labels, a word may have a special tag ([CLS], [SEP], X), which means no label.
    """

    table: pa.Table
    notes: tuple[str, ...] = ()
    # Types that need not occur here, such as those of a corpus of which this is a part.
    types: frozenset[str] = frozenset()
    # Soft labels by location of the sentence: for each word its tags with probabilities, or None.
    soft: Mapping[str, Sequence[Mapping[str, float] | None]] = field(default_factory=dict)

    @classmethod
    def of(cls, sentences: Iterable[Sentence], notes: Sequence[str] = ()) -> "Corpus":
        """Read sentences chunk by chunk, so that only one chunk exists as Python objects."""
        sentences = iter(sentences)
        batches = []
        while chunk := [sentence._asdict() for sentence in islice(sentences, _CHUNK)]:
            batches.append(pa.RecordBatch.from_pylist(chunk, schema=_SCHEMA))
        return cls(pa.Table.from_batches(batches, schema=_SCHEMA), tuple(notes))

    def __len__(self) -> int:
        return self.table.num_rows

    def __iter__(self) -> Iterator[Sentence]:
        for batch in self.table.to_batches(max_chunksize=_CHUNK):
            for words, tags_, location, document in zip(*batch.to_pydict().values(), strict=True):
                yield Sentence(
                    tuple(words), None if tags_ is None else tuple(tags_), location, document
                )

    def __getitem__(self, index: int) -> Sentence:
        (sentence,) = self.select([index])
        return sentence

    @classmethod
    def joined(cls, parts: Sequence["Corpus"]) -> "Corpus":
        """The sentences of parts, one after the other."""
        types = frozenset().union(*(part.entity_types() for part in parts))
        notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
        soft = {location: of_words for part in parts for location, of_words in part.soft.items()}
        tables = [part.table for part in parts if len(part)] or [parts[0].table]
        return cls(pa.concat_tables(tables), notes, types, soft)

    def select(self, indices: Sequence[int]) -> "Corpus":
        """The sentences at indices, in that order."""
        rows = self.table.take(pa.array(indices, type=pa.int64()))
        return Corpus(rows, self.notes, self.entity_types(), self.soft)

    def _document_keys(self) -> list[tuple[str, int]]:
        """File and document of each sentence; document 0 stands before all that a file names."""
        files = (location.rpartition(":")[0] for location in self.table["location"].to_pylist())
        return list(zip(files, self.table["document"].to_pylist(), strict=True))

    def documents(self) -> np.ndarray:
        """Numbers of the documents (sentences,), int64; a sentence without one has its own number.

        Sentences of one document have the same number where no others stand between them.
        """
        keys = self._document_keys()
        begins = [not k[1] or k != before for k, before in zip(keys, [None, *keys], strict=False)]
        return np.cumsum(np.array(begins, dtype=np.int64))

    def text_order(self) -> np.ndarray:
        """The places of the sentences in the order of their files and lines."""
        lines = [location.rpartition(":")[2] for location in self.table["location"].to_pylist()]
        numbers = [int(line) if line.isdecimal() else 0 for line in lines]
        keys = list(zip(self._document_keys(), numbers, strict=True))
        return np.array(sorted(range(len(self)), key=keys.__getitem__), dtype=np.int64)

    def renamed(self, types: Mapping[str, str]) -> "Corpus":
        """The corpus with entity types renamed; a type that becomes O is no entity any more.

        A note counts the renamed entities; InputError names a type that does not occur.
        """
        if not types:
            return self
        if absent := set(types) - types_of(self.tag_counts()):
            raise InputError(
                f"--map: no entity of {self[0].location.partition(':')[0]} is a {min(absent)}"
            )
        renamed, counts = [], Counter()
        for sentence in self:
            labels = list(sentence.tags)
            for type_, start, end in entities(labels):
                if type_ in types:
                    name = types[type_]
                    counts[type_, name] += 1
                    size = end - start
                    labels[start:end] = ["O"] * size if name == "O" else entity_tags(name, size)
            renamed.append(sentence._replace(tags=tuple(labels)))
        summary = "; ".join(f"{n:,} {a} count as {b}" for (a, b), n in sorted(counts.items()))
        return Corpus.of(renamed, (*self.notes, f"of its entities, {summary}"))

    def entity_types(self) -> frozenset[str]:
        """The entity types of the tags, and the further ones in self.types."""
        return self.types | types_of(self.tag_counts())

    def inventory(self) -> tuple[str, ...]:
        """The tags of a model that learns from this corpus."""
        return inventory(self.entity_types())

    def describe(self) -> dict[str, int | str]:
        """Size and fingerprint, for run.json."""
        size = {"sentences": len(self), "words": self.num_words}
        return size | {"sha256": self.fingerprint()}

    @property
    def num_words(self) -> int:
        return pc.sum(pc.list_value_length(self.table["words"])).as_py() or 0

    def tag_counts(self) -> Counter[str]:
        """The number of times each tag occurs."""
        counts = pc.value_counts(pc.list_flatten(self.table["tags"])).to_pylist()
        return Counter({row["values"]: row["counts"] for row in counts})

    def fingerprint(self) -> str:
        """SHA-256 of words, tags and probabilities: the same wherever the corpus was read from."""
        digest = hashlib.sha256()
        for location in self.table["location"].to_pylist() if self.soft else ():
            digest.update(json.dumps(self.soft.get(location)).encode())
        for column in ("words", "tags"):
            for chunk in self.table[column].chunks:
                lines = pc.binary_join(chunk, "\t").to_pylist()
                digest.update("".join(f"{line}\n" for line in lines).encode())
        return digest.hexdigest()


def check_tags(corpus: Corpus, inventory: Sequence[str], name: str) -> None:
    """Raise InputError for the first tag of corpus that is not in the model's inventory."""
    unknown = set(corpus.tag_counts()) - set(inventory)
    if not unknown:
        return
    for sentence in corpus:
        for word, tag in zip(sentence.words, sentence.tags, strict=True):
            if tag in unknown:
                known = ", ".join(tag for tag in inventory if tag not in SPECIAL_TAGS)
                raise InputError(
                    f"{sentence.location}: {tag!r} of the word {word!r} is not among the tags of "
                    f"{name}, which are {known}; evaluate.py's --map renames types (--map "
                    f"{tag[2:]}=O counts them as no entity), or train on data that has it"
                )
