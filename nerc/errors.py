"""Ends a command with one line: after bad input, on a full disk, at a signal."""

import errno
import gc
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn, TextIO

_COLLECTED_AFTER = gc.get_threshold()  # new objects, and rounds over them, by Python's default
_WAIT_FOR_MAIN = 5.0  # seconds; by then, a launcher has ended all processes where one failed
_SIGPIPE = 13  # Windows has no such signal, and neither SIGUSR1 nor SIGHUP
_STOP = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
STOP_SIGNALS = tuple(getattr(signal, name) for name in _STOP if hasattr(signal, name))
# In which launchers tell their processes how many there are.
WORLD_SIZES = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")


class InputError(ValueError):
    """Bad input from the user; one line says where, what was found, what was wanted, what to do."""


class Interrupted(BaseException):
    """A signal asks the run to stop; not an Exception, as with KeyboardInterrupt."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.name = signal.Signals(number).name
        self.exit_code = 128 + number
        self.advice = "nothing was saved; run the same command again"


class Faults:
    """Counts what is wrong with an input, and keeps the first faults, to report them together."""

    def __init__(self, most_shown: int = 3) -> None:
        self.most_shown, self.number = most_shown, 0
        self.shown: list[str] = []

    def add(self, *parts: str) -> None:
        """Count a fault; parts: where it is, unless the text says it, and what it is."""
        self.number += 1
        if len(self.shown) < self.most_shown:
            self.shown.append(": ".join(parts))

    def check(self) -> None:
        """Raise InputError with the first faults, and the number of the others."""
        if self.number:
            more = self.number - len(self.shown)
            rest = f"; {more:,} more faults" if more > 1 else "; 1 more fault" if more else ""
            raise InputError("; ".join(self.shown) + rest)


def visible(text: str) -> str:
    """Text from files as one may print it: control and format characters become escapes (\\x1b)."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def rank() -> int:
    """The number of this process among those of its run; 0 for the main process."""
    text = os.environ.get("RANK", "")
    is_number = re.fullmatch("[0-9]{1,9}", text)  # the start of the run refuses what is none
    return int(text) if is_number and not is_launched_alone() else 0


def is_launched_alone() -> bool:
    """Whether this process is the only one of its run.

    With others, an error must not come before all have met: they would wait for this one.
    """
    return all(os.environ.get(name, "1") == "1" for name in WORLD_SIZES)


def say(text: str) -> None:
    """Write to standard error, if it can be written at all."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:  # there is no other place; the exit code tells
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Let a standard stream that cannot be written lead nowhere: the interpreter flushes it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def fail(program: str, message: str) -> NoReturn:
    """End with exit code 2 and one line.

    The main process reports what is wrong for all processes of a run, and its launcher ends the
    others. So another process waits for that, and reports only what it alone found wrong.
    """
    try:
        sys.stdout.flush()
    except OSError:
        discard(sys.stdout)
    if rank():
        time.sleep(_WAIT_FOR_MAIN)
        message = f"process {rank()}: {message}"
    say(f"{program}: error: {visible(' '.join(message.split()))}\n")
    raise SystemExit(2)


@contextmanager
def one_line_errors(program: str) -> Iterator[None]:
    """Turn errors that the user can fix, and signals, into one line; the caller cleans up first."""
    try:
        with _stop_signals(), _seldom_collected():
            yield
            sys.stdout.flush()
    except InputError as error:
        fail(program, str(error))
    except BrokenPipeError:  # the reader has gone: end like a program that SIGPIPE ended
        discard(sys.stdout)
        raise SystemExit(128 + _SIGPIPE) from None
    except OSError as error:
        fail(program, _describe(error))
    except (KeyboardInterrupt, Interrupted) as signalled:
        stop = signalled if isinstance(signalled, Interrupted) else Interrupted(signal.SIGINT)
        if rank() == 0:
            say(f"{program}: interrupted by {stop.name}: {stop.advice}\n")
        raise SystemExit(stop.exit_code) from None
    except Exception as error:
        library = _library_that_fails_to_load(error)
        if library is None:
            raise
        advice = "check the environment variables that it reads, and whether it is installed whole"
        fail(program, f"{library} cannot be loaded: {type(error).__name__}: {error}; {advice}")


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """Let Python look for cyclic garbage less often, until keep_loaded().

    The libraries make a million objects that stay, and to visit them again and again would take a
    quarter of the time to load them.
    """
    gc.set_threshold(50_000, 20, 100)
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*_COLLECTED_AFTER)


def keep_loaded() -> None:
    """Once the libraries are loaded, never visit their objects again, and others as by default."""
    gc.freeze()
    gc.set_threshold(*_COLLECTED_AFTER)


def _library_that_fails_to_load(error: Exception) -> str | None:
    """The module, not of ours, whose import raised error; None if it came from elsewhere."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    names = [f.f_globals["__name__"] for f in frames if f.f_code.co_name == "<module>"]
    others = [name for name in names if name.partition(".")[0] not in ("nerc", "__main__")]
    return others[-1] if others and names[-1] == others[-1] else None


@contextmanager
def _stop_signals() -> Iterator[None]:
    """Let the signals that would end this process raise Interrupted, so that it cleans up."""
    stopped_at = -1.0

    def stop(number: int, _) -> None:
        nonlocal stopped_at
        # A launcher, or a terminal that closes, may send the signal twice.
        if time.monotonic() > stopped_at + 1:
            stopped_at = time.monotonic()
            raise Interrupted(number)

    # Python raises KeyboardInterrupt for SIGINT, and nohup ignores SIGHUP.
    ours = [number for number in STOP_SIGNALS if signal.getsignal(number) == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _describe(error: OSError) -> str:
    """What the system refused, and what to do."""
    if is_disk_full(error):
        where = f" while writing {error.filename}" if error.filename else ""
        return f"no room on the disk{where}: {error.strerror}; make room and run again"
    if error.errno == errno.EBADF:
        return "standard input or output is closed, wanted an open one"
    where = f"{error.filename}: " if error.filename else ""
    if isinstance(error, PermissionError):
        return f"{where}no permission to read or write it; check its permissions"
    return f"{where}{error.strerror or error}"


def is_disk_full(error: Exception) -> bool:
    """Whether the disk, the quota or the allowed file size is exhausted."""
    full = errno.ENOSPC, errno.EDQUOT, errno.EFBIG
    return isinstance(error, OSError) and error.errno in full
