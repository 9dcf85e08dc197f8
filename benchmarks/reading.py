"""Measures how fast files in columns are read, beside another version of nerc, and in what memory.

python benchmarks/reading.py --corpus DIR
git worktree add OTHER COMMIT && python benchmarks/reading.py --corpus DIR --other OTHER

Reads train.txt in turns of this version and the other one, each time in a process of its own, whose
imports do not count; then, by this version, a file that repeats train.txt until it has a million
sentences. Prints a Markdown table: the median of the processor's seconds, its ratio to the other
version's, and the peak of the process's resident memory. --record FILE keeps every run.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import records
import tables
from records import ROOT

CHILD = """
import json, resource, sys, time
sys.path.insert(0, sys.argv[1])
from nerc.data.conll import read_conll
started = time.process_time()
corpus = read_conll(sys.argv[2])
seconds = time.process_time() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB
print(json.dumps({"sentences": len(corpus), "processor_seconds": seconds, "gib": peak / 2**20}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", required=True, help="folder with train.txt")
    parser.add_argument("--other", help="folder of the other version's files")
    parser.add_argument("--sentences", type=int, default=1_000_000, help="default: 1,000,000")
    parser.add_argument("--repeats", type=int, default=15, help="turns (default: 15)")
    records.add_flag(parser)
    given = parser.parse_args()
    about = records.about("reading", given, "", threads=1, seeds=[])
    train = Path(given.corpus) / "train.txt"
    trees = {"this version": ROOT}
    if given.other:
        trees["the other one"] = other = Path(given.other)
        about["settings"] |= {"other": tables.short(records.commit(other) or other.resolve().name)}
    runs: dict[str, list[dict]] = {name: [] for name in trees}
    for turn in range(given.repeats):
        for name in sorted(trees, reverse=turn % 2 == 1):
            runs[name].append(read(trees[name], train))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.txt"
        text = train.read_text(encoding="utf-8").rstrip() + "\n\n"
        copies = -(-given.sentences // runs["this version"][0]["sentences"])
        with path.open("w", encoding="utf-8") as file:
            for _ in range(copies):
                file.write(text)
        runs["this version, text repeated"] = [read(ROOT, path)]
    measured = [about | {"row": name, "runs": of} for name, of in runs.items()]
    tables.report(measured, given.record)


def read(tree: Path, path: Path) -> dict:
    """Sentences, seconds and GiB of a version that reads a file."""
    command = [sys.executable, "-c", CHILD, str(tree.resolve()), str(path.resolve())]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd="/")
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
