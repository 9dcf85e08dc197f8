"""Scores against values worked out by hand; the choice by budget, variety and coverage."""

import math

import numpy as np
import pytest

from nerc.active_learning import strategies
from nerc.active_learning.config import STRATEGIES
from nerc.config import Amount, Unit
from nerc.data import sources
from nerc.model import encoding, inference

LN2 = math.log(2)
# Of two sentences, probabilities of three tags: a sure word and a tied one; one that is in between.
ROWS = [
    np.log(np.array([[1 - 2e-9, 1e-9, 1e-9], [0.5, 0.5 - 1e-9, 1e-9]])),
    np.log(np.array([[0.7, 0.2, 0.1]])),
]


@pytest.mark.parametrize(
    "score, wanted",
    [
        (strategies.least_confidence, [1 - 1 * 0.5, 1 - 0.7]),
        (strategies.mnlp, [(0 + LN2) / 2, -math.log(0.7)]),
        (strategies.margin, [1 - (0.5 - 0.5), 1 - (0.7 - 0.2)]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_scores_are_those_worked_out_by_hand(score, wanted):
    assert score(ROWS) == pytest.approx(wanted, abs=1e-6)
    assert score(ROWS[::-1]) == pytest.approx(wanted[::-1], abs=1e-6)


def test_there_is_a_score_for_every_strategy():
    others = {"default", "random", "random-words"}
    assert {*strategies.SCORES} | others == {*STRATEGIES}


@pytest.fixture
def encoded(model, tokenizer, folder):
    return encoding.encode_for(model, tokenizer, sources.load(str(folder), "train"))


def test_scores_do_not_depend_on_batch_size_or_order(model, encoded):
    places, order = np.arange(40), np.random.default_rng(0).permutation(40)
    model.classifier.weight.data *= 30  # as sure of itself as a trained one
    plain = inference.predict(model, encoded, places)
    others = [
        (places, inference.predict(model, encoded, places, batch_size=1)),
        (order, inference.predict(model, encoded, order, batch_size=7)),
    ]
    for name, score in strategies.SCORES.items():
        wanted = score(plain)
        for chosen, rows in others:
            assert np.allclose(score(rows), wanted[chosen], atol=1e-5), name


# ------------------------------------------------------------ the choice


def words_of(*sentences: str) -> list[tuple[str, ...]]:
    return [tuple(sentence.split()) for sentence in sentences]


def test_an_amount_of_sentences_and_one_of_words():
    words = words_of("a b c", "d", "e f g h i j", "k")
    order = [(i, 0.0) for i in range(4)]
    selected = strategies.select_within_amount(order, words, Amount(2, Unit.SENTENCES))
    assert [i for i, _ in selected] == [0, 1]
    for number, wanted in (
        (4, [0, 1]),
        (6, [0, 1]),
        (8, [0, 1, 2]),
        (11, [0, 1, 2, 3]),
        (1, [0]),
        (0, []),
    ):
        selected = strategies.select_within_amount(order, words, Amount(number, Unit.WORDS))
        assert [i for i, _ in selected] == wanted, number


def test_rank_is_by_score_and_breaks_ties_at_random():
    scores = np.array([0.1, 0.5, 0.5, 0.9, 0.5])
    orders = [[i for i, _ in strategies.rank(scores, seed)] for seed in range(20)]
    assert all(order[0] == 3 and order[-1] == 0 for order in orders)
    assert len({tuple(order[1:4]) for order in orders}) > 3


def test_near_duplicates_and_repeated_entities_come_last():
    words = words_of(
        "EUR 1,000 sold in Rome on 3 May by the bank",
        "EUR 2,500 sold in Rome on 9 May by the bank",  # the first one with other numbers
        "Kiwi lost",
        "Kiwi won",
        "Kiwi drew",
        "as it was bought",
        "nothing like it",
    )
    mentions = [*[frozenset()] * 2, *[frozenset({"kiwi"})] * 3, *[frozenset()] * 2]
    order = [(i, 1.0 - i / 10) for i in range(7)]
    found = list(strategies.diversify(order, words, mentions, words_of("As it was bought")))
    assert [i for i, _ in found] == [0, 2, 3, 6, 1, 4, 5]
    assert dict(found) == dict(order)


def test_coverage_is_the_greedy_choice():
    """Against a choice that looks at all candidates in every step, with the same factors."""
    rng = np.random.default_rng(5)
    sentences = [" ".join(rng.choice(list("abcdefghijkl"), rng.integers(1, 9))) for _ in range(30)]
    words = words_of(*sentences)
    rows = [np.log(rng.dirichlet(np.ones(3), len(sentence))) for sentence in words]
    mean = sum(map(len, words)) / 30
    times: dict[str, int] = {}

    def gain(place: int) -> float:
        total, here = 0.0, dict(times)
        for word, row in zip(words[place], np.exp(rows[place]), strict=True):
            total += -(row * np.log(row)).sum() * 0.5 ** here.get(word, 0)
            here[word] = here.get(word, 0) + 1
        return total / (len(words[place]) + mean)

    wanted, left = [], list(range(30))
    factors = strategies.gumbel_factors(30, seed=0)
    while left:
        best = max(left, key=lambda place: factors[place] * gain(place))
        wanted.append((best, pytest.approx(gain(best))))
        left.remove(best)
        for word in words[best]:
            times[word] = times.get(word, 0) + 1
    assert list(strategies.coverage(rows, words, seed=0)) == wanted


def test_the_chance_of_a_sentence_is_in_proportion_to_its_gain():
    gains = np.array([4.0, 2.0, 1.0, 1.0])
    first = [int(np.argmax(gains * strategies.gumbel_factors(4, seed))) for seed in range(2000)]
    assert np.bincount(first, minlength=4) / 2000 == pytest.approx(gains / 8, abs=0.03)
