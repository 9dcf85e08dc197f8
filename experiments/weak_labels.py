"""What weak labels are worth: ways to combine them with a few expert ones, and what a step buys.

  python experiments/weak_labels.py run --corpus DIR --encoder DIR --seeds 0 1 2
  python experiments/weak_labels.py table

Every run is a train.py without a validation split, so that validation can choose nothing, and a
line in weak_labels.jsonl beside this file. Runs that have their line are not run again; --only
takes those of some groups; several may go on at a time with the same file. `table` makes the
README's tables from the file.
"""

import argparse
import json
import re
import shlex
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from nerc.tables import gain, markdown, spread

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))
RESULTS = HERE / "weak_labels.jsonl"
FULL_GOLD = "results/strong_gold_seed*/metrics.json"  # what all shares are shares of
LLM = "--data llm --recipe strong"
MIXED = "--data mixed --recipe strong"
GOLD = "--data gold --recipe strong"


STEPS = ("without", "with")  # groups of selftrain with one step changed
ALONE = "selftrain, one teacher alone"  # what one of its stages gives


class Run(NamedTuple):
    """One training: its group and name in the tables, the pool of experts, and train.py's flags."""

    group: str
    name: str
    pool: str  # whole: all training sentences; llm: those that have weak labels; or a --corpus
    flags: str
    seeds: int  # it is not run with this seed or a higher one
    constants: dict[str, Any] = {}  # of nerc.training.combine, for what no flag says

    def key(self, seed: int) -> list:
        return [self.group, self.name, self.pool, seed]


def runs() -> Iterator[Run]:
    """All of them, those first that matter most."""
    for pool in ("whole", "llm"):
        yield Run("240", "experts alone", pool, f"{GOLD} --expert 240", 9)
        yield Run("240", "selftrain", pool, f"{MIXED} --expert 240", 9)
    as_they_are = f"{LLM} --repair none --epochs 4"
    yield Run("0", "as they are, in 4 epochs", "whole", as_they_are, 9)
    yield Run("0", "repaired", "whole", LLM, 9)
    for number in ("702", "1404"):
        yield Run(number, "experts alone", "whole", f"{GOLD} --expert {number}", 9)
        yield Run(number, "selftrain", "whole", f"{MIXED} --expert {number}", 9)
    for arm in ("concat", "replace", "weighted", "pretrain", "filter", "corrector"):
        yield Run("240", arm, "whole", f"{MIXED} --expert 240 --combine {arm}", 1)
    paper = "--data mixed --recipe paper --expert 240"
    yield Run("240", "concat, recipe paper", "whole", paper, 1)
    for corpus in ("sample:8000", "sample:8000:missing"):
        yield Run("sample 0", "as they are, in 4 epochs", corpus, as_they_are, 9)
        yield Run("sample 0", "repaired", corpus, LLM, 9)
        yield Run("sample 240", "experts alone", corpus, f"{GOLD} --expert 240", 9)
        yield Run("sample 240", "selftrain", corpus, f"{MIXED} --expert 240", 9)
    ablated = f"{MIXED} --expert 240"
    yield Run("without", "weak labels", "whole", ablated, 1, {"PRETRAIN_EPOCHS": 0})
    yield Run("without", "unlabelled text", "whole", f"{ablated} --unlabelled 0", 1)
    yield Run("without", "the second teacher", "whole", ablated, 9, {"TEACHERS": 1})
    yield Run("without", "other places' labels", "whole", ablated, 9, {"SENSE": 0.0})
    repair = "--repair well-formed form"
    yield Run("with", "repair", "whole", f"{ablated} {repair}", 1)
    for name, flags in (
        ("by form alone", "--repair form"),
        ("by well-formed alone", "--repair well-formed"),
        ("in 4 epochs", "--epochs 4"),
    ):
        yield Run("0", f"repaired {name}", "whole", f"{LLM} {flags}", 1)


def main() -> None:
    if sys.argv[1:2] == ["one"]:  # a run of do()
        one(json.loads(sys.argv[2]), sys.argv[3:])
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["run", "table"])
    parser.add_argument("--corpus", help="folder with CoNLL-2003 and llm.txt")
    parser.add_argument("--encoder", help="folder of the pretrained encoder")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--only", nargs="*", help="groups: 0, 240, 702, 1404, sample 0, ...")
    parser.add_argument("--work", default="models/weak_labels", help="where models lie meanwhile")
    parser.add_argument("--num-threads", default="0", help="as of train.py")
    given = parser.parse_args()
    if given.action == "table":
        print(tables())
        return
    if not (given.corpus and given.encoder):
        parser.error("run needs --corpus and --encoder")
    for seed in given.seeds:
        for run in runs():
            if seed < run.seeds and run.group in (given.only or [run.group]):
                do(run, seed, given)


def do(run: Run, seed: int, given: argparse.Namespace) -> None:
    """One run, unless it has its line or another process is at it."""
    work = Path(given.work)
    work.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^\w-]+", "_", "-".join(map(str, run.key(seed))))
    lock = taken(work / f"{name}.lock")
    if lock is None or run.key(seed) in [line["key"] for line in lines(RESULTS)]:
        return
    corpus = run.pool
    if run.pool in ("whole", "llm"):
        with FileLock(work / "lock"):
            corpus = str(make_corpus(work / run.pool, Path(given.corpus).resolve(), run.pool))
    flags = [*run.flags.split(), "--keep", "last", "--seed", str(seed), "--revision", name]
    flags += ["--corpus", corpus, "--repo", str(work)]
    flags += ["--encoder", "tiny" if run.group == "sample 240" else given.encoder]
    flags += ["--num-threads", given.num_threads, "--resume"]
    print(f"{name}: {shlex.join(flags)}", flush=True)
    one = [sys.executable, __file__, "one", json.dumps(run.constants), *flags]
    subprocess.run(one, check=True, cwd=ROOT)
    metrics = json.loads((work / name / "metrics.json").read_text(encoding="utf-8"))["test"]
    record = json.loads((work / name / "run.json").read_text(encoding="utf-8"))
    line = {
        "key": run.key(seed),
        "flags": run.flags,
        "constants": run.constants,
        "test": {k: metrics[k] for k in ("f1", "precision", "recall", "accuracy", "types")},
        "expert_words": record["data"]["train"]["words"] if "gold" in run.flags else None,
        "stages": record["stages"],
        "seconds": record["seconds"],
        "precision": record["precision"],
        "commit": record.get("git_commit") or record.get("commit"),
    }
    with FileLock(work / "lock"), RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    shutil.rmtree(work / name)
    lock.release()


def taken(path: Path) -> FileLock | None:
    """The lock of a run, until it is released or forgotten; None where another process has it."""
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return None
    return lock


def one(constants: dict[str, Any], flags: list[str]) -> None:
    """train.py, which also judges on the test split what every stage gives."""
    import train
    from nerc.evaluation import evaluator
    from nerc.training import combine, stages
    from nerc.training import run as runs

    for name, value in constants.items():
        setattr(combine, name, value)
    train_stage, train_all = stages.StageRunner._train, runs.train

    def watched(start, *args):
        def judged_stage(bench, *args):
            weights = train_stage(bench, *args)
            if bench.model.evidence is None:
                test = start.corpora["test"], start.encoded["test"]
                report = evaluator.evaluate(bench.model, *test, bf16=bench.bf16).report
                bench.stages[-1]["test_f1"] = report.f1
            return weights

        stages.StageRunner._train = judged_stage
        return train_all(start, *args)

    runs.train = watched
    train.main(flags)


def make_corpus(folder: Path, corpus: Path, pool: str) -> Path:
    """The corpus without its validation split; in the pool llm, experts know weakly labelled sentences only.

    There, the words of the others are unlabelled text.
    """
    made_from = folder / "made_from"
    if folder.exists():
        if made_from.read_text(encoding="utf-8") != str(corpus):
            sys.exit(f"{folder} was made from another --corpus: give another --work")
        return folder
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    for name in ("llm.txt", "test.txt") if pool == "llm" else ("llm.txt", "test.txt", "train.txt"):
        shutil.copy(corpus / name, new / name)
    if pool == "llm":
        shutil.copy(corpus / "train.txt", new / "unlabelled.txt")
        cheap = {words(block) for block in blocks(corpus / "llm.txt")}
        kept = {words(b): b for b in blocks(corpus / "train.txt") if words(b) in cheap}
        (new / "train.txt").write_text("\n\n".join(kept.values()) + "\n", encoding="utf-8")
    (new / made_from.name).write_text(str(corpus), encoding="utf-8")
    new.rename(folder)
    return folder


def blocks(path: Path) -> list[str]:
    """The sentences of a CoNLL file, as they stand there."""
    return [b for b in path.read_text(encoding="utf-8").split("\n\n") if b.strip()]


def words(block: str) -> tuple[str, ...]:
    return tuple(line.split()[0] for line in block.strip().split("\n"))


def lines(path: Path) -> list[dict[str, Any]]:
    """Of a file of JSON lines, none where it is not there."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# ------------------------------------------------------------ tables


def tables() -> str:
    """Test F1 in percent of each way, and its share of full gold's; then the built-in corpus."""
    full = full_gold()
    whole = statistics.mean(full)
    found = scores()
    rows = [["", "expert sentences", "seeds", "test F1", "of full gold"]]
    for (group, name, pool), own in found.items():
        if pool in ("whole", "llm") and group not in STEPS:
            number = group + (", LLM-labelled too" if pool == "llm" else "")
            share = f"{100 * statistics.mean(own) / whole:.1f} %"
            rows.append([name, number, str(len(own)), percent(own), share])
    rows.append(["full gold", "14,041", str(len(full)), percent(full), "100 %"])
    tables = [markdown(rows)]
    rows = steps()
    if len(rows) > 1:
        tables.append(markdown(rows))
    rows = [["sample", "weak labels", "expert sentences", "seeds", "test F1"]]
    for (group, name, pool), own in found.items():
        if pool not in ("whole", "llm"):
            noise = "miss names" if pool.endswith("missing") else "invent names"
            rows.append([name, noise, group.split()[1], str(len(own)), percent(own)])
    if len(rows) > 1:
        tables.append(markdown(rows))
    return "\n\n".join(tables)


def steps() -> list[list[str]]:
    """selftrain with one step changed, beside itself with the same seeds."""

    own: dict[tuple, dict[int, float]] = {}
    for line in lines(RESULTS):
        *which, seed = line["key"]
        own.setdefault(tuple(which), {})[seed] = line["test"]["f1"]
    rows = [["selftrain, 240 expert sentences", "seeds", "test F1", "difference, same seeds"]]
    for group, name, pool in (key for key in scores() if key[0] in STEPS):
        changed, itself = own[group, name, pool], own["240", "selftrain", pool]
        gains = [100 * (f1 - itself[seed]) for seed, f1 in changed.items()]
        own_spread = percent([*changed.values()])
        rows.append([f"{group} {name}", str(len(gains)), own_spread, gain(gains)])
    return rows


def full_gold() -> list[float]:
    """Test F1 of all expert labels, of each seed."""
    paths = sorted(HERE.glob(FULL_GOLD))
    return [json.loads(path.read_text(encoding="utf-8"))["test"]["f1"] for path in paths]


def scores() -> dict[tuple[str, str, str], list[float]]:
    """Test F1 of all seeds by group, name and pool, in the tables' order; stages are ways, too."""
    order: dict[tuple, list[float]] = {}
    for run in sorted(runs(), key=lambda run: (run.pool, _number(run.group))):
        order[run.group, run.name, run.pool] = []
        if run.name == "selftrain":
            order[run.group, ALONE, run.pool] = []
    for line in lines(RESULTS):
        group, name, pool, _ = line["key"]
        order[group, name, pool].append(line["test"]["f1"])
        for stage in line["stages"] if name == "selftrain" else ():
            if stage["name"] == "teacher 1":
                order[group, ALONE, pool].append(stage["test_f1"])
    return {key: own for key, own in order.items() if own}


def _number(group: str) -> float:
    """Where the rows of a group stand."""
    return 240 if group in STEPS else float(group.split()[-1])


def percent(values: list[float]) -> str:
    """Mean and standard deviation in percent."""
    return spread([100 * value for value in values])


if __name__ == "__main__":
    main()
