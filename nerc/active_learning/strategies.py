"""Scores of sentences, and the choice among them: which ones experts should label next.

A score depends on the words of its own sentence alone, not on the batch or the order of the pool.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import numpy as np

from nerc.config import Amount, Unit
from nerc.data.random_streams import Stream, generator
from nerc.data.tags import NOT_ASKED, within

Rows = Sequence[np.ndarray]  # for each sentence, log-probabilities (words, tags)
Words = Sequence[tuple[str, ...]]  # the words of each sentence
Tags = Sequence[Sequence[str]]  # their tags
Order = Iterable[tuple[int, float | None]]  # indices of sentences with scores, the best first

# Of the pool's words: the model doubts these. A share, because probabilities alone are not
# comparable between models: with MiniLM, 240 expert sentences and weak labels (pretrain), the tenth
# had 85 % of the wrong tags, and only 3 % of the words a best tag below 0.9.
DOUBTED_SHARE = 0.1
REPEAT_DISCOUNT = 0.5  # factor on a word's uncertainty each time that it is asked for again
NEAR_DUPLICATE = 0.8  # share of word bigrams that two near-duplicates have in common
MAX_REPEATED_MENTIONS = 2  # sentences of a round that may mention the same entity


# ------------------------------------------------------------ scores: the highest are asked first


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


SCORES: dict[str, Callable[[Rows], np.ndarray]] = {
    "least-confidence": least_confidence,
    "mnlp": mnlp,
    "margin": margin,
}


# ------------------------------------------------------------ the words in doubt


def doubted(rows: Rows, tags: Tags, known: Sequence[Collection[int]]) -> list[tuple[int, ...]]:
    """The words of each sentence that are in doubt, by number, and the others in their entities.

    In doubt are the words with the least probable best tags, DOUBTED_SHARE of all. tags: the
    model's, IOB2. known: the words of each sentence that experts have labelled, which are left out.
    Which words are asked depends on the model alone, not on their true tags: so learning from them
    alone does not favour entities, which are frequent among them.
    """
    doubts = [-r.max(axis=1) for r in rows]
    for of_sentence, labelled in zip(doubts, known, strict=True):
        of_sentence[list(labelled)] = -1.0
    every = np.concatenate(doubts)
    least = np.quantile(every[every >= 0], 1 - DOUBTED_SHARE)
    result = []
    for of_sentence, of_words, labelled in zip(doubts, tags, known, strict=True):
        asked = within(of_words, np.flatnonzero(of_sentence > least).tolist())
        numbers = (i for i, tag in enumerate(asked) if tag != NOT_ASKED)
        result.append(tuple(i for i in numbers if i not in labelled))
    return result


# ------------------------------------------------------------ the choice


def rank(scores: np.ndarray, seed: int) -> Order:
    """Sentences by falling score; ties are broken at random."""
    tie_breakers = generator(seed, Stream.TIES).permutation(len(scores))
    return [(int(i), float(scores[i])) for i in np.lexsort((tie_breakers, -scores))]


def select_within_amount(
    order: Order, words: Words, amount: Amount
) -> list[tuple[int, float | None]]:
    """The first sentences of an order, as many as an amount of sentences or words allows.

    An amount of words may be exceeded: by the last sentence, if more than half of it fits, and by
    the first one in any case, so that a small amount still selects something.
    """
    selected, left = [], amount.number
    for i, score in order:
        cost = len(words[i]) if amount.unit is Unit.WORDS else 1
        if left <= 0 or (selected and cost / 2 >= left):
            break
        selected.append((i, score))
        left -= cost
    return selected


def diversify(
    order: Order, words: Words, mentions: Sequence[frozenset[str]], acquired: Words
) -> Iterator[tuple[int, float]]:
    """The order, with near-duplicates and sentences that repeat entities moved to its end.

    mentions: the text of the entities in each sentence. acquired: sentences of earlier rounds.
    """
    seen: dict[tuple[str, str], set[frozenset]] = {}  # by bigram, those of sentences that have it
    num_mentions: Counter[str] = Counter()

    def add(bigrams: frozenset) -> None:
        for bigram in bigrams:
            seen.setdefault(bigram, set()).add(bigrams)

    def is_near_duplicate(bigrams: frozenset) -> bool:
        shared = Counter(other for bigram in bigrams for other in seen.get(bigram, ()))
        return any(n >= NEAR_DUPLICATE * len(bigrams | other) for other, n in shared.items())

    for sentence in acquired:
        add(word_bigrams(sentence))
    postponed = []
    for i, score in order:
        bigrams = word_bigrams(words[i])
        is_repetitive = any(num_mentions[m] >= MAX_REPEATED_MENTIONS for m in mentions[i])
        if is_repetitive or is_near_duplicate(bigrams):
            postponed.append((i, score))
            continue
        add(bigrams)
        num_mentions.update(mentions[i])
        yield i, score
    yield from postponed


def word_bigrams(words: tuple[str, ...]) -> frozenset[tuple[str, str]]:
    """Pairs of neighbouring words in lower case, with the sentence's ends; all digits are 0."""
    lower = ["".join("0" if c.isdigit() else c for c in word.lower()) for word in words]
    return frozenset(zip(["", *lower], [*lower, ""], strict=True))


def _entropies(rows: np.ndarray) -> np.ndarray:
    """Entropy of each word's tags in nats, float64; rows: (words, tags)."""
    rows = rows.astype(np.float64)
    return -(np.exp(rows) * rows).sum(axis=-1)


def coverage(rows: Rows, words: Words, seed: int) -> Iterator[tuple[int, float]]:
    """Draw sentences with a probability in proportion to the uncertainty that they add.

    A word adds its entropy, times REPEAT_DISCOUNT for each time that it occurs in what was drawn
    before, including what diversify() postpones. This coverage is submodular, so that greedy choice
    is near the best (Nemhauser et al. 1978; Wei et al. 2015). A sentence adds the sum over its
    words, divided by its length plus the mean length: a compromise between the sum, which prefers
    long sentences, and the mean, which prefers short ones. Sentences are drawn, because the most
    uncertain ones alone do not represent the text (Kirsch et al. 2021): a random factor on each
    gain makes the greedy choice a draw (Gumbel-top-k, Vieira 2014).
    """
    entropies = [_entropies(r) for r in rows]
    lower = [[word.lower() for word in sentence] for sentence in words]
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
    return np.exp(generator(seed, Stream.TIES).gumbel(size=number)).tolist()
