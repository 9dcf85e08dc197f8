"""Intervals and p-values are what they claim to be, in simulations with a known truth."""

import numpy as np
import pytest

from nerc.data.corpus import Corpus, Sentence
from nerc.evaluation import bootstrap

DOCUMENTS, SIMULATIONS = 150, 1000


def simulated(generator, recall: float, spurious: float, size: np.ndarray, shared: np.ndarray):
    """Counts (documents, 1, 3) of a model that finds each entity with probability recall.

    For half of the entities the outcome is shared with the other models: some are hard for all.
    """
    own = np.where(generator.random(len(shared)) < 0.5, shared, generator.random(len(shared)))
    documents = np.repeat(np.arange(len(size)), size)
    right = np.bincount(documents, own < recall, minlength=len(size))
    return np.stack([right, right + generator.poisson(spurious * size), size], axis=1)[:, None]


def expected_f1(recall: float, spurious: float) -> float:
    return 2 * recall / (1 + recall + spurious)


def simulations(first: tuple[float, float], second: tuple[float, float], seed: int):
    """The intervals of the first model, and the differences of the second, in each simulation."""
    generator = np.random.default_rng(seed)
    draws = bootstrap.bootstrap_draws(DOCUMENTS, num=1000)
    for _ in range(SIMULATIONS):
        size = generator.negative_binomial(2, 0.1, DOCUMENTS) + 1
        shared = generator.random(size.sum())
        one, two = (simulated(generator, *model, size, shared) for model in (first, second))
        intervals = bootstrap.intervals(one, ["PER"], draws)
        yield intervals, bootstrap.differences(one, two, ["PER"], draws)


@pytest.mark.parametrize("second", [(0.88, 0.10), (0.90, 0.08), (0.80, 0.15)])
def test_intervals_contain_the_truth_as_often_as_they_say(second):
    first = (0.88, 0.10)
    truth = expected_f1(*second) - expected_f1(*first)
    covered, covered_first = 0, 0
    for interval, difference in simulations(first, second, seed=1):
        for name in (bootstrap.ALL, "PER"):
            assert difference[name].low <= difference[name].value <= difference[name].high
        covered += difference[bootstrap.ALL].low <= truth <= difference[bootstrap.ALL].high
        covered_first += (
            interval[bootstrap.ALL].low <= expected_f1(*first) <= interval[bootstrap.ALL].high
        )
    assert 0.93 <= covered / SIMULATIONS <= 0.97
    assert 0.93 <= covered_first / SIMULATIONS <= 0.97


def test_equal_models_have_a_small_p_as_rarely_as_it_says():
    p = np.array([d[bootstrap.ALL].p for _, d in simulations((0.88, 0.10), (0.88, 0.10), seed=2)])
    assert 0.035 <= np.mean(p < 0.05) <= 0.065
    assert 0.4 <= np.mean(p < 0.5) <= 0.6


def test_a_model_does_not_differ_from_itself():
    counts = np.random.default_rng(0).integers(1, 9, (40, 2, 3)).astype(float)
    same = bootstrap.differences(counts, counts, ["A", "B"], bootstrap.bootstrap_draws(40))
    assert {(d.value, d.low, d.high, d.p) for d in same.values()} == {(0.0, 0.0, 0.0, 1.0)}


def corpus(*rows: tuple[str, int]) -> Corpus:
    return Corpus.of(
        Sentence(tuple("abcdefgh"[: len(t.split())]), tuple(t.split()), "x", d) for t, d in rows
    )


def test_entities_are_counted_by_document_and_type():
    gold = corpus(("B-PER I-PER O", 3), ("B-LOC O", 3), ("B-PER", 7))
    predicted = [["B-PER", "I-PER", "B-LOC"], ["B-PER", "O"], ["B-PER"]]
    counts = bootstrap.count_entities(gold, predicted, ["PER", "LOC"])
    assert counts.tolist() == [[[1, 2, 1], [0, 1, 1]], [[1, 1, 1], [0, 0, 0]]]
    assert bootstrap.f1(counts.sum(axis=0)).tolist() == [2 * 2 / (3 + 2), 0.0]


def test_without_documents_sentences_are_resampled():
    gold = corpus(("B-PER", 0), ("O", 0), ("B-LOC", 0))
    assert len(bootstrap.count_entities(gold, [["O"]] * 3, ["PER", "LOC"])) == 3
    draws = bootstrap.bootstrap_draws(3)
    assert draws.shape == (bootstrap.NUM_DRAWS, 3) and set(draws.sum(axis=1)) == {3}
    assert (draws == bootstrap.bootstrap_draws(3)).all()
