"""What active learning asks of experts: the pool of sentences, and what was asked and answered."""

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from nerc.data import sources
from nerc.data.corpus import Corpus, Sentence
from nerc.data.labels import AcquiredLabels
from nerc.data.sources import MissingSplit
from nerc.data.tags import entities
from nerc.errors import InputError

QUERIES_FILE = "queries.jsonl"  # of a revision: all that was asked up to its round


class Query(NamedTuple):
    """A sentence that was asked for, why, and the answer."""

    round: int
    strategy: str  # random for the first ones; start for those that the start knew
    score: float | None  # that the strategy gave it; None: it gives none
    origin: str  # where it stood: a Sentence's location
    words: tuple[str, ...]
    tags: tuple[str, ...] | None  # the expert's, IOB2; None: skipped
    proposed: tuple[str, ...] | None = None  # what the model that asked found
    cheap: bool = False  # whether there is a cheap label, of which the expert's takes the place


@dataclass(frozen=True)
class Pool:
    """The sentences that can be asked for, each of different words, with the answers, if known."""

    sentences: Sequence[Sentence]
    text: Corpus  # all sentences, whoever labelled them, copies too
    known: Sequence[Sentence]  # what experts labelled before anything was asked
    types: frozenset[str]  # entity types that answers may have; none: any
    expert_types: frozenset[str]  # of these, those that experts are known to use
    cheap: frozenset[tuple[str, ...]]  # the sentences with cheap labels

    @property
    def total(self) -> int:
        """How many sentences percentages are of: copies, and what is known, count too."""
        return len(self.text)

    def bought(self, queries: Iterable[Query]) -> AcquiredLabels:
        """What a round learns from."""
        sentences = (Sentence(q.words, q.tags, q.origin, 0) for q in answered(queries))
        corpus = Corpus.of(sentences)
        types = self.expert_types | corpus.entity_types()
        return AcquiredLabels(Corpus(corpus.table, (), types), self.text)


def answered(queries: Iterable[Query]) -> list[Query]:
    """Those that were not skipped."""
    return [query for query in queries if query.tags is not None]


def count_acquired(queries: Iterable[Query]) -> dict[str, int]:
    """How many sentences, words and entities the answered ones are."""
    own = answered(queries)
    return {
        "sentences": len(own),
        "words": sum(len(query.words) for query in own),
        "entities": sum(len(entities(query.tags)) for query in own),
    }


def open_pool(corpus: str, oracle: str, *, with_cheap: bool, types: Sequence[str] = ()) -> Pool:
    """The training split, whose labels are the answers (oracle gold), or what has none.

    For people, that is what unlabelled.txt and the files of cheap labels hold, but for the
    sentences of train.txt, where there is one; these are known.
    """
    try:
        written = sources.load_as_written(corpus) if with_cheap else Corpus.of(())
    except MissingSplit as error:
        raise InputError(f"{error}; without cheap labels, give --data gold") from None
    cheap = frozenset(sentence.words for sentence in written)
    if oracle == "gold":
        train = sources.load(corpus, "train")
        own = train.entity_types()
        return Pool(list(_distinct(train).values()), train, (), own, own, cheap)
    expert, unlabelled = Corpus.of(()), Corpus.of(())
    with suppress(MissingSplit):
        expert = sources.load(corpus, "train")
    with suppress(MissingSplit):
        unlabelled = sources.load(corpus, "unlabelled")
    known = _distinct(expert)
    parts = [part for part in (unlabelled, written) if len(part)]
    new = {w: s for part in parts for w, s in _distinct(part).items() if w not in known}
    if not new:
        raise InputError(
            f"--corpus {corpus}: has no sentence without an expert's label, wanted them in "
            f"{sources.FILES['unlabelled']} or {sources.FILES['llm']}"
        )
    new = [sentence._replace(tags=None) for sentence in new.values()]
    own = (frozenset(types) | expert.entity_types()) or written.entity_types()
    text = Corpus.of((*known.values(), *new))
    return Pool(new, text, list(known.values()), own | written.entity_types(), own, cheap)


def _distinct(corpus: Corpus) -> dict[tuple[str, ...], Sentence]:
    """The first sentence of each words."""
    found: dict[tuple[str, ...], Sentence] = {}
    for sentence in corpus:
        found.setdefault(sentence.words, sentence)
    return found


def queries_to_text(queries: Iterable[Query]) -> str:
    """A JSON object a line."""
    return "".join(json.dumps(query._asdict(), ensure_ascii=False) + "\n" for query in queries)


def queries_from_text(text: str, path: Path) -> list[Query]:
    """What to_text() made; InputError names the path where it did not."""
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line:
            continue
        try:
            row = json.loads(line)
            lists = {k: v if v is None else tuple(v) for k, v in row.items() if k in _LISTS}
            found.append(Query(**row | lists))
        except (ValueError, TypeError):
            raise InputError(
                f"{path}:{number}: is damaged, wanted what active_learn.py writes there"
            ) from None
    return found


_LISTS = ("words", "tags", "proposed")


def read_queries(path: Path) -> list[Query]:
    """The queries of a file."""
    try:
        return queries_from_text(path.read_text(encoding="utf-8"), path)
    except FileNotFoundError:
        raise InputError(f"{path}: is missing, and holds what experts answered") from None
