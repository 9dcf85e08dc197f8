"""Runs active learning: each round queries, gets labels, trains and keeps a revision."""

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from logging.handlers import MemoryHandler
from typing import Any

from accelerate.utils import set_seed

from nerc.active_learning import oracle
from nerc.active_learning.plan import (
    CompletedRound,
    Plan,
    RoundQuery,
    Trial,
    TrialState,
    read_round,
    skipped_rounds,
)
from nerc.active_learning.query import PoolPredictor, Request
from nerc.annotation.people import WaitingForAnswers
from nerc.config import Amount, Unit
from nerc.data.labels import num_drawn
from nerc.data.pool import Query, answered, count_acquired
from nerc.data.tags import within
from nerc.distributed import Session, from_main
from nerc.errors import InputError, Interrupted
from nerc.model.precision import Precision
from nerc.store import model_files, query_records, records
from nerc.store.revisions import Store
from nerc.training import setup
from nerc.training.run import train

logger = logging.getLogger(__name__)

MIN_GAIN = 0.002  # of validation F1, which PATIENCE rounds together must bring
PATIENCE = 3


def run_trials(plan: Plan, store: Store, session: Session, precision: Precision) -> None:
    """Run all trials of a plan; raises WaitingForAnswers where people have to answer first."""
    _print_notes_once()
    environment = (store, session, precision)
    known = CompletedRound(plan.start, _known_queries(plan, store), None)
    logger.info(
        f"{len(plan.pool.sentences):,} different sentences can be asked for, of "
        f"{len(plan.pool.text):,}; {len(known.queries):,} are known"
    )
    try:
        for round_0, *trials in plan.trials():
            start = known
            if plan.start is None:
                start = ActiveLearner(plan, round_0, known, *environment).run()
            for trial in trials:
                ActiveLearner(plan, trial, start, *environment).run()
    except Interrupted as interrupted:
        interrupted.advice = "continue with the same command and --resume"
        raise


def _known_queries(plan: Plan, store: Store) -> list[Query]:
    """What experts had labelled before the first round, copies once."""
    known = list(plan.pool.known)
    if plan.start is not None:
        folder = store.path(plan.start)
        known = [*setup.expert_sentences(records.read_run(folder), folder), *known]
    queries = (Query(0, "start", None, s.location, s.words, s.tags) for s in known)
    return list({query.words: query for query in queries}.values())


def _print_notes_once() -> None:
    """Print a note that every round repeats once; the log.txt of each revision has its own."""
    printed: set[tuple[logging.Handler, str]] = set()

    def is_wanted(handler: logging.Handler, record: logging.LogRecord) -> bool:
        key = handler, record.getMessage()
        is_repeated = record.name in (setup.__name__, __name__) and key in printed
        printed.add(key)
        return not is_repeated

    for handler in logging.getLogger("nerc").handlers:
        if not isinstance(handler, MemoryHandler):  # which keeps messages for log.txt
            handler.addFilter(partial(is_wanted, handler))


def _answered(query: Query, gold: Sequence[str]) -> Query:
    """The query with the answer of an expert whose labels are gold."""
    return query._replace(tags=gold if query.asked is None else within(gold, query.asked))


def has_plateaued(scores: Sequence[float | None]) -> bool:
    """Whether the last PATIENCE rounds have not raised F1 by MIN_GAIN; None: not evaluated."""
    known = [score for score in scores if score is not None]
    best = max(known[:-PATIENCE], default=None)
    return best is not None and max(known[-PATIENCE:]) < best + MIN_GAIN


@dataclass
class ActiveLearner:
    """Runs the rounds of a trial.

    Every process has one, and all take the same steps; the main process alone touches files.
    """

    plan: Plan
    trial: Trial
    last: CompletedRound  # the last round that is done
    store: Store
    session: Session
    precision: Precision

    def __post_init__(self) -> None:
        self.state = TrialState(self.plan, self.trial, self.store)
        self.completed: dict[int, CompletedRound] = self._on_main(self.state.completed)
        self.skipped = skipped_rounds(self.completed)
        self._model = None  # of the last round, with its tokenizer; None: not in memory

    def run(self) -> CompletedRound:
        """Do the rounds that are left; the last one that was done."""
        is_first = self.trial.strategy is None
        numbers = range(0, 1) if is_first else range(1, self.plan.active.rounds + 1)
        self._log_completed(len({*numbers} - self.completed.keys() - self.skipped))
        with self.state.lock() if self.session.is_main else nullcontext():
            for number in numbers:
                if number in self.completed:
                    self.last, self._model = self.completed[number], None
                if number in self.completed or number in self.skipped:
                    continue
                if self._stops_before(number):
                    break
                query = self.query(number)
                if number and not query.queries:
                    logger.info(f"round {number}: nothing is left to ask for")
                    break
                self.update(query, self.label(query))
            # Of skipped rounds after the last revision, the state alone knows.
            is_known = max(self.skipped, default=-1) < max(self.completed, default=0)
            if is_known and self.session.is_main:
                shutil.rmtree(self.state.folder)
        return self.last

    # ------------------------------------------------------------ the steps of a round

    def query(self, number: int) -> RoundQuery:
        """What the round asks for: what it asked before an interruption, or what it chooses now."""
        stored = self._on_main(lambda: self.state.read_query(number))
        if stored is not None:
            return stored
        chosen = self._choose(number)
        # What processes predict may differ in the last digit, and what they ask for must not.
        chosen = self._on_main(lambda: chosen)
        if self.session.is_main:
            self.state.write_query(chosen)
        return chosen

    def label(self, query: RoundQuery) -> list[Query]:
        """The queries with their answers; raises WaitingForAnswers until people have answered."""
        if query.skipped:
            return query.queries
        if self.plan.active.oracle == "gold":
            gold = {sentence.words: sentence.tags for sentence in self.plan.pool.sentences}
            return [_answered(asked, gold[asked.words]) for asked in query.queries]
        if self.plan.labeller and query.queries and not query.by_model:
            query = self._ask_model(query)
        if not (self.plan.active.people and query.unanswered):
            return query.queries
        folder = self.plan.answer_folder

        def answers() -> list[Query] | str:
            try:
                return folder.ask(query.unanswered, query.number)
            except WaitingForAnswers as waiting:
                return str(waiting)

        labelled = self._on_main(answers)
        if isinstance(labelled, str):
            raise WaitingForAnswers(labelled)
        by_people = {answer.words: answer for answer in labelled}
        return [by_people.get(asked.words, asked) for asked in query.queries]

    def _ask_model(self, query: RoundQuery) -> RoundQuery:
        """The round with the answers of the language model; the main process asks for them."""
        people, queries = self.plan.active.people, None
        with self.session.stop.interruptible(lambda: None):
            if self.session.is_main:
                asked = query.queries
                queries = oracle.ask(self.plan.labeller, asked, query.number, people=people)
            self.session.stop.wait_for_all()  # which waits longer than what follows
        query = query._replace(queries=self._on_main(lambda: queries), by_model=True)
        # An answer that the server failed to give must not change a round that goes on.
        if self.session.is_main:
            self.state.write_query(query)
        return query

    def update(self, query: RoundQuery, answers: list[Query]) -> None:
        """Train on all answers so far, and keep the model as the revision of the round."""
        number, queries = query.number, [*self.last.queries, *answers]
        if not answered(answers if number else queries):
            self._skip(query, queries)
            return
        self._model = None
        plan, trial, counts = self.plan, self.trial, count_acquired(queries)
        training = replace(plan.training, seed=trial.seed)
        logger.info(
            f"round {number}{f' of {trial.strategy}' if number else ''}, seed {trial.seed}: "
            f"{counts['sentences']} {'labelled' if plan.labeller else 'expert'} sentences"
        )
        acquired = plan.pool.acquired_labels(queries)
        set_seed(training.seed)  # new weights are drawn from it
        run_setup = setup.prepare(
            *(plan.data, plan.network, training, self.store, self.precision),
            sources=self.plan.sources,
            acquired=acquired,
        )
        self.store.check_room(model_files.num_bytes(run_setup.model))
        run_setup.description["active"] = {
            "round": number,
            "strategy": trial.strategy,
            "seed": trial.seed,
            **counts,
            "skipped": len(queries) - len(answered(queries)),
            "start": self.last.name,
            "words_of": trial.words_of,
            "asking": {"seconds": round(query.seconds, 2), "scoring": round(query.scoring, 2)},
            "plan": plan.description,
        }
        name = self.state.revision_name(number, counts["sentences"])
        beside = {query_records.FILE: query_records.to_text(queries)}
        keep = plan.keep.of_round
        reports = train(run_setup, name, self.store, keep, self.session, plan.command, beside)
        if reports is not None:  # None: a kill came between the revision and the end of its round
            self._model = run_setup.model, run_setup.tokenizer
        self.last = self._on_main(lambda: read_round(self.store.folder / name))
        self.completed[number] = self.last
        logger.info(f"round {number}: {self._summary(query, answers)}; {name}")

    def _skip(self, query: RoundQuery, queries: list[Query]) -> None:
        """Go on after a round that was skipped as a whole; a later revision will know it."""
        number = query.number
        if number == 0:
            raise InputError(
                "every sentence of round 0 was skipped: there is nothing to learn from"
            )
        if self.session.is_main:
            self.state.write_query(query._replace(skipped=True))
        logger.info(f"round {number}: all {len(query.queries)} were skipped, nothing to learn from")
        self.last = self.last._replace(queries=queries)
        self.skipped.add(number)

    # ------------------------------------------------------------ choosing sentences

    def _choose(self, number: int) -> RoundQuery:
        """Choose the sentences of a round; all processes predict their share."""
        started = time.perf_counter()
        amount = self._on_main(lambda: self._amount(number))
        request = Request(self.plan, self.trial, number, amount, self.last.queries)
        num_free = len(request.free)
        is_short = not request.asks_words and 0 < num_free < amount.number
        if amount.unit is Unit.SENTENCES and is_short:
            logger.info(f"round {number}: only {num_free} sentences are left, of {amount.number}")
        # The proposals that people get take a model; round 0 has none.
        if not request.needs_model and not (self.plan.active.people and number):
            return RoundQuery(number, request.queries())
        with self.session.stop.interruptible(lambda: None):
            if self._model is None:
                self._model = model_files.load_revision(self.store.path(self.last.name))
            bf16 = self.precision.of(self._model[0].config) == "bf16"
            predictor = PoolPredictor(self._model, self.plan.pool, self.session, bf16=bf16)
            queries = request.queries(predictor)
        return RoundQuery(number, queries, time.perf_counter() - started, predictor.seconds)

    def _amount(self, number: int) -> Amount:
        """How many sentences or words a round asks for."""
        plan, pool, trial = self.plan, self.plan.pool, self.trial
        if number == 0 and plan.data.expert is not None:
            return Amount(num_drawn(len(pool.text), plan.data.expert, "sentences"), Unit.SENTENCES)
        if number == 0 and self.last.queries:
            return Amount(0, Unit.SENTENCES)
        if trial.words_of:
            other = next(trials[1] for trials in plan.trials() if trial in trials)
            done = TrialState(plan, other, self.store).completed().get(number)
            queries = [query for query in done.queries if query.round == number] if done else []
            return Amount(count_acquired(queries)["words"], Unit.WORDS)
        amount = plan.active.amount(number)
        if amount.unit is Unit.WORDS:
            return amount
        num_sentences = amount.num_sentences(len(pool.text))
        if trial.strategy != "random-words" or plan.active.ask == "words":
            return Amount(num_sentences, Unit.SENTENCES)
        num_words = sum(len(sentence.words) for sentence in pool.sentences)
        return Amount(round(num_sentences * num_words / len(pool.sentences)), Unit.WORDS)

    # ------------------------------------------------------------ messages and decisions

    def _stops_before(self, number: int) -> bool:
        """Whether --stop ends the trial before a round; logs what plateau would do."""
        scores = [self.completed[n].validation for n in sorted(self.completed)]
        if not has_plateaued(scores):
            return False
        stops = self.plan.active.stop == "plateau"
        logger.info(
            f"the last {PATIENCE} rounds have not raised validation F1 by {MIN_GAIN}: --stop "
            f"plateau {'ends' if stops else 'would end'} the run before round {number}"
        )
        return stops

    def _log_completed(self, num_left: int) -> None:
        """Log what was done before, where it matters for what is left."""
        done = max(self.completed, default=0)
        if done >= self.plan.active.rounds:
            logger.info(
                f"all {done} rounds of {self.trial.strategy}, seed {self.trial.seed}, are "
                f"complete; to continue, give more --rounds"
            )
        rounds = self.last, *self.completed.values()
        precisions = dict.fromkeys(known.precision for known in rounds if known.precision)
        for earlier in precisions:
            self.precision.keep(earlier)
        others = precisions.keys() - {self.precision.decided}
        if num_left and others:
            logger.warning(
                f"rounds so far were computed in {' and '.join(sorted(others))}, this one goes on "
                f"in {self.precision.decided or 'float32'}"
            )

    def _summary(self, query: RoundQuery, answers: list[Query]) -> str:
        """What a round acquired and what F1 it reached, in words."""
        counts = count_acquired(answers)
        num_skipped = len(answers) - len(answered(answers))
        skipped = f" ({num_skipped} skipped)" if num_skipped else ""
        is_partial = counts["words_read"] > counts["words"]
        read = f" of the {counts['words_read']:,} in them" if is_partial else ""
        how = "at random"
        if self.trial.strategy:
            how = f"by {self.trial.strategy}, chosen in {query.seconds:.0f} s"
            how += f" (the model took {query.scoring:.0f} s)"
        f1 = self.last.validation
        score = "no validation" if f1 is None else f"validation F1 {100 * f1:.2f}"
        return (
            f"{counts['sentences']} sentences{skipped}, {counts['words']:,} words{read}, "
            f"{counts['entities']:,} entities, {how}; {score}"
        )

    def _on_main(self, find: Callable[[], Any]) -> Any:
        """What the main process finds, for all: the others may see files later than it does."""
        return from_main(self.session.accelerator, find() if self.session.is_main else None)
