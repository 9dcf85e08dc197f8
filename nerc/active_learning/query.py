"""Chooses the sentences of a round."""

import logging
import time
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from nerc.active_learning.plan import Plan, Trial
from nerc.active_learning.strategies import (
    SCORES,
    Budget,
    Candidates,
    Order,
    coverage,
    diversify,
    label_error,
    mc_dropout,
    rank,
    select_within_budget,
)
from nerc.data import tags
from nerc.data.labels import repair
from nerc.data.pool import Query
from nerc.data.sources import load_as_written
from nerc.distributed import Session
from nerc.model.encoding import encode_for
from nerc.model.inference import decode, predict
from nerc.model.modeling import NERSmall

logger = logging.getLogger(__name__)

_AT_RANDOM = ("random", "random-words")


class RoundQuery(NamedTuple):
    """What a round asks, and what the model that asks finds in the watched sentences."""

    queries: list[Query]
    watched: list[list[str]]
    seconds: float = 0.0  # that asking took
    scoring: float = 0.0  # of these, the model's
    skipped: bool = False  # people skipped all of it


def ask(
    plan: Plan,
    arm: Trial,
    number: int,
    model: NERSmall,
    tokenizer: PreTrainedTokenizerBase,
    before: list[Query],
    budget: Budget,
    session: Session,
) -> RoundQuery:
    """Choose what the round asks, by what the model finds in the pool."""
    started, scoring = time.perf_counter(), 0.0
    model.to(session.accelerator.device)
    encoded = encode_for(model, tokenizer, plan.corpus)
    how = {"bf16": plan.precision == "bf16", "accelerator": session.accelerator}
    seed = int(np.random.SeedSequence([arm.seed, number]).generate_state(1)[0])
    free = plan.free(before)
    warn_if_short(number, free, budget, session)

    def found(places: list[int]) -> dict[int, np.ndarray]:
        nonlocal scoring
        since = time.perf_counter()
        places = sorted({*plan.watched, *places})
        rows = dict(zip(places, predict(model, encoded, np.array(places), **how), strict=True))
        scoring += time.perf_counter() - since
        return rows

    with session.stop.interruptible(lambda: None):
        if arm.strategy in _AT_RANDOM or not free:
            chosen = [(place, None) for place in draw_at_random(plan, free, budget, [seed, 10])]
            rows = found([place for place, _ in chosen])
        else:
            rows = found(free)
            thinned = None
            if arm.strategy == "bald":
                since = time.perf_counter()
                thinned = mc_dropout(model, encoded, np.array(free), seed=seed, **how)
                scoring += time.perf_counter() - since
            own = [rows[place] for place in free]
            candidates = _candidates(plan, model, free, own, before)
            order = _order(plan, arm.strategy, model, own, thinned, candidates, seed)
            pairs = select_within_budget(diversify(order, candidates), candidates, budget)
            chosen = [(free[i], float(f"{score:.6g}")) for i, score in pairs]

    word_tags = model.config.word_tags
    asked = [new_query(plan, number, arm.strategy, place, score) for place, score in chosen]
    if plan.active.oracle != "gold":
        proposed = decode([rows[place] for place, _ in chosen], word_tags)
        asked = [q._replace(proposed=tuple(p)) for q, p in zip(asked, proposed, strict=True)]
    watched = decode([rows[place] for place in plan.watched], word_tags)
    return RoundQuery(asked, watched, time.perf_counter() - started, scoring)


def warn_if_short(number: int, free: list[int], budget: Budget, session: Session) -> None:
    """Say where fewer sentences are left than the round may buy."""
    if not budget.of_words and 0 < len(free) < budget.number:
        logger.info(f"round {number}: only {len(free)} sentences are left, of {budget.number}")


def draw_at_random(plan: Plan, free: list[int], budget: Budget, seed: list[int]) -> list[int]:
    """Places drawn at random from those that are free, as many as the budget pays for."""
    order = np.random.default_rng(seed).permutation(len(plan.pool.sentences))
    candidates = Candidates([sentence.words for sentence in plan.pool.sentences], (), ())
    is_free = set(free)
    lots = ((int(place), 0.0) for place in order if place in is_free)
    return [place for place, _ in select_within_budget(lots, candidates, budget)]


def _candidates(
    plan: Plan, model: NERSmall, free: list[int], rows: list[np.ndarray], before: list[Query]
) -> Candidates:
    words = [plan.pool.sentences[place].words for place in free]
    labels = decode(rows, model.config.word_tags)
    found = [mentions(own, tags_) for own, tags_ in zip(words, labels, strict=True)]
    return Candidates(words, found, [query.words for query in before])


def _order(
    plan: Plan,
    strategy: str,
    model: NERSmall,
    rows: list[np.ndarray],
    thinned: list[np.ndarray] | None,
    candidates: Candidates,
    seed: int,
) -> Order:
    """Candidates in the order in which a strategy would buy them."""
    if strategy == "default":
        return coverage(rows, candidates, seed)
    if strategy == "label-error":
        scores = label_error(rows, weak_labels(plan, model, candidates))
    else:
        scores = SCORES[strategy](thinned or rows)
    return rank(scores, seed)


def weak_labels(plan: Plan, model: NERSmall, candidates: Candidates) -> list[np.ndarray | None]:
    """Columns of the cheap labels of candidates, as --repair form mends them; None without."""
    mended = repair(load_as_written(plan.data.corpus), ("form",))
    column = {tag: i for i, tag in enumerate(model.config.word_tags)}
    known = {s.words: np.array([column.get(tag, -1) for tag in s.tags]) for s in mended}
    return [known.get(words) for words in candidates.words]


def mentions(words: tuple[str, ...], labels: list[str]) -> frozenset[str]:
    """The entities of a sentence as text, small."""
    return frozenset(" ".join(words[e.start : e.end]).lower() for e in tags.entities(labels))


def new_query(plan: Plan, number: int, strategy: str, place: int, score: float | None) -> Query:
    sentence = plan.pool.sentences[place]
    has_cheap = sentence.words in plan.pool.cheap
    return Query(number, strategy, score, sentence.location, sentence.words, None, None, has_cheap)
