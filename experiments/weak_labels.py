"""Measure how much weak labels help: the methods to combine them with expert labels, step by step.

  python experiments/weak_labels.py run --corpus DIR --encoder DIR --seeds 0 1 2
  python experiments/weak_labels.py table

Every run is a train.py without a validation split, so validation cannot choose anything, and a line
in weak_labels.jsonl beside this file. Runs that have a line are not repeated; --only limits them to
some groups; several processes may work on the same file. `table` prints the tables of
docs/weak_labels.md from the file.
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
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))  # run from anywhere

from nerc.data.noise import SHARES, noisy  # noqa: E402
from nerc.data.tags import CONLL_TYPES, to_iob2  # noqa: E402
from nerc.tables import gain, markdown, spread  # noqa: E402

RESULTS = HERE / "weak_labels.jsonl"
FULL_GOLD = "results/strong_gold_seed*/metrics.json"  # 100 % in the tables
LLM = "--data llm --recipe strong"
MIXED = "--data mixed --recipe strong"
GOLD = "--data gold --recipe strong"
REPAIRED = f"{LLM} --repair well-formed form"
# What is wrong in the weak labels of the built-in corpus, and of those with planted errors.
ERRORS = {
    "sample:8000": "invent names",
    "missing": "miss names",
    "spurious": "add names",
    "type": "confuse types",
    "boundary": "move boundaries",
}

STEPS = ("without", "with")  # groups of selftrain with one step changed
ALONE = "selftrain, one teacher alone"  # the result of one of its stages


class Run(NamedTuple):
    """One training: its group and name in the tables, the pool of experts, and train.py's flags."""

    group: str
    name: str
    # whole: all training sentences; llm: those that have weak labels; missing, spurious, type,
    # boundary: all, and weak labels with planted errors; or a --corpus
    pool: str
    flags: str
    seeds: int  # only seeds below this one are run
    settings: dict[str, Any] = {}  # of nerc.training.combine.CombinationSettings

    def key(self, seed: int) -> list:
        return [self.group, self.name, self.pool, seed]


def runs() -> Iterator[Run]:
    """All runs, the most important ones first."""
    for pool in ("whole", "llm"):
        yield Run("240", "experts alone", pool, f"{GOLD} --expert 240", 9)
        yield Run("240", "selftrain", pool, f"{MIXED} --expert 240", 9)
    as_they_are = f"{LLM} --repair none --epochs 4"
    yield Run("0", "as they are, in 4 epochs", "whole", as_they_are, 9)
    yield Run("0", "repaired", "whole", REPAIRED, 9)
    for number in ("702", "1404"):
        yield Run(number, "experts alone", "whole", f"{GOLD} --expert {number}", 9)
        yield Run(number, "selftrain", "whole", f"{MIXED} --expert {number}", 9)
    for method in ("concat", "pretrain"):
        yield Run("240", method, "whole", f"{MIXED} --expert 240 --combine {method}", 1)
    paper = "--data mixed --recipe paper --expert 240"
    yield Run("240", "concat, recipe paper", "whole", paper, 1)
    for corpus in ("sample:8000", "sample:8000:missing"):
        yield Run("sample 0", "as they are, in 4 epochs", corpus, as_they_are, 9)
        yield Run("sample 0", "repaired", corpus, REPAIRED, 9)
        yield Run("sample 240", "experts alone", corpus, f"{GOLD} --expert 240", 9)
        yield Run("sample 240", "selftrain", corpus, f"{MIXED} --expert 240", 9)
        yield Run("sample 0", "repaired by auto", corpus, LLM, 9)
    for kind in SHARES:
        yield Run("planted 0", "as they are", kind, f"{LLM} --repair none", 9)
        yield Run("planted 0", "repaired by auto", kind, LLM, 9)
        yield Run("planted 240", "selftrain", kind, f"{MIXED} --expert 240", 9)
        corpus = f"sample:8000:{kind}"
        if kind != "missing":  # see above
            yield Run("sample 0", "as they are, in 4 epochs", corpus, as_they_are, 9)
            yield Run("sample 0", "repaired by auto", corpus, LLM, 9)
            yield Run("sample 240", "selftrain", corpus, f"{MIXED} --expert 240", 9)
    ablated = f"{MIXED} --expert 240"
    yield Run("without", "word shapes", "whole", f"{ablated} --word-shapes no", 9)
    yield Run("without", "weak labels", "whole", ablated, 1, {"pretrain_epochs": 0})
    yield Run("without", "unlabelled text", "whole", f"{ablated} --unlabelled 0", 1)
    yield Run("without", "the second teacher", "whole", ablated, 9, {"num_teachers": 1})
    without_others = {"consistency_weight": 0.0}
    yield Run("without", "other places' labels", "whole", ablated, 9, without_others)
    repair = "--repair well-formed form"
    yield Run("with", "repair", "whole", f"{ablated} {repair}", 1)
    for name, flags in (
        ("by form alone", f"{LLM} --repair form"),
        ("by well-formed alone", f"{LLM} --repair well-formed"),
        ("in 4 epochs", f"{REPAIRED} --epochs 4"),
    ):
        yield Run("0", f"repaired {name}", "whole", flags, 1)


def main() -> None:
    if sys.argv[1:2] == ["train"]:  # started by do()
        train_one(json.loads(sys.argv[2]), sys.argv[3:])
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["run", "table"])
    parser.add_argument("--corpus", help="folder with CoNLL-2003 and llm.txt")
    parser.add_argument("--encoder", help="folder of the pretrained encoder")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--only", nargs="*", help="groups: 0, 240, 702, 1404, sample 0, ...")
    parser.add_argument("--work", default="models/weak_labels", help="folder of unfinished models")
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
    """Do one run, unless it has a line or another process is doing it."""
    work = Path(given.work)
    work.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^\w-]+", "_", "-".join(map(str, run.key(seed))))
    lock = taken(work / f"{name}.lock")
    if lock is None or run.key(seed) in [line["key"] for line in lines(RESULTS)]:
        return
    corpus = run.pool
    if not run.pool.startswith("sample"):
        with FileLock(work / "lock"):
            corpus = str(make_corpus(work / run.pool, Path(given.corpus).resolve(), run.pool))
    flags = [*run.flags.split(), "--keep", "last", "--seed", str(seed), "--revision", name]
    flags += ["--corpus", corpus, "--repo", str(work)]
    flags += ["--encoder", "tiny" if run.group == "sample 240" else given.encoder]
    flags += ["--num-threads", given.num_threads, "--resume"]
    print(f"{name}: {shlex.join(flags)}", flush=True)
    command = [sys.executable, __file__, "train", json.dumps(run.settings), *flags]
    subprocess.run(command, check=True, cwd=ROOT)
    metrics = json.loads((work / name / "metrics.json").read_text(encoding="utf-8"))["test"]
    record = json.loads((work / name / "run.json").read_text(encoding="utf-8"))
    line = {
        "key": run.key(seed),
        "flags": run.flags,
        "constants": run.settings,
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
    """The lock of a run, held until it is released or garbage; None if another process has it."""
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return None
    return lock


def train_one(settings: dict[str, Any], flags: list[str]) -> None:
    """train.py, with other settings of the method, and with the test F1 of every stage."""
    import train
    from nerc.cli import parse, start_logging
    from nerc.evaluation import evaluator
    from nerc.training.combine import CombinationSettings

    def customize(setup):
        def evaluate_stage(record, runner) -> None:
            test = setup.corpora["test"], setup.encoded["test"]
            report = evaluator.evaluate(runner.model, *test, bf16=runner.bf16).report
            record["test_f1"] = report.f1

        setup = setup.with_settings(CombinationSettings(**settings))
        return replace(setup, on_stage=evaluate_stage)

    *configs, _ = parse(flags, train.PROGRAM, train.__doc__, *train.CONFIGS)
    start_logging()
    train.run(*configs, command=shlex.join([train.PROGRAM, *flags]), customize=customize)


def make_corpus(folder: Path, corpus: Path, pool: str) -> Path:
    """The corpus without its validation split.

    In the pool llm, only weakly labelled sentences have expert labels; the others are unlabelled.
    In the pools of SHARES, the weak labels are the experts' with errors of that kind.
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
        weak = {words(block) for block in blocks(corpus / "llm.txt")}
        kept = {words(b): b for b in blocks(corpus / "train.txt") if words(b) in weak}
        (new / "train.txt").write_text("\n\n".join(kept.values()) + "\n", encoding="utf-8")
    if pool in SHARES:
        (new / "llm.txt").write_text(planted(corpus, pool), encoding="utf-8")
    (new / made_from.name).write_text(str(corpus), encoding="utf-8")
    new.rename(folder)
    return folder


def planted(corpus: Path, kind: str, seed: int = 0) -> str:
    """The text of llm.txt, with the labels of train.txt and errors of one kind."""
    gold = {
        words(b): [line.split()[-1] for line in b.split("\n")] for b in blocks(corpus / "train.txt")
    }
    sentences = []
    for i, sentence in enumerate(map(words, blocks(corpus / "llm.txt"))):
        row = noisy(sentence, to_iob2(gold[sentence]), kind, CONLL_TYPES, [seed, i])
        sentences.append("\n".join(map(" ".join, zip(sentence, row, strict=True))))
    return "\n\n".join(sentences) + "\n"


def blocks(path: Path) -> list[str]:
    """The sentences of a CoNLL file, as text."""
    return [b.strip("\n") for b in path.read_text(encoding="utf-8").split("\n\n") if b.strip()]


def words(block: str) -> tuple[str, ...]:
    return tuple(line.split()[0] for line in block.strip().split("\n"))


def lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; none if there is no such file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# ------------------------------------------------------------ tables


def tables() -> str:
    """Test F1 of each method and its share of full gold's; the steps; other errors."""
    full = full_gold()
    whole = statistics.mean(full)
    by_run = scores()
    rows = [["", "expert sentences", "seeds", "test F1", "of full gold"]]
    for (group, name, pool), f1 in by_run.items():
        if pool in ("whole", "llm") and group not in STEPS:
            number = group + (", LLM-labelled too" if pool == "llm" else "")
            share = f"{100 * statistics.mean(f1) / whole:.1f} %"
            rows.append([name, number, str(len(f1)), percent(f1), share])
    rows.append(["full gold", "14,041", str(len(full)), percent(full), "100 %"])
    tables = [markdown(rows)]
    rows = steps()
    if len(rows) > 1:
        tables.append(markdown(rows))
    for text in ("sample", "planted"):
        rows = [[text, "weak labels", "expert sentences", "seeds", "test F1"]]
        for (group, name, pool), f1 in by_run.items():
            if group.startswith(text):
                errors = ERRORS[pool.removeprefix("sample:8000:")]
                rows.append([name, errors, group.split()[1], str(len(f1)), percent(f1)])
        if len(rows) > 1:
            tables.append(markdown(rows))
    return "\n\n".join(tables)


def steps() -> list[list[str]]:
    """selftrain with one step changed, and the difference to selftrain with the same seeds."""
    by_seed: dict[tuple, dict[int, float]] = {}
    for line in lines(RESULTS):
        *run, seed = line["key"]
        by_seed.setdefault(tuple(run), {})[seed] = line["test"]["f1"]
    rows = [["selftrain, 240 expert sentences", "seeds", "test F1", "difference, same seeds"]]
    for group, name, pool in (key for key in scores() if key[0] in STEPS):
        changed, unchanged = by_seed[group, name, pool], by_seed["240", "selftrain", pool]
        gains = [100 * (f1 - unchanged[seed]) for seed, f1 in changed.items()]
        rows.append([f"{group} {name}", str(len(gains)), percent([*changed.values()]), gain(gains)])
    return rows


def full_gold() -> list[float]:
    """Test F1 with all expert labels, for each seed."""
    paths = sorted(HERE.glob(FULL_GOLD))
    return [json.loads(path.read_text(encoding="utf-8"))["test"]["f1"] for path in paths]


def scores() -> dict[tuple[str, str, str], list[float]]:
    """Test F1 of all seeds by group, name and pool, in the order of the tables."""
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
    return {key: f1 for key, f1 in order.items() if f1}


def _number(group: str) -> float:
    """The number of expert sentences, by which groups are sorted."""
    return 240 if group in STEPS else float(group.split()[-1])


def percent(values: list[float]) -> str:
    """Mean and standard deviation in percent."""
    return spread([100 * value for value in values])


if __name__ == "__main__":
    main()
