"""Which sentences the experts are asked for next: scores of sentences, and the choice among them.

A score sees the real words of its own sentence alone, so that neither the batch nor the order in
which a pool is read changes it.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from nerc.errors import InputError
from nerc.model.encoding import Encoded
from nerc.model.inference import predict
from nerc.model.modeling import NERSmall

Rows = Sequence[np.ndarray]  # of each sentence, log-probabilities (words, tags)

TOP_WORDS = 3  # words that entropy-top looks at
NUM_DROPOUT_PASSES = 20  # thinned taggers that bald asks
REPEAT_DISCOUNT = 0.5  # what is left of a word's uncertainty each time that it is bought
NEAR_DUPLICATE = 0.8  # share of neighbouring pairs of words that near-duplicates have in common
MAX_REPEATED_MENTIONS = 2  # sentences of one purchase that may have the same entity


# ------------------------------------------------------------ scores: the higher, the sooner bought


def _entropies(rows: np.ndarray) -> np.ndarray:
    """Of each word in nats, float64; rows: (..., words, tags)."""
    rows = rows.astype(np.float64)
    return -(np.exp(rows) * rows).sum(axis=-1)


def least_confidence(rows: Rows) -> np.ndarray:
    """1 - probability of the most probable tags (Culotta & McCallum 2005)."""
    return np.array([-np.expm1(r.max(axis=1).astype(np.float64).sum()) for r in rows])


def mnlp(rows: Rows) -> np.ndarray:
    """Maximum normalised log-probability: the mean of a word's -log p (Shen et al. 2017)."""
    return np.array([-r.max(axis=1).astype(np.float64).mean() for r in rows])


def margin(rows: Rows) -> np.ndarray:
    """1 - the lead of a word's first tag over its second, of the closest word.

    Breaking ties (Scheffer et al. 2001; Luo et al. 2005).
    """
    two = (np.exp(np.sort(r.astype(np.float64), axis=1)[:, -2:]) for r in rows)
    return np.array([1 - (p[:, 1] - p[:, 0]).min() for p in two])


def entropy_mean(rows: Rows) -> np.ndarray:
    """Mean entropy of the words (Settles & Craven 2008: token entropy)."""
    return np.array([_entropies(r).mean() for r in rows])


def entropy_sum(rows: Rows) -> np.ndarray:
    """Entropy of all words together (Settles & Craven 2008: total token entropy)."""
    return np.array([_entropies(r).sum() for r in rows])


def entropy_top(rows: Rows) -> np.ndarray:
    """Mean entropy of the TOP words that have most of it."""
    return np.array([np.sort(_entropies(r))[-TOP_WORDS:].mean() for r in rows])


def bald(rows: Rows) -> np.ndarray:
    """Mean over words of the information that their tags have about the tagger (Houlsby et al.
    2011), from thinned taggers (Gal & Ghahramani 2016; Siddhant & Lipton 2018).

    rows: (words, thinned taggers, tags) of each sentence, as thinned() gives them.
    """

    def of_sentence(r: np.ndarray) -> float:
        mean = np.log(np.exp(r.astype(np.float64)).mean(axis=1))
        return (_entropies(mean) - _entropies(r).mean(axis=1)).mean()

    return np.array([of_sentence(r) for r in rows])


def label_error(rows: Rows, labels: Sequence[np.ndarray | None]) -> np.ndarray:
    """1 - the least probability of a word's cheap label; 0 without such labels.

    Northcutt et al. 2021 (confident learning), as Thyagarajan et al. 2022 bring it to tokens.
    labels: columns of rows, -1 for words without one.
    """

    def of_sentence(r: np.ndarray, own: np.ndarray | None) -> float:
        known = np.flatnonzero(own >= 0) if own is not None else ()
        return 1 - float(np.exp(r[known, own[known]].min())) if len(known) else 0.0

    return np.array([of_sentence(r, own) for r, own in zip(rows, labels, strict=True)])


def mc_dropout(
    model: NERSmall,
    encoded: Encoded,
    chosen: np.ndarray,
    *,
    seed: int,
    bf16: bool = False,
    accelerator: Accelerator | None = None,
) -> list[np.ndarray]:
    """What PASSES taggers under dropout find: log-probabilities (words, PASSES, tags).

    Dropout is before the linear tagger alone, so that the encoder runs once, and each pass keeps
    its mask for all words (Kirsch et al. 2019), so that no score depends on the batch.
    """
    share = model.config.hidden_dropout_prob
    if not share:
        raise InputError("--strategy bald asks a model under dropout, and it has --dropout 0")
    whole = model.classifier
    draw = np.random.default_rng([seed, 8]).random((NUM_DROPOUT_PASSES, whole.in_features)) >= share
    model.classifier = _MCDropoutLinear(whole, torch.from_numpy(draw / (1 - share)).float())
    try:
        return predict(model, encoded, chosen, bf16=bf16, accelerator=accelerator)
    finally:
        model.classifier = whole


class _MCDropoutLinear(nn.Module):
    """A linear layer's outputs (words, masks, K) under masks (masks, in) of its input."""

    def __init__(self, whole: nn.Linear, masks: torch.Tensor) -> None:
        super().__init__()
        masks = masks.to(whole.weight)
        self.weight = (masks[:, None] * whole.weight).flatten(0, 1)  # (masks x K, in)
        self.bias = whole.bias.repeat(len(masks))
        self.shape = len(masks), len(whole.weight)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(words, self.weight, self.bias).unflatten(-1, self.shape)


# ------------------------------------------------------------ the choice


@dataclass(frozen=True)
class Budget:
    """How much is bought at a time: a number of sentences, or of words."""

    number: int
    of_words: bool = False

    def cost(self, words: Sequence[str]) -> int:
        return len(words) if self.of_words else 1


@dataclass(frozen=True)
class Candidates:
    """Sentences that may be bought, each with different words."""

    words: Sequence[tuple[str, ...]]
    mentions: Sequence[frozenset[str]]  # the entities that the model finds in each, as text
    bought: Sequence[tuple[str, ...]]  # sentences that have been before


Order = Iterable[tuple[int, float]]  # places, each with its score, the first to be bought first


def rank(scores: np.ndarray, seed: int) -> Order:
    """Places by falling score; ties are broken by lot."""
    lot = np.random.default_rng([seed, 9]).permutation(len(scores))
    return [(int(i), float(scores[i])) for i in np.lexsort((lot, -scores))]


def select_within_budget(
    order: Order, candidates: Candidates, budget: Budget
) -> list[tuple[int, float]]:
    """The first of order that the budget pays for.

    The last one may go over a budget of words by less than half of itself, and the first by more,
    so that a small budget of words buys something.
    """
    found, left = [], budget.number
    for place, score in order:
        cost = budget.cost(candidates.words[place])
        if left <= 0 or (found and cost / 2 >= left):
            break
        found.append((place, score))
        left -= cost
    return found


def diversify(order: Order, candidates: Candidates) -> Iterator[tuple[int, float]]:
    """The order, where near-duplicates and sentences with much repeated entities come last."""
    having: dict[tuple[str, str], list[int]] = {}  # sentences, by a pair of neighbouring words
    pairs: list[frozenset] = []
    counts: Counter[str] = Counter()

    def note(own: frozenset) -> None:
        for pair in own:
            having.setdefault(pair, []).append(len(pairs))
        pairs.append(own)

    def is_near(own: frozenset) -> bool:
        shared = Counter(other for pair in own for other in having.get(pair, ()))
        return any(n >= NEAR_DUPLICATE * len(own | pairs[other]) for other, n in shared.items())

    for words in candidates.bought:
        note(word_bigrams(words))
    put_off = []
    for place, score in order:
        own, mentions = word_bigrams(candidates.words[place]), candidates.mentions[place]
        if is_near(own) or any(counts[mention] >= MAX_REPEATED_MENTIONS for mention in mentions):
            put_off.append((place, score))
            continue
        note(own)
        counts.update(mentions)
        yield place, score
    yield from put_off


def word_bigrams(words: tuple[str, ...]) -> frozenset[tuple[str, str]]:
    """Pairs of neighbouring words, small, with the sentence's ends; numbers are all alike."""
    small = ["".join("0" if c.isdigit() else c for c in word.lower()) for word in words]
    return frozenset(zip(["", *small], [*small, ""], strict=True))


def coverage(rows: Rows, candidates: Candidates, seed: int) -> Iterator[tuple[int, float]]:
    """Sentences drawn by lot, the more likely the more uncertainty about new words they add.

    A word counts by its entropy, times FADE for each time that it stands in what came before, also
    in what varied() puts off: coverage, which is submodular, so that greedy choice is near the best
    (Nemhauser et al. 1978; Wei et al. 2015). A sentence counts by its words' sum over their number
    and the pool's mean together: between entropy-sum, which buys long sentences, and entropy-mean,
    which buys short ones. Its chance is in proportion to that, since the most uncertain sentences
    alone are no picture of the text (Kirsch et al. 2021); a factor by lot does it (Gumbel-top-k,
    Vieira 2014).
    """
    entropies = [_entropies(r) for r in rows]
    small = [[word.lower() for word in words] for words in candidates.words]
    mean = sum(map(len, small)) / max(1, len(small))
    factor = gumbel_factors(len(small), seed)
    times: Counter[str] = Counter()

    def gain(place: int) -> float:
        own: Counter[str] = Counter()
        total = 0.0
        for word, entropy in zip(small[place], entropies[place], strict=True):
            total += entropy * REPEAT_DISCOUNT ** (times[word] + own[word])
            own[word] += 1
        return factor[place] * total / (len(small[place]) + mean)

    heap = [(-gain(place), place) for place in range(len(small))]
    heapq.heapify(heap)
    while heap:
        place = heap[0][1]
        now = (-gain(place), place)  # gains only fall: the first that stays is the best
        if now > heap[0]:
            heapq.heapreplace(heap, now)
            continue
        heapq.heappop(heap)
        yield place, -now[0] / factor[place]
        times.update(small[place])


def gumbel_factors(number: int, seed: int) -> list[float]:
    """Factors by which the first of some numbers is any of them, in proportion to it."""
    return np.exp(np.random.default_rng([seed, 9]).gumbel(size=number)).tolist()


SCORES: dict[str, Callable[[Rows], np.ndarray]] = {
    "least-confidence": least_confidence,
    "mnlp": mnlp,
    "margin": margin,
    "entropy-mean": entropy_mean,
    "entropy-sum": entropy_sum,
    "entropy-top": entropy_top,
    "bald": bald,
}
