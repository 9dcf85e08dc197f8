"""What depends on the machine: threads, memory, precision, and the description for run.json."""

import ctypes
import logging
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

logger = logging.getLogger(__name__)

CPUINFO = Path("/proc/cpuinfo")
_MUCH = 1.3  # times as fast
_LIBRARIES = ("torch", "transformers", "accelerate", "datasets", "seqeval", "tokenizers")


def threads_asked(environment: Mapping[str, str]) -> int:
    """The number of CPU threads that a person set OMP_NUM_THREADS to; 0 where nobody did.

    Launchers set it to 1 for each process, which would leave cores idle, where it is not set.
    """
    text = environment.get("OMP_NUM_THREADS", "").partition(",")[0]
    is_launched = "WORLD_SIZE" in environment or "ACCELERATE_MIXED_PRECISION" in environment
    if not re.fullmatch("[1-9][0-9]{0,3}", text) or (is_launched and text == "1"):
        return 0
    return int(text)


def set_threads(num_threads: int) -> int:
    """Set and return this process's number of CPU threads.

    0: what OMP_NUM_THREADS says, else the process's share of the cores that it may use; fewer where
    fewer multiply faster, because other work or a quota keeps the cores from them.
    """
    num_threads = num_threads or threads_asked(os.environ)
    if num_threads:
        torch.set_num_threads(num_threads)
        return num_threads
    processes_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    # Not every system knows which of the cores this process may use.
    knows = hasattr(os, "sched_getaffinity")
    num_cores = len(os.sched_getaffinity(0)) if knows else os.cpu_count() or 1
    share = max(1, num_cores // processes_here)
    # Several processes would measure each other.
    num_threads = fewest_fast(share, _product_seconds) if processes_here == 1 else share
    if num_threads < share:
        logger.warning(
            f"this machine is busy, or gives nerc fewer cores than it has: {num_threads} of "
            f"{share} threads multiply faster; --num-threads {share} takes all"
        )
    torch.set_num_threads(num_threads)
    return num_threads


def fewest_fast(num_threads: int, seconds: Callable[[int], float]) -> int:
    """num_threads, halved as long as that makes the time of the same work much shorter."""
    taken = seconds(num_threads)
    while num_threads > 1 and taken > _MUCH * (by_half := seconds(num_threads // 2)):
        num_threads, taken = num_threads // 2, by_half
    return num_threads


def _product_seconds(num_threads: int) -> float:
    """How long a product takes that suits the cores of this process, by this many threads."""
    torch.set_num_threads(num_threads)
    a, b = (torch.full(shape, 0.01) for shape in ((512, 384), (384, 1536)))
    times = []
    for _ in range(4):
        started = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - started)
    return min(times[1:])  # the first one starts the threads


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
    """Whether torch multiplies bf16 matrices on the device by kernels of their own.

    They may be slower than those of float32: see nerc.model.precision.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def describe(accelerator: Accelerator) -> dict[str, Any]:
    """Versions and hardware, for run.json."""
    device = accelerator.device
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else processor_facts().get("model name", platform.processor())
    )
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


def processor_facts(cpuinfo: Path = CPUINFO) -> dict[str, str]:
    """What Linux says of the last processor, by its names for it; {} on other systems."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return {key.strip(): value.strip() for key, _, value in (x.partition(":") for x in lines)}


def _git_commit() -> str | None:
    """The commit of this checkout, followed by + where files differ from it; None without git."""
    here = Path(__file__).parent
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
    try:
        done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
