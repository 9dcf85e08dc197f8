"""Compare strategies of active learning with random choice, and with all expert labels.

  python experiments/active_learning.py run --corpus DIR --encoder DIR --seeds 0 1 2
  python experiments/active_learning.py table
  python experiments/active_learning.py plot

Every run is an active_learn.py without a validation split, so that validation can choose nothing.
Each of its rounds is a line in active_learning.jsonl beside this file. Runs that have their lines
are not run again, and one that was stopped continues; several processes may share the file. `table`
prints the tables of docs/active_learning.md from the file; `plot` draws active_learning.png and, of
chosen sentences and words, active_learning_words.png.
"""

import argparse
import json
import shlex
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT)]

from weak_labels import full_gold, lines, scores, taken  # noqa: E402

from nerc.active_learning import curves as learning_curves  # noqa: E402
from nerc.active_learning.curves import UNITS, Curve, Point, by_strategy  # noqa: E402
from nerc.tables import Rows, markdown, spread  # noqa: E402

RESULTS, PLOT = HERE / "active_learning.jsonl", HERE / "active_learning.png"
PLOT_OF_WORDS = HERE / "active_learning_words.png"
FIRST = "--recipe strong --expert 60"


class Run(NamedTuple):
    """One active_learn.py: its group in the tables, its flags, its strategies."""

    group: str
    flags: str
    strategies: str
    seeds: int = 9  # only seeds below this one are run


RUNS = [
    # With more expert sentences the curve is flatter, and needs fewer points.
    Run(
        "curves",
        f"{FIRST} --combine pretrain --word-shapes no --add 60 120 231 231 --rounds 4",
        "default random random-words mnlp",
    ),
    Run("best", f"{FIRST} --add 180 462 702 --rounds 3", "default"),
    # From about a tenth of the words of "best" on, to half of them.
    Run("words", f"{FIRST} --ask words --add 1000w 2500w 3500w --rounds 3", "default"),
    Run(
        "at 240",
        f"{FIRST} --combine pretrain --word-shapes no --add 180 --rounds 1",
        "default random mnlp least-confidence margin",
        1,
    ),
]
# Strategies that no longer exist; their records remain.
REMOVED = ["entropy-mean", "entropy-sum", "entropy-top", "bald", "label-error"]


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
    parser.add_argument(
        "--work", default="models/active", help="folder for the models of unfinished runs"
    )
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
                execute(run, seed, given)


def execute(run: Run, seed: int, given: argparse.Namespace) -> None:
    """Do one run, unless it has its lines or another process is doing it."""
    work = Path(given.work).absolute()
    work.mkdir(parents=True, exist_ok=True)
    store = work / f"{run.group.replace(' ', '_')}_seed{seed}"
    lock = taken(work / f"{store.name}.lock")
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
    flags += ["--repo", str(store), "--num-threads", given.num_threads]
    print(f"{store.name}: {shlex.join(flags)}", flush=True)
    subprocess.run([sys.executable, "active_learn.py", *flags], check=True, cwd=ROOT)
    with FileLock(work / "lock"), RESULTS.open("a", encoding="utf-8") as file:
        for line in round_lines(run, seed, store):
            file.write(json.dumps(line) + "\n")
    shutil.rmtree(store)
    lock.release()


def round_lines(run: Run, seed: int, store: Path) -> Iterator[dict[str, Any]]:
    """A line for every round."""
    for path in sorted(store.glob("*/run.json")):
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
            **{unit: about[unit] for unit in (*UNITS, "words_read")},
            "test": {k: metrics[k] for k in ("f1", "precision", "recall", "accuracy", "types")},
            "asking": about["asking"],
            "seconds": record["seconds"],
            "precision": record["precision"],
            "commit": record.get("git_commit") or record.get("commit"),
        }


# ------------------------------------------------------------ tables


def read(group: str) -> list[Curve]:
    """The learning curves of a group."""
    rounds = [line for line in lines(RESULTS) if line["group"] == group]

    def point(line: dict[str, Any]) -> Point:
        acquired = learning_curves.acquired_labels(line)
        return Point(line["name"], line["round"], acquired, {"test": line["test"]["f1"]})

    curves = []
    pairs = dict.fromkeys((line["strategy"], line["seed"]) for line in rounds if line["strategy"])
    for strategy, seed in pairs:
        rows = [x for x in rounds if x["seed"] == seed and x["strategy"] in (None, strategy)]
        points = sorted(map(point, rows), key=lambda p: p.round)
        curves.append(Curve(strategy, seed, points, HERE, []))
    order = next(run.strategies.split() for run in RUNS if run.group == group) + REMOVED
    return sorted(curves, key=lambda curve: (order.index(curve.strategy), curve.seed))


def best_and_words() -> list[Curve]:
    """The best choice of sentences, and of words; nothing unless there are runs of both."""
    best, words = read("best"), read("words")
    named = [replace(curve, strategy="words in doubt") for curve in words]
    return (
        [*(replace(curve, strategy="whole sentences") for curve in best), *named] if words else []
    )


def tables() -> str:
    """F1 by round, areas under the curves, and labels needed; then the other groups."""
    curves, best, compared = read("curves"), read("best"), best_and_words()
    full = statistics.mean(full_gold())
    all_rows = [
        by_round(curves, full),
        learning_curves.area_table(curves, "test"),
        learning_curves.lead_table(curves, "test"),
        learning_curves.share_table(curves, full, "test"),
        by_round(best, full),
        learning_curves.share_table(best, full, "test"),
        by_round(read("at 240"), full),
        by_round(read("words"), full),
        learning_curves.share_table(compared, full, "test"),
    ]
    return "\n\n".join(markdown(rows) for rows in all_rows if len(rows) > 1)


def by_round(curves: list[Curve], full: float) -> Rows:
    """Test F1 in percent after each round, means over seeds; strategies share the first row.

    full: F1 of all expert labels.
    """
    units = learning_curves.units_of(curves, UNITS[:2])
    rows = [["Strategy", *units, "seeds", "test F1", "of full gold"]]
    for strategy, group in by_strategy(curves).items():
        for number in range(len(rows) > 1, len(group[0].points)):
            points = [curve.points[number] for curve in group]
            f1 = [100 * point.f1["test"] for point in points]
            amounts = [
                f"{statistics.mean(point.acquired[unit] for point in points):,.0f}"
                for unit in units
            ]
            share = f"{statistics.mean(f1) / full:.1f} %"
            name = strategy if number else "the start"
            rows.append([name, *amounts, str(len(f1)), spread(f1), share])
    return rows


def plot() -> None:
    """Draw the curves, with the levels of all expert labels, of 702, and of weak labels alone."""
    others = scores()
    levels = {
        "all expert labels": statistics.mean(full_gold()),
        "702 drawn at random alone": statistics.mean(others["702", "experts alone", "whole"]),
        "weak labels alone": statistics.mean(others["0", "repaired", "whole"]),
    }
    PLOT.write_bytes(learning_curves.curve_plot(read("curves"), levels, "test"))
    if compared := best_and_words():
        PLOT_OF_WORDS.write_bytes(learning_curves.curve_plot(compared, levels, "test"))


if __name__ == "__main__":
    main()
