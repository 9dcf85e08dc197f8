"""Train on two hosts, cut the link between them at random moments, resume, compare the weights.

python benchmarks/two_hosts.py                          five cuts, and a slow link
python benchmarks/two_hosts.py --cuts 1 --launchers torchrun-c10d     whose launcher is not in time

The hosts are network namespaces of this machine, each joined to a switch by a veth pair; they have
names of their own, and share the disk and the cores. It needs root, Linux, iproute2 and util-linux.
A run is launched on both; a cut takes the second host's port of the switch down, so that the other
host hears nothing of it. Both launchers must end within 60 s, with a line on each host that names
the other one; then the link is joined and the run resumes. Moments are drawn uniformly over the
time that the fastest undisturbed run took from its first line to its end; a run that has saved its
model by then is not cut, and another is drawn. The last run has a link of 50 Mbit/s. The exit code
says whether all of that came true.
"""

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from nerc.tables import markdown  # noqa: E402

NAMES = "one", "two", "three", "four"
PORT = 29500
RUN = "--corpus sample:300 --recipe strong --epochs 5 --num-threads 1 --checkpoint-every 1"
RUN += " --precision float32 --revision run"
LAUNCHERS = "accelerate", "torchrun", "torchrun-c10d"
MOST_SECONDS = 60  # from a cut to the end of both launchers


class Hosts:
    """Network namespaces that are hosts of one network; a context, which removes them."""

    def __init__(self, number: int, place: Path) -> None:
        self.number, self.place = number, place
        self.switch = f"nerc{os.getpid()}switch"
        self.spaces = [f"nerc{os.getpid()}{name}" for name in NAMES[:number]]
        self.addresses = [f"10.77.0.{i + 1}" for i in range(number)]

    def __enter__(self) -> "Hosts":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # which removes the hosts
        lines = [f"{a} {n}" for a, n in zip(self.addresses, NAMES, strict=False)]
        (self.place / "hosts").write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))
        with ExitStack() as undo:
            undo.callback(self.remove)
            self.ip(f"netns add {self.switch}")
            self.ip(f"-n {self.switch} link add switch type bridge")
            self.ip(f"-n {self.switch} link set switch up")
            for i, (space, address) in enumerate(zip(self.spaces, self.addresses, strict=True)):
                self.ip(f"netns add {space}")
                self.ip(f"-n {self.switch} link add port{i} type veth peer eth0 netns {space}")
                self.ip(f"-n {self.switch} link set port{i} master switch up")
                self.ip(f"-n {space} address add {address}/24 dev eth0")
                self.ip(f"-n {space} link set eth0 up")
                self.ip(f"-n {space} link set lo up")
            undo.pop_all()
        return self

    def __exit__(self, *_) -> None:
        self.remove()

    def end_processes(self) -> None:
        for space in self.spaces:
            listed = ["ip", "netns", "pids", space]
            for pid in subprocess.run(listed, capture_output=True).stdout.split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)

    def remove(self) -> None:
        self.end_processes()
        for space in (self.switch, *self.spaces):
            subprocess.run(["ip", "netns", "delete", space], stderr=subprocess.DEVNULL)

    def ip(self, arguments: str) -> None:
        subprocess.run(["ip", *arguments.split()], check=True)

    def set_link(self, host: int, state: str) -> None:
        """Take the link between a host and the switch up or down."""
        self.ip(f"-n {self.switch} link set port{host} {state}")

    def slow_down(self, megabits: float) -> None:
        """Let every host send at most so many megabits per second."""
        # As much at once as the kernel's clock needs; a queue that drops nothing.
        burst, limit = max(131_072, int(megabits * 1000)), 4_000_000
        for space in self.spaces:
            tc = f"tc -n {space} qdisc replace dev eth0 root tbf"
            tc += f" rate {megabits}mbit burst {burst} limit {limit}"
            subprocess.run(tc.split(), check=True)

    def sent(self, host: int) -> int:
        """Bytes that a host has sent."""
        read = ["ip", "netns", "exec", self.spaces[host], "cat"]
        file = "/sys/class/net/eth0/statistics/tx_bytes"
        return int(subprocess.run([*read, file], check=True, capture_output=True).stdout)

    def start(self, host: int, command: Sequence[str], output: Path) -> subprocess.Popen:
        """Start a command on a host, in a process group of its own."""
        setup = f"hostname {NAMES[host]} && mount --bind {self.place}/hosts /etc/hosts"
        own = ["unshare", "--uts", "--mount", "sh", "-c", f'{setup} && exec "$@"', "sh"]
        inside = ["ip", "netns", "exec", self.spaces[host], *own]
        with output.open("w") as file:
            return subprocess.Popen(
                [*inside, *command], cwd=ROOT, stdout=file, stderr=file, start_new_session=True
            )


def launch(launcher: str, hosts: Hosts, script: Sequence[str], output: Path) -> list:
    """Start a script with a process on each host; the outputs go to the files output + host."""
    number, first = hosts.number, hosts.addresses[0]
    runs = []
    for i in range(number):
        torchrun = f"-m torch.distributed.run --nnodes {number} --nproc_per_node 1"
        how = {
            "accelerate": f"-m accelerate.commands.accelerate_cli launch --multi_gpu "
            f"--num_processes {number} --num_machines {number} --machine_rank {i} "
            f"--main_process_ip {first} --main_process_port {PORT}",
            "torchrun": f"{torchrun} --node_rank {i} --master_addr {first} --master_port {PORT}",
            "torchrun-c10d": f"{torchrun} --rdzv-backend c10d --rdzv-endpoint {first}:{PORT} "
            f"--rdzv-id run",
        }[launcher]
        runs.append(hosts.start(i, [sys.executable, *how.split(), *script], Path(f"{output}{i}")))
    return runs


def wait(runs: list, hosts: Hosts, seconds: float) -> list[float | None]:
    """Seconds until each of the launchers has ended; None, and killed, after so many seconds."""
    since, ended = time.monotonic(), dict.fromkeys(runs)
    while time.monotonic() < since + seconds and None in ended.values():
        for run in runs:
            if ended[run] is None and run.poll() is not None:
                ended[run] = time.monotonic() - since
        time.sleep(0.05)
    hosts.end_processes()
    for run in runs:
        run.wait()
    return list(ended.values())


def begun(output: Path, runs: list) -> None:
    """Wait until a run has printed its first line, or has ended."""
    while " processes on cpu" not in Path(f"{output}0").read_text():
        if any(run.poll() is not None for run in runs):
            return
        time.sleep(0.05)


def text_of(output: Path, host: int) -> str:
    return Path(f"{output}{host}").read_text(errors="replace")


def finish(launcher: str, hosts: Hosts, flags: Sequence[str], output: Path) -> float:
    """Train to the end; returns the seconds from the run's first line on."""
    runs = launch(launcher, hosts, ["train.py", *flags], output)
    begun(output, runs)
    since = time.monotonic()
    wait(runs, hosts, 1800)
    if any(run.returncode for run in runs):
        raise SystemExit(f"train.py failed:\n{text_of(output, 0)}{text_of(output, 1)}")
    return time.monotonic() - since


def same_weights(one: Path, two: Path) -> bool:
    a, b = (load_file(folder / "run/model.safetensors") for folder in (one, two))
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


def cut_and_resume(
    launcher: str, hosts: Hosts, flags: Sequence[str], place: Path, moment: float, whole: Path
) -> tuple[list[str], bool]:
    """A row of the table, and whether it is as it should be."""
    script = [*flags, "--repo", str(place / "models")]
    runs = launch(launcher, hosts, ["train.py", *script], place / "cut")
    begun(place / "cut", runs)
    time.sleep(moment)
    ended = "saved as" in text_of(place / "cut", 0)  # then only launchers would be cut
    if not ended:
        hosts.set_link(1, "down")
    seconds = wait(runs, hosts, 2 * MOST_SECONDS)
    hosts.set_link(1, "up")
    named = [
        re.findall(
            rf"error: .*nothing was heard of host {NAMES[1 - i]} ", text_of(place / "cut", i)
        )
        for i in (0, 1)
    ]
    finish(launcher, hosts, [*script, "--resume"], place / "resumed")
    resumed = re.search(r"resumed after update (\d+)", text_of(place / "resumed", 0))
    equal = same_weights(place / "models", whole)
    in_time = all(s is not None and s < MOST_SECONDS for s in seconds)
    by_all = all(len(lines) == 1 for lines in named)
    shown = [f"more than {2 * MOST_SECONDS}" if s is None else f"{s:.1f}" for s in seconds]
    answers = ["yes" if answer else "NO" for answer in (by_all, equal)]
    row = [
        launcher,
        f"{moment:.1f}",
        *shown,
        answers[0],
        resumed[1] if resumed else "-",
        answers[1],
    ]
    if ended:
        row[2:5] = ["had ended"] * 3
    return row, equal and in_time and (ended or by_all)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cuts", type=int, default=5, help="how many (default: 5)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument("--launchers", nargs="+", default=LAUNCHERS[:2], choices=LAUNCHERS)
    parser.add_argument("--keep", help="a folder for the runs' outputs and models")
    parser.add_argument("train", nargs="*", help=f"flags of train.py, beside {RUN}")
    given = parser.parse_args()
    flags, draw = [*RUN.split(), *given.train], random.Random(given.seed)
    rows, held = [], []
    with ExitStack() as stack:
        place = Path(given.keep or stack.enter_context(tempfile.TemporaryDirectory())).absolute()
        place.mkdir(parents=True, exist_ok=True)
        hosts = stack.enter_context(Hosts(2, place))
        whole, seconds = [], []
        for launcher in given.launchers:
            whole.append(place / f"whole_{launcher}")
            output = place / f"{launcher}_output"
            how = [*flags, "--repo", str(whole[-1])]
            seconds.append(finish(launcher, hosts, how, output))
            print(f"{launcher}, undisturbed: {seconds[-1]:.1f} s after its first line", flush=True)
            held.append(same_weights(whole[0], whole[-1]))
        num_cut = 0
        while num_cut < given.cuts:
            launcher = given.launchers[num_cut % len(given.launchers)]
            folder = place / f"cut{len(rows)}"
            folder.mkdir()
            how = [launcher, hosts, flags, folder, draw.uniform(0, min(seconds)), whole[0]]
            row, ok = cut_and_resume(*how)
            num_cut += "had ended" not in row
            print(" ".join(row), flush=True)
            rows.append(row)
            held.append(ok)
        hosts.slow_down(50)
        how = [*flags, "--repo", str(place / "slow")]
        slow = finish(given.launchers[0], hosts, how, place / "slow_output")
        held.append(same_weights(whole[0], place / "slow"))
        print(f"{given.launchers[0]}, 50 Mbit/s: {slow:.1f} s")
    head = ["launcher", "cut after s", "one ended after s", "two ended after s"]
    print(markdown([[*head, "each named the other", "resumed after update", "equal"], *rows]))
    print(f"{sum(held)} of {len(held)} runs as they should be")
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
