"""Measures how fast files in columns are read, beside another version of nerc, and in what memory.

python benchmarks/reading.py --corpus DIR
git worktree add OTHER COMMIT && python benchmarks/reading.py --corpus DIR --other OTHER

Reads train.txt in turns of this version and the other one, each time in a process of its own, whose
imports do not count; then, by this version, a file that repeats train.txt until it has a million
sentences. Prints a Markdown table: the median of the processor's seconds, its ratio to the other
version's, and the peak of the process's resident memory.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHILD = """
import json, resource, sys, time
sys.path.insert(0, sys.argv[1])
from nerc.data.conll import read_conll
started = time.process_time()
corpus = read_conll(sys.argv[2])
seconds = time.process_time() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB
print(json.dumps({"sentences": len(corpus), "seconds": seconds, "GiB": peak / 2**20}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", required=True, help="folder with train.txt")
    parser.add_argument("--other", help="folder of the other version's files")
    parser.add_argument("--sentences", type=int, default=1_000_000, help="default: 1,000,000")
    parser.add_argument("--repeats", type=int, default=15, help="turns (default: 15)")
    given = parser.parse_args()
    train = Path(given.corpus) / "train.txt"
    trees = {"this version": ROOT} | ({"the other one": Path(given.other)} if given.other else {})
    runs: dict[str, list[dict]] = {name: [] for name in trees}
    for turn in range(given.repeats):
        for name in sorted(trees, reverse=turn % 2 == 1):
            runs[name].append(read(trees[name], train))
    print("| | sentences | CPU seconds | ratio | GiB |\n|---|---:|---:|---:|---:|")
    medians = {name: statistics.median(run["seconds"] for run in of) for name, of in runs.items()}
    base = [*medians.values()][-1]  # of the other version, if there is one
    for name, of in runs.items():
        seconds = medians[name]
        print(row(f"{name}, median of {len(of)}", of[0] | {"seconds": seconds}, seconds / base))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.txt"
        text = train.read_text(encoding="utf-8").rstrip() + "\n\n"
        copies = -(-given.sentences // runs["this version"][0]["sentences"])
        with path.open("w", encoding="utf-8") as file:
            for _ in range(copies):
                file.write(text)
        print(row("this version, once", read(ROOT, path), None))


def read(tree: Path, path: Path) -> dict:
    """Sentences, seconds and GiB of a version that reads a file."""
    command = [sys.executable, "-c", CHILD, str(tree.resolve()), str(path.resolve())]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd="/")
    return json.loads(done.stdout)


def row(name: str, run: dict, ratio: float | None) -> str:
    ratio = "" if ratio is None else f"{ratio:.2f}"
    return f"| {name} | {run['sentences']:,} | {run['seconds']:.2f} | {ratio} | {run['GiB']:.2f} |"


if __name__ == "__main__":
    main()
