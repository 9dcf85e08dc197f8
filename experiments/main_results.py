"""Train both recipes on expert and on LLM labels, and on documents, a revision for each seed.

  python experiments/main_results.py --corpus DIR --encoder DIR --seeds 3

Revisions that are in --repo already are not trained again, so it can be stopped and started again.
Their records, without what belongs to one machine, are kept in results/ beside this file;
`python -m nerc results --repo experiments/results` makes the table of docs/training.md from them.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULTS = HERE / "results"
RUNS = {  # the begin of the names of revisions -> flags
    f"{recipe}_{data}": f"--data {data} --recipe {recipe}"
    for data in ("gold", "llm")
    for recipe in ("strong", "paper")
}
RUNS["strong_llm"] += " --repair none --epochs 4"  # weak_labels.py has the repaired ones
RUNS["document_gold"] = "--data gold --recipe strong --context document"
OF_ONE_MACHINE = ("command", "id", "files")  # fields of run.json


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", required=True, help="folder with CoNLL-2003 and llm.txt")
    parser.add_argument("--encoder", required=True, help="folder of the pretrained encoder")
    parser.add_argument("--repo", default="models", help="where the revisions go")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each kind (default: 3)")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=[*RUNS], help="kinds of runs")
    parser.add_argument("--num-threads", default="0", help="as of train.py")
    given = parser.parse_args()
    for seed in range(given.seeds):
        for name in given.only:
            train(name, seed, given)
    keep(Path(given.repo))


def train(name: str, seed: int, given: argparse.Namespace) -> None:
    """Train one revision with the command that a person would type."""
    revision = f"{name}_seed{seed}"
    if (Path(given.repo) / revision).exists():
        return
    flags = f"{RUNS[name]} --seed {seed} --revision {revision}".split()
    flags += ["--corpus", given.corpus, "--encoder", given.encoder, "--repo", given.repo]
    flags += ["--num-threads", given.num_threads]
    subprocess.run([sys.executable, str(ROOT / "train.py"), *flags], check=True)


def keep(repo: Path) -> None:
    """Copy the records of the revisions, without what belongs to one machine."""
    for name in RUNS:
        for folder in sorted(repo.glob(f"{name}_seed*")):
            run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
            run = {key: value for key, value in run.items() if key not in OF_ONE_MACHINE}
            run["revision"] = folder.name
            for key in ("corpus", "encoder"):
                run["config"][key] = Path(run["config"][key]).name
            metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
            kept = RESULTS / folder.name
            kept.mkdir(parents=True, exist_ok=True)
            for file, values in (("run.json", run), ("metrics.json", metrics)):
                text = json.dumps(values, indent=1) + "\n"
                (kept / file).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
