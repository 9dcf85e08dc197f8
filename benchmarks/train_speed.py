"""Compares training speed with transformers' Trainer: same encoder, sentences, batches and threads.

python benchmarks/train_speed.py --corpus DIR --encoder DIR
python benchmarks/train_speed.py --corpus DIR --encoder DIR --sentences 0 --epochs 5 --recipe paper

Every row is a process of its own, started again for each repetition, and the rows take turns. The
Trainer trains an AutoModelForTokenClassification with its own collator and the same optimiser and
schedule; nerc runs train.py. Columns: words per second of the last epoch, without validation; the
arithmetic of the real word pieces' matrix products as a share of what the device multiplies at most
in that precision (of peak); F1 on the same validation sentences; seconds of all epochs with their
validation (training) and of the whole process. Prints Markdown tables of medians, the second of how
nerc's updates spend their time; --record FILE keeps every run.
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

import records  # first: it finds nerc, which need not be installed
import tables
from records import ROOT

from nerc.config import TrainConfig

PEER = "Trainer"
# name -> flags of train.py, and the Trainer's arguments for the same settings
RECIPES = {
    "strong": (
        "--lr 2e-4 --head-lr 2e-4",
        {"learning_rate": 2e-4, "weight_decay": 0.01, "warmup_steps": 0.1, "max_grad_norm": 1.0}
        | {"lr_scheduler_type": "linear", "optim": "adamw_torch_fused"},
    ),
    "paper": (
        "",
        {"learning_rate": 1e-3, "weight_decay": 0.0, "max_grad_norm": 0.0}
        | {"lr_scheduler_type": "constant", "optim": "sgd", "optim_args": "momentum=0.9"},
    ),
}
# name -> how the row differs: flags of train.py (list) or the Trainer's arguments (dict)
ROWS = {
    f"{PEER}, float32": {"bf16": False},
    f"{PEER}, bf16": {"bf16": True},
    f"{PEER}, bf16, grouped by length": {
        "bf16": True,
        "train_sampling_strategy": "group_by_length",
    },
    "nerc without BiLSTM, float32": ["--precision", "float32", "--lstm-hidden-size", "0"],
    "nerc without BiLSTM, bf16": ["--precision", "bf16", "--lstm-hidden-size", "0"],
    "nerc with BiLSTM, float32": ["--precision", "float32"],
    "nerc with BiLSTM, bf16": ["--precision", "bf16"],
}


def main() -> None:
    parser = new_parser(__doc__, sentences=2000, judged=500)
    parser.add_argument("--recipe", choices=RECIPES, default="strong", help="(default: strong)")
    parser.add_argument("--only", nargs="+", default=list(ROWS), choices=ROWS, help="some rows")
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peer:
        sys.stdout.write(json.dumps(train_peer(given, ROWS[given.peer])) + "\n")
        return
    about = described("train_speed", given)
    rows = {name: ROWS[name] for name in given.only if can_run(name)}
    runs: dict[str, list[dict]] = {name: [] for name in rows}
    with tempfile.TemporaryDirectory() as place:
        given.corpus = cut(Path(given.corpus), Path(place), given.sentences, given.judged)
        for seed in range(given.repeats):
            for name, settings in rows.items():
                run = measure(name, settings, given, seed, Path(place))
                runs[name].append(run)
                print(f"{name}: {json.dumps(run)}", file=sys.stderr, flush=True)
        add_shares_of_peak(runs, given)
        measured = [about | {"row": name, "runs": of} for name, of in runs.items()]
        tables.report(measured, given.record)
        name, shares = where_the_time_goes(given)
        of_updates = {"benchmark": "updates", "row": name, "seeds": [0], "runs": [shares]}
        tables.report([about | of_updates], given.record)


def new_parser(
    description: str, *, sentences: int, judged: int, encoder: str = "a pretrained encoder"
) -> argparse.ArgumentParser:
    """The flags of every comparison with the Trainer; sentences and judged are defaults."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--corpus", required=True, help="folder with train.txt and valid.txt")
    add("--encoder", required=True, help=f"folder of {encoder}")
    add("--sentences", type=int, default=sentences, help="0: all (default: %(default)s)")
    add("--judged", type=int, default=judged, help="of validation (default: %(default)s)")
    add("--epochs", type=int, default=2, help="(default: 2)")
    add("--batch-size", type=int, default=32, help="(default: 32)")
    add("--repeats", type=int, default=3, help="of every row (default: 3)")
    records.add_flag(parser)
    return parser


def described(benchmark: str, given: argparse.Namespace) -> dict:
    """What the records of all rows of a comparison have in common."""
    how = {"threads": len(os.sched_getaffinity(0)), "device": records.device()}
    settings = "sentences judged epochs batch_size recipe"
    return records.about(benchmark, given, settings, seeds=[*range(given.repeats)], **how)


def can_run(name: str) -> bool:
    """Whether this machine can run the row; prints why where it cannot."""
    import torch

    from nerc.hardware import computes_bf16

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if "bf16" in name and not computes_bf16(device):
        reason = f"this machine's {device.type} does not compute in bf16"
        print(f"skipped: {name} ({reason})", file=sys.stderr)
        return False
    return True


def cut(corpus: Path, place: Path, num_train: int, num_validation: int) -> str:
    """Write evenly spaced sentences of a corpus (0: all) to the folder place."""
    for file, size in (("train.txt", num_train), ("valid.txt", num_validation)):
        sentences = re.split(r"\n\s*\n", (corpus / file).read_text(encoding="utf-8").strip())
        sentences = [s for s in sentences if not s.startswith("-DOCSTART-")]
        size = min(size or len(sentences), len(sentences))
        kept = [sentences[i * len(sentences) // size] for i in range(size)]
        (place / file).write_text("\n\n".join(kept) + "\n", encoding="utf-8")
    return str(place)


def measure(
    name: str, settings: list | dict, given: argparse.Namespace, seed: int, place: Path
) -> dict:
    """One run: words_per_second, training and process seconds, f1, and peak memory in GiB."""
    if isinstance(settings, list):
        flags = f"--recipe {given.recipe} {RECIPES[given.recipe][0]} --keep last --overwrite"
        flags += f" --epochs {given.epochs} --batch-size {given.batch_size} --seed {seed}"
        flags += f" --checkpoint-every never --repo {place}/models"
        command = ["train.py", "--corpus", given.corpus, "--encoder", given.encoder]
        command += [*flags.split(), *settings]
        if given.recipe == "strong" and "with BiLSTM" in name:
            command += ["--head-lr", "1e-3"]  # a new BiLSTM needs larger steps
    else:
        command = ["benchmarks/train_speed.py", "--peer", name, "--seed", str(seed)]
        for flag in ("corpus", "encoder", "epochs", "batch_size", "recipe"):
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
    if isinstance(settings, list):
        folder = place / "models" / "model_primary"
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        found = {"words_per_second": run["epochs"][-1]["words_per_second"]}
        found["training"] = sum(epoch["seconds"] for epoch in run["epochs"])
        found["f1"] = metrics["validation"]["f1"]
    else:
        found = json.loads(printed.splitlines()[-1])
    return found | {"process": round(seconds, 1), "gib": round(usage.ru_maxrss / 2**20, 2)}


def train_peer(given: argparse.Namespace, settings: dict) -> dict:
    """Train with transformers' Trainer, as in its documentation."""
    import numpy as np
    import torch
    from transformers import (
        AutoModelForTokenClassification,
        AutoTokenizer,
        DataCollatorForTokenClassification,
        Trainer,
        TrainerCallback,
        TrainingArguments,
        set_seed,
    )

    from nerc.data import sources, tags
    from nerc.evaluation.metrics import f1_score

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    set_seed(given.seed)
    inventory = tags.inventory(tags.CONLL_TYPES)[:9]
    # Of bytes, RoBERTa's wants the space before a word; others take no notice.
    tokenizer = AutoTokenizer.from_pretrained(given.encoder, add_prefix_space=True)
    # Weights in half precision would be trained in it, which is many times slower on a CPU.
    model = AutoModelForTokenClassification.from_pretrained(
        given.encoder, num_labels=len(inventory), dtype=torch.float32
    )

    class Clock(TrainerCallback):
        def on_epoch_begin(self, *_, **__) -> None:
            self.started = time.perf_counter()

        def on_epoch_end(self, *_, **__) -> None:
            self.seconds = time.perf_counter() - self.started

    train, validation = (sources.load(given.corpus, split) for split in ("train", "validation"))
    clock = Clock()
    with tempfile.TemporaryDirectory() as place:
        arguments = TrainingArguments(
            place,
            per_device_train_batch_size=given.batch_size,
            per_device_eval_batch_size=64,
            num_train_epochs=given.epochs,
            eval_strategy="epoch",
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            seed=given.seed,
            **RECIPES[given.recipe][1],
            **settings,
        )
        judged = peer_rows(validation, tokenizer, inventory)
        trainer = Trainer(
            model,
            arguments,
            train_dataset=peer_rows(train, tokenizer, inventory),
            eval_dataset=judged,
            data_collator=DataCollatorForTokenClassification(tokenizer),
            callbacks=[clock],
        )
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
        found = trainer.predict(judged)
    rows_of_ids = zip(found.predictions.argmax(-1), np.asarray(found.label_ids), strict=True)
    predicted, gold = [], []  # in the order of the Trainer, which may group them by length
    for best, labels in rows_of_ids:
        predicted.append([inventory[i] for i in best[labels != -100]])
        gold.append([inventory[i] for i in labels[labels != -100]])
    speed = train.num_words / clock.seconds
    f1 = f1_score(gold, predicted)
    return {"words_per_second": round(speed), "training": round(seconds, 1), "f1": f1}


def peer_rows(corpus, tokenizer, inventory) -> list[dict]:
    """Sentences for the collator: a label for the first piece of each word, -100 elsewhere."""
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


def add_shares_of_peak(runs: dict[str, list[dict]], given: argparse.Namespace) -> None:
    """Add to each run its share of the device's peak, and that peak in GFLOP/s."""
    from nerc.data import sources

    corpus = sources.load(given.corpus, "train")
    # Every weight is multiplied and added once in the forward pass and twice in the backward pass.
    work = {lstm: 3 * arithmetic(given.encoder, corpus, lstm) for lstm in (False, True)}
    peaks = {bf16: peak(bf16) for bf16 in {"bf16" in name for name in runs}}
    for name, of in runs.items():
        for run in of:
            run |= of_peak(run["words_per_second"] * work["with BiLSTM" in name], peaks, name)


def of_peak(rate: float, peaks: dict[bool, float], name: str) -> dict[str, float]:
    """The share that operations a second have of the peak in a row's precision, and GFLOP/s."""
    fastest = peaks["bf16" in name]
    return {"of_peak": rate / fastest, "peak": fastest / 1e9}


def arithmetic(encoder: str, corpus, with_lstm: bool) -> float:
    """Floating-point operations of the forward pass's matrix products, for a word of corpus."""
    from torch import nn

    from nerc.model import encoding, loading
    from nerc.model.tokenizer import load_tokenizer

    size = loading.LSTM_HIDDEN_SIZE if with_lstm else 0
    tagger = loading.from_encoder(encoder, corpus.inventory(), lstm_hidden_size=size, dropout=0.0)
    tokenizer = load_tokenizer(encoder, tagger.config.vocab_size)
    pieces = encoding.encode_for(tagger, tokenizer, corpus).num_pieces() + 2
    encoder = tagger.base_model
    tables = {id(m.weight) for m in encoder.modules() if isinstance(m, nn.Embedding)}
    matrices = (p for p in encoder.parameters() if p.ndim > 1 and id(p) not in tables)
    of_pieces = sum(p.numel() for p in matrices)
    head = [*tagger.classifier.parameters(), *(tagger.lstm.parameters() if size else [])]
    of_words = sum(p.numel() for p in head if p.ndim > 1)
    return 2 * (of_pieces * int(pieces.sum()) / corpus.num_words + of_words)


def peak(bf16: bool) -> float:
    """Operations per second of a product of large matrices, by the library that is the fastest: the
    median of several.
    """
    import torch

    from nerc.model.products import linear

    device, size = ("cuda", 8192) if torch.cuda.is_available() else ("cpu", 2048)
    dtype = torch.bfloat16 if bf16 else torch.float32
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    a, b = torch.randn(2, size, size, device=device).to(dtype)
    seconds = []
    for _ in range(30):
        started = time.perf_counter()
        linear(a, b)[0, 0].item()  # waits for the result
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / statistics.median(seconds)


KINDS = {  # torch's operations by kind
    "matrix products": ("mm", "addmm", "bmm", "baddbmm", "mkldnn::_linear_pointwise")
    + ("mkldnn_rnn_layer", "mkldnn_rnn_layer_backward", "_thnn_fused_lstm_cell", "_cudnn_rnn"),
    "optimiser and clipping": ("_fused_adamw_", "_fused_sgd_", "linalg_vector_norm"),
    "copies and casts": ("copy_", "cat", "index_select", "index_copy", "index"),
    "fresh zeros": ("fill_", "zero_"),
    "softmax, GELU, norms": ("_softmax", "gelu", "native_layer_norm", "_softmax_backward_data")
    + ("gelu_backward", "native_layer_norm_backward"),
}


def where_the_time_goes(given: argparse.Namespace) -> tuple[str, dict[str, float]]:
    """Training with BiLSTM in the best precision: its row; where up to eight updates' time goes."""
    from torch.profiler import profile

    from nerc import distributed, hardware
    from nerc.data import sources

    accelerator = distributed.start(uses_every_gpu=False)
    hardware.set_threads(0)
    hardware.keep_freed_memory()
    corpus = sources.load(given.corpus, "train")
    config = TrainConfig(recipe=given.recipe, batch_size=given.batch_size)
    bf16 = hardware.computes_bf16(accelerator.device)
    trained, updates = with_bilstm(given.encoder, corpus, config, accelerator, bf16=bf16)
    updates = updates[:16]
    half = max(1, len(updates) // 2)  # the first half warms up
    with trained.training_mode():
        for sentences in updates[:half]:
            trained.step(trained.model, sentences)
        with profile() as profiled:
            for sentences in updates[-half:]:
                trained.step(trained.model, sentences)
    on_gpu = accelerator.device.type == "cuda"
    spent = {
        event.key.removeprefix("aten::"): event.self_device_time_total
        if on_gpu
        else event.self_cpu_time_total
        for event in profiled.key_averages()
    }
    total = sum(spent.values())
    kinds = {kind: sum(spent.get(name, 0) for name in names) for kind, names in KINDS.items()}
    kinds["everything else"] = total - sum(kinds.values())
    shares = {kind: kinds[kind] / total for kind in records.KINDS}
    return f"nerc with BiLSTM, {'bf16' if bf16 else 'float32'}", shares


def with_bilstm(encoder: str, corpus, config, accelerator, trainer_class=None, *, bf16: bool):
    """A Trainer for the encoder with a new BiLSTM on corpus, and the updates of its first epoch."""
    from nerc.distributed import Session, Status, StopSignals
    from nerc.model import encoding, loading
    from nerc.model.tokenizer import load_tokenizer
    from nerc.training.batch_plan import plan
    from nerc.training.trainer import Trainer, TrainingData

    shape = {"lstm_hidden_size": loading.LSTM_HIDDEN_SIZE, "dropout": 0.1}
    tagger = loading.from_encoder(encoder, corpus.inventory(), **shape)
    tokenizer = load_tokenizer(encoder, tagger.config.vocab_size)
    encoded = encoding.encode_for(tagger, tokenizer, corpus)
    config = config.resolved(hidden_size=768, num_layers=12)
    trained = (trainer_class or Trainer)(
        tagger,
        TrainingData(encoded),
        config,
        Session(accelerator, StopSignals(accelerator), Status(None)),
        bf16=bf16,
    )
    return trained, plan(len(encoded), config.batch_size, config.seed, 1)


if __name__ == "__main__":
    main()
