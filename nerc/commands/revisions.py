"""List the revisions of a store, send them to the Hub, fetch them from it.

python -m nerc revisions list                     the revisions of ./models, with their scores
python -m nerc revisions list --repo USER/NAME    those on the Hub: a branch is a revision
python -m nerc revisions push --hub USER/NAME --revision main model_primary
python -m nerc revisions push --hub USER/NAME     all of ./models
python -m nerc revisions pull --hub USER/NAME     all of them, into ./models

Each of the three has its own --help.
"""

# A store is a folder, in which a revision is a folder with all that belongs to it; it is written to
# a temporary folder and renamed, so that there is never half of one. What takes seconds to import
# is imported where it is used, as in train.py.
import filecmp
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerc import hub, tables
from nerc.cli import option, run_action
from nerc.errors import InputError
from nerc.files import copy_files
from nerc.store import records
from nerc.store.revisions import REVISION_NAME, Store

PROGRAM = "python -m nerc revisions"


_HUB = "repository USER/NAME on the Hub, where a revision is a branch. Default: what --repo says"


@dataclass(frozen=True)
class ListConfig:
    """What is listed."""

    repo: str = option("models", "folder that holds the revisions, or USER/NAME on the Hub")
    hub: str | None = option(
        None, "repository USER/NAME on the Hub, also where there is a folder of that name here"
    )


@dataclass(frozen=True)
class PushConfig:
    """What is sent, and where."""

    repo: str = option("models", "folder that holds the revisions")
    hub: str | None = option(None, _HUB)
    revision: tuple[str, ...] = option((), "revisions to send. Default: all of them")
    overwrite: bool = option(False, "replace branches that hold something else")
    public: bool = option(
        False, "where the repository is not there yet, make one that everybody may read"
    )


@dataclass(frozen=True)
class PullConfig:
    """What is fetched, and where to."""

    repo: str = option("models", "folder to put the revisions in")
    hub: str | None = option(None, _HUB)
    revision: tuple[str, ...] = option((), "revisions to fetch. Default: all of them")
    overwrite: bool = option(False, "replace revisions of that name that hold something else")


# ------------------------------------------------------------ the command line


def main(argv: list[str]) -> None:
    run_action(argv, PROGRAM, __doc__, ACTIONS)


def show(config: ListConfig) -> None:
    """List revisions with their scores, from their files alone."""
    folder = Path(config.repo)
    if config.hub is None and (folder.is_dir() or not hub.is_name(config.repo)):
        folders = {name: folder / name for name in Store(config.repo).names()}
    else:
        repository = _repository(config.hub or config.repo)
        folders = {name: repository.fetch_records(name) for name in repository.names()}
        folders = {n: f for n, f in folders.items() if (f / "config.json").exists()}
    if not folders:
        raise InputError(f"{config.hub or f'--repo {config.repo}'}: holds no revision")
    rows = [["Revision", "Labels", "Corpus", "Started from", "Recipe", "Seed"]]
    rows[0] += ["Validation F1", "Validation Loss", "Test F1", "Test Loss"]
    damaged = []
    for name, place in folders.items():
        try:
            rows.append([name, *_cells(*records.read(place))])
        except InputError as error:
            rows.append([name, *["?"] * (len(rows[0]) - 1)])
            damaged.append(f"{name}: {error}")
    print(tables.markdown(rows), flush=True)
    if damaged:
        raise InputError("; ".join(damaged))


def _cells(run: dict[str, Any], metrics: dict[str, Any]) -> list[str]:
    config = run.get("config", {})
    labels = " ".join(str(v) for v in (config.get("data"), config.get("expert")) if v) or "-"
    places = [config.get("corpus"), config.get("start") or config.get("encoder")]
    places = [Path(p).name if p and Path(p).is_absolute() else p or "-" for p in places]
    cells = [labels, *places, str(config.get("recipe", "-")), str(config.get("seed", "-"))]
    for split in ("validation", "test"):
        report = metrics.get(split)
        cells += [f"{report[f]:.5f}" if report else "-" for f in ("f1", "loss")]
    return cells


def push(config: PushConfig) -> None:
    """Copy revisions from a folder to the Hub, each to the branch of its name."""
    store, repository = Store(config.repo), _repository(config.hub or config.repo)
    names = config.revision or store.names()
    if not names:
        raise InputError(f"--repo {config.repo}: holds no revision to send")
    folders = {name: store.local(name) for name in names}

    def send(name: str) -> str:
        return repository.push(
            folders[name], name, overwrite=config.overwrite, public=config.public
        )

    _each(names, send)


def pull(config: PullConfig) -> None:
    """Copy revisions from the Hub to a folder, each from the branch of its name."""
    store, repository = Store(config.repo), _repository(config.hub or config.repo)

    def take(name: str) -> str:
        there, here = repository.fetch(name), store.folder / name
        if not hub.is_whole(there) or not REVISION_NAME.fullmatch(name):
            what = "is no whole revision, or has an odd name"
            if config.revision:
                raise InputError(f"branch {name} of {repository.name} {what}")
            return f"this branch {what}; left out"
        if here.is_dir() and _same(there, here):
            return f"is in {store.folder} already"
        store.check_free(name, overwrite=config.overwrite)
        with store.write(name, overwrite=config.overwrite) as new:
            copy_files(there, new)
        return f"is in {here}, {repository.describe_source(name, there)}"

    _each(config.revision or repository.names(), take)


def _each(names: Iterable[str], act: Callable[[str], str]) -> None:
    """Do all that can be done, saying what was; then raise InputError with what could not."""
    failed = []
    for name in names:
        try:
            print(f"{name}: {act(name)}", flush=True)
        except InputError as error:
            failed.append(f"{name}: {error}")
    if failed:
        raise InputError("; ".join(failed))


def _repository(name: str) -> hub.Repository:
    if not hub.is_name(name):
        raise InputError(f"--hub {name}: is no name of a repository on the Hub, wanted USER/NAME")
    return hub.Repository(name)


def _same(one: Path, two: Path) -> bool:
    """Whether two folders hold the same files."""
    names = [{p.relative_to(f) for p in f.rglob("*") if p.is_file()} for f in (one, two)]
    return names[0] == names[1] and all(
        filecmp.cmp(one / name, two / name, shallow=False) for name in names[0]
    )


ACTIONS = {"list": (show, ListConfig), "push": (push, PushConfig), "pull": (pull, PullConfig)}
