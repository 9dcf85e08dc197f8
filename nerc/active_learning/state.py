"""Keeps what rounds have asked and which rounds are complete."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from nerc.active_learning.plan import Plan, Trial
from nerc.active_learning.query import RoundQuery
from nerc.data.pool import QUERIES_FILE, Query, queries_from_text, queries_to_text, read_queries
from nerc.distributed import Session, from_main
from nerc.errors import InputError
from nerc.files import write_json
from nerc.store import records
from nerc.store.revisions import Store


class CompletedRound(NamedTuple):
    """A round that is done, or the start."""

    name: str
    queries: list[Query]  # all so far
    validation: float | None  # F1


# ------------------------------------------------------------ the rounds of an arm


def check_new(plan: Plan, store: Store) -> None:
    """Raise InputError where rounds of the plan, or of another, are in the store already."""
    groups = [(before, *arms) for before, arms in plan.arms()]
    all_own = {trial_folder(plan, arm, store) for group in groups for arm in group}
    for group in groups:
        for arm in group:
            found = kept_rounds(plan, arm, store)
            if found and not plan.keep.resume:
                name = found[min(found)].name
                raise InputError(
                    f"{store.folder / name} is there already; give --resume to go on after it, or "
                    f"another --repo"
                )
            own = trial_folder(plan, arm, store)
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


def kept_rounds(plan: Plan, arm: Trial, store: Store) -> dict[int, CompletedRound]:
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
        had, has = about.get("words_of"), words_of(plan, arm)
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
        known = read_queries(folder / QUERIES_FILE)
        found[about["round"]] = CompletedRound(name, known, validation_f1(folder))
    return found


def validation_f1(folder: Path) -> float | None:
    """A revision's F1 on validation, where it was judged on it."""
    return records.read_metrics(folder).get("validation", {}).get("f1")


def _is_name(name: str, arm: Trial) -> bool:
    """Whether a round of the arm could have this name."""
    number, _, rest = name.removeprefix("active_iter_").partition("_added_")
    is_first = number == "0"
    return rest.lstrip("0123456789.") == arm.suffix and is_first == (arm.strategy is None)


def on_main(session: Session, find: Callable[[], Any]) -> Any:
    """What the main process finds, for all: others may see files sooner or later than it."""
    return from_main(session.accelerator, find() if session.is_main else None)


def trial_folder(plan: Plan, arm: Trial, store: Store) -> Path:
    """Where the rounds of an arm keep what they ask, until they are done."""
    about = json.dumps([plan.description, arm])
    return store.run_folder(f"active{arm.suffix}-{hashlib.sha256(about.encode()).hexdigest()[:8]}")


@contextmanager
def working(plan: Plan, arm: Trial, store: Store, session: Session) -> Iterator[Path | None]:
    """Where the main process keeps what rounds ask until they are done; None in other processes.

    It is locked against other runs.
    """
    if not session.is_main:
        yield None
        return
    folder = trial_folder(plan, arm, store)
    store.keep_fetched()
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


def forget(folder: Path | None) -> None:
    """Remove what rounds asked, which their revisions know now."""
    if folder:
        shutil.rmtree(folder)


def kept_or_new(
    folder: Path | None, number: int, choose: Callable[[], RoundQuery] | None, session: Session
) -> RoundQuery | None:
    """What the round asks: what it asked when it was stopped, or what choose() gives, kept."""
    path = folder and _path(folder, number)
    text = on_main(session, lambda: path.read_text("utf-8") if path.exists() else None)
    if text is not None:
        values = json.loads(text)
        found = queries_from_text(values["queries"], path or Path())
        return RoundQuery(**values | {"queries": found})
    if choose is None:
        return None
    asked = choose()
    # What processes find may differ in the last digit, and what they buy must not.
    asked = RoundQuery(*on_main(session, lambda: list(asked)))
    if folder:
        write_query(folder, number, asked)
    return asked


def _path(folder: Path, number: int) -> Path:
    return folder / f"round_{number}.json"


def write_query(folder: Path, number: int, asked: RoundQuery) -> None:
    values = asked._asdict() | {"queries": queries_to_text(asked.queries)}
    write_json(_path(folder, number), values)


def words_of(plan: Plan, arm: Trial) -> str | None:
    """The strategy that an arm of random-words buys as many words as, where it is not alone."""
    first = (plan.active.strategy or ("default",))[0]
    return first if arm.strategy == "random-words" != first else None
