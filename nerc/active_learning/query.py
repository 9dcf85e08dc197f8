"""Chooses the sentences of a round, and the words of them that are asked: at random, or by what a
model predicts for the pool.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from nerc.active_learning import strategies
from nerc.active_learning.plan import Plan, Trial
from nerc.config import Amount
from nerc.data.corpus import Corpus
from nerc.data.pool import Pool, Query, labelled_sentences
from nerc.data.random_streams import Stream, generator
from nerc.data.tags import NOT_ASKED, entities, within
from nerc.distributed import Session
from nerc.model.encoding import encode_for
from nerc.model.inference import decode, predict
from nerc.model.modeling import NERSmall

logger = logging.getLogger(__name__)

Tagger = tuple[NERSmall, PreTrainedTokenizerBase]


class PoolPredictor:
    """Predicts the tags of the pool's sentences with the model of the last round."""

    def __init__(self, tagger: Tagger, pool: Pool, session: Session, *, bf16: bool) -> None:
        model, tokenizer = tagger
        self.model = model.to(session.accelerator.device)
        corpus = Corpus.of(sentence._replace(tags=None) for sentence in pool.sentences)
        self.encoded = encode_for(model, tokenizer, corpus)
        self.seconds = 0.0  # that predictions took
        self._how = {"bf16": bf16, "accelerator": session.accelerator}

    def predict(self, places: list[int]) -> tuple[strategies.Rows, list[list[str]]]:
        """Log-probabilities (words, tags), and the tags, of the sentences at places of the pool."""
        started = time.perf_counter()
        rows = predict(self.model, self.encoded, np.array(places), **self._how)
        self.seconds += time.perf_counter() - started
        return rows, decode(rows, self.model.config.word_tags)


class Candidate(NamedTuple):
    """A sentence that a round may ask for, by what the model says of the words that it asks."""

    place: int  # in the pool
    words: tuple[str, ...]  # that are asked
    asked: tuple[int, ...] | None  # their numbers in the sentence; None: all
    rows: np.ndarray  # their log-probabilities (words, tags)
    mentions: frozenset[str]  # the entities among them, in lower case


@dataclass(frozen=True)
class Request:
    """What a round may ask for."""

    plan: Plan
    trial: Trial
    number: int  # of the round
    amount: Amount  # of sentences, or words
    earlier: Sequence[Query]  # the queries of all earlier rounds

    @cached_property
    def known(self) -> dict[tuple[str, ...], set[int]]:
        """By their words, the sentences asked for: the words that need not be asked any more."""
        known = {query.words: {*range(len(query.words))} for query in self.earlier}
        skipped = {query.words for query in self.earlier if query.tags is None}
        for words, tags, *_ in labelled_sentences(self.earlier) if self.asks_words else ():
            if words not in skipped:
                known[words] = {i for i, tag in enumerate(tags) if tag != NOT_ASKED}
        return known

    @cached_property
    def free(self) -> list[int]:
        """Places in the pool of the sentences that have words to ask for."""
        sentences = enumerate(self.plan.pool.sentences)
        return [i for i, s in sentences if len(self.known.get(s.words, ())) < len(s.words)]

    @property
    def asks_words(self) -> bool:
        """Whether only the words that the model doubts are asked; round 0 has no model."""
        return self.plan.active.ask == "words" and self.number > 0

    @property
    def is_random(self) -> bool:
        """Whether the sentences are drawn at random."""
        return self.trial.strategy in (None, "random", "random-words") or not self.free

    @property
    def needs_model(self) -> bool:
        """Whether a model chooses the sentences, or the words of them that are asked."""
        return bool(self.free) and (self.asks_words or not self.is_random)

    def queries(self, predictor: PoolPredictor | None = None) -> list[Query]:
        """The sentences to ask for and, if people answer, the tags that are proposed to them.

        predictor: needed if needs_model. Without it, weak labels are proposed where there are some.
        """
        pool, strategy = self.plan.pool, self.trial.strategy or "random"
        candidates: dict[int, Candidate] = {}
        if self.needs_model:
            candidates = {found.place: found for found in self._candidates(predictor)}
        if self.is_random:
            order = [
                (i, None) for i in self._random_order() if i in candidates or not self.asks_words
            ]
        else:
            order = self._model_order([*candidates.values()])
        words = [sentence.words for sentence in pool.sentences]
        for place, candidate in candidates.items():
            words[place] = candidate.words
        selected = strategies.select_within_amount(order, words, self.amount)
        if self.asks_words and 0 < len(selected) == len(candidates):
            logger.info(f"round {self.number}: asks for all words that the model doubts")
        queries = []
        for place, score in selected:
            sentence, _, location, _ = pool.sentences[place]
            asked = candidates[place].asked if self.asks_words else None
            asked = asked if asked and len(asked) < len(sentence) else None
            query = Query(self.number, strategy, score, location, sentence, None, asked=asked)
            queries.append(query._replace(cheap=sentence in pool.weak))
        if not self.plan.active.people or not queries:
            return queries
        if predictor is None:
            return [query._replace(proposed=pool.weak.get(query.words)) for query in queries]
        return _with_proposals(queries, *predictor.predict([place for place, _ in selected]))

    def _random_order(self) -> list[int]:
        rng = generator(self._seed(), Stream.RANDOM_QUERY)
        if self.number == 0:
            rng = generator(self.trial.seed, Stream.EXPERT_DRAW)
        free = set(self.free)
        order = rng.permutation(len(self.plan.pool.sentences)).tolist()
        return [place for place in order if place in free]

    def _candidates(self, predictor: PoolPredictor) -> Iterator[Candidate]:
        """The free sentences, without those of which no word is to be asked."""
        rows, tags = predictor.predict(self.free)
        sentences = [self.plan.pool.sentences[place].words for place in self.free]
        asked = [None] * len(sentences)
        if self.asks_words:
            known = [self.known.get(words, set()) for words in sentences]
            asked = strategies.doubted(rows, tags, known)
        for place, words, row, of_words, numbers in zip(
            self.free, sentences, rows, tags, asked, strict=True
        ):
            own = words
            if numbers is not None:
                own, row = tuple(words[i] for i in numbers), row[list(numbers)]
                of_words = within(of_words, numbers)
            mentions = (" ".join(words[e.start : e.end]).lower() for e in entities(of_words))
            if own:
                yield Candidate(place, own, numbers, row, frozenset(mentions))

    def _model_order(self, candidates: Sequence[Candidate]) -> strategies.Order:
        """Places in the pool with their scores, in the order of the strategy."""
        rows = [candidate.rows for candidate in candidates]
        if self.trial.strategy == "default":
            words = [candidate.words for candidate in candidates]
            order = strategies.coverage(rows, words, self._seed())
        else:
            order = strategies.rank(strategies.SCORES[self.trial.strategy](rows), self._seed())
        sentences = [self.plan.pool.sentences[c.place].words for c in candidates]
        mentions = [candidate.mentions for candidate in candidates]
        asked_again = {*sentences}  # which are no duplicates of themselves
        acquired = [query.words for query in self.earlier if query.words not in asked_again]
        for i, score in strategies.diversify(order, sentences, mentions, acquired):
            yield candidates[i].place, float(f"{score:.6g}")

    def _seed(self) -> int:
        """The seed of the round."""
        return int(np.random.SeedSequence([self.trial.seed, self.number]).generate_state(1)[0])


def _with_proposals(
    queries: Sequence[Query], rows: strategies.Rows, tags: Sequence[Sequence[str]]
) -> list[Query]:
    """The queries with the model's tags of the words that they ask, and its confidence in them."""
    result = []
    for query, row, of_words in zip(queries, rows, tags, strict=True):
        if query.asked is not None:
            row, of_words = row[list(query.asked)], within(of_words, query.asked)
        confidence = float(f"{np.exp(row.max(axis=1).min()):.4g}")
        result.append(query._replace(proposed=tuple(of_words), confidence=confidence))
    return result
