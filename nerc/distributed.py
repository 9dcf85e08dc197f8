"""How a run is started and stopped: its processes, the signals it gets, and the file that tells."""

import logging
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import distributed
from tqdm import tqdm

from nerc.errors import InputError, Interrupted
from nerc.files import write_json

logger = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
_LAUNCH_ADVICE = (
    "launch with: accelerate launch train.py (every GPU), or torchrun --nproc_per_node N train.py"
)


def start() -> Accelerator:
    """The accelerator of this process; InputError where the launch went wrong in silence.

    Several processes on a machine without a GPU are several processes on its CPU.
    """
    asked = _num_processes_asked(os.environ)
    no_gpu = not torch.accelerator.is_available()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # else Accelerate warns; set_threads decides
    # --precision alone decides, whatever the user's configuration of Accelerate says.
    accelerator = Accelerator(cpu=asked > 1 and no_gpu, mixed_precision="no")
    if accelerator.num_processes != asked:
        raise InputError(
            f"{asked} processes were launched, and this one would run as one of "
            f"{accelerator.num_processes}; {_LAUNCH_ADVICE}"
        )
    return accelerator


def _num_processes_asked(environment: Mapping[str, str]) -> int:
    """How many processes the launcher, whichever it was, started or was asked for."""

    def number(name: str, default: int) -> int:
        text = environment.get(name, str(default))
        if not text.isdecimal():
            raise InputError(
                f"the environment's {name} is {text!r}, wanted a number; {_LAUNCH_ADVICE}"
            )
        return int(text)

    tasks = number("SLURM_STEP_NUM_TASKS", 1)
    groups = number("GROUP_WORLD_SIZE", tasks)  # launchers that know of each other
    if tasks > 1 and ("WORLD_SIZE" not in environment or groups != tasks):
        raise InputError(
            f"srun started {tasks} tasks that know nothing of each other, each would be a run of "
            f"its own; launch as slurm/train.sbatch does, or give srun --ntasks 1"
        )
    # `accelerate launch` on a CPU sets an address to meet at, then starts a single process.
    by_accelerate = "ACCELERATE_MIXED_PRECISION" in environment
    if by_accelerate and "MASTER_ADDR" in environment and "WORLD_SIZE" not in environment:
        raise InputError(
            "accelerate launch was asked for several processes on a CPU and started one; launch "
            "with: torchrun --nproc_per_node N train.py (for one process, give it --num_processes "
            "1, and unset MASTER_ADDR where you have set it)"
        )
    for name in ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"):
        if name in environment:
            asked = number(name, 1)
            if asked > 1 and "MASTER_ADDR" not in environment:
                raise InputError(
                    f"{name} is {asked} and no MASTER_ADDR says where to meet; {_LAUNCH_ADVICE}"
                )
            return asked
    return 1


class StopSignals:
    """The wish to stop, which a signal to any process tells; a context, in which signals do so.

    While a run loads, the signal raises Interrupted at once; while it trains, all processes agree
    on it by agreed(). A second Ctrl-C, a second or more after the first, need not wait.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.signal = 0
        self.between_updates = True
        self._since = 0.0
        self._at_once = True
        self._is_main = accelerator.is_main_process
        # A group of its own for the hosts: asking a GPU would make the host wait for it.
        several = accelerator.num_processes > 1
        self._group = distributed.new_group(backend="gloo") if several else None

    def __enter__(self) -> "StopSignals":
        self._before = {}
        for number in STOP_SIGNALS:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # nohup asks for that
            self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _) -> None:
        # A launcher passes on what the terminal has sent already: that is no second Ctrl-C.
        again = self.signal == number == signal.SIGINT and time.monotonic() > self._since + 1
        if not self.signal:
            self.signal, self._since = number, time.monotonic()
        if self._at_once or again:
            self._at_once = False  # what it breaks off is tidied up undisturbed
            raise Interrupted(self.signal)

    def any_rank_signalled(self) -> int:
        """The signal that any of the processes got, 0 for none: the same on all of them."""
        if self._group is None:
            return self.signal
        found = torch.tensor(self.signal)
        distributed.all_reduce(found, distributed.ReduceOp.MAX, self._group)
        return int(found)

    def wait_for_all(self) -> None:
        """Come here together: a launcher ends all processes as soon as the first has ended."""
        if self._group is not None:
            distributed.barrier(self._group)

    def defer(self) -> None:
        """From here on, signals wait for agreed()."""
        self._at_once = self.between_updates = False

    @contextmanager
    def interruptible(self, save: Callable[[], None]) -> Iterator[None]:
        """A stretch, between updates, that a signal to the main process breaks off.

        It calls save() then and ends the run; the other processes go on until that ends them.
        """
        try:
            self.between_updates, self._at_once = True, self._is_main
            if self.signal and self._is_main:
                raise Interrupted(self.signal)
            yield
            self.defer()
        except Interrupted:
            self._at_once = False
            save()
            raise


class Status:
    """The state of a run in a file, from which job scripts decide: launchers change exit codes."""

    EVERY = 5.0  # seconds, at least, between two writes while it runs

    def __init__(self, path: Path | None) -> None:
        self.path, self.facts = path, {}
        self._written = -math.inf

    def running(self, update: int) -> None:
        """Note the update that the run is at."""
        self.facts["update"] = update
        if time.monotonic() > self._written + self.EVERY:
            self.write("running")

    def write(self, state: str, **facts: Any) -> None:
        """Write that the run is running, interrupted, finished or failed."""
        self._written = time.monotonic()
        if self.path is not None and self.path.parent.is_dir():
            write_json(self.path, {"state": state} | self.facts | facts)


PROGRESS_EVERY = 30.0  # seconds between two lines of progress, where there is no terminal


class Progress:
    """Shows how far a long loop is: as a bar in a terminal, else as a line in the log now and then.

    A context. total and done count in units, such as updates; shown is false in processes that
    leave this to another one.
    """

    def __init__(
        self, name: str, total: int, done: int = 0, *, unit: str = "update", shown: bool = True
    ) -> None:
        self.name, self.total, self.done, self.unit = name, total, done, unit
        in_terminal = sys.stderr.isatty()
        self.logs = shown and not in_terminal
        hidden = not (shown and in_terminal)
        self.bar = tqdm(
            total=total, initial=done, desc=name, unit=unit, leave=False, disable=hidden
        )
        self.done_at_start, self.words = done, 0.0
        self.started_at = self.logged_at = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_) -> None:
        self.bar.close()

    def advance(self, units: int = 1, *, words: float = 0.0) -> None:
        """Count finished units and the words in them."""
        self.bar.update(units)
        self.done += units
        self.words += words
        now = time.monotonic()
        if self.logs and self.done < self.total and now >= self.logged_at + PROGRESS_EVERY:
            speed = f"{self.words / max(now - self.logged_at, 1e-9):,.0f} words/s, "
            rest = (self.total - self.done) / (self.done - self.done_at_start)
            logger.info(
                f"{self.name}: {self.unit} {self.done:,} of {self.total:,} "
                f"({100 * self.done / self.total:.0f} %), {speed if self.words else ''}"
                f"{_duration(rest * (now - self.started_at))} left"
            )
            self.logged_at, self.words = now, 0.0


def _duration(seconds: float) -> str:
    """A time for people: 95 s, 12 min, 3 h 20 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


@dataclass(frozen=True)
class Session:
    """What the processes of a run share: the accelerator, the wish to stop, the status."""

    accelerator: Accelerator
    stop: StopSignals
    status: Status

    @property
    def is_main(self) -> bool:
        return self.accelerator.is_main_process


@contextmanager
def session(status: Path | None) -> Iterator[Session]:
    """Start; on the way out, leave in the status file, where there is one, how it ended."""
    accelerator = start()
    note = Status(status if accelerator.is_main_process else None)
    with StopSignals(accelerator) as stop:
        try:
            try:
                note.write("running")
                yield Session(accelerator, stop, note)
            except RuntimeError as error:
                if not _lost_connection(error):
                    raise
                if stop.signal and stop.between_updates:
                    raise Interrupted(stop.signal) from None
                raise InputError(
                    "another process of this run has ended; why stands above, or in its own "
                    "output; with --resume the run goes on from its last checkpoint"
                ) from None
        except Interrupted:
            note.write("interrupted")
            raise
        except BaseException as error:
            note.write("failed", error=f"{type(error).__name__}: {error}")
            raise
        note.write("finished")
    accelerator.end_training()


def from_main(accelerator: Accelerator, value: Any) -> Any:
    """What the main process has as value: text, numbers, lists and dicts of them."""
    return broadcast_object_list([value])[0] if accelerator.num_processes > 1 else value


def tensors_from_main(
    accelerator: Accelerator, tensors: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The main process's tensors, on the accelerator's device."""
    device = accelerator.device
    shapes = {name: (tuple(t.shape), t.dtype) for name, t in tensors.items()}
    found = {}
    for name, (shape, dtype) in from_main(accelerator, shapes).items():
        tensor = torch.empty(shape, dtype=dtype, device=device)
        if accelerator.is_main_process:
            tensor.copy_(tensors[name])
        if accelerator.num_processes > 1:
            distributed.broadcast(tensor, 0)
        found[name] = tensor
    return found


def _lost_connection(error: RuntimeError) -> bool:
    """Whether error only says that another process of this run has ended."""
    several = distributed.is_initialized() and distributed.get_world_size() > 1
    signs = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "NCCL", "gloo")
    return several and any(sign in str(error) for sign in signs)
