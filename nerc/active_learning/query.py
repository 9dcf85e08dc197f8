"""Chooses the sentences of a round, at random or by what a model predicts for the pool."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from transformers import PreTrainedTokenizerBase

from nerc.active_learning.plan import Plan, Trial
from nerc.active_learning.strategies import (
    SCORES,
    Candidates,
    Order,
    Rows,
    coverage,
    diversify,
    label_error,
    mc_dropout,
    rank,
    select_within_amount,
)
from nerc.config import Amount
from nerc.data.corpus import Corpus
from nerc.data.labels import repair
from nerc.data.pool import Pool, Query
from nerc.data.sources import load
from nerc.data.tags import entities
from nerc.distributed import Session
from nerc.model.encoding import encode_for
from nerc.model.inference import decode, predict
from nerc.model.modeling import NERSmall

Selection = list[tuple[int, float | None]]  # places in the pool, each with its score if it has one


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

    def select(self, predictor: "PoolPredictor | None" = None) -> Selection:
        """The sentences to ask for; predictor: needed unless they are drawn at random."""
        if self.number == 0:
            return self._draw([self.trial.seed, 0])
        seed = int(np.random.SeedSequence([self.trial.seed, self.number]).generate_state(1)[0])
        if self.is_random:
            return self._draw([seed, 10])
        words = [self.plan.pool.sentences[place].words for place in self.free]
        rows = predictor.log_probabilities(self.free)
        mentions = [
            frozenset(" ".join(sentence[e.start : e.end]).lower() for e in entities(tags))
            for sentence, tags in zip(words, decode(rows, predictor.word_tags), strict=True)
        ]
        candidates = Candidates(words, mentions, [query.words for query in self.earlier])
        order = diversify(self._order(rows, candidates, predictor, seed), candidates)
        selected = select_within_amount(order, candidates, self.amount)
        return [(self.free[i], float(f"{score:.6g}")) for i, score in selected]

    def _draw(self, seed: list[int]) -> Selection:
        sentences = self.plan.pool.sentences
        candidates = Candidates([sentence.words for sentence in sentences], (), ())
        free = set(self.free)
        order = np.random.default_rng(seed).permutation(len(sentences)).tolist()
        pairs = ((place, 0.0) for place in order if place in free)
        return [(i, None) for i, _ in select_within_amount(pairs, candidates, self.amount)]

    def _order(
        self, rows: Rows, candidates: Candidates, predictor: "PoolPredictor", seed: int
    ) -> Order:
        """The candidates in the order of the strategy."""
        strategy = self.trial.strategy
        if strategy == "default":
            return coverage(rows, candidates, seed)
        if strategy == "label-error":
            weak = weak_label_columns(self.plan.data.corpus, predictor.word_tags, candidates)
            return rank(label_error(rows, weak), seed)
        if strategy == "bald":
            rows = predictor.mc_dropout(self.free, seed)
        return rank(SCORES[strategy](rows), seed)

    def queries(
        self, selection: Selection, proposals: Sequence[Sequence[str]] | None = None
    ) -> list[Query]:
        """The queries for the selected sentences, with the tags proposed to people."""
        pool, strategy, queries = self.plan.pool, self.trial.strategy or "random", []
        for i, (place, score) in enumerate(selection):
            words, _, location, _ = pool.sentences[place]
            proposed = None if proposals is None else tuple(proposals[i])
            query = Query(self.number, strategy, score, location, words, None, proposed)
            queries.append(query._replace(cheap=words in pool.weak))
        return queries


class PoolPredictor:
    """Predicts the tags of the pool's sentences with the model of the last round."""

    def __init__(
        self,
        model: NERSmall,
        tokenizer: PreTrainedTokenizerBase,
        pool: Pool,
        session: Session,
        *,
        bf16: bool,
    ) -> None:
        self.model = model.to(session.accelerator.device)
        corpus = Corpus.of(sentence._replace(tags=None) for sentence in pool.sentences)
        self.encoded = encode_for(model, tokenizer, corpus)
        self.word_tags = model.config.word_tags
        self.seconds = 0.0  # that predictions took
        self._how = {"bf16": bf16, "accelerator": session.accelerator}

    def log_probabilities(self, places: list[int]) -> Rows:
        """Log-probabilities (words, tags) of the sentences at places of the pool."""
        return self._timed(predict, places)

    def mc_dropout(self, places: list[int], seed: int) -> Rows:
        """Log-probabilities (words, passes, tags) under dropout."""
        return self._timed(mc_dropout, places, seed=seed)

    def _timed(self, function, places: list[int], **more) -> Rows:
        started = time.perf_counter()
        rows = function(self.model, self.encoded, np.array(places), **self._how, **more)
        self.seconds += time.perf_counter() - started
        return rows

    def propose(self, places: list[int]) -> list[list[str]]:
        """The tags that people start from when they label the sentences at places."""
        return decode(self.log_probabilities(places), self.word_tags) if places else []


def weak_label_columns(
    corpus: str, word_tags: Sequence[str], candidates: Candidates
) -> list[np.ndarray | None]:
    """For each candidate, the columns of word_tags of its weak labels; None where it has none.

    The weak labels are those of --repair form; -1 stands for a tag that the model does not have.
    """
    column = {tag: i for i, tag in enumerate(word_tags)}
    repaired = repair(load(corpus, "llm"), ("form",))
    columns = {s.words: np.array([column.get(tag, -1) for tag in s.tags]) for s in repaired}
    return [columns.get(words) for words in candidates.words]
