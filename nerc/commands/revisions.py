__doc__ = """\
List the revisions of a store, send them to the Hub, fetch them from it.

python -m nerc revisions list                    the revisions of ./models, with their scores
python -m nerc revisions list --hub USER/NAME    those on the Hub, where a branch is a revision
python -m nerc revisions push --hub USER/NAME --revision main model_primary
python -m nerc revisions push --hub USER/NAME    all revisions of ./models
python -m nerc revisions pull --hub USER/NAME    all revisions on the Hub, into ./models

Each of the three has its own --help.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerc import hub, tables
from nerc.cli import option, parse, start_logging
from nerc.config import REPO_HELP
from nerc.errors import InputError, fail, one_line_errors, visible
from nerc.store import records, transfer
from nerc.store.revisions import REVISION_NAME, Store

PROGRAM = "python -m nerc revisions"
_HUB = "repository USER/NAME on the Hub, where a revision is a branch. Default: that of --repo"
_COLUMNS = ["Revision", "Labels", "Corpus", "Started from", "Recipe", "Seed"]
_COLUMNS += ["Validation F1", "Validation Loss", "Test F1", "Test Loss"]
_RECORDS = ["config.json", "run.json", "metrics.json"]


@dataclass(frozen=True)
class ListConfig:
    __doc__ = "What is listed."

    repo: str = option("models", REPO_HELP)
    hub: str | None = option(
        None, "repository USER/NAME on the Hub, even where there is a folder of that name here"
    )


@dataclass(frozen=True)
class PullConfig:
    __doc__ = "What is fetched, and where to."

    repo: str = option("models", "folder of the revisions")
    hub: str | None = option(None, _HUB)
    revision: tuple[str, ...] = option((), "names of revisions. Default: all of them")
    overwrite: bool = option(False, "replace revisions of the same name that hold something else")


@dataclass(frozen=True)
class PushConfig(PullConfig):
    __doc__ = "What is sent, and where."

    public: bool = option(
        False, "if there is no such repository yet, create one that everybody may read"
    )


# ------------------------------------------------------------ the command line


def main(argv: list[str]) -> None:
    if not argv or argv[0] not in ACTIONS:
        parse([a for a in argv if a in ("-h", "--help")], PROGRAM, __doc__)
        fail(PROGRAM, f"wanted {', '.join(ACTIONS)}, and its flags; see {PROGRAM} --help")
    act, config_class, description = ACTIONS[argv[0]]
    program = f"{PROGRAM} {argv[0]}"
    (config,) = parse(argv[1:], program, description, config_class)
    start_logging()
    with one_line_errors(program):
        act(config)


def show(config: ListConfig) -> None:
    folder, failures = Path(config.repo), []
    if config.hub is None and (folder.is_dir() or not hub.is_name(config.repo)):
        folders = {name: folder / name for name in Store(config.repo).names()}
    else:
        repository, folders = _repository(config.hub or config.repo), {}
        for name in repository.names():
            try:
                branch = repository.fetch(name, _RECORDS)
            except InputError as error:
                failures.append(f"{name}: {error}")
                continue
            if (branch / "config.json").exists():
                folders[name] = branch
    if not folders and not failures:
        raise InputError(f"{config.hub or f'--repo {config.repo}'}: holds no revision")
    rows = [_COLUMNS]
    for name, place in folders.items():
        try:
            rows.append([name, *_cells(*records.read(place))])
        except InputError as error:
            rows.append([name, *["?"] * (len(_COLUMNS) - 1)])
            failures.append(f"{name}: {error}")
    if folders:
        print(tables.markdown(rows), flush=True)
    if failures:
        raise InputError("; ".join(failures))


def _cells(run: dict[str, Any], metrics: dict[str, Any]) -> list[str]:
    config = run.get("config", {})
    labels = " ".join(str(v) for v in (config.get("data"), config.get("expert")) if v) or "-"
    sources = [config.get("corpus"), config.get("start") or config.get("encoder")]
    sources = ["-" if not s else Path(s).name if _is_place(s) else s for s in sources]
    cells = [labels, *sources, str(config.get("recipe", "-")), str(config.get("seed", "-"))]
    for split in ("validation", "test"):
        report = metrics.get(split)
        cells += [f"{report[f]:.5f}" if report else "-" for f in ("f1", "loss")]
    return cells


def _is_place(source: str) -> bool:
    return Path(source).is_absolute() or source.startswith(transfer.SHORTENED)


def push(config: PushConfig) -> None:
    store, repository = Store(config.repo), _repository(config.hub or config.repo)
    names = config.revision or store.names()
    if not names:
        raise InputError(f"--repo {config.repo}: holds no revision to send")

    def send(name: str) -> str:
        files = transfer.files_to_send(store.local(name))
        return repository.push(files, name, overwrite=config.overwrite, public=config.public)

    _each(names, send)


def pull(config: PullConfig) -> None:
    store, repository = Store(config.repo), _repository(config.hub or config.repo)

    def fetch(name: str) -> str:
        cached = repository.fetch(name) if REVISION_NAME.fullmatch(name) else None
        if cached is None or not transfer.is_whole(cached):
            fault = "is not a whole revision, or its name cannot be that of a revision"
            if config.revision:
                raise InputError(f"branch {name} of {repository.name} {fault}")
            return f"this branch {fault}; left out"
        here = store.folder / name
        if here.is_dir() and transfer.is_same(cached, here):
            return f"is in {store.folder} already"
        store.check_free(name, overwrite=config.overwrite)
        with store.new_revision(name, overwrite=config.overwrite) as new:
            transfer.take(cached, new)
        return f"is in {here}, {repository.describe_source(name, cached)}"

    _each(config.revision or repository.names(), fetch)


def _each(names: Iterable[str], act: Callable[[str], str]) -> None:
    """Act on every name and print the outcome; InputError at the end lists the failures."""
    failures = []
    for name in names:
        try:
            print(visible(f"{name}: {act(name)}"), flush=True)
        except InputError as error:
            failures.append(f"{name}: {error}")
    if failures:
        raise InputError("; ".join(failures))


def _repository(name: str) -> hub.Repository:
    if not hub.is_name(name):
        raise InputError(f"--hub {name}: is not a repository's name on the Hub, wanted USER/NAME")
    return hub.Repository(name)


ACTIONS = {
    "list": (show, ListConfig, "List revisions with their scores, read from their records."),
    "push": (push, PushConfig, "Send revisions of a folder to the Hub, each to its branch."),
    "pull": (pull, PullConfig, "Fetch revisions from the Hub to a folder, each from its branch."),
}
