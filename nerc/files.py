"""Files that are whole or not there, and as readable as the user's other files."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from nerc.errors import InputError


def make_readable(folder: Path) -> None:
    """Give folder and files the rights of this user's new files; some libraries give fewer."""
    for path in (folder, *folder.rglob("*")):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~_umask())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def check_file(path: Path, flag: str) -> None:
    """Raise InputError unless a file may be written at path."""
    if str(path).startswith(("/dev/", "/proc/")):
        raise InputError(f"{flag} {path}: is no place for a file; give one in a folder")
    if path.exists() and not path.is_file():
        raise InputError(f"{flag} {path}: is no file, wanted the name of one")
    if not path.resolve().parent.is_dir() or len(path.name) > 200:
        raise InputError(
            f"{flag} {path}: no such folder, or too long a name; make the folder first"
        )
    if not os.access(path.resolve().parent, os.W_OK):
        raise InputError(f"{flag} {path}: its folder may not be written")


def check_folder(path: Path, flag: str) -> None:
    """Raise InputError unless path is a folder that may be written, or may be made."""
    if path.is_dir():
        if not os.access(path, os.W_OK):
            raise InputError(f"{flag} {path}: may not be written")
        return
    check_file(path, flag)
    if path.exists():
        raise InputError(f"{flag} {path}: is a file, wanted a folder")


def write_text(path: Path, text: str) -> None:
    """Write text, whole or not at all; a link stays one."""
    _write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, values: Any) -> None:
    """Write values readably, whole or not at all; a link stays one."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    with unfinished(path) as temporary:
        write(temporary)


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """A file beside path that takes its place when all went well; a link stays one."""
    path = path.resolve()
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:50]}-", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # on the disk before it has its name
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        temporary.unlink()
        raise


def copy_files(source: Path, target: Path) -> None:
    """Copy what is in a folder; raises the system's own errors, which shutil.copytree gathers."""
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.is_dir():
            copy_files(path, target / path.name)
        else:
            shutil.copyfile(path, target / path.name)


@contextmanager
def system_errors(path: Path) -> Iterator[None]:
    """Raise the system's error, a full disk above all, that safetensors hides in its text."""
    try:
        yield
    except SafetensorError as error:
        code = re.search(r"\(os error (\d+)\)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from None
