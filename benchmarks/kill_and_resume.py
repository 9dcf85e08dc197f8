"""Kill a run at random moments, resume it, and compare it with an undisturbed run.

python benchmarks/kill_and_resume.py
python benchmarks/kill_and_resume.py --kills 5 --jobs 1 -- --corpus DIR --encoder DIR

The whole process group gets SIGKILL at moments drawn uniformly over the wall-clock time of the
undisturbed run; then the same command continues with --resume. Everything after -- goes to
train.py. Prints a line for each kill and the total; the exit code says whether all runs were equal.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = Path(__file__).parents[1]
RUN = "--corpus sample:500 --recipe strong --epochs 8 --num-threads 1 --checkpoint-every 1"
# float32 is what every machine computes in.
RUN += " --precision float32 --revision run"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20, help="moments to kill at (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (default: 2)")
    parser.add_argument("train", nargs="*", help=f"flags of train.py, beside {RUN}")
    given = parser.parse_args()
    flags = [*RUN.split(), *given.train]
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place) / f"whole{i}" for i in range(given.jobs)]
        started = time.perf_counter()
        with ThreadPoolExecutor(given.jobs) as pool:  # as many at a time as later, for equal speed
            list(pool.map(lambda folder: finish(flags, folder), folders))
        seconds = time.perf_counter() - started
        print(f"undisturbed: {seconds:.1f} s; train.py {' '.join(flags)}")
        print("killed at   in the middle of          resumed after update   weights  curves  kept")
        draw = random.Random(given.seed)
        moments = [draw.uniform(0, seconds) for _ in range(given.kills)]

        def try_one(number: int) -> bool:
            folder = Path(place) / f"killed{number}"
            return kill_and_resume(flags, folder, folders[0], moments[number])

        with ThreadPoolExecutor(given.jobs) as pool:
            held = list(pool.map(try_one, range(given.kills)))
    print(f"{sum(held)} of {len(held)} runs ended as the undisturbed one did")
    return 0 if all(held) else 1


def command(flags: list[str], folder: Path) -> list[str]:
    return [sys.executable, "train.py", *flags, "--repo", str(folder)]


def finish(flags: list[str], folder: Path, *more: str) -> str:
    """Run to the end and return the output."""
    done = subprocess.run(
        [*command(flags, folder), *more], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"train.py failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def kill_and_resume(flags: list[str], folder: Path, whole: Path, moment: float) -> bool:
    """Kill a run in folder after moment seconds, resume it, compare it with the one in whole."""
    run = subprocess.Popen(
        command(flags, folder),
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline, seen = time.monotonic() + moment, None
    checkpoints = folder / ".checkpoints" / "run"
    while time.monotonic() < deadline and run.poll() is None:
        seen = newest(checkpoints) or seen
        time.sleep(0.002)
    ended = run.poll() is not None
    if not ended:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    at = "nothing, it had ended" if ended else describe(checkpoints, folder)
    left = newest(checkpoints)
    out = finish(flags, folder, "--resume")
    resumed = next((line for line in out.splitlines() if line.startswith("resumed after")), "-")
    update = "-" if resumed == "-" else resumed.split()[3].replace(",", "")
    one, two = (load_file(f / "run/model.safetensors") for f in (whole, folder))
    equal = one.keys() == two.keys() and all(one[name].equal(two[name]) for name in one)
    curves = points(whole) == points(folder)
    kept = (
        ended or (left or "") >= (seen or "") and (left is None or int(left[7:14]) == int(update))
    )
    kept = kept or (folder / "run").exists() and update == "-"
    kept &= sorted(entry.name for entry in folder.iterdir()) == ["run"]
    answers = ["yes" if answer else "NO" for answer in (equal, curves, kept)]
    print(
        f"{moment:7.1f} s   {at:24s}  {update:>20s}   {answers[0]:>7s}"
        f"  {answers[1]:>6s}  {answers[2]:>4s}"
    )
    return equal and curves and kept


def newest(checkpoints: Path) -> str | None:
    return max((path.name for path in checkpoints.glob("update_*")), default=None)


def describe(checkpoints: Path, folder: Path) -> str:
    """What the run was doing when it was killed, judging by the files it left."""
    if any(checkpoints.glob(".update_*")):
        return "writing a checkpoint"
    if (folder / "run").exists():
        return "cleaning up"
    if (checkpoints / "revision").exists():
        return "writing the revision"
    return "training" if newest(checkpoints) else "loading"


def points(folder: Path) -> dict[str, list]:
    """Every curve as (update, value) in the order of the files; of speeds only the updates."""
    events = EventAccumulator(str(folder / "run/logs"), purge_orphaned_data=False).Reload()
    curves = {}
    for name in events.Tags()["scalars"]:
        scalars = events.Scalars(name)
        speeds = name.endswith("per_second")
        curves[name] = [(e.step, None if speeds else e.value) for e in scalars]
    return curves


if __name__ == "__main__":
    sys.exit(main())
