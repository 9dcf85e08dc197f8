"""What the machine offers a run, and what its record says of it: threads, precision, versions."""

import ctypes
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from nerc.errors import InputError

_LIBRARIES = ("torch", "transformers", "accelerate", "datasets", "seqeval", "tokenizers")


def set_threads(num_threads: int) -> int:
    """Let this process compute with num_threads CPU threads; 0: its share of the cores it may use.

    `accelerate launch` gives each process one thread where nobody said how many, which halves a
    CPU of two cores; so its choice does not count.
    """
    if not num_threads:
        processes_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        # Not every system can say which of the cores this process may use.
        can_say = hasattr(os, "sched_getaffinity")
        cores = len(os.sched_getaffinity(0)) if can_say else os.cpu_count() or 1
        num_threads = max(1, cores // processes_here)
    torch.set_num_threads(num_threads)
    return num_threads


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next tensor instead of handing it back.

    Each training step would get the same pages anew from the system, which clears them first: an
    eighth of a step on two cores. Libraries other than glibc have no such choice.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, top_pad, mmap_max = -1, -2, -4  # of malloc.h
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(top_pad, 2**26)


def computes_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 matrices in hardware; elsewhere bf16 is slow."""
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
            f"--precision out, or say float32"
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
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _git_commit() -> str | None:
    """The commit of this checkout, with a + where files differ from it; None without git."""
    here = Path(__file__).parent
    try:
        command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
        found = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
