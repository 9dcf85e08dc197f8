"""The pool of active learning: sentences that experts can label, and what they were asked."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from nerc.data import sources
from nerc.data.corpus import Corpus, Sentence
from nerc.data.labels import AcquiredLabels
from nerc.data.sources import MissingSplit
from nerc.data.tags import NOT_ASKED, SPECIAL_TAGS, entities, to_iob2
from nerc.errors import InputError


class Query(NamedTuple):
    """A sentence that experts were asked to label, why, and their answer; a line of a file."""

    round: int
    strategy: str  # random in round 0; start for what was known before
    score: float | None  # the strategy's; None where it has none
    origin: str  # Sentence.location
    words: tuple[str, ...]
    # The expert's, IOB2, with NOT_ASKED for words without a label. None: not answered, or skipped.
    tags: tuple[str, ...] | None
    proposed: tuple[str, ...] | None = None  # the tags that a model or weak label proposed
    cheap: bool = False  # whether the sentence has a weak label, which the expert's replaces
    confidence: float | None = None  # of the model in its proposal: that of its least certain word
    asked: tuple[int, ...] | None = None  # the numbers of the words that are asked; None: all


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
            sentence._replace(document=documents.get(sentence.location, 0))
            for sentence in labelled_sentences(queries)
        )
        types = self.expert_types | corpus.entity_types()
        notes = ()
        if num_left := corpus.tag_counts()[NOT_ASKED]:
            notes = (
                f"experts labelled {corpus.num_words - num_left:,} of the {corpus.num_words:,} "
                f"words of their sentences; the others have no expert label",
            )
        return AcquiredLabels(Corpus(corpus.table, notes, types), self.text)


def answered(queries: Iterable[Query]) -> list[Query]:
    """The queries that were not skipped."""
    return [query for query in queries if query.tags is not None]


def labelled_sentences(queries: Iterable[Query]) -> list[Sentence]:
    """The answers; those to several queries for words of one sentence are merged.

    A later answer counts. Of an earlier entity that it meets, no part stays.
    """
    sentences: dict[tuple[str, ...], Sentence] = {}
    for query in answered(queries):
        new, earlier = query.tags, sentences.get(query.words)
        if earlier is not None:
            merged = list(earlier.tags)
            answer = {i for i, tag in enumerate(new) if tag != NOT_ASKED}
            for _, start, end in entities(earlier.tags):
                if not answer.isdisjoint(range(start, end)):
                    merged[start:end] = [NOT_ASKED] * (end - start)
            new = tuple(new[i] if i in answer else tag for i, tag in enumerate(merged))
        location = query.origin if earlier is None else earlier.location
        sentences[query.words] = Sentence(query.words, new, location, 0)
    return list(sentences.values())


def count_acquired(queries: Iterable[Query]) -> dict[str, int]:
    """The number of sentences, words and entities with expert labels, and of words read.

    Experts read the whole sentence, each time that some of its words are asked.
    """
    queries = answered(queries)
    labels = [sentence.tags for sentence in labelled_sentences(queries)]
    return {
        "sentences": len(labels),
        "words": sum(tag != NOT_ASKED for of_sentence in labels for tag in of_sentence),
        "entities": sum(len(entities(of_sentence)) for of_sentence in labels),
        "words_read": sum(len(query.words) for query in queries),
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

    With --oracle gold it is the training split, whose labels are the answers. Otherwise it is
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
