"""The pool of active learning: sentences that experts can label, and what they were asked."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from nerc.data import sources
from nerc.data.corpus import Corpus, Sentence
from nerc.data.labels import AcquiredLabels
from nerc.data.sources import MissingSplit
from nerc.data.tags import SPECIAL_TAGS, entities, to_iob2
from nerc.errors import InputError


class Query(NamedTuple):
    """A sentence that experts were asked to label, why, and their answer; a line of a file."""

    round: int
    strategy: str  # random in round 0; start for what was known before
    score: float | None  # the strategy's; None where it has none
    origin: str  # Sentence.location
    words: tuple[str, ...]
    tags: tuple[str, ...] | None  # the expert's, IOB2; None: not answered, or skipped
    proposed: tuple[str, ...] | None = None  # the tags that a model or weak label proposed
    cheap: bool = False  # whether the sentence has a weak label, which the expert's replaces
    confidence: float | None = None  # of the model in its proposal: that of its least certain word


@dataclass(frozen=True)
class Pool:
    """The sentences that experts can be asked for, no two with the same words."""

    sentences: Sequence[Sentence]  # with the answers, where they are known
    text: Corpus  # all training sentences, copies and known ones included; percentages are of it
    known: Sequence[Sentence]  # labelled by experts before the first round
    types: frozenset[str]  # entity types that answers may have; empty: any
    expert_types: frozenset[str]  # those of them that experts are known to use
    weak: Mapping[tuple[str, ...], tuple[str, ...]]  # by words: weak labels, as IOB2 tags

    def acquired_labels(self, queries: Iterable[Query]) -> AcquiredLabels:
        """The expert labels that a round learns from."""
        places = (self.text.table[column].to_pylist() for column in ("location", "document"))
        documents = dict(zip(*places, strict=True))
        corpus = Corpus.of(
            Sentence(q.words, q.tags, q.origin, documents.get(q.origin, 0))
            for q in answered(queries)
        )
        types = self.expert_types | corpus.entity_types()
        return AcquiredLabels(Corpus(corpus.table, (), types), self.text)


def answered(queries: Iterable[Query]) -> list[Query]:
    """The queries that were not skipped."""
    return [query for query in queries if query.tags is not None]


def count_acquired(queries: Iterable[Query]) -> dict[str, int]:
    """The number of sentences, words and entities with expert labels."""
    labelled = answered(queries)
    return {
        "sentences": len(labelled),
        "words": sum(len(query.words) for query in labelled),
        "entities": sum(len(entities(query.tags)) for query in labelled),
    }


def open_pool(
    corpus: str,
    oracle: str,
    *,
    with_weak: bool,
    types: Sequence[str] = (),
    columns: str | None = None,
) -> Pool:
    """Read the pool of a corpus.

    With --oracle gold it is the training split, whose labels are the answers. With people it is
    unlabelled.txt and the files of weak labels; what train.txt holds, if there is one, is known.
    """
    try:
        weak = sources.load(corpus, "llm") if with_weak else Corpus.of(())
    except MissingSplit as error:
        raise InputError(f"{error}; without weak labels, give --data gold") from None
    weak_tags = {sentence.words: _as_iob2(sentence.tags) for sentence in weak}
    if oracle == "gold":
        train = sources.load(corpus, "train", columns)
        gold_types = train.entity_types()
        return Pool(list(_by_words(train).values()), train, (), gold_types, gold_types, weak_tags)
    expert, unlabelled = Corpus.of(()), Corpus.of(())
    with suppress(MissingSplit):
        expert = sources.load(corpus, "train", columns)
    with suppress(MissingSplit):
        unlabelled = sources.load(corpus, "unlabelled")
    known = _by_words(expert)
    found = _by_words(unlabelled) | _by_words(weak)
    new = [s._replace(tags=None) for words, s in found.items() if words not in known]
    if not new:
        raise InputError(
            f"--corpus {corpus}: has no sentence without an expert's label, wanted them in "
            f"{sources.FILES['unlabelled']} or {sources.FILES['llm']} of a folder"
        )
    expert_types = (frozenset(types) | expert.entity_types()) or weak.entity_types()
    return Pool(
        new,
        Corpus.of((*known.values(), *new)),
        list(known.values()),
        expert_types | weak.entity_types(),
        expert_types,
        weak_tags,
    )


def _as_iob2(weak: Sequence[str]) -> tuple[str, ...]:
    """Weak labels as IOB2 tags, in which a word without a label has O."""
    return tuple(to_iob2(["O" if tag in SPECIAL_TAGS else tag for tag in weak]))


def _by_words(corpus: Corpus) -> dict[tuple[str, ...], Sentence]:
    """The sentences by their words; of copies, the first."""
    sentences: dict[tuple[str, ...], Sentence] = {}
    for sentence in corpus:
        sentences.setdefault(sentence.words, sentence)
    return sentences
