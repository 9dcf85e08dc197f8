"""Reads files that others may have written, and writes files that are whole or absent."""

import json
import os
import re
import secrets
import shutil
import stat
import time
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

from safetensors import SafetensorError

from nerc.errors import InputError

MOST_BYTES = 2**30  # of a file that is read whole
MOST_LINE = 2**24  # bytes of a line of a file that is read line by line
_MOST_READS = 10  # of a folder that is replaced again and again
_TOO_LARGE = 2.0**63  # for a number of which the kind matters
_KINDS = {str: "text", int: "a whole number", float: "a finite number", bool: "true or false"}
_KINDS |= {dict: "an object", list: "a list", type(None): "null"}


T = TypeVar("T")


class Replaced(InputError):
    """A folder is replaced faster than it can be read."""


class Wanted(NamedTuple):
    """A shape that only a test can tell, and the words for it; the test may assume the shape of."""

    text: str
    test: Callable[[Any], bool]
    of: Any = object


# ------------------------------------------------------------ reading


def check_input(path: Path, *, most_bytes: int | None = None) -> None:
    """Raise InputError unless path is a file that ends: no folder, device or pipe."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # too long a name, a circle of links, a NUL
        raise InputError(f"{path}: cannot be read: {error}") from None
    if not stat.S_ISREG(status.st_mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(status.st_mode), "a device")
        raise InputError(f"{path}: is {kind}, wanted a file")
    if most_bytes is not None and status.st_size > most_bytes:
        raise InputError(f"{path}: has {status.st_size:,} bytes, wanted at most {most_bytes:,}")


def read_text(path: Path, newline: str | None = None) -> str:
    """The text of a UTF-8 file; InputError where there is none. newline: as for open()."""
    check_input(path, most_bytes=MOST_BYTES)
    try:
        with path.open(encoding="utf-8-sig", newline=newline) as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: is not UTF-8 at byte {error.start}, 0x{error.object[error.start]:02x}; "
            f"{to_utf8(error)}"
        ) from None
    except PermissionError:
        raise InputError(f"{path}: no permission to read it; check its permissions") from None


def to_utf8(error: UnicodeDecodeError) -> str:
    """How a file becomes UTF-8; a mark at its head tells UTF-16."""
    is_utf16 = error.start == 0 and error.object[:2] in (BOM_UTF16_LE, BOM_UTF16_BE)
    source = "utf-16" if is_utf16 else "latin1"
    return f"convert the file to UTF-8, such as with iconv -f {source} -t utf-8"


def bounded_lines(file: BinaryIO, name: str, first: int = 1) -> Iterator[tuple[int, bytes]]:
    """Line numbers from first, and lines; of one longer than MOST_LINE bytes, the first of them."""
    for number in count(first):
        line = part = file.readline(MOST_LINE + 1)
        if not line:
            return
        num_bytes = len(line)
        while len(part) > MOST_LINE and not part.endswith(b"\n"):
            part = file.readline(MOST_LINE + 1)
            num_bytes += len(part)
            if num_bytes > 8 * MOST_LINE:
                raise InputError(f"{name}:{number}: has no end within {8 * MOST_LINE:,} bytes")
        yield number, line


def read_json(path: Path, shape: Any) -> Any:
    """The values in a JSON file; InputError that names file and field where they lack the shape."""
    text = read_text(path)
    try:
        return parse_json(text, shape)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def parse_json(text: str, shape: Any = object) -> Any:
    """The values in JSON text; InputError that names the field where they lack the shape.

    A shape is a type or a union of types (a float may be whole), a list that holds the shape of its
    members, a dict with the shape of each field ("name?": may be missing or null; the type str: of
    all fields), or Wanted. No number may be infinite or NaN, and no text may hold half a character.
    """
    try:
        value = json.loads(text, object_pairs_hook=_without_repeats)
        check_shape(value, shape)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise InputError("has half a surrogate pair, which is not a character") from None
    except InputError:
        raise
    except RecursionError:
        raise InputError("is not JSON that can be read: it is nested too deeply") from None
    except ValueError as error:
        if "integer string conversion" in str(error):  # its text advises a change of the program
            raise InputError("is not JSON that can be read: a number has too many digits") from None
        raise InputError(f"is not JSON: {error}") from None
    return value


def check_shape(value: Any, shape: Any) -> None:
    """Raise InputError that names the first field of value that is not as shape wants it."""
    if fault := next(_faults(value, shape, ""), None):
        raise InputError(fault)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise InputError(f"has {repeated!r} twice in one object")
    return values


def _faults(value: Any, shape: Any, place: str) -> Iterator[str]:
    """What is not as shape wants it; place: the names and numbers that lead to value."""
    if isinstance(shape, Wanted):
        faults = list(_faults(value, shape.of, place))
        yield from faults
        if not faults and not shape.test(value):
            yield _fault(value, shape.text, place)
    elif isinstance(shape, list) and isinstance(value, list):
        for i, member in enumerate(value):
            yield from _faults(member, shape[0], f"{place}[{i}]")
    elif isinstance(shape, dict) and isinstance(value, dict):
        prefix = f"{place}." if place else ""
        fields = dict.fromkeys(value, shape[str]) if str in shape else shape
        for key, inner in fields.items():
            name = key if str in shape else key.removesuffix("?")
            if value.get(name) is not None or (name in value and name == key):
                yield from _faults(value[name], inner, f"{prefix}{name}")
            elif name == key:
                yield f"has no {prefix}{name}"
    elif isinstance(shape, list | dict):
        yield _fault(value, _KINDS[type(shape)], place)
    elif not _is_kind(value, shape):
        kinds = getattr(shape, "__args__", (shape,))
        yield _fault(value, " or ".join(_KINDS[kind] for kind in kinds), place)


def _is_kind(value: Any, kind: Any) -> bool:
    """Whether value is of a type or a union; in JSON, true is no number, and 1 is a float, too."""
    kinds = getattr(kind, "__args__", (kind,))
    if isinstance(value, bool) or object in kinds:
        return object in kinds or bool in kinds
    if isinstance(value, int | float) and not abs(value) < _TOO_LARGE:  # or NaN
        return False
    return isinstance(value, (*kinds, int) if float in kinds else kinds)


def _fault(value: Any, wanted: str, place: str) -> str:
    found = json.dumps(value, ensure_ascii=False)
    found = found if len(found) <= 60 else f"{found[:56]} ..."
    return f"{place or 'its content'} is {found}, wanted {wanted}"


def stamps(folder: Path) -> dict[str, tuple[int, ...]]:
    """What tells a folder, and each file of a model in it, from others in its place; {}: no folder.

    A folder's own stamp, under the name ".", is the same whatever is put into it.
    """
    try:
        status = folder.stat()
        found = {".": (status.st_dev, status.st_ino)}
        for path in folder.iterdir():
            if path.suffix in (".json", ".safetensors", ".txt"):
                s = path.lstat()
                found[path.name] = (s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
    except OSError:
        return {}
    return found


def read_unreplaced(folder: Path, read: Callable[[], T]) -> T:
    """What read() makes of the files in folder; it reads again where they changed meanwhile.

    A run that replaces a revision renames folders: in between, there is no folder at all.
    """
    before = stamps(folder)
    for attempt in range(_MOST_READS):
        try:
            result = read()
        except Replaced:
            raise
        except Exception:
            after = stamps(folder)
            if after == before and (after or attempt > 3):
                raise
        else:
            after = stamps(folder)
            if after == before:
                return result
        time.sleep(0.01 * attempt)
        before = stamps(folder)
    raise Replaced(
        f"{folder}: was replaced {_MOST_READS} times while it was read; run the same command again"
    )


# ------------------------------------------------------------ writing


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
    if len(os.fsencode(path.name)) > 200:
        raise InputError(f"{flag} {path}: the name is too long, wanted up to 200 bytes")
    if path.exists() and not path.is_file():
        raise InputError(f"{flag} {path}: is not a file, wanted the name of one")
    folder = _target(path).parent
    if not folder.is_dir():
        raise InputError(f"{flag} {path}: no such folder; make it first")
    if not os.access(folder, os.W_OK):
        raise InputError(f"{flag} {path}: its folder is not writable")


def check_distinct(inputs: Iterable[str], outputs: Iterable[tuple[str, Path]]) -> None:
    """Raise InputError where an output, known by its flag, would replace an input or another."""
    taken = {os.path.realpath(name) for name in inputs}
    for flag, path in outputs:
        if (place := os.path.realpath(path)) in taken:
            raise InputError(f"{flag} {path}: has another use in this command; name another")
        taken.add(place)


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
    path = _target(path)
    if path.exists() and not path.is_file():
        raise InputError(
            f"{path}: is a folder or a device, wanted a file, or nothing, in its place"
        )
    temporary = path.with_name(f".{path.name[:50]}-{secrets.token_hex(8)}")
    try:  # from before the file is there: a signal may come at any time
        temporary.touch(exist_ok=False)
        yield temporary
        with temporary.open("r+b") as file:  # Windows syncs no file that is open for reading
            os.fsync(file.fileno())  # it must be on the disk before it gets its name
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def unfinished_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside path, which takes its place if no error is raised.

    Nothing, or an empty folder, may be at path.
    """
    path = _target(path)
    temporary = path.with_name(f".{path.name[:50]}-{secrets.token_hex(8)}")
    try:
        temporary.mkdir()
        yield temporary
        if path.is_dir():
            path.rmdir()  # Windows renames nothing over a folder
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _target(path: Path) -> Path:
    """What path leads to; unlike Path.resolve, it takes links that lead in a circle."""
    return Path(os.path.realpath(path))


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
