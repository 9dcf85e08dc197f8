"""Predict how long an update takes by processes and bandwidth, and compare with measurements.

python benchmarks/link_speed.py                      one, two and three hosts of this machine
python benchmarks/link_speed.py --plan 26.3 0.31     the prediction for 26.3 million parameters and
                                                     an update that takes one process 0.31 s

With N processes, P parameters and links of B bits per second each way, an update takes

    (C - F) / N + F + 32 P x 2 (N - 1) / N / B seconds:

C is an update of one process, of which F is not shared, such as the optimizer's step, and every
process sends its part of the gradients (float32) twice round a ring. DDP may send while it still
computes, so a real update is not slower. The hosts are those of two_hosts.py, and need what it
needs. They share this machine's cores, so computing is emulated: every process sleeps (C - F) / N +
F. The gradients of nerc's tiny encoder and what reduces them are real.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from two_hosts import Hosts, launch, text_of, wait

from nerc.tables import counted, markdown

SECONDS, FIXED = 0.6, 0.1  # of the emulated update
UPDATES = 9
LIMITS = None, 400, 100, 50  # megabits per second


def traffic(parameters: float, processes: int) -> float:
    """Bytes of gradients that a process sends in an update."""
    return 4 * parameters * 2 * (processes - 1) / processes


def computing(seconds: float, fixed: float, processes: int) -> float:
    return (seconds - fixed) / processes + fixed


def work() -> None:
    """As a process of a run: print parameters, seconds of an update, and bytes it sends."""
    import torch
    from torch import nn

    from nerc import distributed
    from nerc.data.tags import CONLL_TYPES, inventory
    from nerc.model.loading import TINY_LSTM_HIDDEN_SIZE, TINY_VOCAB_SIZE, tiny

    class Emulated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            how = {"lstm_hidden_size": TINY_LSTM_HIDDEN_SIZE, "dropout": 0.0}
            self.model = tiny(TINY_VOCAB_SIZE, inventory(CONLL_TYPES), **how)

        def forward(self, seconds: float) -> torch.Tensor:
            time.sleep(seconds)
            return sum(parameter.sum() for parameter in self.parameters())

    accelerator = distributed.start()
    model = accelerator.prepare(Emulated())
    sleep = computing(SECONDS, FIXED, accelerator.num_processes)
    counter = Path("/sys/class/net/eth0/statistics/tx_bytes")
    times, sent = [], []
    for _ in range(UPDATES + 2):  # DDP arranges its buckets anew after the first
        started = time.perf_counter()
        model.zero_grad()
        model(sleep).backward()
        times.append(time.perf_counter() - started)
        sent.append(int(counter.read_text()))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print("measured", parameters, statistics.median(times[2:]), (sent[-1] - sent[1]) / UPDATES)


def measure(processes: int, megabits: float | None) -> tuple[float, float, float]:
    """Parameters, seconds of an update and bytes that it sends."""
    with tempfile.TemporaryDirectory() as folder, Hosts(processes, Path(folder)) as hosts:
        if megabits:
            hosts.slow_down(megabits)
        output = Path(folder) / "output"
        wait(launch("torchrun", hosts, [__file__, "--work"], output), hosts, 600)
        text = text_of(output, processes - 1)
    found = [line.split()[1:] for line in text.splitlines() if line.startswith("measured")]
    if not found:
        raise SystemExit(f"the processes failed:\n{text}")
    return tuple(map(float, found[0]))


def compare() -> None:
    rows = [["hosts", "link, Mbit/s", "MB sent", "model", "seconds", "model", "ratio"]]
    for processes in (1, 2, 3):
        for megabits in LIMITS if processes > 1 else (None,):
            parameters, seconds, sent = measure(processes, megabits)
            ring = traffic(parameters, processes)
            model = computing(SECONDS, FIXED, processes)
            model += 8 * ring / (megabits * 1e6) if megabits else 0
            shown = f"{sent / 1e6:.2f}", f"{ring / 1e6:.2f}", f"{seconds:.3f}", f"{model:.3f}"
            limit = f"{megabits or 'no limit'}"
            rows.append([str(processes), limit, *shown, f"{seconds / model:.2f}"])
            print(*rows[-1], file=sys.stderr, flush=True)
    print(f"{parameters:,.0f} parameters; C = {SECONDS} s, F = {FIXED} s, median of {UPDATES}")
    print(markdown(rows))


def plan(parameters: float, seconds: float, fixed: float) -> None:
    """Print how many times as fast as one process several are, by bandwidth."""
    numbers = 2, 4, 8, 16
    rows = [["", *(counted(n, "process") for n in numbers)]]
    for gigabits in (1, 10, 25, 100, 400, 3600):
        links = [8 * traffic(parameters, n) / (gigabits * 1e9) for n in numbers]
        pairs = zip(numbers, links, strict=True)
        times = [computing(seconds, fixed, n) + link for n, link in pairs]
        rows.append([f"{gigabits:,} Gbit/s", *(f"{seconds / time:.2f}" for time in times)])
    least = 64 * parameters / (seconds - fixed)
    print(f"several are faster than one from {least / 1e9:.1f} Gbit/s on")
    print(markdown(rows))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    how = {"type": float, "nargs": 2, "metavar": ("MILLIONS", "SECONDS")}
    parser.add_argument("--plan", **how, help="parameters, and an update's time in one process")
    parser.add_argument("--fixed", type=float, default=0.0, help="F, with --plan (default: 0)")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.plan:
        plan(given.plan[0] * 1e6, given.plan[1], given.fixed)
    elif given.work:
        work()
    else:
        compare()


if __name__ == "__main__":
    main()
