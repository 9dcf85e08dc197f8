"""The files of a trial: what its unfinished rounds asked, their lock, and its revisions."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from nerc.active_learning.plan import Plan, Trial
from nerc.data.pool import (
    QUERIES_FILE,
    Query,
    answered,
    queries_from_text,
    queries_to_text,
    read_queries,
)
from nerc.errors import InputError
from nerc.files import write_json
from nerc.store import records
from nerc.store.revisions import Store


class RoundQuery(NamedTuple):
    """What a round asks experts for."""

    number: int  # of the round
    queries: list[Query]
    seconds: float = 0.0  # that choosing them took
    scoring: float = 0.0  # of these, the model's
    skipped: bool = False  # whether people skipped all of them


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
        self.folder = self._folder(plan.identity(trial))
        earlier = self._folder(plan.earlier_identity(trial))
        if earlier.exists():
            self.folder = earlier

    def _folder(self, identity: str) -> Path:
        digest = hashlib.sha256(identity.encode()).hexdigest()[:8]
        return self.store.run_folder(f"active{self.trial.suffix}-{digest}")

    # ------------------------------------------------------------ unfinished rounds

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other runs away from the trial's unfinished rounds."""
        self.store.keep_fetched()
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder.with_name(f"{self.folder.name}.lock"), timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise InputError(
                f"another run is working on these rounds in {self.store.folder}; wait for it, or "
                f"give another --repo"
            ) from None
        try:
            yield
        finally:
            lock.release()
            Path(lock.lock_file).unlink(missing_ok=True)
            for empty in (self.folder, self.folder.parent):
                with suppress(OSError):
                    empty.rmdir()

    def read_query(self, number: int) -> RoundQuery | None:
        """What an unfinished round asked; None where it did not yet ask."""
        path = self._path(number)
        if not path.exists():
            return None
        values = json.loads(path.read_text("utf-8"))
        values.pop("watched", None)  # of versions with --stop kappa
        values["queries"] = queries_from_text(values["queries"], path)
        return RoundQuery(number, **values)

    def write_query(self, query: RoundQuery) -> None:
        values = query._asdict() | {"queries": queries_to_text(query.queries)}
        del values["number"]
        write_json(self._path(query.number), values)

    def _path(self, number: int) -> Path:
        return self.folder / f"round_{number}.json"

    # ------------------------------------------------------------ revisions

    def completed(self) -> dict[int, CompletedRound]:
        """The trial's rounds in the store; InputError where another run's are in the way."""
        rounds = {}
        for name in self.store.names():
            folder = self.store.folder / name
            run = records.read_run(folder)
            about = run.get("active")
            if about is None:
                continue
            if (about["strategy"], about["seed"]) == (self.trial.strategy, self.trial.seed):
                self._check_same_plan(folder, about)
                rounds[about["round"]] = read_round(folder)
            elif self._could_be_named(name):
                raise InputError(
                    f"{folder} is of another run (strategy {about['strategy']}, seed "
                    f"{about['seed']}); give another --repo"
                )
        return rounds

    def _could_be_named(self, name: str) -> bool:
        """Whether a round of the trial could have this name."""
        number, _, rest = name.removeprefix("active_iter_").partition("_added_")
        has_suffix = rest.lstrip("0123456789.") == self.trial.suffix
        return has_suffix and (number == "0") == (self.trial.strategy is None)

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
        percent = f"{100 * num_labelled / self.plan.pool.total:.2f}".rstrip("0").rstrip(".")
        return f"active_iter_{number}_added_{percent}{self.trial.suffix}"


def read_round(folder: Path) -> CompletedRound:
    """The round whose revision is in folder."""
    validation = records.read_metrics(folder).get("validation", {}).get("f1")
    queries = read_queries(folder / QUERIES_FILE)
    run = records.read_run(folder)
    return CompletedRound(folder.name, queries, validation, run.get("precision"))


def skipped_rounds(completed: dict[int, CompletedRound]) -> set[int]:
    """Rounds that people skipped as a whole, by what the rounds after them know."""
    queries = [query for done in completed.values() for query in done.queries]
    return {q.round for q in queries} - {q.round for q in answered(queries)}


def check_store(plan: Plan, store: Store) -> None:
    """Raise InputError where rounds of the plan, or of another, are in the store already."""
    states = [TrialState(plan, trial, store) for trial in chain(*plan.trials())]
    folders = {state.folder for state in states}
    for state in states:
        completed, folder = state.completed(), state.folder
        existing = [store.folder / completed[number].name for number in sorted(completed)]
        existing += [folder] if folder.exists() else []
        if existing and not plan.keep.resume:
            raise InputError(
                f"{existing[0]} is there already; give --resume to continue it, or another --repo"
            )
        for other in folder.parent.glob(folder.name.rpartition("-")[0] + "-????????"):
            if other not in folders:
                raise InputError(
                    f"an unfinished run with other flags is in {other}; finish it first, with its "
                    f"flags and --resume, or give another --repo"
                )
