"""Active learning: rounds of asking experts for sentences, and training on all they answered.

A round leaves a revision, with all queries so far; what a round asks is kept before anybody
answers. So a run that was stopped, wherever it was, goes on as if it had not been.
"""

import hashlib
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from accelerate.utils import set_seed
from filelock import FileLock, Timeout
from transformers import PreTrainedTokenizerBase

from nerc import acquisition, labels, oracles, queries, records, revisions, runs, tags
from nerc.acquisition import Budget, Candidates
from nerc.config import (
    ActiveConfig,
    ActiveDataConfig,
    ActiveStoreConfig,
    InputError,
    Interrupted,
    ModelConfig,
    TrainConfig,
)
from nerc.data import Corpus, Sentence, load_as_written
from nerc.encoding import encode_for
from nerc.files import write_json
from nerc.launch import Session, from_main
from nerc.model import NERSmall
from nerc.prediction import decode, predict
from nerc.queries import Pool, Query
from nerc.revisions import Store

WATCHED = 500  # sentences on which the models of two rounds are compared
STABLE = 0.99  # mean kappa of PATIENCE comparisons, from which predictions count as stable
RISING = 0.002  # of validation F1, that PATIENCE rounds have to bring
PATIENCE = 3

_AT_RANDOM = ("random", "random-words")
# Flags of no consequence for what is bought or learnt.
_CHANGE_NOTHING = {
    *("rounds", "strategy", "seeds", "seed", "price", "stop", "corpus", "oracle"),
    *("num_threads", "micro_batch_words", "precision"),
}


class Arm(NamedTuple):
    """One of the runs of a command: a strategy from one seed. strategy None: their first round."""

    strategy: str | None
    seed: int
    suffix: str  # of the revisions' names


@dataclass(frozen=True)
class Plan:
    """What a command does, every setting as it was given; the same in every process."""

    data: ActiveDataConfig
    network: ModelConfig  # of rounds: what the start has
    config: TrainConfig
    active: ActiveConfig
    keep: ActiveStoreConfig
    start: str | None  # the revision that asks first
    known: list[Query]  # what it had learnt from
    pool: Pool
    precision: str
    command: str

    def arms(self) -> list[tuple[Arm, list[Arm]]]:
        """Of each seed the first round, and an arm for every strategy."""
        strategies = self.active.strategy or ("default",)
        seeds = [int(seed) for seed in self.active.seeds] or [self.config.seed]
        found = []
        for seed in seeds:
            of_seed = f"_seed{seed}" if len(seeds) > 1 else ""
            suffixes = [f"_{s}{of_seed}" if len(strategies) > 1 else of_seed for s in strategies]
            arms = [Arm(s, seed, x) for s, x in zip(strategies, suffixes, strict=True)]
            found.append((Arm(None, seed, of_seed), arms))
        return found

    @cached_property
    def description(self) -> dict[str, Any]:
        """By which a run of the same plan is known, but for strategy and seed."""
        flags = asdict(self.data) | asdict(self.network) | asdict(self.config) | asdict(self.active)
        flags = {name: value for name, value in flags.items() if name not in _CHANGE_NOTHING}
        people = self.active.oracle != "gold"
        flags |= {"start": self.start, "oracle": "people" if people else "gold"}
        flags["add"] = " ".join(self.active.add)
        return json.loads(json.dumps(flags | {"pool": self.pool.text.fingerprint()}))

    def budget(self, number: int) -> Budget:
        """What a round may buy."""
        number, unit = self.active.amount(number)
        if isinstance(number, float):
            number = max(1, round(number * self.pool.total))
        return Budget(number, of_words=unit == "words")

    def free(self, before: list[Query]) -> list[int]:
        """Places of the sentences that have not been asked for."""
        had = {query.words for query in before}
        return [i for i, s in enumerate(self.pool.sentences) if s.words not in had]

    @cached_property
    def watched(self) -> list[int]:
        """Places of the sentences on which models are compared."""
        order = np.random.default_rng(11).permutation(len(self.pool.sentences))
        return np.sort(order[:WATCHED]).tolist()

    @cached_property
    def said(self) -> set[str]:
        return set()

    def once(self, session: Session) -> Callable[[str], None]:
        """Say what was not said in an earlier round."""

        def say(text: str) -> None:
            if text not in self.said:
                self.said.add(text)
                session.say(text)

        return say

    @cached_property
    def corpus(self) -> Corpus:
        """The pool, without its answers."""
        return Corpus.of(sentence._replace(tags=None) for sentence in self.pool.sentences)


class Asked(NamedTuple):
    """What a round asks, and what the model that asks finds in the watched sentences."""

    queries: list[Query]
    watched: list[list[str]]
    seconds: float = 0.0  # that asking took
    scoring: float = 0.0  # of these, the model's
    skipped: bool = False  # people skipped all of it


class Kept(NamedTuple):
    """A round that is done, or the start."""

    name: str
    queries: list[Query]  # all so far
    validation: float | None  # F1


def prepare(
    data: ActiveDataConfig,
    network: ModelConfig,
    config: TrainConfig,
    active: ActiveConfig,
    keep: ActiveStoreConfig,
    store: Store,
    precision: str,
    command: str,
    say: Callable[[str], None],
) -> Plan:
    """Read the pool, and what the revision of --start was trained on."""
    strategies = active.strategy
    if "label-error" in strategies and data.data != "mixed":
        raise InputError("--strategy label-error needs cheap labels: --data mixed")
    if "bald" in strategies and network.dropout == 0:
        raise InputError("--strategy bald needs a model under dropout, and --dropout is 0")
    if active.seeds and config.seed:
        raise InputError("--seed must be left out with --seeds")
    start, known = network.start, []
    pool = queries.open_pool(
        data.corpus, active.oracle, with_cheap=data.data == "mixed", types=active.types
    )
    if start is not None:
        if data.expert is not None:
            raise InputError("--expert must be left out with --start, whose experts are known")
        folder = store.path(start, say)
        run = records.read_run(folder)
        settings = run.get("config", {})
        if not settings.get("encoder"):
            raise InputError(
                f"--start {start}: no run.json names the encoder that it began with, wanted a "
                f"revision that train.py or active_learn.py made from one"
            )
        if network.tokenizer is not None:
            raise InputError("--tokenizer must be left out: rounds have that of the encoder")
        given = {} if network.dropout is None else {"dropout": network.dropout}
        network = ModelConfig(**{f: settings[f] for f in _SHAPE} | given)
        known = [_known(sentence) for sentence in runs.expert_sentences(run, folder)]
        say(f"{start}: {len(known)} expert sentences are known from it")
    runs.held_out(data, config, lambda _: None)  # before anybody has labelled for nothing
    known += [_known(sentence) for sentence in pool.known]
    known = list({query.words: query for query in known}.values())
    return Plan(data, network, config, active, keep, start, known, pool, precision, command)


_SHAPE = ("encoder", "lstm_hidden_size", "dropout")


def _known(sentence: Sentence) -> Query:
    return Query(0, "start", None, sentence.origin, sentence.words, sentence.tags)


# ------------------------------------------------------------ the rounds of an arm


def check_new(plan: Plan, store: Store) -> None:
    """Raise InputError where rounds of the plan, or of another, are in the store already."""
    groups = [(before, *arms) for before, arms in plan.arms()]
    all_own = {_folder(plan, arm, store) for group in groups for arm in group}
    for group in groups:
        for arm in group:
            found = kept_rounds(plan, arm, store)
            if found and not plan.keep.resume:
                name = found[min(found)].name
                raise InputError(
                    f"{store.folder / name} is there already; give --resume to go on after it, or "
                    f"another --repo"
                )
            own = _folder(plan, arm, store)
            if own.exists() and not plan.keep.resume:
                raise InputError(
                    f"an unfinished run of these rounds is in {own}; give --resume to go on "
                    f"with it, or another --repo"
                )
            for folder in own.parent.glob(own.name.rpartition("-")[0] + "-????????"):
                if folder not in all_own:
                    raise InputError(
                        f"an unfinished run with other flags is in {folder}; give those that it "
                        f"had, and --resume, to end it first, or give another --repo"
                    )


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


def _first(plan: Plan, arm: Arm, store: Store, session: Session) -> Kept:
    """The first round of a seed, on what is known and sentences drawn at random; or --start."""
    if plan.start is not None:
        return Kept(plan.start, plan.known, _validation(store.path(plan.start)))
    if done := _on_main(session, lambda: kept_rounds(plan, arm, store)).get(0):
        return done
    with _working(plan, arm, store, session) as folder:

        def choose() -> Asked:
            budget = plan.budget(0)
            free = plan.free(plan.known)
            if plan.data.expert is not None:
                budget = Budget(labels.num_drawn(plan.pool.total, plan.data.expert, "sentences"))
            elif plan.known:
                budget = Budget(0)
            _say_if_short(0, free, budget, session)
            places = drawn(plan, free, budget, [arm.seed, 0])
            return Asked([_query(plan, 0, "random", place, None) for place in places], [])

        asked = _kept_or_new(folder, 0, choose, session)
        new = _answers(plan, 0, asked.queries, session)
        if not queries.answered([*plan.known, *new]):
            raise InputError("every sentence of round 0 was skipped, and nothing is left to learn")
        found, _ = _train(plan, arm, 0, [*plan.known, *new], None, store, session, asked)
        session.say(f"round 0: {_bought(new)}, at random; {_score(found)}; {found.name}")
        _forget(folder)
    return found


def _rounds(plan: Plan, arm: Arm, last: Kept, store: Store, session: Session) -> None:
    """The rounds of an arm that are left; last: what it starts from."""
    done = _on_main(session, lambda: kept_rounds(plan, arm, store))
    if max(done, default=0) >= plan.active.rounds:
        session.say(
            f"all {max(done)} rounds of {arm.strategy}, seed {arm.seed}, are there; to go on, give "
            f"more --rounds"
        )
    model = None  # that of last, loaded when it is needed
    watched: dict[str, list[list[str]] | None] = {}  # by the model that found them
    skipped = _skipped(done)
    with _working(plan, arm, store, session) as folder:
        for number in range(1, plan.active.rounds + 1):

            def choose(number=number, last=last, model=model) -> Asked:
                budget = _on_main(session, lambda: _budget(plan, arm, number, store))
                found = model or revisions.load_revision(store.path(last.name))
                return ask(plan, arm, number, *found, last.queries, budget, session)

            if number in done:
                asked = _kept_or_new(folder, number, None, session)
                watched[last.name] = asked and asked.watched
                last, model = done[number], None
                continue
            if number in skipped:  # as the rounds that are done after it know
                continue
            asked = _kept_or_new(folder, number, choose, session)
            watched[last.name] = asked.watched
            if not asked.queries:
                session.say(f"round {number}: nothing is left to ask for")
                break
            new = asked.queries
            if not asked.skipped:
                if _is_over(plan, number, watched, done, store, session):
                    break
                new = _answers(plan, number, asked.queries, session)
            known = [*last.queries, *new]
            if not queries.answered(new):
                if folder:
                    _write(folder, number, asked._replace(skipped=True))
                session.say(f"round {number}: all {len(new)} were skipped, and nothing is learnt")
                last = last._replace(queries=known)
                skipped.add(number)
                continue
            last, model = _train(plan, arm, number, known, last, store, session, asked)
            done[number] = last
            session.say(
                f"round {number}: {_bought(new)}, by {arm.strategy}, chosen in {asked.seconds:.0f} "
                f"s (the model took {asked.scoring:.0f} s); {_score(last)}; {last.name}"
            )
        if max(skipped, default=0) < max(done, default=1):  # else no revision knows the last
            _forget(folder)


def _skipped(done: dict[int, Kept]) -> set[int]:
    """Rounds that people skipped as a whole, as those after them know."""
    asked = {query.round for kept in done.values() for query in kept.queries}
    return asked - {q.round for kept in done.values() for q in queries.answered(kept.queries)}


def _is_over(
    plan: Plan,
    number: int,
    watched: dict[str, list[list[str]] | None],
    done: dict[int, Kept],
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
        session.say(f"round {number}: {'; '.join(met)}")
    if is_over := rules.get(plan.active.stop, (False, ""))[0]:
        session.say(f"--stop {plan.active.stop} ends it before round {number}")
    return is_over


def _watched_by(plan: Plan, name: str, store: Store, session: Session) -> list[list[str]]:
    """The tags that a revision finds in the watched sentences."""
    model, tokenizer = revisions.load_revision(store.path(name))
    model.to(session.accelerator.device)
    with session.stop.at_once(lambda: None):
        encoded = encode_for(model, tokenizer, plan.corpus.select(plan.watched))
        how = {"bf16": plan.precision == "bf16", "accelerator": session.accelerator}
        rows = predict(model, encoded, np.arange(len(encoded)), **how)
    return decode(rows, model.config.word_tags)


def _bought(new: list[Query]) -> str:
    own = queries.sizes(new)
    number = own["sentences"]
    skipped = f" ({len(new) - number} skipped)" if number < len(new) else ""
    return f"{number} sentences{skipped}, {own['words']:,} words, {own['entities']:,} entities"


def _score(kept: Kept) -> str:
    if kept.validation is None:
        return "no validation"
    return f"validation F1 {100 * kept.validation:.2f}"


def stopping(
    watched: list[list[list[str]]], scores: list[float | None]
) -> dict[str, tuple[bool, str]]:
    """Of each rule whether it would end the run, and why: --stop.

    watched: tags that the models of successive rounds find in the same sentences; scores: their F1
    on validation.
    """
    kappas = [kappa(*pair) for pair in zip(watched, watched[1:], strict=False)][-PATIENCE:]
    mean = sum(kappas) / max(1, len(kappas))
    known = [score for score in scores if score is not None]
    best = max(known[:-PATIENCE], default=None)
    flat = best is not None and max(known[-PATIENCE:]) < best + RISING
    return {
        "kappa": (
            len(kappas) == PATIENCE and mean >= STABLE,
            f"predictions are stable (kappa {mean:.3f} between rounds)",
        ),
        "plateau": (flat, f"{PATIENCE} rounds have not brought {RISING} of validation F1"),
    }


def kappa(one: list[list[str]], two: list[list[str]]) -> float:
    """Cohen's kappa of two taggings of the same sentences, over words that either calls an entity.

    Bloodgood & Vijay-Shanker 2009; over all words, agreement on O would hide the rest.
    """
    pairs = [
        pair
        for a, b in zip(one, two, strict=True)
        for pair in zip(a, b, strict=True)
        if set(pair) != {"O"}
    ]
    if not pairs:
        return 1.0
    number = len(pairs)
    agreed = sum(a == b for a, b in pairs) / number
    first, second = (Counter(column) for column in zip(*pairs, strict=True))
    by_chance = sum(first[tag] * second[tag] for tag in first) / number**2
    return 1.0 if by_chance == 1 else (agreed - by_chance) / (1 - by_chance)


def kept_rounds(plan: Plan, arm: Arm, store: Store) -> dict[int, Kept]:
    """The rounds of an arm that are in the store; InputError where another run's are in the way."""
    found = {}
    for name in store.names():
        folder = store.folder / name
        about = records.read_run(folder).get("active")
        if about is None:
            continue
        if [about["strategy"], about["seed"]] != [arm.strategy, arm.seed]:
            if _is_name(name, arm):
                raise InputError(
                    f"{folder} is of another run (strategy {about['strategy']}, seed "
                    f"{about['seed']}); give another --repo"
                )
            continue
        was = about["plan"]
        if was.get("start") != plan.start:
            began = f"--start {was['start']}" if was.get("start") else "no --start"
            copy = f", with a copy of {plan.start} in it" if plan.start else ""
            raise InputError(f"{folder} is of a run with {began}; give another --repo{copy}")
        had, has = about.get("words_of"), _words_of(plan, arm)
        if had != has:
            raise InputError(
                f"{folder} bought as many words as {had or 'nobody else'}, and is to buy as many "
                f"as {has or 'nobody else'}; give the --strategy that it had, or another --repo"
            )
        changes = [
            "the corpus had other sentences"
            if key == "pool"
            else f"{key.replace('_', '-')} was {was.get(key)}, is {value}"
            for key, value in plan.description.items()
            if was.get(key) != value
        ]
        if changes:
            raise InputError(
                f"{folder} is of another run: {'; '.join(changes)}; give what it was, or another "
                f"--repo"
            )
        known = queries.read(folder / queries.FILE)
        found[about["round"]] = Kept(name, known, _validation(folder))
    return found


def _validation(folder: Path) -> float | None:
    """A revision's F1 on validation, where it was judged on it."""
    return records.read_metrics(folder).get("validation", {}).get("f1")


def _is_name(name: str, arm: Arm) -> bool:
    """Whether a round of the arm could have this name."""
    number, _, rest = name.removeprefix("active_iter_").partition("_added_")
    is_first = number == "0"
    return rest.lstrip("0123456789.") == arm.suffix and is_first == (arm.strategy is None)


def _on_main(session: Session, find: Callable[[], Any]) -> Any:
    """What the main process finds, for all: others may see files sooner or later than it."""
    return from_main(session.accelerator, find() if session.is_main else None)


def _folder(plan: Plan, arm: Arm, store: Store) -> Path:
    """Where the rounds of an arm keep what they ask, until they are done."""
    about = json.dumps([plan.description, arm])
    return store.run_folder(f"active{arm.suffix}-{hashlib.sha256(about.encode()).hexdigest()[:8]}")


@contextmanager
def _working(plan: Plan, arm: Arm, store: Store, session: Session) -> Iterator[Path | None]:
    """Where the main process keeps what rounds ask until they are done; None in other processes.

    It is locked against other runs.
    """
    if not session.is_main:
        yield None
        return
    folder = _folder(plan, arm, store)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f"{folder.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            f"another run is at these rounds in {store.folder}; wait for it, or give another --repo"
        ) from None
    try:
        yield folder
    finally:
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)
        for empty in (folder, folder.parent):
            with suppress(OSError):
                empty.rmdir()


def _forget(folder: Path | None) -> None:
    """Remove what rounds asked, which their revisions know now."""
    if folder:
        shutil.rmtree(folder)


def _kept_or_new(
    folder: Path | None, number: int, choose: Callable[[], Asked] | None, session: Session
) -> Asked | None:
    """What the round asks: what it asked when it was stopped, or what choose() gives, kept."""
    path = folder and _path(folder, number)
    text = _on_main(session, lambda: path.read_text("utf-8") if path.exists() else None)
    if text is not None:
        values = json.loads(text)
        found = queries.of_text(values["queries"], path or Path())
        return Asked(**values | {"queries": found})
    if choose is None:
        return None
    asked = choose()
    # What processes find may differ in the last digit, and what they buy must not.
    asked = Asked(*_on_main(session, lambda: list(asked)))
    if folder:
        _write(folder, number, asked)
    return asked


def _path(folder: Path, number: int) -> Path:
    return folder / f"round_{number}.json"


def _write(folder: Path, number: int, asked: Asked) -> None:
    values = asked._asdict() | {"queries": queries.to_text(asked.queries)}
    write_json(_path(folder, number), values)


# ------------------------------------------------------------ a round


def _budget(plan: Plan, arm: Arm, number: int, store: Store) -> Budget:
    """What a round may buy; random-words has what the first strategy had for its words."""
    if _words_of(plan, arm):
        first = next(arms[0] for _, arms in plan.arms() if arm in arms)
        kept = kept_rounds(plan, first, store).get(number)
        own = [q for q in kept.queries if q.round == number] if kept else []
        return Budget(queries.sizes(own)["words"], of_words=True)
    budget = plan.budget(number)
    if arm.strategy != "random-words" or budget.of_words:
        return budget
    words = sum(len(sentence.words) for sentence in plan.pool.sentences)
    return Budget(round(budget.number * words / len(plan.pool.sentences)), of_words=True)


def _words_of(plan: Plan, arm: Arm) -> str | None:
    """The strategy that an arm of random-words buys as many words as, where it is not alone."""
    first = (plan.active.strategy or ("default",))[0]
    return first if arm.strategy == "random-words" != first else None


def ask(
    plan: Plan,
    arm: Arm,
    number: int,
    model: NERSmall,
    tokenizer: PreTrainedTokenizerBase,
    before: list[Query],
    budget: Budget,
    session: Session,
) -> Asked:
    """Choose what the round asks, by what the model finds in the pool."""
    started, scoring = time.perf_counter(), 0.0
    model.to(session.accelerator.device)
    encoded = encode_for(model, tokenizer, plan.corpus)
    how = {"bf16": plan.precision == "bf16", "accelerator": session.accelerator}
    seed = int(np.random.SeedSequence([arm.seed, number]).generate_state(1)[0])
    free = plan.free(before)
    _say_if_short(number, free, budget, session)

    def found(places: list[int]) -> dict[int, np.ndarray]:
        nonlocal scoring
        since = time.perf_counter()
        places = sorted({*plan.watched, *places})
        rows = dict(zip(places, predict(model, encoded, np.array(places), **how), strict=True))
        scoring += time.perf_counter() - since
        return rows

    with session.stop.at_once(lambda: None):
        if arm.strategy in _AT_RANDOM or not free:
            chosen = [(place, None) for place in drawn(plan, free, budget, [seed, 10])]
            rows = found([place for place, _ in chosen])
        else:
            rows = found(free)
            thinned = None
            if arm.strategy == "bald":
                since = time.perf_counter()
                thinned = acquisition.thinned(model, encoded, np.array(free), seed=seed, **how)
                scoring += time.perf_counter() - since
            own = [rows[place] for place in free]
            candidates = _candidates(plan, model, free, own, before)
            order = _order(plan, arm.strategy, model, own, thinned, candidates, seed)
            pairs = acquisition.taken(acquisition.varied(order, candidates), candidates, budget)
            chosen = [(free[i], float(f"{score:.6g}")) for i, score in pairs]

    word_tags = model.config.word_tags
    asked = [_query(plan, number, arm.strategy, place, score) for place, score in chosen]
    if plan.active.oracle != "gold":
        proposed = decode([rows[place] for place, _ in chosen], word_tags)
        asked = [q._replace(proposed=tuple(p)) for q, p in zip(asked, proposed, strict=True)]
    watched = decode([rows[place] for place in plan.watched], word_tags)
    return Asked(asked, watched, time.perf_counter() - started, scoring)


def _say_if_short(number: int, free: list[int], budget: Budget, session: Session) -> None:
    """Say where fewer sentences are left than the round may buy."""
    if not budget.of_words and 0 < len(free) < budget.number:
        session.say(f"round {number}: only {len(free)} sentences are left, of {budget.number}")


def drawn(plan: Plan, free: list[int], budget: Budget, seed: list[int]) -> list[int]:
    """Places drawn at random from those that are free, as many as the budget pays for."""
    order = np.random.default_rng(seed).permutation(len(plan.pool.sentences))
    candidates = Candidates([sentence.words for sentence in plan.pool.sentences], (), ())
    is_free = set(free)
    lots = ((int(place), 0.0) for place in order if place in is_free)
    return [place for place, _ in acquisition.taken(lots, candidates, budget)]


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
) -> acquisition.Order:
    """Candidates in the order in which a strategy would buy them."""
    if strategy == "default":
        return acquisition.covering(rows, candidates, seed)
    if strategy == "label-error":
        scores = acquisition.label_error(rows, cheap_labels(plan, model, candidates))
    else:
        scores = acquisition.SCORES[strategy](thinned or rows)
    return acquisition.ranked(scores, seed)


def cheap_labels(plan: Plan, model: NERSmall, candidates: Candidates) -> list[np.ndarray | None]:
    """Columns of the cheap labels of candidates, as --repair form mends them; None without."""
    mended = labels.repaired(load_as_written(plan.data.corpus), ("form",))
    column = {tag: i for i, tag in enumerate(model.config.word_tags)}
    known = {s.words: np.array([column.get(tag, -1) for tag in s.tags]) for s in mended}
    return [known.get(words) for words in candidates.words]


def mentions(words: tuple[str, ...], labels: list[str]) -> frozenset[str]:
    """The entities of a sentence as text, small."""
    return frozenset(" ".join(words[e.start : e.end]).lower() for e in tags.entities(labels))


def _query(plan: Plan, number: int, strategy: str, place: int, score: float | None) -> Query:
    sentence = plan.pool.sentences[place]
    has_cheap = sentence.words in plan.pool.cheap
    return Query(number, strategy, score, sentence.origin, sentence.words, None, None, has_cheap)


def _answers(plan: Plan, number: int, asked: list[Query], session: Session) -> list[Query]:
    """The queries with the experts' answers; raises oracles.Waiting until people have answered."""
    if plan.active.oracle == "gold":
        known = {sentence.words: sentence.tags for sentence in plan.pool.sentences}
        return [query._replace(tags=known[query.words]) for query in asked]
    folder = Path(plan.active.oracle)

    def look() -> list[Query] | str:
        if not oracles.check_questions(asked, folder, number):
            oracles.questions(asked, folder, number)
        try:
            return oracles.answers(asked, folder, number, plan.pool.types, session.say)
        except oracles.Waiting as waiting:
            return str(waiting)

    found = _on_main(session, look)
    if isinstance(found, str):
        raise oracles.Waiting(found)
    return found


def _train(
    plan: Plan,
    arm: Arm,
    number: int,
    known: list[Query],
    last: Kept | None,
    store: Store,
    session: Session,
    asked: Asked,
) -> tuple[Kept, tuple[NERSmall, PreTrainedTokenizerBase]]:
    """Train on what is known, and keep it as the round's revision."""
    bought = plan.pool.bought(known)
    own = queries.sizes(known)
    number_known = own["sentences"]
    percent = f"{100 * number_known / plan.pool.total:.2f}".rstrip("0").rstrip(".")
    name = f"active_iter_{number}_added_{percent}{arm.suffix}"
    goes_on = plan.active.from_last and last is not None
    network = plan.network
    if goes_on:
        network = ModelConfig(start=last.name, dropout=network.dropout)
    config = replace(plan.config, seed=arm.seed)
    set_seed(config.seed)  # new weights are drawn from it
    say = plan.once(session)
    session.say(
        f"round {number}{f' of {arm.strategy}' if number else ''}, seed {arm.seed}: "
        f"{number_known} expert sentences"
    )
    start = runs.prepare(plan.data, network, config, store, plan.precision, say, bought)
    store.check_room(revisions.num_bytes(start.model))
    about = {
        "round": number,
        "strategy": arm.strategy,
        "seed": arm.seed,
        **own,
        "skipped": len(known) - number_known,
        "start": None if last is None else last.name,
        "words_of": _words_of(plan, arm),
        "asking": {"seconds": round(asked.seconds, 2), "scoring": round(asked.scoring, 2)},
        "plan": plan.description,
    }
    start.description["active"] = about
    beside = {queries.FILE: queries.to_text(known)}
    found = runs.train(start, name, store, plan.keep.of_round, session, plan.command, beside)
    if found is None:  # a kill came between the revision and the end of its round
        done = _on_main(session, lambda: kept_rounds(plan, arm, store))[number]
        return done, revisions.load_revision(store.path(name))
    validation = found["validation"].f1 if "validation" in found else None
    return Kept(name, known, validation), (start.model, start.tokenizer)
