"""The store: a folder of revisions, written atomically, with copies on the Hub.

A revision is a folder with everything that belongs to it. It is written to a temporary folder and
renamed, so there is never half a revision.
"""

import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout

from nerc import hub
from nerc.config import Amount, DataConfig, Unit
from nerc.errors import InputError, Interrupted, is_disk_full
from nerc.files import make_readable

logger = logging.getLogger(__name__)

_UNFINISHED = ".checkpoints"
REVISION_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")  # of a folder and of a branch


def default_name(config: DataConfig) -> str:
    """The revision's name where --revision gives none."""
    base = {"llm": "main", "gold": "model_primary", "mixed": "model_mixed"}[config.data]
    if config.expert_amount is None:
        return base
    amount = config.expert_amount
    is_share = Amount.parse(amount, "expert").unit is Unit.SHARE
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

    def path(self, name: str) -> Path:
        """The revision's folder, here or in the Hub's cache; InputError where there is none."""
        if self.hub is None or (self.folder / name / "config.json").exists():
            return self.local(name)
        check_name(name)
        try:
            found = self.hub.fetch(name)
        except InputError as error:
            raise InputError(f"no revision {name} in a folder {self.folder}; {error}") from None
        logger.info(f"{name}: {self.hub.describe_source(name, found)}")
        return found

    def local(self, name: str) -> Path:
        """The revision's folder here; InputError, with those there are, where it is not."""
        check_name(name)
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
            f"it is kept in {self.folder / name}, and sent by: python -m nerc revisions push "
            f"--repo {self.folder} --revision {name}{' --overwrite' if overwrite else ''}"
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
    def lock(self, name: str) -> Iterator[Path]:
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
            _restore_replaced(folder / "revision", self.folder / name)
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
    def publish(self, folder: Path, name: str, *, overwrite: bool) -> Iterator[Path]:
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
    def write(self, name: str, *, overwrite: bool) -> Iterator[Path]:
        """A new folder to write a revision in, which becomes the revision when all went well."""
        with (
            self.lock(name) as folder,
            self.publish(folder, name, overwrite=overwrite) as new,
        ):
            yield new


def check_name(name: str) -> None:
    if not REVISION_NAME.fullmatch(name):
        raise InputError(
            f"{name!r} is no name of a revision in --repo: wanted up to 100 letters, digits and "
            f"_ - . (the last two not first)"
        )


def _put_in_place(new: Path, target: Path) -> None:
    old = _replaced_folder(new)
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


def _restore_replaced(new: Path, target: Path) -> None:
    """Give the old revision its place back where a kill interrupted _put_in_place."""
    if _replaced_folder(new).exists():
        if target.exists():
            shutil.rmtree(_replaced_folder(new))
        else:
            _replaced_folder(new).rename(target)


def _replaced_folder(new: Path) -> Path:
    return new.with_name(new.name + ".old")
