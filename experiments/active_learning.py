"""What choosing sentences is worth: strategies beside chance, and shares of full gold.

  python experiments/active_learning.py run --corpus DIR --encoder DIR --seeds 0 1 2
  python experiments/active_learning.py table
  python experiments/active_learning.py plot

Every run is an active_learn.py without a validation split, so that validation can choose nothing.
Each of its rounds is a line in active_learning.jsonl beside this file. Runs that have their lines
are not run again, and one that was stopped goes on where it was; several may go on at a time with
the same file. `table` makes the README's tables from the file, and `plot` active_learning.png.
"""

import argparse
import json
import shlex
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from weak_labels import full_gold, lines, scores, taken
from filelock import FileLock

from nerc.tables import markdown, spread

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULTS, PLOT = HERE / "active_learning.jsonl", HERE / "active_learning.png"
FIRST = "--recipe strong --expert 60"


class Run(NamedTuple):
    """One active_learn.py: its group in the tables, its flags, its strategies."""

    group: str
    flags: str
    strategies: str
    seeds: int = 9  # it is not run with this seed or a higher one


RUNS = [
    # With more expert sentences the curve is flatter, and needs fewer points.
    Run(
        "curves",
        f"{FIRST} --combine pretrain --add 60 120 231 231 --rounds 4",
        "default random random-words mnlp",
    ),
    Run("best", f"{FIRST} --add 180 462 702 --rounds 3", "default"),
    Run(
        "at 240",
        f"{FIRST} --combine pretrain --add 180 --rounds 1",
        "default random mnlp least-confidence margin entropy-mean entropy-sum entropy-top bald "
        "label-error",
        1,
    ),
]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["run", "table", "plot"])
    parser.add_argument("--corpus", help="folder with CoNLL-2003 and llm.txt")
    parser.add_argument("--encoder", help="folder of the pretrained encoder")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    groups = [run.group for run in RUNS]
    parser.add_argument("--only", nargs="+", choices=groups, default=groups, help="groups of runs")
    parser.add_argument("--work", default="models/active", help="where models lie meanwhile")
    parser.add_argument("--num-threads", default="0", help="as of active_learn.py")
    given = parser.parse_args()
    if given.action == "table":
        print(tables())
        return
    if given.action == "plot":
        plot()
        return
    if not (given.corpus and given.encoder):
        parser.error("run needs --corpus and --encoder")
    for seed in given.seeds:
        for run in RUNS:
            if seed < run.seeds and run.group in given.only:
                do(run, seed, given)


def do(run: Run, seed: int, given: argparse.Namespace) -> None:
    """One run, unless it has its lines or another process is at it."""
    work = Path(given.work).absolute()
    work.mkdir(parents=True, exist_ok=True)
    place = work / f"{run.group.replace(' ', '_')}_seed{seed}"
    lock = taken(work / f"{place.name}.lock")
    if lock is None or [run.group, seed] in [[x["group"], x["seed"]] for x in lines(RESULTS)]:
        return
    corpus = work / "corpus"
    with FileLock(work / "lock"):
        corpus.mkdir(exist_ok=True)
        for name in ("train.txt", "test.txt", "llm.txt"):
            link, wanted = corpus / name, Path(given.corpus, name).resolve()
            if not link.exists():
                link.symlink_to(wanted)
            elif link.resolve() != wanted:
                sys.exit(f"{link} is of another --corpus: give another --work")
    flags = [*run.flags.split(), "--strategy", *run.strategies.split(), "--seed", str(seed)]
    flags += ["--keep", "last", "--corpus", str(corpus), "--encoder", given.encoder, "--resume"]
    flags += ["--repo", str(place), "--num-threads", given.num_threads]
    print(f"{place.name}: {shlex.join(flags)}", flush=True)
    subprocess.run([sys.executable, "active_learn.py", *flags], check=True, cwd=ROOT)
    with FileLock(work / "lock"), RESULTS.open("a", encoding="utf-8") as file:
        for line in of_run(run, seed, place):
            file.write(json.dumps(line) + "\n")
    shutil.rmtree(place)
    lock.release()


def of_run(run: Run, seed: int, place: Path) -> Iterator[dict[str, Any]]:
    """A line for every round."""
    for path in sorted(place.glob("*/run.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        metrics = json.loads((path.parent / "metrics.json").read_text(encoding="utf-8"))["test"]
        about = record["active"]
        yield {
            "group": run.group,
            "strategy": about["strategy"],
            "seed": seed,
            "round": about["round"],
            "name": path.parent.name,
            "flags": run.flags,
            **{unit: about[unit] for unit in ("sentences", "words", "entities")},
            "test": {k: metrics[k] for k in ("f1", "precision", "recall", "accuracy", "types")},
            "asking": about["asking"],
            "seconds": record["seconds"],
            "precision": record["precision"],
            "commit": record.get("git_commit") or record.get("commit"),
        }


# ------------------------------------------------------------ tables


def read(group: str) -> list:
    """The learning curves of a group, as nerc.active_learning.curves has them."""
    from nerc.active_learning.curves import UNITS, Curve, Point

    own = [line for line in lines(RESULTS) if line["group"] == group]

    def point(line: dict[str, Any]) -> Point:
        bought = {unit: line[unit] for unit in UNITS}
        return Point(line["name"], line["round"], bought, {"test": line["test"]["f1"]})

    found = []
    for strategy, seed in dict.fromkeys((x["strategy"], x["seed"]) for x in own if x["strategy"]):
        rows = [x for x in own if x["seed"] == seed and x["strategy"] in (None, strategy)]
        points = sorted(map(point, rows), key=lambda p: p.round)
        found.append(Curve(strategy, seed, points, HERE))
    order = RUNS[[run.group for run in RUNS].index(group)].strategies.split()
    return sorted(found, key=lambda curve: (order.index(curve.strategy), curve.seed))


def tables() -> str:
    """F1 by round, areas under the curves, and labels needed; then the other groups."""
    from nerc.active_learning import curves

    own, best = read("curves"), read("best")
    whole = statistics.mean(full_gold())
    found = [
        by_round(own, whole),
        curves.areas(own, "test"),
        curves.leads(own, "test"),
        curves.shares(own, whole, "test"),
        by_round(best, whole),
        curves.shares(best, whole, "test"),
        by_round(read("at 240"), whole),
    ]
    return "\n\n".join(markdown(rows) for rows in found if len(rows) > 1)


def by_round(found: list, whole: float) -> list[list[str]]:
    """Test F1 in percent after each round, means over seeds; the first is of all strategies.

    whole: F1 of full gold.
    """
    from nerc.active_learning import curves

    rows = [["Strategy", "sentences", "words", "seeds", "test F1", "of full gold"]]
    for strategy, own in curves.by_strategy(found).items():
        for number in range(len(rows) > 1, len(own[0].points)):
            points = [curve.points[number] for curve in own]
            f1 = [100 * point.f1["test"] for point in points]
            bought = (
                f"{statistics.mean(p.bought[unit] for p in points):,.0f}"
                for unit in ("sentences", "words")
            )
            share = f"{statistics.mean(f1) / whole:.1f} %"
            name = strategy if number else "the start"
            rows.append([name, *bought, str(len(f1)), spread(f1), share])
    return rows


def plot() -> None:
    """The curves beside what all experts' labels, few, and the weak ones alone give."""
    from nerc.active_learning import curves

    own, others = read("curves"), scores()
    levels = {
        "all expert labels": statistics.mean(full_gold()),
        "702 drawn at random alone": statistics.mean(others["702", "experts alone", "whole"]),
        "weak labels alone": statistics.mean(others["0", "repaired", "whole"]),
    }
    PLOT.write_bytes(curves.curve_plot(own, levels, "test"))


if __name__ == "__main__":
    main()
