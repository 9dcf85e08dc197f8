"""Ends a command with one line: after bad input, on a full disk, at a signal."""

import errno
import os
import signal
import sys
import time
from contextlib import contextmanager
from typing import NoReturn

_WAIT_FOR_MAIN = 5.0  # seconds; by then, a launcher has ended all processes where one failed


class InputError(ValueError):
    """Bad input from the user; one line says where, what was found, what was wanted, what to do."""


class Interrupted(BaseException):
    """A signal asks the run to stop; not an Exception, as with KeyboardInterrupt."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.name = signal.Signals(number).name
        self.exit_code = 128 + number
        self.advice = "nothing was saved; run the same command again"


def visible(text: str) -> str:
    """Text from files as one may print it: control and format characters become escapes (\\x1b)."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def rank() -> int:
    """The number of this process among those of its run; 0 for the main process."""
    return int(os.environ.get("RANK", "0"))


def is_launched_alone() -> bool:
    """Whether this process is the only one of its run.

    With others, an error must not come before all have met: they would wait for this one.
    """
    return os.environ.get("WORLD_SIZE", "1") == "1"


def fail(program: str, message: str) -> NoReturn:
    """End with exit code 2 and one line.

    The main process reports what is wrong for all processes of a run, and its launcher ends the
    others. So another process waits for that, and reports only what it alone found wrong.
    """
    if rank():
        time.sleep(_WAIT_FOR_MAIN)
        message = f"process {rank()}: {message}"
    sys.stderr.write(f"{program}: error: {visible(' '.join(message.split()))}\n")
    raise SystemExit(2)


@contextmanager
def one_line_errors(program: str):
    """Turn errors that the user can fix (InputError, a full disk) into one line and exit code 2."""
    try:
        yield
    except InputError as error:
        fail(program, str(error))
    except PermissionError as error:
        fail(program, f"{error.filename}: no permission to read or write it; check its permissions")
    except BrokenPipeError:  # the reader has gone: end like a program that SIGPIPE ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from None
    except OSError as error:
        if not is_disk_full(error):
            raise
        where = f" while writing {error.filename}" if error.filename else ""
        fail(program, f"no room on the disk{where}: {error.strerror}; make room and run again")
    except (KeyboardInterrupt, Interrupted) as signalled:
        stop = signalled if isinstance(signalled, Interrupted) else Interrupted(signal.SIGINT)
        if rank() == 0:
            sys.stderr.write(f"{program}: interrupted by {stop.name}: {stop.advice}\n")
        raise SystemExit(stop.exit_code) from None


def is_disk_full(error: Exception) -> bool:
    """Whether the disk, the quota or the allowed file size is exhausted."""
    full = errno.ENOSPC, errno.EDQUOT, errno.EFBIG
    return isinstance(error, OSError) and error.errno in full
