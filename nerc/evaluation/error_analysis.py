"""Analyses the errors of predicted tags: their kinds, confusions of types, F1 by slice."""

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from nerc.data.corpus import Corpus, Sentence
from nerc.data.tags import Entity, entities
from nerc.evaluation.bootstrap import f1, judged_entities
from nerc.evaluation.metrics import Scores
from nerc.tables import Table

KINDS = ("correct", "wrong type", "wrong boundary", "spurious", "missed")
NOTHING = None  # the type of no entity


class Pair(NamedTuple):
    """A gold entity and the predicted entity it is compared with; None if there is no such one."""

    kind: str
    gold: Entity | None
    predicted: Entity | None


def pairs(gold: Sequence[Entity], predicted: Sequence[Entity]) -> list[Pair]:
    """Pair the gold and predicted entities of a sentence; each is in exactly one pair.

    Entities of the same words are paired first (correct, wrong type), then entities that overlap,
    those with most words in common first (wrong boundary, whatever the types). The gold entities
    that remain are missed, the predicted ones spurious.
    """
    overlapping = []
    for a, b in itertools.product(gold, predicted):
        if (num_common := min(a.end, b.end) - max(a.start, b.start)) > 0:
            overlapping.append(((a.start, a.end) == (b.start, b.end), num_common, a, b))
    result, missed, spurious = [], set(gold), set(predicted)
    for has_same_words, _, a, b in sorted(overlapping, reverse=True):
        if a in missed and b in spurious:
            missed.remove(a)
            spurious.remove(b)
            kind = "correct" if a == b else "wrong type" if has_same_words else "wrong boundary"
            result.append(Pair(kind, a, b))
    result += [Pair("missed", entity, None) for entity in missed]
    result += [Pair("spurious", None, entity) for entity in spurious]
    return sorted(result, key=lambda pair: (pair.gold or pair.predicted).start)


# How often an entity of a gold type has a predicted type; NOTHING if there is none.
Confusion = Counter[tuple[str | None, str | None]]


class Errors(NamedTuple):
    """The pairs of each sentence, and statistics of them."""

    pairs: list[list[Pair]]
    kinds: Counter[str]
    confusion: Confusion
    frequent: list[tuple[int, str, str, str]]  # count, kind, gold, predicted; most frequent first


def errors(corpus: Corpus, predicted: Sequence[Sequence[str]]) -> Errors:
    """Compare predicted tags with those of corpus; errors on the same words are counted as one."""
    by_sentence, kinds = [], Counter(dict.fromkeys(KINDS, 0))
    confusion, texts = Counter(), Counter()
    for sentence, labels in zip(corpus, predicted, strict=True):
        by_sentence.append(pairs(entities(sentence.tags), entities(labels)))
        for kind, *both in by_sentence[-1]:
            kinds[kind] += 1
            confusion[tuple(entity.type if entity else NOTHING for entity in both)] += 1
            if kind != "correct":
                texts[(kind, *(entity_text(sentence.words, entity) for entity in both))] += 1
    frequent = [(count, *text) for text, count in sorted(texts.items(), key=lambda x: (-x[1], x))]
    return Errors(by_sentence, kinds, confusion, frequent)


def confusion_table(counts: Confusion, types: Sequence[str], corner: str) -> Table:
    """How often an entity of one type (row: gold) was predicted as another (column)."""
    rows = [[corner, *types, "missed"]]
    for gold in (*types, NOTHING):
        name = "spurious" if gold is NOTHING else gold
        rows.append([name, *(counts[gold, type_] for type_ in (*types, NOTHING))])
    return rows


def entity_text(words: Sequence[str], entity: Entity | None) -> str:
    """The words and the type of an entity: `Ann Lee (PER)`; of none, a dash."""
    if entity is None:
        return "-"
    return f"{' '.join(words[entity.start : entity.end])} ({entity.type})"


# ------------------------------------------------------------ slices


Families = Mapping[str, Callable[[Sentence, Entity], str]]  # the name of an entity's slice


def slices(
    corpus: Corpus, predicted: Sequence[Sequence[str]], families: Families
) -> dict[tuple[str, str], Scores]:
    """Score slices of the entities, such as those of two words; by family and name of the slice."""
    counts = defaultdict(lambda: np.zeros(3))  # correct, predicted, gold
    for sentence, labels in zip(corpus, predicted, strict=True):
        for kind, entity in judged_entities(sentence.tags, labels):
            for family, name_of in families.items():
                counts[family, name_of(sentence, entity)][kind] += 1
    order = list(families)

    def place(key: tuple[str, str]) -> tuple[int, int, str]:
        number = re.match(r"\d+", key[1])  # bins are in the order of their numbers
        return order.index(key[0]), int(number[0]) if number else 0, key[1]

    result = {}
    for key in sorted(counts, key=place):
        correct, *totals = counts[key]
        precision, recall = (float(correct / n) if n else 0.0 for n in totals)
        result[key] = Scores(precision, recall, float(f1(counts[key])), int(totals[1]))
    return result


def slice_families(train: Corpus | None = None) -> Families:
    """Slices by length, position and letters and, given the training corpus, by what it contains.

    An entity belongs to a slice by its own words and its sentence, be it gold or predicted.
    """
    families = {
        "words in the entity": lambda _, e: _bin(e.end - e.start, (1, 2, 3)),
        "position in the sentence": lambda _, e: _bin(e.start + 1, (5, 10, 20, 40)),
        "words in the sentence": lambda sentence, _: _bin(len(sentence.words), (5, 10, 20, 40)),
        "letters": _letters,
    }
    if train is not None:
        seen = {_surface(sentence, e) for sentence in train for e in entities(sentence.tags)}
        sentences = {sentence.words for sentence in train}
        families |= {
            "entity in training": lambda s, e: "yes" if _surface(s, e) in seen else "no",
            "sentence in training": lambda s, _: "yes" if s.words in sentences else "no",
        }
    return families


def _surface(sentence: Sentence, entity: Entity) -> tuple[str, ...]:
    return sentence.words[entity.start : entity.end]


def _letters(sentence: Sentence, entity: Entity) -> str:
    text = "".join(_surface(sentence, entity))
    if not any(letter.isalpha() for letter in text):
        return "none"
    if text.upper() == text.lower():
        return "without case"
    if all(word.upper() == word for word in sentence.words):
        return "uppercase sentence"
    return "uppercase" if text.upper() == text else "lowercase" if text.lower() == text else "mixed"


def _bin(number: int, bounds: tuple[int, ...]) -> str:
    """The bin of number between bounds: `2`, `6-10`, `41 or more`."""
    low = 1
    for bound in bounds:
        if number <= bound:
            return str(bound) if bound == low else f"{low}-{bound}"
        low = bound + 1
    return f"{low} or more"
