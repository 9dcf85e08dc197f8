"""The README's results: both recipes on expert and on LLM labels, a revision for each seed.

  python experiments/main_results.py --corpus DIR --encoder DIR --seeds 3

Revisions that are in models/ already are not trained again, so that it can be stopped and run
anew. Prints the table and writes main_results.jsonl, one line a run, beside this file.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULTS = HERE / "main_results.jsonl"
ARMS = [(data, recipe) for data in ("gold", "llm") for recipe in ("strong", "paper")]
FIGURES = [("validation", "f1"), ("test", "f1"), ("test", "accuracy")]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", help="folder with CoNLL-2003 and llm.txt; none: only the table")
    parser.add_argument("--encoder", help="folder of the pretrained encoder")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each arm (default: 3)")
    parser.add_argument("--num-threads", default="0", help="as of train.py")
    given = parser.parse_args()
    if given.corpus:
        for seed in range(given.seeds):
            for data, recipe in ARMS:
                train(data, recipe, seed, given)
        collect()
    sys.stdout.write(table() + "\n")


def train(data: str, recipe: str, seed: int, given: argparse.Namespace) -> None:
    """One revision, by the command that a person would type."""
    name = f"{recipe}_{data}_seed{seed}"
    if (ROOT / "models" / name).exists():
        return
    flags = f"--data {data} --recipe {recipe} --seed {seed} --revision {name}".split()
    for flag, folder in (("--corpus", given.corpus), ("--encoder", given.encoder)):
        flags += [flag, os.path.relpath(folder, ROOT)]
    flags += ["--num-threads", given.num_threads]
    subprocess.run([sys.executable, "train.py", *flags], cwd=ROOT, check=True)


def collect() -> None:
    """Write what the revisions' records say, without what belongs to one machine."""
    lines = []
    for data, recipe in ARMS:
        for folder in sorted((ROOT / "models").glob(f"{recipe}_{data}_seed*")):
            run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
            metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
            kept = ("recipe", "data", "seed", "optimizer", "lr", "head_lr", "batch_size", "epochs")
            config = {key: run["config"][key] for key in kept}
            hashes = {split: corpus["sha256"] for split, corpus in run["data"].items()}
            line = config | {"kept_epoch": run["kept_epoch"], "precision": run["precision"]}
            lines.append(line | {"git_commit": run["git_commit"], "data_sha256": hashes} | metrics)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    RESULTS.write_text(text, encoding="utf-8")


def table() -> str:
    """Mean and standard deviation of each arm, in percent, as Markdown."""
    runs = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    rows = ["| --data | --recipe | seeds | validation F1 | test F1 | test accuracy |"]
    rows += ["|---|---|---|---|---|---|"]
    for data, recipe in ARMS:
        arm = [run for run in runs if (run["data"], run["recipe"]) == (data, recipe)]
        if arm:
            seeds = ", ".join(str(run["seed"]) for run in arm)
            cells = [spread([100 * run[split][name] for run in arm]) for split, name in FIGURES]
            rows.append(f"| {data} | {recipe} | {seeds} | {' | '.join(cells)} |")
    return "\n".join(rows)


def spread(values: list[float]) -> str:
    """Mean, and the standard deviation of the sample where there are several values."""
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


if __name__ == "__main__":
    main()
