"""What ends a command: bad input, a full disk, a signal; each told in one line."""

import errno
import os
import signal
import sys
import time
from contextlib import contextmanager
from typing import NoReturn

_WAIT_FOR_MAIN = 5.0  # seconds, in which a launcher ends the other processes of one that failed


class InputError(ValueError):
    """Bad input from the user; the message is one line: where, found, wanted, what to do."""


class Interrupted(BaseException):
    """A signal asked the run to stop; like KeyboardInterrupt, it is no Exception to be caught."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.name = signal.Signals(number).name
        self.exit_code = 128 + number
        self.advice = "nothing is kept of it; run the same command again"


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def fail(program: str, message: str) -> NoReturn:
    """End with exit code 2 and one line.

    What is wrong for all processes of a run the main process says; another one waits until its
    launcher has ended it for that, and speaks where it is alone.
    """
    if rank():
        time.sleep(_WAIT_FOR_MAIN)
        message = f"process {rank()}: {message}"
    sys.stderr.write(f"{program}: error: {' '.join(message.split())}\n")
    raise SystemExit(2)


@contextmanager
def one_line_errors(program: str):
    """Turn what the user can mend (InputError, a full disk) into one line and exit code 2."""
    try:
        yield
    except InputError as error:
        fail(program, str(error))
    except PermissionError as error:
        fail(program, f"{error.filename}: may not be read or written; check its permissions")
    except BrokenPipeError:  # nobody reads on; as a program that SIGPIPE ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from None
    except OSError as error:
        if not is_disk_full(error):
            raise
        place = f" while writing {error.filename}" if error.filename else ""
        fail(program, f"no room on the disk{place}: {error.strerror}; make room and run again")
    except KeyboardInterrupt:
        _end_interrupted(program, Interrupted(signal.SIGINT))
    except Interrupted as interrupted:
        _end_interrupted(program, interrupted)


def _end_interrupted(program: str, interrupted: Interrupted) -> NoReturn:
    if rank() == 0:
        sys.stderr.write(f"{program}: interrupted by {interrupted.name}: {interrupted.advice}\n")
    raise SystemExit(interrupted.exit_code)


def is_disk_full(error: OSError) -> bool:
    """Whether error says that a disk, a quota or the allowed file size is exhausted."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
