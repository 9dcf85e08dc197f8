"""What a model gets wrong, and on which entities and sentences."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from nerc.data.corpus import Corpus
from nerc.data.tags import Entity, entities
from nerc.evaluation.bootstrap import f1

KINDS = ("correct", "wrong type", "wrong boundary", "spurious", "missed")
NOTHING = "-"  # in the place of a type, where there is no entity


class Pair(NamedTuple):
    """What gold has and what was found at one place; None where there is nothing."""

    kind: str
    gold: Entity | None
    found: Entity | None


def pairs(gold: Sequence[Entity], found: Sequence[Entity]) -> list[Pair]:
    """Every entity of a sentence, gold and found, exactly once.

    The same words make a pair first (correct, wrong type), then, those with most words in common
    before the others, words that overlap (wrong boundary, of whatever type). What is left in gold
    was missed, what is left of the found ones is spurious.
    """
    by_words = {(entity.start, entity.end): entity for entity in gold}
    result, left = [], []
    for entity in found:
        same = by_words.pop((entity.start, entity.end), None)
        if same is None:
            left.append(entity)
        else:
            kind = "correct" if same.type == entity.type else "wrong type"
            result.append(Pair(kind, same, entity))
    overlapping = sorted(
        (_overlap(a, b), a, b) for a in by_words.values() for b in left if _overlap(a, b)
    )
    lost, extra = set(by_words.values()), set(left)
    for _, a, b in reversed(overlapping):
        if a in lost and b in extra:
            lost.remove(a)
            extra.remove(b)
            result.append(Pair("wrong boundary", a, b))
    result += [Pair("missed", entity, None) for entity in lost]
    result += [Pair("spurious", None, entity) for entity in extra]
    return sorted(result, key=lambda pair: (pair.gold or pair.found).start)


def _overlap(a: Entity, b: Entity) -> int:
    return max(0, min(a.end, b.end) - max(a.start, b.start))


class Errors(NamedTuple):
    """The pairs of each sentence, and what they add up to."""

    pairs: list[list[Pair]]
    kinds: Counter[str]
    confusion: Counter[tuple[str, str]]  # type in gold, type found; NOTHING for none
    frequent: list[tuple[int, str, str, str]]  # how often, kind, in gold, found


def errors(corpus: Corpus, predicted: Sequence[Sequence[str]]) -> Errors:
    """Compare predicted tags with the corpus's; frequent errors are those of the same words."""
    found = [
        pairs(entities(sentence.tags), entities(guesses))
        for sentence, guesses in zip(corpus, predicted, strict=True)
    ]
    kinds = Counter({kind: 0 for kind in KINDS})
    confusion: Counter[tuple[str, str]] = Counter()
    texts: Counter[tuple[str, str, str]] = Counter()
    for sentence, own in zip(corpus, found, strict=True):
        for kind, gold, guess in own:
            kinds[kind] += 1
            confusion[_type(gold), _type(guess)] += 1
            if kind != "correct":
                texts[kind, _text(sentence.words, gold), _text(sentence.words, guess)] += 1
    assert sum(confusion.values()) == sum(kinds.values()), "a pair was lost"
    frequent = [(times, *what) for what, times in sorted(texts.items(), key=lambda x: (-x[1], x))]
    return Errors(found, kinds, confusion, frequent)


def _type(entity: Entity | None) -> str:
    return entity.type if entity else NOTHING


def _text(words: Sequence[str], entity: Entity | None) -> str:
    if entity is None:
        return NOTHING
    return f"{' '.join(words[entity.start : entity.end])} ({entity.type})"


# ------------------------------------------------------------ slices


class Slice(NamedTuple):
    """Entities that have something in common; see slices()."""

    family: str
    name: str
    support: int  # how many gold has
    precision: float
    recall: float
    f1: float


def slices(corpus: Corpus, predicted: Sequence[Sequence[str]], train: Corpus | None) -> list[Slice]:
    """Scores of parts: precision of the found entities that belong to one, recall of gold's.

    An entity belongs to a part by its own words or its sentence, gold and found ones alike. Whether
    training had an entity of the same words, or the sentence, is known only with train.
    """
    known = {e for s in train for e in _surfaces(s.words, entities(s.tags))} if train else set()
    read = {s.words for s in train} if train else set()
    families: dict[str, Callable[[tuple[str, ...], Entity], str]] = {
        "words of the entity": lambda words, e: _bin(e.end - e.start, (1, 2, 3)),
        "place in the sentence": lambda words, e: _bin(e.start + 1, (5, 10, 20, 40)),
        "words of the sentence": lambda words, e: _bin(len(words), (5, 10, 20, 40)),
        "letters": _letters,
    }
    if train is not None:
        families |= {
            "entity in training": lambda words, e: _yes(_surface(words, e) in known),
            "sentence in training": lambda words, e: _yes(words in read),
        }
    found: dict[tuple[str, str], np.ndarray] = {}
    for sentence, guesses in zip(corpus, predicted, strict=True):
        gold, own = entities(sentence.tags), entities(guesses)
        for which, members in enumerate((set(gold) & set(own), own, gold)):
            for entity in members:
                for family, part in families.items():
                    key = family, part(sentence.words, entity)
                    found.setdefault(key, np.zeros(3))[which] += 1
    order = {family: i for i, family in enumerate(families)}
    rows = sorted(found.items(), key=lambda item: (order[item[0][0]], _natural(item[0][1])))
    return [_slice(family, name, counts) for (family, name), counts in rows]


def _slice(family: str, name: str, counts: np.ndarray) -> Slice:
    right, found, support = counts
    precision, recall = (right / n if n else 0.0 for n in (found, support))
    return Slice(family, name, int(support), float(precision), float(recall), float(f1(counts)))


def _surface(words: Sequence[str], entity: Entity) -> tuple[str, ...]:
    return tuple(words[entity.start : entity.end])


def _surfaces(words: Sequence[str], found: Sequence[Entity]) -> list[tuple[str, ...]]:
    return [_surface(words, entity) for entity in found]


def _letters(words: Sequence[str], entity: Entity) -> str:
    text = "".join(_surface(words, entity))
    if not any(letter.isalpha() for letter in text):
        return "none"
    if text.upper() == text.lower():
        return "without capitals and small ones"
    if all(word.upper() == word for word in words):
        return "sentence in capitals"
    return "capitals" if text.upper() == text else "small" if text.lower() == text else "mixed"


def _bin(number: int, bounds: tuple[int, ...]) -> str:
    """`2`, `6-10`, `41 or more`: where number lies among bounds."""
    low = 1
    for bound in bounds:
        if number <= bound:
            return str(bound) if bound == low else f"{low}-{bound}"
        low = bound + 1
    return f"{low} or more"


def _natural(name: str) -> tuple[int, str]:
    digits = name.split("-")[0].split()[0]
    return (int(digits), "") if digits.isdecimal() else (0, name)


def _yes(value: bool) -> str:
    return "yes" if value else "no"
