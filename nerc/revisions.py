"""The store of revisions: what it holds, and copies of it on the Hub.

python -m nerc.revisions list                     the revisions of ./models, with their scores
python -m nerc.revisions list --repo USER/NAME    those on the Hub: a branch is a revision
python -m nerc.revisions push --hub USER/NAME --revision main model_primary
python -m nerc.revisions push --hub USER/NAME     all of ./models
python -m nerc.revisions pull --hub USER/NAME     all of them, into ./models

Each of them has a --help of its own.
"""

# A store is a folder, in which a revision is a folder with all that belongs to it; it is written to
# a temporary folder and renamed, so that there is never half of one. What takes seconds to import
# is imported where it is used, as in train.py.
import filecmp
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from nerc import hub, records, reports
from nerc.config import (
    DataConfig,
    InputError,
    Interrupted,
    ListConfig,
    PullConfig,
    PushConfig,
    is_disk_full,
    parse_amount,
    run_action,
)
from nerc.files import copy_files, make_readable, system_errors, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from nerc.metrics import Report
    from nerc.model import NERSmall

PROGRAM = "python -m nerc.revisions"
_UNFINISHED = ".checkpoints"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")  # of a folder and of a branch


def default_name(config: DataConfig) -> str:
    """The revision's name where --revision gives none."""
    base = {"llm": "main", "gold": "model_primary", "mixed": "model_mixed"}[config.data]
    if config.expert_amount is None:
        return base
    amount = config.expert_amount
    is_share = isinstance(parse_amount(amount, flag="expert"), float)
    return f"{base}_{amount[:-1]}" if is_share else f"{base}_{amount}_sentences"


class Store:
    """The revisions in one folder; the folder appears with the first of them.

    A folder that is called USER/NAME is the working copy of the repository of that name on the Hub:
    what is in it is read from it, and what is not, from the Hub; see path() and push().
    """

    def __init__(self, repo: str) -> None:
        self.folder = Path(repo)
        self.hub = hub.Repository(repo) if hub.is_name(repo) else None
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"--repo {repo}: is a file, wanted a folder of revisions")

    def names(self) -> list[str]:
        """The revisions there are, in alphabetical order."""
        if not self.folder.exists():
            return []
        return sorted(
            entry.name
            for entry in self.folder.iterdir()
            if not entry.name.startswith(".") and (entry / "config.json").exists()
        )

    def check_free(self, name: str, *, overwrite: bool) -> None:
        """Raise InputError where no revision of this name may be written."""
        _check_name(name)
        place = self.folder / name
        if not os.path.lexists(place):
            return
        if not overwrite:
            raise InputError(
                f"revision {name} is in {self.folder} already; give --overwrite to replace it, or "
                f"another --revision"
            )
        if place.is_symlink() or not (place / "config.json").is_file():
            raise InputError(
                f"{place} is no revision, and --overwrite replaces nothing else; move it away, or "
                f"give another --revision"
            )

    def check_room(self, num_bytes: int) -> None:
        """Raise InputError where the disk has less than num_bytes left."""
        place = self.folder
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
        if free < num_bytes:
            raise InputError(
                f"--repo {self.folder}: no room on the disk, {free / 2**20:.0f} MiB are free and "
                f"the run takes {num_bytes / 2**20:.0f} MiB; make room or give another --repo"
            )

    def path(self, name: str, say: Callable[[str], Any] = lambda _: None) -> Path:
        """The revision's folder, here or in the Hub's cache (said); InputError where it is not."""
        if self.hub is None or (self.folder / name / "config.json").exists():
            return self.local(name)
        _check_name(name)
        try:
            found = self.hub.fetch(name)
        except InputError as error:
            raise InputError(f"no revision {name} in a folder {self.folder}; {error}") from None
        say(f"{name}: {self.hub.origin(name, found)}")
        return found

    def local(self, name: str) -> Path:
        """The revision's folder here; InputError, with those there are, where it is not."""
        _check_name(name)
        folder = self.folder / name
        if not (folder / "config.json").exists():
            there = ", ".join(self.names()) or "none"
            script = f"train.py {self._flags_for(name)}"
            if name.startswith("active_iter_"):
                script = f"active_learn.py --repo {self.folder}"
            raise InputError(
                f"no revision {name} in {self.folder} (there: {there}); make it with: accelerate "
                f"launch {script}"
            )
        return folder

    def push(self, name: str, *, overwrite: bool, stretch: AbstractContextManager) -> str:
        """Send a revision of this folder to the Hub's repository of its name; what was done.

        stretch: a context in which a signal may break it off.
        """
        assert self.hub is not None, "checked by check_push"
        again = (
            f"it is kept in {self.folder / name}, and sent by: {PROGRAM} push --repo "
            f"{self.folder} --revision {name}{' --overwrite' if overwrite else ''}"
        )
        try:
            with stretch:
                return self.hub.push(self.folder / name, name, overwrite=overwrite)
        except InputError as error:
            raise InputError(f"{error}; {again}") from None
        except Interrupted as interrupted:
            interrupted.advice = again
            raise

    def check_push(self, name: str, *, overwrite: bool) -> None:
        """Raise InputError where push() would be refused."""
        if self.hub is None:
            raise InputError(
                f"--push: --repo {self.folder} is a folder, wanted the name USER/NAME of a "
                f"repository on the Hub, which names the folder, too"
            )
        self.hub.check_push(name, overwrite=overwrite)

    def _flags_for(self, name: str) -> str:
        mixed = re.fullmatch(r"model_mixed_([0-9.]+)(_sentences)?", name)
        flags = {"main": "--data llm", "model_primary": "--data gold"}.get(name)
        if mixed:
            flags = f"--data mixed --expert {mixed[1]}{'' if mixed[2] else '%'}"
        flags = flags or f"--revision {name}"
        return flags if self.folder == Path("models") else f"{flags} --repo {self.folder}"

    def run_folder(self, name: str) -> Path:
        """Where an unfinished run keeps what it needs to go on."""
        return self.folder / _UNFINISHED / name

    @contextmanager
    def working(self, name: str) -> Iterator[Path]:
        """The run_folder, locked against other runs; it stays while it holds a checkpoint."""
        folder = self.run_folder(name)
        was_there = self.folder.exists()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / "lock", timeout=0)
            lock.acquire()
        except Timeout:
            raise InputError(
                f"another run is writing revision {name} in {self.folder}; wait for it, or give "
                f"another --revision"
            ) from None
        except OSError as error:
            if is_disk_full(error):
                raise
            raise InputError(f"--repo {self.folder}: cannot be written: {error}") from None
        try:
            _undo(folder / "revision", self.folder / name)
            yield folder
        finally:
            if not any(folder.glob("update_*")):
                for each in folder.iterdir():
                    shutil.rmtree(each) if each.is_dir() else each.unlink()
            lock.release()  # until then NFS keeps a file that is open, and its folder
            places = [folder.parent] if was_there else [folder.parent, self.folder]
            for empty in [folder, *places]:
                with suppress(OSError):  # another run may be using it
                    empty.rmdir()

    @contextmanager
    def publishing(self, folder: Path, name: str, *, overwrite: bool) -> Iterator[Path]:
        """A new folder in a run_folder, which becomes the revision when all went well.

        Where another run took the name meanwhile, the revision gets another, and InputError says
        which: what hours of training gave is not thrown away.
        """
        new = folder / "revision"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        try:
            yield new
            make_readable(new)
            try:
                self.check_free(name, overwrite=overwrite)
            except InputError as error:
                other = next(
                    n for i in count(2) if not os.path.lexists(n := self.folder / f"{name}_{i}")
                )
                new.rename(other)
                raise InputError(f"{error}; this run's is kept as {other}") from None
            _put_in_place(new, self.folder / name)
        finally:
            shutil.rmtree(new, ignore_errors=True)

    @contextmanager
    def writing(self, name: str, *, overwrite: bool) -> Iterator[Path]:
        """A new folder to write a revision in, which becomes the revision when all went well."""
        with (
            self.working(name) as folder,
            self.publishing(folder, name, overwrite=overwrite) as new,
        ):
            yield new


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} is no name of a revision in --repo: wanted up to 100 letters, digits and "
            f"_ - . (the last two not first)"
        )


def _put_in_place(new: Path, target: Path) -> None:
    old = _old(new)
    if target.exists():
        target.rename(old)
    try:
        new.rename(target)
    except BaseException:
        if old.exists():
            old.rename(target)
        raise
    if old.exists():
        shutil.rmtree(old)


def _undo(new: Path, target: Path) -> None:
    """Give the old revision its place back where a kill interrupted _put_in_place."""
    if _old(new).exists():
        if target.exists():
            shutil.rmtree(_old(new))
        else:
            _old(new).rename(target)


def _old(new: Path) -> Path:
    return new.with_name(new.name + ".old")


def num_bytes(model: "NERSmall") -> int:
    """About what a revision of this model, and a checkpoint on the way to it, take on disk."""
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    # Of a checkpoint: the weights, two moments of AdamW, the best weights so far.
    return (1 + 4) * weights + 2**22  # tokenizer, records and logs


def save(
    folder: Path,
    name: str,
    model: "NERSmall",
    tokenizer: "PreTrainedTokenizerBase",
    found: Mapping[str, "Report"],
    run: dict[str, Any],
) -> None:
    """Write what a revision holds, but for its logs, into folder; found: the report by split."""
    from nerc.card import model_card
    from nerc.model import quiet

    with quiet():
        with system_errors(folder / "model.safetensors"):
            model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    metrics = {split: report.to_json() for split, report in found.items()}
    write_json(folder / "metrics.json", metrics)
    write_json(folder / "run.json", run)
    (folder / "README.md").write_text(
        model_card(name, metrics, run, calibrated=model.config.calibration is not None),
        encoding="utf-8",
    )


def load_revision(
    folder: Path, *, tokenizer: str | None = None, say: Callable[[str], Any] = lambda _: None
) -> tuple["NERSmall", "PreTrainedTokenizerBase"]:
    """A revision's model, in float32, and its tokenizer, or the one named instead."""
    from nerc.encoding import tokenizer_beside
    from nerc.model import load

    model = load(str(folder))
    size = model.config.vocab_size
    return model, tokenizer_beside(folder, size, say=say, instead=tokenizer)


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
    print(reports.markdown(rows), flush=True)
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
        if not hub.is_whole(there) or not _NAME.fullmatch(name):
            what = "is no whole revision, or has an odd name"
            if config.revision:
                raise InputError(f"branch {name} of {repository.name} {what}")
            return f"this branch {what}; left out"
        if here.is_dir() and _same(there, here):
            return f"is in {store.folder} already"
        store.check_free(name, overwrite=config.overwrite)
        with store.writing(name, overwrite=config.overwrite) as new:
            copy_files(there, new)
        return f"is in {here}, {repository.origin(name, there)}"

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


if __name__ == "__main__":
    main(sys.argv[1:])
