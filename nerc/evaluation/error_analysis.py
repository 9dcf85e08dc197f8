"""Analyses the errors of predicted tags: their kinds, confusions of types, F1 by slice."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from nerc.data.corpus import Corpus
from nerc.data.tags import Entity, entities
from nerc.evaluation.bootstrap import f1
from nerc.evaluation.metrics import Scores
from nerc.tables import Rows

KINDS = ("correct", "wrong type", "wrong boundary", "spurious", "missed")
NOTHING = "-"  # the type, or the text, of no entity


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
    by_words = {(entity.start, entity.end): entity for entity in gold}
    result, unpaired = [], []
    for entity in predicted:
        same = by_words.pop((entity.start, entity.end), None)
        if same is None:
            unpaired.append(entity)
        else:
            kind = "correct" if same.type == entity.type else "wrong type"
            result.append(Pair(kind, same, entity))
    overlapping = sorted(
        (_overlap(a, b), a, b) for a in by_words.values() for b in unpaired if _overlap(a, b)
    )
    missed, spurious = set(by_words.values()), set(unpaired)
    for _, a, b in reversed(overlapping):
        if a in missed and b in spurious:
            missed.remove(a)
            spurious.remove(b)
            result.append(Pair("wrong boundary", a, b))
    result += [Pair("missed", entity, None) for entity in missed]
    result += [Pair("spurious", None, entity) for entity in spurious]
    return sorted(result, key=lambda pair: (pair.gold or pair.predicted).start)


def _overlap(a: Entity, b: Entity) -> int:
    return max(0, min(a.end, b.end) - max(a.start, b.start))


class Errors(NamedTuple):
    """The pairs of each sentence, and statistics of them."""

    pairs: list[list[Pair]]
    kinds: Counter[str]
    confusion: Counter[tuple[str, str]]  # gold type, predicted type; NOTHING if there is none
    frequent: list[tuple[int, str, str, str]]  # count, kind, gold, predicted; most frequent first


def errors(corpus: Corpus, predicted: Sequence[Sequence[str]]) -> Errors:
    """Compare predicted tags with those of corpus; errors on the same words are counted as one."""
    by_sentence = [
        pairs(entities(sentence.tags), entities(labels))
        for sentence, labels in zip(corpus, predicted, strict=True)
    ]
    kinds = Counter({kind: 0 for kind in KINDS})
    confusion: Counter[tuple[str, str]] = Counter()
    texts: Counter[tuple[str, str, str]] = Counter()
    for sentence, in_sentence in zip(corpus, by_sentence, strict=True):
        for kind, gold, guess in in_sentence:
            kinds[kind] += 1
            confusion[_type(gold), _type(guess)] += 1
            if kind != "correct":
                texts[
                    kind, entity_text(sentence.words, gold), entity_text(sentence.words, guess)
                ] += 1
    assert sum(confusion.values()) == sum(kinds.values()), "a pair was lost"
    frequent = [(count, *text) for text, count in sorted(texts.items(), key=lambda x: (-x[1], x))]
    return Errors(by_sentence, kinds, confusion, frequent)


def confusion_table(
    counts: Mapping[tuple[str, str], int], types: Sequence[str], corner: str
) -> Rows:
    """How often an entity of one type (row: gold) was predicted as another (column)."""
    rows = [[corner, *types, "missed"]]
    for gold in (*types, NOTHING):
        name = "spurious" if gold == NOTHING else gold
        rows.append([name, *(f"{counts[gold, type_]:,}" for type_ in (*types, NOTHING))])
    return rows


def _type(entity: Entity | None) -> str:
    return entity.type if entity else NOTHING


def entity_text(words: Sequence[str], entity: Entity | None) -> str:
    """The words and the type of an entity: `Ann Lee (PER)`."""
    if entity is None:
        return NOTHING
    return f"{' '.join(words[entity.start : entity.end])} ({entity.type})"


# ------------------------------------------------------------ slices


def slices(
    corpus: Corpus, predicted: Sequence[Sequence[str]], train: Corpus | None
) -> dict[tuple[str, str], Scores]:
    """Score slices of the entities, such as those of two words; by family and name of the slice.

    The slice of an entity, gold or predicted, depends on its own words and on its sentence. Without
    the training corpus there are no slices by what training contained.
    """
    families = _slice_families(train)
    counts: dict[tuple[str, str], np.ndarray] = {}  # (3,) correct, predicted, gold
    for sentence, labels in zip(corpus, predicted, strict=True):
        gold, guesses = entities(sentence.tags), entities(labels)
        for i, members in enumerate((set(gold) & set(guesses), guesses, gold)):
            for entity in members:
                for family, name_of in families.items():
                    key = family, name_of(sentence.words, entity)
                    counts.setdefault(key, np.zeros(3))[i] += 1
    order = list(families)
    keys = sorted(counts, key=lambda key: (order.index(key[0]), _natural(key[1])))
    result = {}
    for key in keys:
        correct, *totals = counts[key]
        precision, recall = (float(correct / n) if n else 0.0 for n in totals)
        result[key] = Scores(precision, recall, float(f1(counts[key])), int(totals[1]))
    return result


def _slice_families(
    train: Corpus | None,
) -> dict[str, Callable[[tuple[str, ...], Entity], str]]:
    """By family, a function from a sentence's words and an entity to the name of its slice."""
    families = {
        "words in the entity": lambda words, e: _bin(e.end - e.start, (1, 2, 3)),
        "position in the sentence": lambda words, e: _bin(e.start + 1, (5, 10, 20, 40)),
        "words in the sentence": lambda words, e: _bin(len(words), (5, 10, 20, 40)),
        "letters": _letters,
    }
    if train is None:
        return families
    seen = {_surface(s.words, entity) for s in train for entity in entities(s.tags)}
    sentences = {s.words for s in train}
    return families | {
        "entity in training": lambda words, e: _yes(_surface(words, e) in seen),
        "sentence in training": lambda words, e: _yes(words in sentences),
    }


def _surface(words: Sequence[str], entity: Entity) -> tuple[str, ...]:
    return tuple(words[entity.start : entity.end])


def _letters(words: Sequence[str], entity: Entity) -> str:
    text = "".join(_surface(words, entity))
    if not any(letter.isalpha() for letter in text):
        return "none"
    if text.upper() == text.lower():
        return "without case"
    if all(word.upper() == word for word in words):
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


def _natural(name: str) -> tuple[int, str]:
    """A sort key that orders bins by their numbers."""
    digits = name.split("-")[0].split()[0]
    return (int(digits), "") if digits.isdecimal() else (0, name)


def _yes(value: bool) -> str:
    return "yes" if value else "no"
