"""Chooses the sentences of a round, at random or by what a model predicts for the pool."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from transformers import PreTrainedTokenizerBase

from nerc.active_learning import strategies
from nerc.active_learning.plan import Plan, Trial
from nerc.config import Amount
from nerc.data.corpus import Corpus
from nerc.data.pool import Pool, Query
from nerc.data.random_streams import Stream, generator
from nerc.data.tags import entities
from nerc.distributed import Session
from nerc.model.encoding import encode_for
from nerc.model.inference import decode, predict
from nerc.model.modeling import NERSmall

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


@dataclass(frozen=True)
class Request:
    """What a round may ask for."""

    plan: Plan
    trial: Trial
    number: int  # of the round
    amount: Amount  # of sentences, or words
    earlier: Sequence[Query]  # the queries of all earlier rounds

    @cached_property
    def free(self) -> list[int]:
        """Places in the pool of the sentences that no round has asked for."""
        asked = {query.words for query in self.earlier}
        return [i for i, s in enumerate(self.plan.pool.sentences) if s.words not in asked]

    @property
    def is_random(self) -> bool:
        """Whether the sentences are drawn at random, without a model."""
        return self.trial.strategy in (None, "random", "random-words") or not self.free

    def queries(self, predictor: PoolPredictor | None = None) -> list[Query]:
        """The sentences to ask for and, if people answer, the tags that are proposed to them.

        predictor: needed unless the sentences are drawn at random. Without it, weak labels are
        proposed where there are some.
        """
        pool, strategy = self.plan.pool, self.trial.strategy or "random"
        order = self._random_order() if self.is_random else self._model_order(predictor)
        words = [sentence.words for sentence in pool.sentences]
        selected = strategies.select_within_amount(order, words, self.amount)
        queries = []
        for place, score in selected:
            asked, _, location, _ = pool.sentences[place]
            query = Query(self.number, strategy, score, location, asked, None)
            queries.append(query._replace(cheap=asked in pool.weak))
        if not self.plan.active.people or not queries:
            return queries
        if predictor is None:
            return [query._replace(proposed=pool.weak.get(query.words)) for query in queries]
        return _with_proposals(queries, *predictor.predict([place for place, _ in selected]))

    def _random_order(self) -> strategies.Order:
        rng = generator(self._seed(), Stream.RANDOM_QUERY)
        if self.number == 0:
            rng = generator(self.trial.seed, Stream.EXPERT_DRAW)
        free = set(self.free)
        order = rng.permutation(len(self.plan.pool.sentences)).tolist()
        return [(place, None) for place in order if place in free]

    def _model_order(self, predictor: PoolPredictor) -> strategies.Order:
        """Places in the pool with their scores, in the order of the strategy."""
        words = [self.plan.pool.sentences[place].words for place in self.free]
        rows, tags = predictor.predict(self.free)
        mentions = [
            frozenset(" ".join(sentence[e.start : e.end]).lower() for e in entities(of_words))
            for sentence, of_words in zip(words, tags, strict=True)
        ]
        if self.trial.strategy == "default":
            order = strategies.coverage(rows, words, self._seed())
        else:
            order = strategies.rank(strategies.SCORES[self.trial.strategy](rows), self._seed())
        acquired = [query.words for query in self.earlier]
        for i, score in strategies.diversify(order, words, mentions, acquired):
            yield self.free[i], float(f"{score:.6g}")

    def _seed(self) -> int:
        """The seed of the round."""
        return int(np.random.SeedSequence([self.trial.seed, self.number]).generate_state(1)[0])


def _with_proposals(
    queries: Sequence[Query], rows: strategies.Rows, tags: Sequence[Sequence[str]]
) -> list[Query]:
    """The queries with the model's tags and its confidence in them."""
    proposals = zip(queries, rows, tags, strict=True)
    return [
        query._replace(
            proposed=tuple(of_words), confidence=float(f"{np.exp(row.max(axis=1).min()):.4g}")
        )
        for query, row, of_words in proposals
    ]
