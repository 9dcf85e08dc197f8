"""Scores against values worked out by hand; the choice by budget, variety and coverage."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from nerc.active_learning import strategies
from nerc.active_learning.config import STRATEGIES
from nerc.active_learning.strategies import Candidates
from nerc.config import Amount, Unit
from nerc.data import sources
from nerc.errors import InputError
from nerc.model import encoding, inference

LN2 = math.log(2)
# Of two sentences, probabilities of three tags: a sure word and a tied one; one that is in between.
ROWS = [
    np.log(np.array([[1 - 2e-9, 1e-9, 1e-9], [0.5, 0.5 - 1e-9, 1e-9]])),
    np.log(np.array([[0.7, 0.2, 0.1]])),
]
OF_TWO = -(0.7 * math.log(0.7) + 0.2 * math.log(0.2) + 0.1 * math.log(0.1))  # its entropy, 0.80


@pytest.mark.parametrize(
    "score, wanted",
    [
        (strategies.least_confidence, [1 - 1 * 0.5, 1 - 0.7]),
        (strategies.mnlp, [(0 + LN2) / 2, -math.log(0.7)]),
        (strategies.margin, [1 - (0.5 - 0.5), 1 - (0.7 - 0.2)]),
        (strategies.entropy_sum, [0 + LN2, OF_TWO]),
        (strategies.entropy_mean, [LN2 / 2, OF_TWO]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_scores_are_those_worked_out_by_hand(score, wanted):
    assert score(ROWS) == pytest.approx(wanted, abs=1e-6)
    assert score(ROWS[::-1]) == pytest.approx(wanted[::-1], abs=1e-6)


def test_entropy_top_is_the_mean_of_the_words_that_have_most():
    even = np.log(np.full((1, 4), 0.25))
    tied = np.log(np.array([[0.5, 0.5, 1e-12, 1e-12]]))
    sure = np.log(np.array([[1, 1e-12, 1e-12, 1e-12]]))
    long = np.concatenate([sure, even, sure, tied, tied, sure])
    found = strategies.entropy_top([long, np.concatenate([even, sure])])
    assert found == pytest.approx([(2 * LN2 + LN2 + LN2) / 3, 2 * LN2 / 2], abs=1e-6)


def test_bald_is_high_where_taggers_are_sure_and_disagree():
    one, two, split = (np.log([a, b]) for a, b in ((1 - 1e-12, 1e-12), (1e-12, 1), (0.5, 0.5)))
    agree, disagree, unsure = (np.stack(pair) for pair in ((one, one), (one, two), (split, split)))
    found = strategies.bald([np.stack([agree, disagree]), np.stack([unsure])])
    assert found == pytest.approx([LN2 / 2, 0], abs=1e-6)


def test_label_error_is_the_doubt_about_the_least_likely_label():
    labels = [np.array([0, 1]), np.array([2])]
    assert strategies.label_error(ROWS, labels) == pytest.approx([0.5, 0.9], abs=1e-6)
    unknown = [np.array([0, -1]), None]
    assert strategies.label_error(ROWS, unknown) == pytest.approx([0, 0], abs=1e-6)


def test_there_is_a_score_for_every_strategy():
    others = {"default", "random", "random-words", "label-error"}
    assert {*strategies.SCORES} | others == {*STRATEGIES}


@pytest.fixture
def encoded(model, tokenizer, folder):
    return encoding.encode_for(model, tokenizer, sources.load(str(folder), "train"))


def test_scores_do_not_depend_on_batch_size_or_order(model, encoded):
    places, order = np.arange(40), np.random.default_rng(0).permutation(40)
    model.config.hidden_dropout_prob = 0.3
    model.classifier.weight.data *= 30  # as sure of itself as a trained one
    plain = inference.predict(model, encoded, places)
    others = [
        (places, inference.predict(model, encoded, places, batch_size=1)),
        (order, inference.predict(model, encoded, order, batch_size=7)),
    ]
    for name, score in strategies.SCORES.items():
        if name == "bald":
            wanted = score(strategies.mc_dropout(model, encoded, places, seed=3))
            alone = [
                strategies.mc_dropout(model, encoded, places[i : i + 1], seed=3) for i in order
            ]
            assert np.allclose(wanted[order], [score(r)[0] for r in alone], atol=1e-6)
            assert wanted.std() > 1e-3
            continue
        wanted = score(plain)
        for chosen, rows in others:
            assert np.allclose(score(rows), wanted[chosen], atol=1e-5), name


def test_mc_dropout_is_the_tagger_under_masks(model, encoded):
    model.config.hidden_dropout_prob = 0.25
    chosen = np.array([4, 9])
    whole = model.classifier
    found = strategies.mc_dropout(model, encoded, chosen, seed=1)
    assert model.classifier is whole
    kept = (
        np.random.default_rng([1, 8]).random((strategies.NUM_DROPOUT_PASSES, whole.in_features))
        >= 0.25
    )
    for number in (0, 7):
        masked = nn.Linear(whole.in_features, whole.out_features)
        scale = torch.from_numpy(kept[number]).float() / 0.75
        masked.weight.data, masked.bias.data = whole.weight.data * scale, whole.bias.data
        model.classifier = masked
        wanted = inference.predict(model, encoded, chosen)
        model.classifier = whole
        for a, b in zip(found, wanted, strict=True):
            assert np.allclose(a[:, number], b, atol=1e-5)
    assert 0.6 < kept.mean() < 0.9
    model.config.hidden_dropout_prob = 0.0
    with pytest.raises(InputError, match="--strategy bald"):
        strategies.mc_dropout(model, encoded, chosen, seed=1)


# ------------------------------------------------------------ the choice


def candidates(*sentences: str, mentions=None, acquired=()) -> Candidates:
    words = [tuple(sentence.split()) for sentence in sentences]
    mentions = mentions or [frozenset()] * len(words)
    return Candidates(words, mentions, [tuple(sentence.split()) for sentence in acquired])


def test_an_amount_of_sentences_and_one_of_words():
    pool = candidates("a b c", "d", "e f g h i j", "k")
    order = [(i, 0.0) for i in range(4)]
    assert [
        i for i, _ in strategies.select_within_amount(order, pool, Amount(2, Unit.SENTENCES))
    ] == [0, 1]
    for words, wanted in (
        (4, [0, 1]),
        (6, [0, 1]),
        (8, [0, 1, 2]),
        (11, [0, 1, 2, 3]),
        (1, [0]),
        (0, []),
    ):
        selected = strategies.select_within_amount(order, pool, Amount(words, Unit.WORDS))
        assert [i for i, _ in selected] == wanted, words


def test_rank_is_by_score_and_breaks_ties_at_random():
    scores = np.array([0.1, 0.5, 0.5, 0.9, 0.5])
    orders = [[i for i, _ in strategies.rank(scores, seed)] for seed in range(20)]
    assert all(order[0] == 3 and order[-1] == 0 for order in orders)
    assert len({tuple(order[1:4]) for order in orders}) > 3


def test_near_duplicates_and_repeated_entities_come_last():
    pool = candidates(
        "EUR 1,000 sold in Rome on 3 May by the bank",
        "EUR 2,500 sold in Rome on 9 May by the bank",  # the first one with other numbers
        "Kiwi lost",
        "Kiwi won",
        "Kiwi drew",
        "as it was bought",
        "nothing like it",
        mentions=[*[frozenset()] * 2, *[frozenset({"kiwi"})] * 3, *[frozenset()] * 2],
        acquired=["As it was bought"],
    )
    order = [(i, 1.0 - i / 10) for i in range(7)]
    found = list(strategies.diversify(order, pool))
    assert [i for i, _ in found] == [0, 2, 3, 6, 1, 4, 5]
    assert dict(found) == dict(order)


def test_coverage_is_the_greedy_choice():
    """Against a choice that looks at all candidates in every step, with the same factors."""
    rng = np.random.default_rng(5)
    sentences = [" ".join(rng.choice(list("abcdefghijkl"), rng.integers(1, 9))) for _ in range(30)]
    pool = candidates(*sentences)
    rows = [np.log(rng.dirichlet(np.ones(3), len(words))) for words in pool.words]
    mean = sum(map(len, pool.words)) / 30
    times: dict[str, int] = {}

    def gain(place: int) -> float:
        total, here = 0.0, dict(times)
        for word, row in zip(pool.words[place], np.exp(rows[place]), strict=True):
            total += -(row * np.log(row)).sum() * 0.5 ** here.get(word, 0)
            here[word] = here.get(word, 0) + 1
        return total / (len(pool.words[place]) + mean)

    wanted, left = [], list(range(30))
    factors = strategies.gumbel_factors(30, seed=0)
    while left:
        best = max(left, key=lambda place: factors[place] * gain(place))
        wanted.append((best, pytest.approx(gain(best))))
        left.remove(best)
        for word in pool.words[best]:
            times[word] = times.get(word, 0) + 1
    assert list(strategies.coverage(rows, pool, seed=0)) == wanted


def test_the_chance_of_a_sentence_is_in_proportion_to_its_gain():
    gains = np.array([4.0, 2.0, 1.0, 1.0])
    first = [int(np.argmax(gains * strategies.gumbel_factors(4, seed))) for seed in range(2000)]
    assert np.bincount(first, minlength=4) / 2000 == pytest.approx(gains / 8, abs=0.03)
