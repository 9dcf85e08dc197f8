"""Runs the rounds of active learning: query, expert labels, retrain, revision."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
from accelerate.utils import set_seed
from transformers import PreTrainedTokenizerBase

from nerc.active_learning.plan import Plan, Trial
from nerc.active_learning.query import RoundQuery, ask, draw_at_random, new_query, warn_if_short
from nerc.active_learning.state import (
    CompletedRound,
    forget,
    kept_or_new,
    kept_rounds,
    on_main,
    validation_f1,
    words_of,
    working,
    write_query,
)
from nerc.active_learning.stopping import PATIENCE, stopping
from nerc.active_learning.strategies import Budget
from nerc.annotation.people import WaitingForAnswers, check_questions, read_answers, write_questions
from nerc.config import ModelConfig
from nerc.data.labels import num_drawn
from nerc.data.pool import QUERIES_FILE, Query, answered, count_acquired, queries_to_text
from nerc.distributed import Session
from nerc.errors import InputError, Interrupted
from nerc.model.encoding import encode_for
from nerc.model.inference import decode, predict
from nerc.model.modeling import NERSmall
from nerc.store import model_files
from nerc.store.revisions import Store
from nerc.training import setup
from nerc.training.run import train

logger = logging.getLogger(__name__)


def learn(plan: Plan, store: Store, session: Session) -> None:
    """Do all rounds that are left; raises oracles.Waiting where people have to answer."""
    try:
        for before, arms in plan.arms():
            start = _first(plan, before, store, session)
            for arm in arms:
                _rounds(plan, arm, start, store, session)
    except Interrupted as interrupted:
        interrupted.advice = "go on with the same command and --resume"
        raise


def _first(plan: Plan, arm: Trial, store: Store, session: Session) -> CompletedRound:
    """The first round of a seed, on what is known and sentences drawn at random; or --start."""
    if plan.start is not None:
        return CompletedRound(plan.start, plan.known, validation_f1(store.path(plan.start)))
    if done := on_main(session, lambda: kept_rounds(plan, arm, store)).get(0):
        return done
    with working(plan, arm, store, session) as folder:

        def choose() -> RoundQuery:
            budget = plan.budget(0)
            free = plan.free(plan.known)
            if plan.data.expert is not None:
                budget = Budget(num_drawn(plan.pool.total, plan.data.expert, "sentences"))
            elif plan.known:
                budget = Budget(0)
            warn_if_short(0, free, budget, session)
            places = draw_at_random(plan, free, budget, [arm.seed, 0])
            return RoundQuery([new_query(plan, 0, "random", place, None) for place in places], [])

        asked = kept_or_new(folder, 0, choose, session)
        new = _answers(plan, 0, asked.queries, session)
        if not answered([*plan.known, *new]):
            raise InputError("every sentence of round 0 was skipped, and nothing is left to learn")
        found, _ = _train(plan, arm, 0, [*plan.known, *new], None, store, session, asked)
        logger.info(f"round 0: {_bought(new)}, at random; {_score(found)}; {found.name}")
        forget(folder)
    return found


def _rounds(plan: Plan, arm: Trial, last: CompletedRound, store: Store, session: Session) -> None:
    """The rounds of an arm that are left; last: what it starts from."""
    done = on_main(session, lambda: kept_rounds(plan, arm, store))
    if max(done, default=0) >= plan.active.rounds:
        logger.info(
            f"all {max(done)} rounds of {arm.strategy}, seed {arm.seed}, are there; to go on, give "
            f"more --rounds"
        )
    model = None  # that of last, loaded when it is needed
    watched: dict[str, list[list[str]] | None] = {}  # by the model that found them
    skipped = _skipped(done)
    with working(plan, arm, store, session) as folder:
        for number in range(1, plan.active.rounds + 1):

            def choose(number=number, last=last, model=model) -> RoundQuery:
                budget = on_main(session, lambda: _budget(plan, arm, number, store))
                found = model or model_files.load_revision(store.path(last.name))
                return ask(plan, arm, number, *found, last.queries, budget, session)

            if number in done:
                asked = kept_or_new(folder, number, None, session)
                watched[last.name] = asked and asked.watched
                last, model = done[number], None
                continue
            if number in skipped:  # as the rounds that are done after it know
                continue
            asked = kept_or_new(folder, number, choose, session)
            watched[last.name] = asked.watched
            if not asked.queries:
                logger.info(f"round {number}: nothing is left to ask for")
                break
            new = asked.queries
            if not asked.skipped:
                if _is_over(plan, number, watched, done, store, session):
                    break
                new = _answers(plan, number, asked.queries, session)
            known = [*last.queries, *new]
            if not answered(new):
                if folder:
                    write_query(folder, number, asked._replace(skipped=True))
                logger.info(f"round {number}: all {len(new)} were skipped, and nothing is learnt")
                last = last._replace(queries=known)
                skipped.add(number)
                continue
            last, model = _train(plan, arm, number, known, last, store, session, asked)
            done[number] = last
            logger.info(
                f"round {number}: {_bought(new)}, by {arm.strategy}, chosen in {asked.seconds:.0f} "
                f"s (the model took {asked.scoring:.0f} s); {_score(last)}; {last.name}"
            )
        if max(skipped, default=0) < max(done, default=1):  # else no revision knows the last
            forget(folder)


def _skipped(done: dict[int, CompletedRound]) -> set[int]:
    """Rounds that people skipped as a whole, as those after them know."""
    asked = {query.round for kept in done.values() for query in kept.queries}
    return asked - {q.round for kept in done.values() for q in answered(kept.queries)}


def _is_over(
    plan: Plan,
    number: int,
    watched: dict[str, list[list[str]] | None],
    done: dict[int, CompletedRound],
    store: Store,
    session: Session,
) -> bool:
    """Whether --stop ends the run before a round; says what its rules would do."""
    last = [*watched][-PATIENCE - 1 :]
    for name in last:
        if watched[name] is None:  # it was found in a run that has ended
            watched[name] = _watched_by(plan, name, store, session)
    scores = [done[n].validation for n in sorted(done)]
    rules = stopping([watched[name] for name in last], scores)
    if met := [f"{rule}: {what}" for rule, (is_met, what) in rules.items() if is_met]:
        logger.info(f"round {number}: {'; '.join(met)}")
    if is_over := rules.get(plan.active.stop, (False, ""))[0]:
        logger.info(f"--stop {plan.active.stop} ends it before round {number}")
    return is_over


def _watched_by(plan: Plan, name: str, store: Store, session: Session) -> list[list[str]]:
    """The tags that a revision finds in the watched sentences."""
    model, tokenizer = model_files.load_revision(store.path(name))
    model.to(session.accelerator.device)
    with session.stop.interruptible(lambda: None):
        encoded = encode_for(model, tokenizer, plan.corpus.select(plan.watched))
        how = {"bf16": plan.precision == "bf16", "accelerator": session.accelerator}
        rows = predict(model, encoded, np.arange(len(encoded)), **how)
    return decode(rows, model.config.word_tags)


def _bought(new: list[Query]) -> str:
    own = count_acquired(new)
    number = own["sentences"]
    skipped = f" ({len(new) - number} skipped)" if number < len(new) else ""
    return f"{number} sentences{skipped}, {own['words']:,} words, {own['entities']:,} entities"


def _score(kept: CompletedRound) -> str:
    if kept.validation is None:
        return "no validation"
    return f"validation F1 {100 * kept.validation:.2f}"


# ------------------------------------------------------------ a round


def _budget(plan: Plan, arm: Trial, number: int, store: Store) -> Budget:
    """What a round may buy; random-words has what the first strategy had for its words."""
    if words_of(plan, arm):
        first = next(arms[0] for _, arms in plan.arms() if arm in arms)
        kept = kept_rounds(plan, first, store).get(number)
        own = [q for q in kept.queries if q.round == number] if kept else []
        return Budget(count_acquired(own)["words"], of_words=True)
    budget = plan.budget(number)
    if arm.strategy != "random-words" or budget.of_words:
        return budget
    words = sum(len(sentence.words) for sentence in plan.pool.sentences)
    return Budget(round(budget.number * words / len(plan.pool.sentences)), of_words=True)


def _answers(plan: Plan, number: int, asked: list[Query], session: Session) -> list[Query]:
    """The queries with the experts' answers; raises oracles.Waiting until people have answered."""
    if plan.active.oracle == "gold":
        known = {sentence.words: sentence.tags for sentence in plan.pool.sentences}
        return [query._replace(tags=known[query.words]) for query in asked]
    folder = Path(plan.active.oracle)

    def look() -> list[Query] | str:
        if not check_questions(asked, folder, number):
            write_questions(asked, folder, number)
        try:
            return read_answers(asked, folder, number, plan.pool.types)
        except WaitingForAnswers as waiting:
            return str(waiting)

    found = on_main(session, look)
    if isinstance(found, str):
        raise WaitingForAnswers(found)
    return found


def _train(
    plan: Plan,
    arm: Trial,
    number: int,
    known: list[Query],
    last: CompletedRound | None,
    store: Store,
    session: Session,
    asked: RoundQuery,
) -> tuple[CompletedRound, tuple[NERSmall, PreTrainedTokenizerBase]]:
    """Train on what is known, and keep it as the round's revision."""
    bought = plan.pool.bought(known)
    own = count_acquired(known)
    number_known = own["sentences"]
    percent = f"{100 * number_known / plan.pool.total:.2f}".rstrip("0").rstrip(".")
    name = f"active_iter_{number}_added_{percent}{arm.suffix}"
    goes_on = plan.active.from_last and last is not None
    network = plan.network
    if goes_on:
        network = ModelConfig(start=last.name, dropout=network.dropout)
    config = replace(plan.config, seed=arm.seed)
    set_seed(config.seed)  # new weights are drawn from it
    logger.info(
        f"round {number}{f' of {arm.strategy}' if number else ''}, seed {arm.seed}: "
        f"{number_known} expert sentences"
    )
    start = setup.prepare(plan.data, network, config, store, plan.precision, acquired=bought)
    store.check_room(model_files.num_bytes(start.model))
    about = {
        "round": number,
        "strategy": arm.strategy,
        "seed": arm.seed,
        **own,
        "skipped": len(known) - number_known,
        "start": None if last is None else last.name,
        "words_of": words_of(plan, arm),
        "asking": {"seconds": round(asked.seconds, 2), "scoring": round(asked.scoring, 2)},
        "plan": plan.description,
    }
    start.description["active"] = about
    beside = {QUERIES_FILE: queries_to_text(known)}
    found = train(start, name, store, plan.keep.of_round, session, plan.command, beside)
    if found is None:  # a kill came between the revision and the end of its round
        done = on_main(session, lambda: kept_rounds(plan, arm, store))[number]
        return done, model_files.load_revision(store.path(name))
    validation = found["validation"].f1 if "validation" in found else None
    return CompletedRound(name, known, validation), (start.model, start.tokenizer)
