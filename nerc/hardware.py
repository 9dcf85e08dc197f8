"""What depends on the machine: threads, memory, precision, and the description for run.json."""

import ctypes
import logging
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from nerc.errors import InputError

logger = logging.getLogger(__name__)

_LIBRARIES = ("torch", "transformers", "accelerate", "datasets", "seqeval", "tokenizers")


def set_threads(num_threads: int) -> int:
    """Set this process's number of CPU threads; 0: its share of the cores that it may use.

    `accelerate launch` sets one thread for each process unless told otherwise, which would leave
    cores idle; so its choice is ignored.
    """
    if not num_threads:
        processes_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        # Not every system knows which of the cores this process may use.
        knows = hasattr(os, "sched_getaffinity")
        num_cores = len(os.sched_getaffinity(0)) if knows else os.cpu_count() or 1
        num_threads = max(1, num_cores // processes_here)
    torch.set_num_threads(num_threads)
    return num_threads


def busy_warning(load: float, num_cores: int, num_threads: int) -> str | None:
    """A warning where other work keeps the cores busy that num_threads threads want."""
    if num_threads == 1 or load < num_cores:
        return None
    return (
        f"this machine is busy (load {load:.1f} on {num_cores} cores), which makes {num_threads} "
        f"threads that wait for each other very slow: --num-threads 1 can be many times as fast"
    )


def warn_if_busy(num_threads: int) -> None:
    """Log busy_warning() for this machine, where the system tells its load."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if text := busy_warning(load, os.cpu_count() or 1, num_threads):
        logger.warning(text)


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next tensor.

    Otherwise each training step gets its pages from the system, which clears them first: an eighth
    of a step's time on two cores. Does nothing where the C library is not glibc.
    """
    if sys.platform == "win32":  # which cannot tell the functions of the program itself
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, top_pad, mmap_max = -1, -2, -4  # constants of malloc.h
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(top_pad, 2**26)


def computes_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 matrices in hardware; without that, bf16 is slow."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def choose_precision(precision: str, device: torch.device) -> str:
    """What --precision (auto, float32 or bf16) means on this device: float32 or bf16."""
    if precision == "auto":
        return "bf16" if computes_bf16(device) else "float32"
    if precision == "bf16" and not computes_bf16(device):
        raise InputError(
            f"--precision bf16: this machine's {device.type} does not compute in bf16; leave "
            f"--precision out, or give float32"
        )
    return precision


def describe(accelerator: Accelerator) -> dict[str, Any]:
    """Versions and hardware, for run.json."""
    device = accelerator.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()
    return {
        "versions": {"python": platform.python_version()} | {n: version(n) for n in _LIBRARIES},
        "hardware": {
            "device": device.type,
            "name": name,
            "processes": accelerator.num_processes,
            "threads_per_process": torch.get_num_threads(),
        },
        "git_commit": _git_commit(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _git_commit() -> str | None:
    """The commit of this checkout, followed by + where files differ from it; None without git."""
    here = Path(__file__).parent
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
    try:
        done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
