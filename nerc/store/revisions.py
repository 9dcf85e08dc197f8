"""The store: a folder of revisions, or a repository on the Hub that revisions are read from.

A revision is a folder with everything that belongs to it. It is written to a temporary folder and
renamed, so there is never half a revision.
"""

import logging
import os
import re
import shlex
import shutil
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout

from nerc import hub
from nerc.config import DataConfig
from nerc.errors import InputError, Interrupted, is_disk_full
from nerc.files import make_readable
from nerc.store import records, transfer

logger = logging.getLogger(__name__)

_NO_FOLDER = (FileNotFoundError, NotADirectoryError)
_UNFINISHED = ".checkpoints"
_LONGEST_COPY = 600.0  # seconds, of a revision from the cache
_REPLACED = ".old"  # follows the name of a new revision's folder, for the one that it replaces
# Of a folder and of a branch; git allows branches no .. in the name, and no . or .lock at its end.
REVISION_NAME = re.compile(r"(?!.*(\.\.|\.lock\Z|\.\Z))[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
CHECKPOINT_NAME = re.compile(r"update_[0-9]{7,}\.safetensors")
# What a run keeps in its run_folder. Other files there are not nerc's, such as the copies of tools
# that keep folders in sync: "update_0000120 (1).safetensors".
_RUN_FILES = re.compile(
    rf"{CHECKPOINT_NAME.pattern}|run\.json|status\.json|log\.txt|logs|lock|revision(\.old)?"
    r"|\.(update_[0-9]+\.safetensors|run\.json|status\.json)-\w+"
)


def default_name(config: DataConfig) -> str:
    """The revision's name where --revision gives none."""
    base = {"llm": "main", "gold": "model_primary", "mixed": "model_mixed"}[config.data]
    amount = config.expert_amount
    if amount is None:
        return base
    return f"{base}_{amount[:-1]}" if amount.endswith("%") else f"{base}_{amount}_sentences"


class Store:
    """The revisions in one folder, which appears with the first of them.

    A folder that exists is the whole store: nothing else is asked. Where there is no such folder,
    revisions of USER/NAME are read from the Hub. Which of the two holds is decided here, once: a
    run that reads from the Hub makes the folder itself.
    """

    def __init__(self, repo: str) -> None:
        self.folder = Path(repo)
        try:
            mode = self.folder.stat().st_mode
        except _NO_FOLDER:
            mode = stat.S_IFDIR  # it will be made
        except (OSError, ValueError) as error:  # too long a name, a NUL
            raise InputError(f"--repo {repo}: cannot be read: {error}") from None
        if not stat.S_ISDIR(mode):
            raise InputError(f"--repo {repo}: is a file, wanted a folder of revisions")
        self.repository = hub.Repository(repo) if hub.is_name(repo) else None
        self._reads_hub = self.repository is not None and not self.folder.exists()
        self._fetched: dict[str, Path] = {}  # revisions read from the Hub, in its cache

    def names(self) -> list[str]:
        """The revisions in the folder, damaged ones included, in alphabetical order."""
        try:
            entries = list(self.folder.iterdir())
        except _NO_FOLDER:
            return []
        names = (entry.name for entry in entries if _may_be_revision(entry))
        return sorted(name for name in names if not name.startswith("."))

    def check_free(self, name: str, *, overwrite: bool) -> None:
        """Raise InputError where no revision of this name may be written."""
        check_name(name)
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
                f"{place} is not a revision, and --overwrite replaces only revisions; move it "
                f"away, or give another --revision"
            )

    def check_room(self, num_bytes: int) -> None:
        """Raise InputError where the disk has less than num_bytes left."""
        for place in (self.folder.absolute(), *self.folder.absolute().parents):
            with suppress(*_NO_FOLDER):  # another run may just remove the folder that it made
                free = shutil.disk_usage(place).free
                break
        if free < num_bytes:
            raise InputError(
                f"--repo {self.folder}: no room on the disk, {free / 2**20:.0f} MiB are free and "
                f"the run takes {num_bytes / 2**20:.0f} MiB; make room or give another --repo"
            )

    # ------------------------------------------------------------ reading

    def path(self, name: str) -> Path:
        """The revision's folder, here or in the Hub's cache; InputError where there is none."""
        if not self._reads_hub or (self.folder / name / "config.json").exists():
            return self.local(name)
        check_name(name)
        if name not in self._fetched:
            try:
                self._fetched[name] = self.repository.fetch(name)
            except InputError as error:
                raise InputError(f"there is no folder {self.folder}, and {error}") from None
            logger.info(f"{name}: {self.repository.describe_source(name, self._fetched[name])}")
        return self._fetched[name]

    def local(self, name: str) -> Path:
        """The revision's folder here; InputError that says how to get it where there is none."""
        check_name(name)
        folder = self.folder / name
        if (folder / "config.json").exists():
            return folder
        if _run_files(self.run_folder(name)):
            raise InputError(
                f"revision {name} is still being trained, or was interrupted: its checkpoints are "
                f"in {self.run_folder(name)}; wait, or continue it with the flags that it had and "
                f"--resume: {self._command_for(name)} --resume"
            )
        if name in self.names():
            raise InputError(
                f"{folder / 'config.json'}: no such file; fetch or train the revision again"
            )
        if (self.folder / "config.json").exists():
            raise InputError(
                f"--repo {self.folder}: is a revision itself; give --repo {self.folder.parent} "
                f"--revision {self.folder.name}"
            )
        advice = f"train it with: {self._command_for(name)}"
        if self.repository is not None:
            advice = (
                f"this folder is all that is read; fetch others with: python -m nerc revisions "
                f"pull --repo {self.folder} --revision {name}; or {advice}"
            )
        names = ", ".join(self.names()) or "none"
        raise InputError(f"no revision {name} in {self.folder} (there: {names}); {advice}")

    def _command_for(self, name: str) -> str:
        """The command that trains a revision, as far as its name, run or neighbours tell."""
        flags = {} if name.startswith("active_iter_") else _flags_of_name(name)
        corpora = {self._config(other).get("corpus") for other in self.names()}
        if len(corpora) == 1:
            flags["corpus"] = corpora.pop()
        if config := self._config(f"{_UNFINISHED}/{name}"):
            flags |= {flag: config.get(flag) for flag in _TELLING_FLAGS} | {"revision": name}
            flags["encoder"] = None if config.get("start") else config.get("encoder")
        flags["repo"] = str(self.folder)
        words = ["accelerate", "launch"]
        words += ["active_learn.py" if name.startswith("active_iter_") else "train.py"]
        for flag, value in flags.items():
            if value is not None and value != _DEFAULTS.get(flag):
                words += [f"--{flag}", str(value)]
        return shlex.join(words)

    def _config(self, name: str) -> dict:
        """The flags of a revision or an unfinished run; {} where no record tells."""
        try:
            return records.read_run(self.folder / name).get("config", {})
        except InputError:
            return {}

    # ------------------------------------------------------------ writing

    def run_folder(self, name: str) -> Path:
        """Where an unfinished run keeps what it needs to continue."""
        return self.folder / _UNFINISHED / name

    @contextmanager
    def lock(self, name: str, *, wait: float = 0) -> Iterator[Path]:
        """The run_folder, locked against other runs; it stays while it holds a checkpoint.

        wait: seconds in which another run may come to its end.
        """
        folder = self.run_folder(name)
        was_there = self.folder.exists()
        self.keep_fetched(leave_out=name)
        try:
            lock = acquire(folder / "lock", wait)
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
            if others := [e.name for e in folder.iterdir() if not _RUN_FILES.fullmatch(e.name)]:
                logger.warning(
                    f"{folder}: holds files that are no run's, perhaps copies that a tool made; "
                    f"they are neither read nor removed: {', '.join(sorted(others))}"
                )
            _clear_replaced(folder / f"revision{_REPLACED}", self.folder / name)
            yield folder
        finally:
            files = _run_files(folder)
            if not any(CHECKPOINT_NAME.fullmatch(entry.name) for entry in files):
                for entry in files:
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            lock.release()  # until then NFS keeps a file that is open, and its folder
            for empty in [folder, folder.parent, *([] if was_there else [self.folder])]:
                with suppress(OSError):  # another run may be using it
                    empty.rmdir()

    @contextmanager
    def publish(self, folder: Path, name: str, *, overwrite: bool) -> Iterator[Path]:
        """A new folder in a run_folder, which becomes the revision if no error is raised.

        Where another run has taken the name meanwhile, the revision gets another name, and
        InputError tells it: hours of training are not thrown away.
        """
        new = folder / "revision"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        try:
            yield new
            make_readable(new, *new.rglob("*"))
            try:
                self.check_free(name, overwrite=overwrite)
            except InputError as error:
                places = (self.folder / f"{name}_{i}" for i in count(2))
                free = next(place for place in places if not os.path.lexists(place))
                new.rename(free)
                raise InputError(f"{error}; this run's revision is saved as {free}") from None
            _put_in_place(new, self.folder / name)
        finally:
            shutil.rmtree(new, ignore_errors=True)

    @contextmanager
    def new_revision(self, name: str, *, overwrite: bool) -> Iterator[Path]:
        """A new folder, locked, which becomes the revision if no error is raised."""
        with self.lock(name) as folder, self.publish(folder, name, overwrite=overwrite) as new:
            yield new

    def keep_fetched(self, leave_out: str | None = None) -> None:
        """Copy revisions read from the Hub to the folder, before a run makes it.

        From then on the folder is the whole store, so it must hold what the run started from.
        """
        while self._fetched:
            name, source = self._fetched.popitem()
            if name == leave_out or (self.folder / name).exists():
                continue
            with self.lock(name, wait=_LONGEST_COPY) as folder:
                if (self.folder / name).exists():  # another run began at the same time
                    continue
                with self.publish(folder, name, overwrite=False) as new:
                    transfer.take(source, new)
            logger.info(f"{name}: copied to {self.folder}, which is the store from now on")

    # ------------------------------------------------------------ sending

    def check_push(self, name: str, *, overwrite: bool) -> None:
        """Raise InputError where push() would be refused."""
        if self.repository is None:
            raise InputError(
                f"--push: --repo {self.folder} is a folder, wanted the name USER/NAME of a "
                f"repository on the Hub, which is also the name of the folder"
            )
        self.repository.check_push(name, overwrite=overwrite)

    def push(self, name: str, *, overwrite: bool, stretch: AbstractContextManager) -> str:
        """Send a revision of this folder to its branch on the Hub; says what was done.

        stretch: a context in which a signal may interrupt it.
        """
        again = (
            f"the revision is in {self.folder / name}; send it with: python -m nerc revisions push "
            f"--repo {self.folder} --revision {name}{' --overwrite' if overwrite else ''}"
        )
        try:
            with stretch:
                files = transfer.files_to_send(self.folder / name)
                return self.repository.push(files, name, overwrite=overwrite)
        except InputError as error:
            raise InputError(f"{error}; {again}") from None
        except Interrupted as interrupted:
            interrupted.advice = again
            raise


_TELLING_FLAGS = ("data", "expert", "corpus", "start", "recipe", "seed")
_DEFAULTS = {"corpus": "conll2003", "repo": "models", "recipe": "strong", "seed": 0}


def _flags_of_name(name: str) -> dict[str, str | None]:
    """The flags that give a revision this name."""
    if mixed := re.fullmatch(r"model_mixed_([0-9.]+)(_sentences)?", name):
        return {"data": "mixed", "expert": f"{mixed[1]}{'' if mixed[2] else '%'}"}
    data = {"main": "llm", "model_primary": "gold"}.get(name)
    return {"data": data} if data else {"revision": name}


def check_name(name: str) -> None:
    """Raise InputError where name cannot be that of a revision."""
    if not REVISION_NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be the name of a revision: wanted up to 100 letters, digits and "
            f"_ - . (the last two not first; as git wants it, no .. and no . or .lock at the end)"
        )


def acquire(path: Path, wait: float = 0) -> FileLock:
    """The lock on a file, which is made where it is missing; Timeout while another run has it.

    A run that ends removes the file and the folders that are empty then, between any two steps of
    this one.
    """
    lock = FileLock(path, timeout=wait)
    for tries_left in reversed(range(100)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            break
        except (FileNotFoundError, FileExistsError):
            if not tries_left:
                raise
    return lock


def _run_files(folder: Path) -> list[Path]:
    """The files of a run_folder that are nerc's."""
    try:
        return [entry for entry in folder.iterdir() if _RUN_FILES.fullmatch(entry.name)]
    except _NO_FOLDER:
        return []


def _may_be_revision(folder: Path) -> bool:
    names = ("config.json", "run.json")
    return is_closed(folder) or any(os.path.lexists(folder / name) for name in names)


def is_closed(folder: Path) -> bool:
    """Whether nobody can tell what a folder holds: whoever reads it says what is wrong with it."""
    if os.path.islink(folder) and not os.path.exists(folder):
        return True
    return os.path.isdir(folder) and not os.access(folder, os.R_OK | os.X_OK)


def _put_in_place(new: Path, target: Path) -> None:
    """Rename new to target; the old revision stays beside new until then."""
    old = new.with_suffix(_REPLACED)
    if target.exists():
        target.rename(old)
    try:
        new.rename(target)
    finally:
        _clear_replaced(old, target)


def _clear_replaced(old: Path, target: Path) -> None:
    """Remove the old revision, or put it back where an error or a kill left no new one."""
    if old.exists() and target.exists():
        shutil.rmtree(old)
    elif old.exists():
        old.rename(target)
