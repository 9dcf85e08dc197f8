"""Starts and stops a run: its processes, the signals it gets, and the status file."""

import logging
import math
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from threading import Timer
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import distributed

from nerc.errors import STOP_SIGNALS, WORLD_SIZES, InputError, Interrupted, fail, keep_loaded
from nerc.files import write_json
from nerc.hardware import threads_asked
from nerc.heartbeat import heartbeat

logger = logging.getLogger(__name__)

_LAUNCH_ADVICE = (
    "launch with: accelerate launch train.py (every GPU), or torchrun --nproc_per_node N train.py"
)
_USED_BY_ACCELERATE = {"ACCELERATE_USE_CPU", "ACCELERATE_TORCH_DEVICE", "ACCELERATE_CPU_AFFINITY"}
_OTHER_WAYS = ("DEEPSPEED", "FSDP", "MEGATRON_LM", "PARALLELISM_CONFIG")
_SAYS_AFTER = 15.0  # seconds of waiting for other processes
_LONGEST_WAIT = timedelta(days=1)  # for the main process, which may ask a language model


def start(*, uses_every_gpu: bool = True) -> Accelerator:
    """The accelerator of this process; InputError where the launcher started too few processes.

    Several processes on a machine without a GPU share its CPU. uses_every_gpu: the command can use
    all GPUs, so warn where some are idle.
    """
    keep_loaded()
    num_asked, num_threads = _num_processes_asked(os.environ), threads_asked(os.environ)
    _prepare_environment(os.environ, num_asked)
    os.environ["OMP_NUM_THREADS"] = "1"  # else Accelerate warns; set_threads decides
    on_cpu = num_asked > 1 and not torch.accelerator.is_available()
    try:
        with _waiting(num_asked):
            accelerator = Accelerator(cpu=on_cpu, mixed_precision="no")
        torch.empty(0, device=accelerator.device)  # which ACCELERATE_TORCH_DEVICE may name
    # torch asserts that a device of this kind can be used.
    except (AssertionError, ImportError, OSError, RuntimeError, ValueError) as error:
        environment = "LOCAL_RANK, MASTER_ADDR, MASTER_PORT and ACCELERATE_..."
        raise InputError(
            f"Accelerate cannot start: {error}; see the environment variables {environment}"
        ) from error
    del os.environ["OMP_NUM_THREADS"]
    if num_threads:
        os.environ["OMP_NUM_THREADS"] = str(num_threads)
    num_processes = accelerator.num_processes
    if num_processes != num_asked:
        raise InputError(
            f"the launcher started {num_asked} processes, and this one would run as one of "
            f"{num_processes}; {_LAUNCH_ADVICE}"
        )
    if uses_every_gpu and accelerator.is_main_process:
        num_here = int(os.environ.get("LOCAL_WORLD_SIZE", num_processes))
        num_used = num_here if accelerator.device.type == "cuda" else 0
        if note := idle_gpus(torch.cuda.device_count(), num_used, num_processes // num_here):
            logger.warning(note)
    return accelerator


def _prepare_environment(environment: MutableMapping[str, str], num_processes: int) -> None:
    """Check what a launcher says, and remove what shall decide nothing.

    Only flags decide how a run computes, whatever the user's configuration of Accelerate says.
    """
    for name in _OTHER_WAYS:
        if environment.get(f"ACCELERATE_USE_{name}", "").lower() in ("true", "1", "yes"):
            raise InputError(
                f"ACCELERATE_USE_{name} is set, and nerc has the whole model in every process; "
                f"launch without {name}, which `accelerate config` may have chosen"
            )
    device = environment.get("ACCELERATE_TORCH_DEVICE", "cpu")
    if not re.fullmatch(r"cpu|mps|(cuda|xpu|npu|hpu|mlu|musa|sdaa)(:[0-9]+)?", device):
        raise InputError(f"ACCELERATE_TORCH_DEVICE is {device!r}, wanted cpu, cuda or cuda:NUMBER")
    for name in [name for name in environment if name.startswith("ACCELERATE_")]:
        if name not in _USED_BY_ACCELERATE:
            del environment[name]
    if num_processes == 1:
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
            environment.pop(name, None)
        return
    if "WORLD_SIZE" in environment:
        _number(environment, "RANK", "missing", most=num_processes - 1)
    num_here = _number(environment, "LOCAL_WORLD_SIZE", num_processes, least=1, most=num_processes)
    _number(environment, "LOCAL_RANK", 0, most=num_here - 1)
    _number(environment, "MASTER_PORT", 29500, least=1, most=65535)


def _number(
    environment: Mapping[str, str], name: str, default: Any, *, least: int = 0, most: int = 10**9
) -> int:
    """What a launcher says by an environment variable, a number from least to most."""
    text = environment.get(name, str(default))
    if re.fullmatch("[0-9]{1,9}", text) and least <= int(text) <= most:
        return int(text)
    wanted = f"a number from {least}" + (f" to {most}" if most < 10**9 else "")
    raise InputError(
        f"the environment variable {name} is {text!r}, wanted {wanted}; {_LAUNCH_ADVICE}"
    )


@contextmanager
def _waiting(num_processes: int) -> Iterator[None]:
    """While this process may wait for others, in code of C++, let a signal end it at once."""
    if num_processes == 1:
        yield
        return
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    address = ":".join(os.environ.get(name, "?") for name in ("MASTER_ADDR", "MASTER_PORT"))
    note = f"still waiting at {address} for all {num_processes} processes of this run"
    timer = Timer(_SAYS_AFTER, logger.warning, [note])
    timer.daemon = True
    timer.start()
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def idle_gpus(num_gpus: int, num_used: int, num_machines: int) -> str | None:
    """A warning where the run uses fewer GPUs of this machine than there are."""
    if num_used >= num_gpus:
        return None
    machines = f" --num_machines {num_machines}" if num_machines > 1 else ""
    return (
        f"{num_gpus - num_used} of this machine's {num_gpus} GPUs are idle; to use all of them, "
        f"launch the script with: accelerate launch --multi_gpu --num_processes "
        f"{num_gpus * num_machines}{machines}"
    )


def _num_processes_asked(environment: Mapping[str, str]) -> int:
    """How many processes the launcher was asked for, from the environment that it sets."""

    num_tasks = _number(environment, "SLURM_STEP_NUM_TASKS", 1, least=1)
    # A launcher of each task may know of the others.
    num_groups = _number(environment, "GROUP_WORLD_SIZE", num_tasks)
    if num_tasks > 1 and ("WORLD_SIZE" not in environment or num_groups != num_tasks):
        raise InputError(
            f"srun started {num_tasks} tasks that do not know of each other, so each would be a "
            f"run of its own; launch as slurm/train.sbatch does, or give srun --ntasks 1"
        )
    # `accelerate launch` on a CPU sets the address to meet at, then starts a single process.
    by_accelerate = "ACCELERATE_MIXED_PRECISION" in environment
    if by_accelerate and "MASTER_ADDR" in environment and "WORLD_SIZE" not in environment:
        raise InputError(
            "accelerate launch was asked for several processes on a CPU and started one; launch "
            "with: torchrun --nproc_per_node N train.py (for one process: --num_processes 1, and "
            "unset MASTER_ADDR if you have set it)"
        )
    name = next((name for name in WORLD_SIZES if name in environment), "WORLD_SIZE")
    num_asked = _number(environment, name, 1, least=1)
    if num_asked > 1 and "MASTER_ADDR" not in environment:
        raise InputError(
            f"{name} is {num_asked}, and no MASTER_ADDR says where the processes meet; "
            f"{_LAUNCH_ADVICE}"
        )
    return num_asked


class StopSignals:
    """Collects stop signals; all ranks agree on stopping between updates.

    A context, which handles the signals. While a run loads, a signal raises Interrupted at once;
    while it trains, the processes agree by any_rank_signalled(). A second Ctrl-C, at least a second
    after the first, stops at once.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.signal, self._since = 0, 0.0  # the first signal, and when it came
        self.between_updates = self._raises = True
        self._is_main = accelerator.is_main_process
        # A group for the CPUs: asking through a GPU would make each process wait for its GPU.
        several = accelerator.num_processes > 1
        with _waiting(accelerator.num_processes):
            self._group = (
                distributed.new_group(backend="gloo", timeout=_LONGEST_WAIT) if several else None
            )

    def __enter__(self) -> "StopSignals":
        self._before = {}
        for number in STOP_SIGNALS:
            is_hangup = signal.Signals(number).name == "SIGHUP"  # which Windows does not know
            if is_hangup and signal.getsignal(number) == signal.SIG_IGN:
                continue  # nohup asks for that
            self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _) -> None:
        # Within a second, it is the launcher, which passes on the Ctrl-C that came from a terminal.
        again = self.signal == number == signal.SIGINT and time.monotonic() > self._since + 1
        if not self.signal:
            self.signal, self._since = number, time.monotonic()
        if self._raises or again:
            self._raises = False  # no signal disturbs the cleaning up
            raise Interrupted(self.signal)

    def any_rank_signalled(self) -> int:
        """The signal that any of the processes got, 0 for none: the same number on all of them."""
        if self._group is None:
            return self.signal
        number = torch.tensor(self.signal)
        distributed.all_reduce(number, distributed.ReduceOp.MAX, self._group)
        return int(number)

    def wait_for_all(self) -> None:
        """Wait for all processes: a launcher ends the others as soon as one has ended."""
        if self._group is not None:
            distributed.barrier(self._group)

    def defer(self) -> None:
        """From here on, let signals wait for any_rank_signalled()."""
        self._raises = self.between_updates = False

    @contextmanager
    def interruptible(self, save: Callable[[], None]) -> Iterator[None]:
        """Between updates, let a signal to the main process call save() and end the run at once.

        The other processes continue until the end of the main process ends them.
        """
        try:
            self.between_updates, self._raises = True, self._is_main
            if self.signal and self._is_main:
                raise Interrupted(self.signal)
            yield
            self.defer()
        except Interrupted:
            self._raises = False
            save()
            raise


class Status:
    """The state of a run in a file, for job scripts: launchers change exit codes."""

    EVERY = 5.0  # least seconds between two writes while the run trains

    def __init__(self, path: Path | None) -> None:
        self.path, self.facts = path, {}
        self._written = -math.inf

    def running(self, update: int) -> None:
        """Note the update that the run has reached."""
        self.facts["update"] = update
        if time.monotonic() > self._written + self.EVERY:
            self.write("running")

    def write(self, state: str, **facts: Any) -> None:
        """Write the state: running, interrupted, finished or failed."""
        self._written = time.monotonic()
        if self.path is not None and self.path.parent.is_dir():
            write_json(self.path, {"state": state} | self.facts | facts)


@dataclass(frozen=True)
class Session:
    """What a process of a run needs to work with the others."""

    accelerator: Accelerator
    stop: StopSignals
    status: Status

    @property
    def is_main(self) -> bool:
        return self.accelerator.is_main_process


@contextmanager
def watching(
    accelerator: Accelerator, program: str, status: Status | None = None
) -> Iterator[None]:
    """Meanwhile, end this process with one line as soon as another host of the run is lost.

    The main thread may wait for that host in code of C++, where nothing else reaches it. Files are
    whole, as after SIGKILL.
    """

    def end(reason: str) -> None:
        try:
            if status is not None:
                status.write("failed", error=reason)
            fail(program, reason)
        finally:
            os._exit(2)

    with heartbeat(accelerator, end):
        yield


@contextmanager
def session(status: Path | None, program: str = "nerc") -> Iterator[Session]:
    """Start the processes' session; at its end, write how it ended to the status file, if any.

    program: the command, for the line that names a lost host.
    """
    accelerator = start()
    note = Status(status if accelerator.is_main_process else None)
    # Signals last: while the heartbeat ends, a launcher's must not replace what went wrong.
    with StopSignals(accelerator) as stop, watching(accelerator, program, note):
        try:
            note.write("running")
            with _lost_connections(stop):
                yield Session(accelerator, stop, note)
                stop.wait_for_all()  # else a launcher whose processes have ended would wait alone
        except Interrupted:
            note.write("interrupted")
            raise
        except BaseException as error:
            note.write("failed", error=f"{type(error).__name__}: {error}")
            raise
        note.write("finished")
    accelerator.end_training()


# What gloo, torch's store and NCCL say when the process at the other end has gone. Their other
# errors (out of memory, invalid usage, timeouts) are faults of this process or of the network.
_CONNECTION_LOST = re.compile(
    r"connection (was likely )?closed|connection reset by peer|broken pipe|socket closed"
    r"|socket unexpectedly closed|remote process exited|ncclRemoteError",
    re.IGNORECASE,
)


@contextmanager
def _lost_connections(stop: StopSignals) -> Iterator[None]:
    """Turn the error of a lost connection into one line; the log keeps the original text."""
    try:
        yield
    except RuntimeError as error:
        several = distributed.is_initialized() and distributed.get_world_size() > 1
        if not (several and _CONNECTION_LOST.search(str(error))):
            raise
        if stop.signal and stop.between_updates:
            raise Interrupted(stop.signal) from error
        logger.error(f"{type(error).__name__}: {error}")
        raise InputError(
            "another process of this run has ended; the reason is above, or in that process's "
            "output; --resume continues the run from its last checkpoint"
        ) from error


def from_main(accelerator: Accelerator, value: Any) -> Any:
    """The main process's value, on every process: text, numbers, lists and dicts of them."""
    return broadcast_object_list([value])[0] if accelerator.num_processes > 1 else value


def tensors_from_main(
    accelerator: Accelerator, tensors: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The main process's tensors, on every process, on its device."""
    received = {}
    shapes = {name: (t.shape, t.dtype) for name, t in tensors.items()}
    for name, (shape, dtype) in from_main(accelerator, shapes).items():
        received[name] = torch.empty(shape, dtype=dtype, device=accelerator.device)
        if accelerator.is_main_process:
            received[name].copy_(tensors[name])
        if accelerator.num_processes > 1:
            distributed.broadcast(received[name], 0)
    return received
