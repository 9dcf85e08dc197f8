"""Training speed beside transformers' own Trainer: same encoder, sentences, batch size and threads.

python benchmarks/train_speed.py --corpus DIR --encoder DIR
python benchmarks/train_speed.py --corpus DIR --encoder DIR --sentences 2000 --epochs 2 --repeats 3

Every row is a process of its own, started anew for each repetition, in turns. The Trainer trains a
BertForTokenClassification with transformers' collator for it, fused AdamW and the same schedule; we
are train.py as people call it. Words per second are those of the last epoch, without validation;
seconds go from the start of the process to its end, loading, tokenising and judging included. F1 is
of the same sentences of validation. Prints a Markdown table of medians.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # run from anywhere
LR = 2e-4  # of encoder and classifier, both sides
PEER = "Trainer"
# name -> what it differs in. Ours: flags of train.py; the Trainer's: its arguments.
ARMS = {
    f"{PEER}, float32": {"bf16": False},
    f"{PEER}, bf16": {"bf16": True},
    f"{PEER}, bf16, grouped by length": {
        "bf16": True,
        "train_sampling_strategy": "group_by_length",
    },
    "nerc, float32": ["--precision", "float32", "--lstm-hidden-size", "0"],
    "nerc, bf16": ["--precision", "bf16", "--lstm-hidden-size", "0"],
    # A new BiLSTM needs larger steps than a pretrained encoder.
    "nerc with BiLSTM, float32": ["--precision", "float32", "--head-lr", "1e-3"],
    "nerc with BiLSTM, bf16": ["--precision", "bf16", "--head-lr", "1e-3"],
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", required=True, help="folder with train.txt and valid.txt")
    parser.add_argument("--encoder", required=True, help="folder of a pretrained BERT")
    parser.add_argument("--sentences", type=int, default=2000, help="to train on (default: 2000)")
    parser.add_argument("--judged", type=int, default=500, help="of validation (default: 500)")
    parser.add_argument("--epochs", type=int, default=2, help="(default: 2)")
    parser.add_argument("--batch-size", type=int, default=32, help="(default: 32)")
    parser.add_argument("--repeats", type=int, default=3, help="of every row (default: 3)")
    parser.add_argument("--only", nargs="+", default=list(ARMS), choices=ARMS, help="some rows")
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peer:
        sys.stdout.write(json.dumps(train_peer(given, ARMS[given.peer])) + "\n")
        return
    arms = {name: ARMS[name] for name in given.only}
    if not computes_bf16():
        arms = {name: arm for name, arm in arms.items() if "bf16" not in name}
        print("this machine does not compute in bf16: no rows for it", file=sys.stderr)
    runs: dict[str, list[dict]] = {name: [] for name in arms}
    with tempfile.TemporaryDirectory() as place:
        given.corpus = cut(Path(given.corpus), Path(place), given.sentences, given.judged)
        for repeat in range(given.repeats):
            for name, arm in arms.items():
                run = measure(name, arm, given, repeat, Path(place))
                runs[name].append(run)
                print(f"{name}: {json.dumps(run)}", file=sys.stderr, flush=True)
    print(table(runs))


def computes_bf16() -> bool:
    import torch

    from nerc.machine import computes_bf16

    return computes_bf16(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def cut(corpus: Path, place: Path, num_train: int, num_validation: int) -> str:
    """A folder with so many sentences of a corpus, evenly spaced over it."""
    for file, size in (("train.txt", num_train), ("valid.txt", num_validation)):
        sentences = re.split(r"\n\s*\n", (corpus / file).read_text(encoding="utf-8").strip())
        sentences = [s for s in sentences if not s.startswith("-DOCSTART-")]
        size = min(size, len(sentences))
        kept = [sentences[i * len(sentences) // size] for i in range(size)]
        (place / file).write_text("\n\n".join(kept) + "\n", encoding="utf-8")
    return str(place)


def measure(name: str, arm, given: argparse.Namespace, seed: int, place: Path) -> dict:
    """One run: words_per_second, seconds, f1, and peak memory in GiB."""
    if isinstance(arm, list):
        flags = f"--recipe strong --keep last --epochs {given.epochs} --batch-size"
        flags += f" {given.batch_size} --lr {LR} --head-lr {LR} --seed {seed} --overwrite"
        flags += f" --checkpoint-every never --repo {place}/models"
        command = ["train.py", "--corpus", given.corpus, "--encoder", given.encoder]
        command += [*flags.split(), *arm]
    else:
        command = ["benchmarks/train_speed.py", "--peer", name, "--repeats", str(seed)]
        for flag in ("corpus", "encoder", "epochs", "batch_size"):
            command += [f"--{flag.replace('_', '-')}", str(getattr(given, flag))]
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT), "TRANSFORMERS_VERBOSITY": "error"}
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=environment, stdout=out, stderr=err
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        out.seek(0), err.seek(0)
        if status:
            raise SystemExit(f"{' '.join(command)} failed:\n{err.read()[-3000:]}")
        printed = out.read()
    if isinstance(arm, list):
        folder = place / "models" / "model_primary"
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        found = {"words_per_second": run["epochs"][-1]["words_per_second"]}
        found["f1"] = metrics["validation"]["f1"]
    else:
        found = json.loads(printed.splitlines()[-1])
    return found | {"seconds": round(seconds, 1), "gib": round(usage.ru_maxrss / 2**20, 2)}


def train_peer(given: argparse.Namespace, arm: dict) -> dict:
    """Train with transformers' Trainer, as its documentation does."""
    import numpy as np
    import torch
    from transformers import (
        AutoTokenizer,
        BertForTokenClassification,
        DataCollatorForTokenClassification,
        Trainer,
        TrainerCallback,
        TrainingArguments,
        set_seed,
    )

    from nerc import data, tags
    from nerc.metrics import f1_score

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    set_seed(given.repeats)
    inventory = tags.inventory(tags.CONLL_TYPES)[:9]
    tokenizer = AutoTokenizer.from_pretrained(given.encoder)
    # Weights kept in half precision would train in it, many times slower on a CPU.
    model = BertForTokenClassification.from_pretrained(
        given.encoder, num_labels=len(inventory), dtype=torch.float32
    )

    class Clock(TrainerCallback):
        def on_epoch_begin(self, *_, **__) -> None:
            self.started = time.perf_counter()

        def on_epoch_end(self, *_, **__) -> None:
            self.seconds = time.perf_counter() - self.started

    train, validation = (data.load(given.corpus, split) for split in ("train", "validation"))
    clock = Clock()
    with tempfile.TemporaryDirectory() as place:
        arguments = TrainingArguments(
            place,
            per_device_train_batch_size=given.batch_size,
            per_device_eval_batch_size=64,
            num_train_epochs=given.epochs,
            learning_rate=LR,
            weight_decay=0.01,
            warmup_steps=0.1,
            lr_scheduler_type="linear",
            optim="adamw_torch_fused",
            max_grad_norm=1.0,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            seed=given.repeats,
            **arm,
        )
        trainer = Trainer(
            model,
            arguments,
            train_dataset=peer_rows(train, tokenizer, inventory),
            data_collator=DataCollatorForTokenClassification(tokenizer),
            callbacks=[clock],
        )
        trainer.train()
        found = trainer.predict(peer_rows(validation, tokenizer, inventory))
    rows_of_ids = zip(found.predictions.argmax(-1), np.asarray(found.label_ids), strict=True)
    predicted, gold = [], []  # in the order of the Trainer, which may group these by length, too
    for best, labels in rows_of_ids:
        predicted.append([inventory[i] for i in best[labels != -100]])
        gold.append([inventory[i] for i in labels[labels != -100]])
    speed = train.num_words / clock.seconds
    return {"words_per_second": round(speed), "f1": f1_score(gold, predicted)}


def peer_rows(corpus, tokenizer, inventory) -> list[dict]:
    """Sentences as the collator wants them: a label for each word's first piece, -100 elsewhere."""
    encoded = tokenizer([list(s.words) for s in corpus], is_split_into_words=True)
    rows = []
    for i, sentence in enumerate(corpus):
        labels, before = [], None
        for word in encoded.word_ids(i):
            is_first = word is not None and word != before
            labels.append(inventory.index(sentence.tags[word]) if is_first else -100)
            before = word
        rows.append({"input_ids": encoded["input_ids"][i], "labels": labels})
    return rows


def table(runs: dict[str, list[dict]]) -> str:
    """Medians, and how much faster than the first row."""
    rows = ["| | words/s | times | F1 | seconds | GiB |", "|---|---:|---:|---:|---:|---:|"]
    first = None
    for name, found in runs.items():
        speed, f1, seconds, gib = (
            statistics.median(run[key] for run in found)
            for key in ("words_per_second", "f1", "seconds", "gib")
        )
        first = first or speed
        rows.append(
            f"| {name} | {speed:,.0f} | {speed / first:.2f} | {100 * f1:.1f} | {seconds:.0f} "
            f"| {gib:.1f} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    main()
