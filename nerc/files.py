"""Writes files that are whole or absent, with the permissions of the user's other files."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from nerc.errors import InputError


def make_readable(*paths: Path) -> None:
    """Give files and folders the permissions of new ones; some libraries give fewer."""
    mask = os.umask(0)
    os.umask(mask)
    for path in paths:
        path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)


def check_file(path: Path, flag: str) -> None:
    """Raise InputError unless a file may be written at path."""
    if str(path).startswith(("/dev/", "/proc/")):
        raise InputError(f"{flag} {path}: is a device, wanted a file in a folder")
    if path.exists() and not path.is_file():
        raise InputError(f"{flag} {path}: is not a file, wanted the name of one")
    folder = path.resolve().parent
    if not folder.is_dir():
        raise InputError(f"{flag} {path}: no such folder; make it first")
    if len(path.name) > 200:
        raise InputError(f"{flag} {path}: the name is too long, wanted up to 200 characters")
    if not os.access(folder, os.W_OK):
        raise InputError(f"{flag} {path}: its folder is not writable")


def check_folder(path: Path, flag: str) -> None:
    """Raise InputError unless path is a writable folder, or one that can be made."""
    if not path.is_dir():
        check_file(path, flag)
        if path.exists():
            raise InputError(f"{flag} {path}: is a file, wanted a folder")
    elif not os.access(path, os.W_OK):
        raise InputError(f"{flag} {path}: is not writable")


def write_text(path: Path, text: str) -> None:
    """Write text, whole or not at all; a link stays one."""
    with unfinished(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, values: Any) -> None:
    """Write values as indented JSON, whole or not at all; a link stays one."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """A temporary file in path's folder, which replaces path if no error is raised."""
    path = path.resolve()
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:50]}-", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # it must be on the disk before it gets its name
        make_readable(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink()
        raise


def copy_files(source: Path, target: Path) -> None:
    """Copy a folder's contents; unlike shutil.copytree, it raises the system's own errors."""
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        copy = copy_files if path.is_dir() else shutil.copyfile
        copy(path, target / path.name)


@contextmanager
def system_errors(path: Path) -> Iterator[None]:
    """Raise the system's error, such as a full disk, which safetensors hides in its text."""
    try:
        yield
    except SafetensorError as error:
        code = re.search(r"\(os error (\d+)\)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from None
