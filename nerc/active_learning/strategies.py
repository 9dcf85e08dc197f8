"""Scores of sentences, and the choice among them: which ones experts should label next.

A score depends on the words of its own sentence alone, not on the batch or the order of the pool.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from nerc.config import Amount, Unit
from nerc.errors import InputError
from nerc.model.encoding import Encoded
from nerc.model.inference import predict
from nerc.model.modeling import NERSmall

Rows = Sequence[np.ndarray]  # for each sentence, log-probabilities (words, tags)

TOP_WORDS = 3  # words whose entropy entropy-top averages
NUM_DROPOUT_PASSES = 20  # of bald
REPEAT_DISCOUNT = 0.5  # factor on a word's uncertainty each time that it is asked for again
NEAR_DUPLICATE = 0.8  # share of word bigrams that two near-duplicates have in common
MAX_REPEATED_MENTIONS = 2  # sentences of a round that may mention the same entity


# ------------------------------------------------------------ scores: the highest are asked first


def _entropies(rows: np.ndarray) -> np.ndarray:
    """Entropy of each word's tags in nats, float64; rows: (..., words, tags)."""
    rows = rows.astype(np.float64)
    return -(np.exp(rows) * rows).sum(axis=-1)


def least_confidence(rows: Rows) -> np.ndarray:
    """1 - probability of the most probable tags (Culotta & McCallum 2005)."""
    return np.array([-np.expm1(r.max(axis=1).astype(np.float64).sum()) for r in rows])


def mnlp(rows: Rows) -> np.ndarray:
    """Maximum normalised log-probability: the mean of a word's -log p (Shen et al. 2017)."""
    return np.array([-r.max(axis=1).astype(np.float64).mean() for r in rows])


def margin(rows: Rows) -> np.ndarray:
    """1 - the smallest difference between the probabilities of a word's two best tags.

    Breaking ties (Scheffer et al. 2001; Luo et al. 2005).
    """
    two_best = (np.exp(np.sort(r.astype(np.float64), axis=1)[:, -2:]) for r in rows)
    return np.array([1 - (p[:, 1] - p[:, 0]).min() for p in two_best])


def entropy_mean(rows: Rows) -> np.ndarray:
    """Mean entropy of the words (Settles & Craven 2008: token entropy)."""
    return np.array([_entropies(r).mean() for r in rows])


def entropy_sum(rows: Rows) -> np.ndarray:
    """Sum of the words' entropies (Settles & Craven 2008: total token entropy)."""
    return np.array([_entropies(r).sum() for r in rows])


def entropy_top(rows: Rows) -> np.ndarray:
    """Mean entropy of the TOP_WORDS words with the highest."""
    return np.array([np.sort(_entropies(r))[-TOP_WORDS:].mean() for r in rows])


def bald(rows: Rows) -> np.ndarray:
    """Mean over words of the mutual information between tags and tagger (Houlsby et al. 2011).

    rows: (words, passes, tags), from mc_dropout (Gal & Ghahramani 2016; Siddhant & Lipton 2018).
    """

    def score(r: np.ndarray) -> float:
        mean = np.log(np.exp(r.astype(np.float64)).mean(axis=1))
        return (_entropies(mean) - _entropies(r).mean(axis=1)).mean()

    return np.array([score(r) for r in rows])


def label_error(rows: Rows, labels: Sequence[np.ndarray | None]) -> np.ndarray:
    """1 - the lowest probability of a word's weak label; 0 for sentences without weak labels.

    Northcutt et al. 2021 (confident learning), applied to tokens as in Thyagarajan et al. 2022.
    labels: columns of rows, -1 for words without a label.
    """

    def score(r: np.ndarray, columns: np.ndarray | None) -> float:
        labelled = np.flatnonzero(columns >= 0) if columns is not None else ()
        if not len(labelled):
            return 0.0
        return 1 - float(np.exp(r[labelled, columns[labelled]].min()))

    return np.array([score(r, columns) for r, columns in zip(rows, labels, strict=True)])


SCORES: dict[str, Callable[[Rows], np.ndarray]] = {
    "least-confidence": least_confidence,
    "mnlp": mnlp,
    "margin": margin,
    "entropy-mean": entropy_mean,
    "entropy-sum": entropy_sum,
    "entropy-top": entropy_top,
    "bald": bald,
}


def mc_dropout(
    model: NERSmall,
    encoded: Encoded,
    chosen: np.ndarray,
    *,
    seed: int,
    bf16: bool = False,
    accelerator: Accelerator | None = None,
) -> list[np.ndarray]:
    """Log-probabilities (words, passes, tags) of sentences under dropout.

    Dropout is applied before the linear tagger only, so the encoder runs once. Each pass has one
    mask for all words (Kirsch et al. 2019), so no score depends on the batch.
    """
    rate = model.config.hidden_dropout_prob
    if not rate:
        raise InputError("--strategy bald needs a model with dropout, and its --dropout is 0")
    linear = model.classifier
    kept = np.random.default_rng([seed, 8]).random((NUM_DROPOUT_PASSES, linear.in_features)) >= rate
    model.classifier = _MCDropoutLinear(linear, torch.from_numpy(kept / (1 - rate)).float())
    try:
        return predict(model, encoded, chosen, bf16=bf16, accelerator=accelerator)
    finally:
        model.classifier = linear


class _MCDropoutLinear(nn.Module):
    """A linear layer: inputs (words, in), under masks (masks, in) -> (words, masks, K)."""

    def __init__(self, linear: nn.Linear, masks: torch.Tensor) -> None:
        super().__init__()
        masks = masks.to(linear.weight)
        self.weight = (masks[:, None] * linear.weight).flatten(0, 1)  # (masks x K, in)
        self.bias = linear.bias.repeat(len(masks))
        self.shape = len(masks), len(linear.weight)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(words, self.weight, self.bias).unflatten(-1, self.shape)


# ------------------------------------------------------------ the choice


@dataclass(frozen=True)
class Candidates:
    """Sentences that may be asked for, no two with the same words."""

    words: Sequence[tuple[str, ...]]
    mentions: Sequence[frozenset[str]]  # the text of the entities that the model predicts in each
    acquired: Sequence[tuple[str, ...]]  # words of the sentences of earlier rounds


Order = Iterable[tuple[int, float]]  # indices of candidates with their scores, the best first


def rank(scores: np.ndarray, seed: int) -> Order:
    """Candidates by falling score; ties are broken at random."""
    tie_breakers = np.random.default_rng([seed, 9]).permutation(len(scores))
    return [(int(i), float(scores[i])) for i in np.lexsort((tie_breakers, -scores))]


def select_within_amount(
    order: Order, candidates: Candidates, amount: Amount
) -> list[tuple[int, float]]:
    """The first candidates of an order, as many as an amount of sentences or words allows.

    An amount of words may be exceeded: by the last sentence, if more than half of it fits, and by
    the first one in any case, so that a small amount still selects something.
    """
    selected, left = [], amount.number
    for i, score in order:
        cost = len(candidates.words[i]) if amount.unit is Unit.WORDS else 1
        if left <= 0 or (selected and cost / 2 >= left):
            break
        selected.append((i, score))
        left -= cost
    return selected


def diversify(order: Order, candidates: Candidates) -> Iterator[tuple[int, float]]:
    """The order, with near-duplicates and sentences that repeat entities moved to its end."""
    by_bigram: dict[tuple[str, str], list[int]] = {}  # indices into seen
    seen: list[frozenset] = []
    num_mentions: Counter[str] = Counter()

    def add(bigrams: frozenset) -> None:
        for bigram in bigrams:
            by_bigram.setdefault(bigram, []).append(len(seen))
        seen.append(bigrams)

    def is_near_duplicate(bigrams: frozenset) -> bool:
        shared = Counter(other for bigram in bigrams for other in by_bigram.get(bigram, ()))
        return any(n >= NEAR_DUPLICATE * len(bigrams | seen[other]) for other, n in shared.items())

    for words in candidates.acquired:
        add(word_bigrams(words))
    postponed = []
    for i, score in order:
        bigrams, mentions = word_bigrams(candidates.words[i]), candidates.mentions[i]
        is_repetitive = any(num_mentions[m] >= MAX_REPEATED_MENTIONS for m in mentions)
        if is_repetitive or is_near_duplicate(bigrams):
            postponed.append((i, score))
            continue
        add(bigrams)
        num_mentions.update(mentions)
        yield i, score
    yield from postponed


def word_bigrams(words: tuple[str, ...]) -> frozenset[tuple[str, str]]:
    """Pairs of neighbouring words in lower case, with the sentence's ends; all digits are 0."""
    lower = ["".join("0" if c.isdigit() else c for c in word.lower()) for word in words]
    return frozenset(zip(["", *lower], [*lower, ""], strict=True))


def coverage(rows: Rows, candidates: Candidates, seed: int) -> Iterator[tuple[int, float]]:
    """Draw sentences with a probability in proportion to the uncertainty that they add.

    A word adds its entropy, times REPEAT_DISCOUNT for each time that it occurs in what was drawn
    before, including what diversify() postpones. This coverage is submodular, so that greedy choice
    is near the best (Nemhauser et al. 1978; Wei et al. 2015). A sentence adds the sum over its
    words, divided by its length plus the pool's mean length: a compromise between entropy-sum,
    which prefers long sentences, and entropy-mean, which prefers short ones. Sentences are drawn,
    because the most uncertain ones alone do not represent the text (Kirsch et al. 2021): a random
    factor on each gain makes the greedy choice a draw (Gumbel-top-k, Vieira 2014).
    """
    entropies = [_entropies(r) for r in rows]
    lower = [[word.lower() for word in words] for words in candidates.words]
    mean_length = sum(map(len, lower)) / max(1, len(lower))
    factors = gumbel_factors(len(lower), seed)
    counts: Counter[str] = Counter()

    def gain(i: int) -> float:
        here: Counter[str] = Counter()
        total = 0.0
        for word, entropy in zip(lower[i], entropies[i], strict=True):
            total += entropy * REPEAT_DISCOUNT ** (counts[word] + here[word])
            here[word] += 1
        return factors[i] * total / (len(lower[i]) + mean_length)

    heap = [(-gain(i), i) for i in range(len(lower))]
    heapq.heapify(heap)
    while heap:
        i = heap[0][1]
        current = (-gain(i), i)  # gains only fall: the first that has not changed is the largest
        if current > heap[0]:
            heapq.heapreplace(heap, current)
            continue
        heapq.heappop(heap)
        yield i, -current[0] / factors[i]
        counts.update(lower[i])


def gumbel_factors(number: int, seed: int) -> list[float]:
    """Random factors; which product of value and factor is largest is a draw by the values."""
    return np.exp(np.random.default_rng([seed, 9]).gumbel(size=number)).tolist()
