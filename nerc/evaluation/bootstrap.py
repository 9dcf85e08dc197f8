"""Bootstrap intervals of F1, and paired tests of the differences between models.

Documents are resampled with replacement (bootstrap: Efron 1979; paired systems: Koehn 2004), not
sentences: sentences of one document share names, so they are not independent. Only a corpus without
documents has its sentences resampled. Every model is scored on the same resamples, so differences
between models get intervals of their own, which are narrower than those of the models.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from nerc.data.corpus import Corpus
from nerc.data.tags import Entity, entities

NUM_DRAWS = 2000
LEVEL = 0.95
FEW = 30  # with fewer documents or sentences, intervals come out too narrow
ALL = None  # all types together, where results are listed by type; the name of no type
ALL_TYPES = "all types"  # how ALL is shown; no type has a blank in its name


class Interval(NamedTuple):
    """A value or a difference, and the bounds of its interval of confidence LEVEL."""

    value: float
    low: float
    high: float
    p: float | None = None  # how probable a difference as large is if the models are equal


ByType = dict[str | None, Interval]  # of ALL, then of each type


def judged_entities(gold: Sequence[str], predicted: Sequence[str]) -> Iterator[tuple[int, Entity]]:
    """Each correct (0), predicted (1) and gold (2) entity of a sentence, by its tags."""
    wanted, guesses = entities(gold), entities(predicted)
    for kind, members in enumerate((set(wanted) & set(guesses), guesses, wanted)):
        yield from ((kind, entity) for entity in members)


def count_entities(
    corpus: Corpus, predicted: Sequence[Sequence[str]], types: Sequence[str]
) -> np.ndarray:
    """Count the correct, predicted and gold entities: (groups, types, 3), in this order.

    A group is a document or, if the corpus is a single document, a sentence.
    """
    documents = np.array([sentence.document for sentence in corpus])
    _, groups = np.unique(documents, return_inverse=True)
    if len(documents) and groups.max() == 0:
        groups = np.arange(len(documents))
    columns = {name: i for i, name in enumerate(types)}
    counts = np.zeros((groups.max(initial=-1) + 1, len(types), 3))
    for group, sentence, labels in zip(groups, corpus, predicted, strict=True):
        for kind, entity in judged_entities(sentence.tags, labels):
            counts[group, columns[entity.type], kind] += 1
    return counts


def f1(counts: np.ndarray) -> np.ndarray:
    """F1 from counts (..., 3) of correct, predicted and gold entities; 0 if there are none."""
    correct, total = counts[..., 0], counts[..., 1] + counts[..., 2]
    return np.divide(2 * correct, total, out=np.zeros_like(correct), where=total > 0)


def bootstrap_draws(num_groups: int, num: int = NUM_DRAWS) -> np.ndarray:
    """Draw resamples: how often each contains each group, (num, num_groups)."""
    generator = np.random.default_rng(0)
    return generator.multinomial(num_groups, np.full(num_groups, 1 / num_groups), num)


def intervals(counts: np.ndarray, types: Sequence[str], draws: np.ndarray) -> ByType:
    """F1 of ALL and of each type with percentile intervals; counts: (groups, types, 3)."""
    values, samples = _f1_with_all(counts, draws)
    return _by_type(types, values, *np.quantile(samples, _BOUNDS, axis=0))


def differences(
    first: np.ndarray, second: np.ndarray, types: Sequence[str], draws: np.ndarray
) -> ByType:
    """F1 of second minus F1 of first, for ALL and each type; both are counts as in intervals().

    p is two-sided: the resampled differences, shifted to have mean 0, approximate what equal models
    would show (Efron and Tibshirani 1993, section 16.4).
    """
    both = zip(_f1_with_all(first, draws), _f1_with_all(second, draws), strict=True)
    values, samples = (b - a for a, b in both)
    num_as_large = (np.abs(samples - values) >= np.abs(values)).sum(axis=0)
    p = (num_as_large + 1) / (len(draws) + 1)
    return _by_type(types, values, *np.quantile(samples, _BOUNDS, axis=0), p)


_BOUNDS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


def _by_type(types: Sequence[str], *columns: np.ndarray) -> ByType:
    rows = np.stack(columns, axis=1).tolist()
    return {name: Interval(*row) for name, row in zip((ALL, *types), rows, strict=True)}


def _f1_with_all(counts: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F1 of ALL and each type, (1 + types,), and that in each resample, (draws, 1 + types)."""
    resampled = np.tensordot(draws.astype(float), counts, axes=1)  # (draws, types, 3)
    every = (counts.sum(axis=0), resampled)
    return tuple(f1(np.concatenate([c.sum(axis=-2, keepdims=True), c], axis=-2)) for c in every)
