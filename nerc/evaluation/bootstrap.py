"""What figures are worth that come from few sentences: intervals, and paired tests of differences.

Documents are drawn anew with replacement (bootstrap: Efron 1979; of paired systems: Koehn 2004),
since sentences of one document share names and so do not count as independent; where a corpus has
no documents, sentences are drawn. Every model is judged on the same draws, so that differences
between models have intervals of their own, narrower than those of the models.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nerc.data.corpus import Corpus
from nerc.data.tags import entities

NUM_DRAWS = 2000
LEVEL = 0.95
ALL = "all"  # the name, among types, of all of them


@dataclass(frozen=True)
class Interval:
    """A figure and the bounds between which it lies in LEVEL of all such samples."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Interval):
    """An interval of a difference, and how often one as large would come about by chance alone."""

    p: float


def counts(corpus: Corpus, predicted: Sequence[Sequence[str]], types: Sequence[str]) -> np.ndarray:
    """Entities of each group of sentences by type: (groups, types, 3) right, found, in gold.

    A group is a document; where the corpus is one document, a sentence.
    """
    documents = np.array([sentence.document for sentence in corpus])
    _, groups = np.unique(documents, return_inverse=True)
    if len(documents) and groups.max() == 0:
        groups = np.arange(len(documents))
    column = {name: i for i, name in enumerate(types)}
    result = np.zeros((groups.max(initial=-1) + 1, len(types), 3))
    for group, sentence, guesses in zip(groups, corpus, predicted, strict=True):
        gold, found = entities(sentence.tags), entities(guesses)
        for which, members in enumerate((set(gold) & set(found), found, gold)):
            for entity in members:
                result[group, column[entity.type], which] += 1
    return result


def f1(found: np.ndarray) -> np.ndarray:
    """F1 of counts (..., 3): right, found, in gold; 0 where there is nothing."""
    right, total = found[..., 0], found[..., 1] + found[..., 2]
    return np.divide(2 * right, total, out=np.zeros_like(right), where=total > 0)


def bootstrap_draws(num_groups: int, seed: int = 0, num: int = NUM_DRAWS) -> np.ndarray:
    """How often each group is in each draw: (num, num_groups)."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(num_groups, np.full(num_groups, 1 / num_groups), num)


def intervals(found: np.ndarray, types: Sequence[str], drawn: np.ndarray) -> dict[str, Interval]:
    """F1 of ALL and of each type, from counts (groups, types, 3), with percentile intervals."""
    values, samples = (
        f1(_with_all(found.sum(axis=0))),
        f1(_with_all(_counts_of_draws(drawn, found))),
    )
    low, high = np.quantile(samples, _BOUNDS, axis=0)
    rows = zip(values, low, high, strict=True)
    return {name: Interval(*map(float, row)) for name, row in zip((ALL, *types), rows, strict=True)}


def differences(
    first: np.ndarray, second: np.ndarray, types: Sequence[str], drawn: np.ndarray
) -> dict[str, Difference]:
    """What F1 of second is above that of first, of ALL and of each type; counts as in intervals().

    p is two-sided, from the draws' differences around the observed one: what they would be around 0
    if the models were equal (Efron and Tibshirani 1993, section 16.4).
    """
    values = f1(_with_all(second.sum(axis=0))) - f1(_with_all(first.sum(axis=0)))
    samples = f1(_with_all(_counts_of_draws(drawn, second))) - f1(
        _with_all(_counts_of_draws(drawn, first))
    )
    low, high = np.quantile(samples, _BOUNDS, axis=0)
    beyond = (np.abs(samples - values) >= np.abs(values)).sum(axis=0)
    p = (beyond + 1) / (len(drawn) + 1)
    rows = zip(values, low, high, p, strict=True)
    return {
        name: Difference(*map(float, row)) for name, row in zip((ALL, *types), rows, strict=True)
    }


_BOUNDS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


def _counts_of_draws(drawn: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Counts of each draw, (draws, types, 3)."""
    flat = found.reshape(len(found), -1)
    return (drawn.astype(float) @ flat).reshape(len(drawn), *found.shape[1:])


def _with_all(found: np.ndarray) -> np.ndarray:
    """Counts (..., types, 3) with those of all types before them."""
    return np.concatenate([found.sum(axis=-2, keepdims=True), found], axis=-2)
