"""Ranks the places of a corpus whose labels are probably wrong.

A place is where the entities that models predict, which did not learn from the sentence, differ
from the given ones. Its score adds up what the models think of the given labels there, and what
labels the same words, or words of the same form, have in other places of the corpus.
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from nerc.data import tags
from nerc.data.corpus import Corpus
from nerc.data.labels import word_shape
from nerc.data.tags import Entity
from nerc.model.inference import decode

_LEAST = 0.01  # a model's probabilities below it say no more: networks are overconfident
# How much a type of the level before counts, in words: of forms, forms in context, words.
_PRIOR_WORDS = (2, 4, 2)
# Fitted by logistic regression on corrupted labels of CoNLL-2003 (benchmarks/suspects.py), rounded.
_WEIGHT_ELSEWHERE = 0.7
_BY_KIND = {"missed": 1.5, "spurious": -1.0, "wrong type": 0.0, "wrong boundary": 0.0}
_OFFSET = -5.5  # score 0: about as probably wrong as right, where 5 % of the entities are wrong


class Place(NamedTuple):
    """Words start to end (exclusive): entities that are given and suggested, which overlap.

    One of the two may be empty.
    """

    start: int
    end: int
    given: tuple[Entity, ...]
    suggested: tuple[Entity, ...]

    @property
    def kind(self) -> str:
        """What may be wrong: one of nerc.evaluation.error_analysis.KINDS, but never correct."""
        if not self.given:
            return "missed"
        if not self.suggested:
            return "spurious"
        given, suggested = ([e[1:] for e in part] for part in (self.given, self.suggested))
        return "wrong type" if given == suggested else "wrong boundary"


class Suspect(NamedTuple):
    """A place of a sentence, known by its index in the corpus, whose labels may be wrong."""

    sentence: int
    place: Place
    score: float  # about the log-odds that the given labels are wrong


def find(corpus: Corpus, rows: Sequence[np.ndarray], word_tags: Sequence[str]) -> list[Suspect]:
    """The suspects, the most suspicious first; words without a label belong to none.

    rows: out-of-sample log-probabilities (words, tags) of each sentence; the tags are word_tags.
    """
    column = {tag: i for i, tag in enumerate(word_tags)}
    elsewhere = _Elsewhere(corpus, len(tags.types_of(word_tags)) + 1)
    result = []
    paths = decode(rows, word_tags)
    for i, (sentence, row, path) in enumerate(zip(corpus, rows, paths, strict=True)):
        for place in places(tags.entities(sentence.tags), tags.entities(path)):
            given = sentence.tags[place.start : place.end]
            if any(tag in tags.SPECIAL_TAGS for tag in given):
                continue
            chosen = [row[place.start + t, column[tag]] for t, tag in enumerate(given)]
            score = _OFFSET - math.log(math.exp(min(chosen)) + _LEAST) + _BY_KIND[place.kind]
            score += _WEIGHT_ELSEWHERE * elsewhere.log_odds(sentence.words, place)
            result.append(Suspect(i, place, score))
    return sorted(result, key=lambda suspect: -suspect.score)


def places(given: Sequence[Entity], suggested: Sequence[Entity]) -> list[Place]:
    """Where entities differ; those that overlap, also through others, are one place."""
    groups: list[tuple[list[Entity], list[Entity]]] = []
    end = 0
    for entity, which in sorted(
        [(e, 0) for e in given] + [(e, 1) for e in suggested], key=lambda pair: pair[0].start
    ):
        if not groups or entity.start >= end:
            groups.append(([], []))
        groups[-1][which].append(entity)
        end = max(end, entity.end)
    result = []
    for group in groups:
        if group[0] != group[1]:
            both = group[0] + group[1]
            start, end = min(e.start for e in both), max(e.end for e in both)
            result.append(Place(start, end, *map(tuple, group)))
    return result


class _Elsewhere:
    """Counts types (O, PER, ...) of words, of forms of words, and of forms between two others."""

    def __init__(self, corpus: Corpus, num_types: int) -> None:
        self.num_types = num_types
        self.counts, self.totals = Counter(), Counter()
        for sentence in corpus:
            for keys, tag in zip(_keys(sentence.words), sentence.tags, strict=True):
                if tag not in tags.SPECIAL_TAGS:
                    self.totals.update(keys)
                    self.counts.update((key, tag[2:] or "O") for key in keys)

    def log_odds(self, words: Sequence[str], place: Place) -> float:
        """Log-odds of the suggested against the given type, by how the other places are labelled.

        Of the words whose type would change, the one for which they are the lowest counts; 0 if
        there is none.
        """
        given, suggested = (_types(part, len(words)) for part in place[2:])
        odds = [
            math.log(self._share(keys, b, 0) / self._share(keys, a, 1))
            for keys, a, b in zip(_keys(words), given, suggested, strict=True)
            if a != b
        ]
        return min(odds, default=0.0)

    def _share(self, keys: Sequence[Hashable], type_: str, own: int) -> float:
        """Share of a type among the other places of a word, drawn towards that of its form.

        own: how often the place itself has the type.
        """
        share = 1 / self.num_types
        for key, prior in zip(keys, _PRIOR_WORDS, strict=True):
            number = self.counts[key, type_] - own + prior * share
            share = number / (self.totals[key] - 1 + prior)
        return share


def _keys(words: Sequence[str]) -> Iterator[tuple[Hashable, ...]]:
    """For each word what it is counted by: its form, with its neighbours' forms, the word."""
    shapes = ["", *map(word_shape, words), ""]
    for t, word in enumerate(words):
        yield (shapes[t + 1],), tuple(shapes[t : t + 3]), word


def _types(entities: Sequence[Entity], num_words: int) -> list[str]:
    result = ["O"] * num_words
    for type_, start, end in entities:
        result[start:end] = [type_] * (end - start)
    return result
