"""The plan of an active-learning command: its settings, its pool of sentences, and its trials with
their files.

It needs no model, so that what cannot work is refused before the libraries load.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from filelock import Timeout

from nerc.active_learning.config import ActiveConfig, ActiveDataConfig, ActiveStoreConfig
from nerc.annotation import people
from nerc.annotation.llm import Labeller
from nerc.cli import Effect, flags_with
from nerc.config import EARLIER_VALUES, ModelConfig, TrainConfig
from nerc.data import pool as pools
from nerc.data.labels import num_drawn
from nerc.data.pool import Pool, Query
from nerc.data.sources import Sources, read_sources
from nerc.errors import InputError
from nerc.files import Wanted, read_json, write_json
from nerc.store import query_records, records
from nerc.store.revisions import Store, acquire
from nerc.store.transfer import SHORTENED

logger = logging.getLogger(__name__)

# Flags that rounds take from --start.
_FROM_START = ("encoder", "lstm_hidden_size", "word_shapes", "context", "dropout")
# Flags of earlier versions, with the only value that is still possible.
REMOVED_FLAGS = {"from_last": False}
# Flags that earlier versions lack, with what they did; descriptions leave them out as they were.
ADDED_FLAGS = EARLIER_VALUES | {"ask": "sentences"}
# Flags that runs of the same plan may differ in; of the two places, the content is described.
_CONFIGS = (ActiveConfig, ActiveDataConfig, ModelConfig, TrainConfig)
_VARIABLE_FLAGS = flags_with({Effect.NONE, Effect.SEED, Effect.EXTENT}, *_CONFIGS)
_VARIABLE_FLAGS |= {"corpus", "columns", "oracle"}
_PLACES = flags_with({Effect.PLACE}, *_CONFIGS)


class Trial(NamedTuple):
    """One run of a command: a strategy from one seed, or the round 0 that strategies share."""

    strategy: str | None  # None: round 0
    seed: int
    suffix: str  # of the names of its revisions
    words_of: str | None = None  # the strategy that random-words acquires as many words as


@dataclass(frozen=True)
class Plan:
    """What a command does; the same in every process."""

    active: ActiveConfig
    data: ActiveDataConfig
    network: ModelConfig  # of every round; with --start, that of its revision
    training: TrainConfig
    keep: ActiveStoreConfig
    start: str | None  # the revision that asks first
    pool: Pool
    sources: Sources  # what rounds read besides the acquired labels
    command: str
    labeller: Labeller | None = None  # asks a language model, before people or instead of them

    def trials(self) -> list[list[Trial]]:
        """For each seed, the trial of its round 0 and then those of all strategies."""
        strategies = self.active.strategy or ("default",)
        seeds = [int(seed) for seed in self.active.seeds] or [self.training.seed]
        groups = []
        for seed in seeds:
            of_seed = f"_seed{seed}" if len(seeds) > 1 else ""
            trials = [Trial(None, seed, of_seed)]
            for name in strategies:
                suffix = f"_{name}{of_seed}" if len(strategies) > 1 else of_seed
                words_of = strategies[0] if name == "random-words" != strategies[0] else None
                trials.append(Trial(name, seed, suffix, words_of))
            groups.append(trials)
        return groups

    @cached_property
    def description(self) -> dict[str, Any]:
        """What a run of this plan is recognised by, besides its strategy and seed."""
        configs = (self.data, self.network, self.training, self.active)
        flags = {name: value for config in configs for name, value in asdict(config).items()}
        flags |= {"start": self.start, "add": " ".join(self.active.add)}
        flags = {name: value for name, value in flags.items() if name not in _VARIABLE_FLAGS}
        flags["context"] = flags["context"] or "none"
        for name, before in ADDED_FLAGS.items():
            if flags[name] == before:
                del flags[name]
        who = ["llm"] * (self.labeller is not None) + ["people"] * self.active.people
        flags |= self.labeller.settings if self.labeller else {}
        flags["oracle"] = ", ".join(who) or "gold"
        return json.loads(json.dumps(flags | {"pool": self.pool.text.fingerprint()}))

    @cached_property
    def answer_folder(self) -> people.Folder:
        """Where people are asked."""
        active = self.active
        return people.Folder(
            Path(active.oracle),
            active.exchange or ("jsonl", "conll"),
            self.pool.types,
            active.annotators,
            active.disagreement == "majority",
        )

    def changes(self, earlier: Mapping[str, Any]) -> list[str]:
        """How the description of an earlier run differs from this one, in words."""
        # Records of earlier versions lack the precision, and may have removed flags.
        fixed = REMOVED_FLAGS | ADDED_FLAGS
        earlier = fixed | {"precision": self.training.precision} | earlier
        return [
            "the corpus had other sentences"
            if name == "pool"
            else f"{name.replace('_', '-')} was {earlier.get(name)}, is {value}"
            for name, value in (fixed | self.description).items()
            if _without_folder(name, earlier.get(name)) != _without_folder(name, value)
        ]

    def identity(self, trial: Trial) -> str:
        """Text that differs between trials of different plans."""
        return json.dumps([self.description, trial])

    def earlier_identity(self, trial: Trial) -> str:
        """The identity that versions with the flag --from-last gave the trial."""
        flags = {name: value for name, value in self.description.items() if name != "precision"}
        last = {name: flags.pop(name) for name in ("oracle", "pool")}
        return json.dumps([flags | REMOVED_FLAGS | last, trial[:3]])


def make_plan(
    active: ActiveConfig,
    data: ActiveDataConfig,
    network: ModelConfig,
    training: TrainConfig,
    keep: ActiveStoreConfig,
    store: Store,
    command: str,
) -> Plan:
    """Check the flags against one another and read the corpus."""
    if active.seeds and training.seed:
        raise InputError("--seed must be left out with --seeds")
    start = network.start
    if start is not None:
        network = _network_of_start(start, data, network, store)
    is_mixed = data.data == "mixed"
    about = {"types": active.types, "columns": data.columns}
    pool = pools.open_pool(data.corpus, active.oracle, with_weak=is_mixed, **about)
    if data.expert is not None:
        num_drawn(len(pool.text), data.expert, "sentences")  # raises where there are fewer
    if set(active.exchange) & set(people.SETTINGS) and not pool.types:
        raise InputError(
            f"--exchange {' '.join(active.exchange)}: needs the types that may be used, and no "
            f"label of the corpus has one; give --types"
        )
    sources = read_sources(data.resolved(training.recipe), training.keep, with_train=False)
    return Plan(active, data, network, training, keep, start, pool, sources, command)


def _without_folder(flag: str, value: Any) -> Any:
    """The value of a flag; of a place, which may be in another folder elsewhere, its name alone."""
    return Path(value).name if flag in _PLACES and value else value


def _network_of_start(
    start: str, data: ActiveDataConfig, network: ModelConfig, store: Store
) -> ModelConfig:
    """The network that the revision of --start began with."""
    if data.expert is not None:
        raise InputError("--expert must be left out with --start, whose experts are known")
    if network.tokenizer is not None:
        raise InputError("--tokenizer must be left out: rounds use the encoder's")
    settings = records.read_run(store.path(start)).get("config", {})
    if not settings.get("encoder"):
        raise InputError(
            f"--start {start}: no run.json names the encoder that it began with, wanted a "
            f"revision that train.py or active_learn.py trained from an encoder"
        )
    for place in ("encoder", "corpus"):
        if str(settings.get(place)).startswith(SHORTENED):
            raise InputError(
                f"--start {start}: its run.json came from the Hub and has only the end of a path, "
                f"{place} {settings[place]}; write the whole path there"
            )
    given = {} if network.dropout is None else {"dropout": network.dropout}
    settings = EARLIER_VALUES | settings
    return ModelConfig(**{name: settings[name] for name in _FROM_START} | given)


# ------------------------------------------------------------ the files of a trial


class RoundQuery(NamedTuple):
    """What a round asks experts for."""

    number: int  # of the round
    queries: list[Query]
    seconds: float = 0.0  # that choosing them took
    scoring: float = 0.0  # of these, the model's
    skipped: bool = False  # whether all of them were skipped
    by_model: bool = False  # whether a language model was asked; those without tags are people's

    @property
    def unanswered(self) -> list[Query]:
        """What is left for people."""
        return [query for query in self.queries if query.tags is None]


_SECONDS = Wanted("0 or more", lambda seconds: seconds >= 0, float)
_ROUND = {"queries": str, "seconds?": _SECONDS, "scoring?": _SECONDS}
_ROUND |= {"skipped?": bool, "by_model?": bool}


class CompletedRound(NamedTuple):
    """A round with its revision, or the revision of --start."""

    name: str
    queries: list[Query]  # of all rounds so far
    validation: float | None  # F1
    precision: str | None = None  # that it was computed in


class TrialState:
    """Reads and writes the files of a trial; only the main process uses it to write."""

    def __init__(self, plan: Plan, trial: Trial, store: Store) -> None:
        self.plan, self.trial, self.store = plan, trial, store
        for identity in (plan.earlier_identity(trial), plan.identity(trial)):
            digest = hashlib.sha256(identity.encode()).hexdigest()[:8]
            self.folder = store.run_folder(f"active{trial.suffix}-{digest}")
            if self.folder.exists():
                break

    # ------------------------------------------------------------ unfinished rounds

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other runs away from the trial's unfinished rounds."""
        self.store.keep_fetched()
        path = self.folder.with_name(f"{self.folder.name}.lock")
        try:
            lock = acquire(path)
            self.folder.mkdir(exist_ok=True)
        except Timeout:
            raise InputError(
                f"another run is working on these rounds in {self.store.folder}; wait for it, or "
                f"give another --repo"
            ) from None
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            lock.release()
            for empty in (self.folder, self.folder.parent):
                with suppress(OSError):
                    empty.rmdir()

    def read_query(self, number: int) -> RoundQuery | None:
        """What an unfinished round asked; None where it did not yet ask."""
        path = self.folder / f"round_{number}.json"
        if not path.exists():
            return None
        values = read_json(path, _ROUND)
        written = values.pop("sha256", None)  # earlier versions wrote none
        if written not in (None, _digest(values)):
            raise InputError(
                f"{path}: is not as active_learn.py wrote it (another SHA-256); move it away, and "
                f"the round asks anew"
            )
        queries = query_records.from_text(values["queries"], path)
        known = {sentence.words for sentence in self.plan.pool.sentences}
        asked = [query.words for query in queries]
        if not known.issuperset(asked) or len(set(asked)) < len(asked):
            raise InputError(f"{path}: queries asks for a sentence that the corpus lacks, or twice")
        if any(query.round != number for query in queries):
            raise InputError(f"{path}: queries is of another round than {number}")
        others = {name: values.get(name) for name in RoundQuery._field_defaults}
        others = {name: value for name, value in others.items() if value is not None}
        return RoundQuery(number, queries, **others)

    def write_query(self, query: RoundQuery) -> None:
        values = query._asdict() | {"queries": query_records.to_text(query.queries)}
        del values["number"]
        values["sha256"] = _digest(values)
        write_json(self.folder / f"round_{query.number}.json", values)

    # ------------------------------------------------------------ revisions

    def completed(self) -> dict[int, CompletedRound]:
        """The trial's rounds in the store; InputError where another run's are in the way."""
        rounds = {}
        for name in self.store.names():
            folder = self.store.folder / name
            try:
                about = records.read_run(folder).get("active")
            except InputError:
                if name.startswith("active_iter_"):
                    raise
                continue  # it is no round, whatever is wrong with it
            if about is None:
                continue
            if (about["strategy"], about["seed"]) == (self.trial.strategy, self.trial.seed):
                self._check_same_plan(folder, about)
                rounds[about["round"]] = read_round(folder)
                continue
            # Whether a round of the trial could have this name.
            number, _, rest = name.removeprefix("active_iter_").partition("_added_")
            has_suffix = rest.lstrip("0123456789.") == self.trial.suffix
            if has_suffix and (number == "0") == (self.trial.strategy is None):
                raise InputError(
                    f"{folder} is of another run (strategy {about['strategy']}, seed "
                    f"{about['seed']}); give another --repo"
                )
        return rounds

    def _check_same_plan(self, folder: Path, about: dict[str, Any]) -> None:
        """Raise InputError unless the revision in folder was made by the same plan."""
        start, earlier = self.plan.start, about["plan"].get("start")
        if earlier != start:
            began = f"--start {earlier}" if earlier else "no --start"
            copy = f", with a copy of {start} in it" if start else ""
            raise InputError(f"{folder} is of a run with {began}; give another --repo{copy}")
        words_of = about.get("words_of")
        if words_of != self.trial.words_of:
            raise InputError(
                f"{folder} acquired as many words as {words_of or 'no other strategy'}, and now "
                f"would acquire as many as {self.trial.words_of or 'no other strategy'}; give the "
                f"--strategy that it had, or another --repo"
            )
        if changes := self.plan.changes(about["plan"]):
            raise InputError(
                f"{folder} is of another run: {'; '.join(changes)}; give what it was, or another "
                f"--repo"
            )

    def revision_name(self, number: int, num_labelled: int) -> str:
        """active_iter_ROUND_added_PERCENT: the percent of the sentences that experts labelled."""
        percent = f"{100 * num_labelled / len(self.plan.pool.text):.2f}".rstrip("0").rstrip(".")
        return f"active_iter_{number}_added_{percent}{self.trial.suffix}"


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def read_round(folder: Path) -> CompletedRound:
    """The round whose revision is in folder."""
    validation = records.read_metrics(folder).get("validation", {}).get("f1")
    precision = records.read_run(folder).get("precision")
    return CompletedRound(folder.name, query_records.read(folder), validation, precision)


def skipped_rounds(completed: dict[int, CompletedRound]) -> set[int]:
    """Rounds that people skipped as a whole, by what the rounds after them know."""
    queries = [query for done in completed.values() for query in done.queries]
    return {q.round for q in queries} - {q.round for q in pools.answered(queries)}


def check_store(plan: Plan, store: Store) -> None:
    """Raise InputError where rounds of the plan, or of another, are in the store already."""
    states = [TrialState(plan, trial, store) for trial in chain(*plan.trials())]
    folders = {state.folder for state in states}
    for state in states:
        completed, folder = state.completed(), state.folder
        existing = [store.folder / completed[number].name for number in sorted(completed)]
        existing += [folder] if folder.exists() else []
        if existing and not (plan.keep.resume or plan.keep.check):
            raise InputError(
                f"{existing[0]} is there already; give --resume to continue it, or another --repo"
            )
        for other in folder.parent.glob(folder.name.rpartition("-")[0] + "-????????"):
            if other not in folders:
                raise InputError(
                    f"an unfinished run with other flags is in {other}; finish it first, with its "
                    f"flags and --resume, or give another --repo"
                )


def check_answers(plan: Plan, store: Store) -> None:
    """Check the answers to the round that waits for them; InputError where they have faults."""
    for trial in chain(*plan.trials()):
        state = TrialState(plan, trial, store)
        completed = state.completed()
        for number in range(plan.active.rounds + 1):
            waiting = None if number in completed else state.read_query(number)
            is_asked = waiting and not waiting.skipped and (waiting.by_model or not plan.labeller)
            if is_asked and waiting.unanswered:
                plan.answer_folder.check(waiting.unanswered, number)
                return
    logger.info("no round waits for answers; the same command without --check goes on")
