"""Tests and measures nerc on a GPU, in one command: training, prediction, and each technique.

python benchmarks/gpu_speed.py --corpus DIR
python benchmarks/gpu_speed.py --corpus DIR --try

The encoder is a BERT of bert-base's size with random weights, which is as fast as a trained one,
and word pieces learnt from the corpus. The command runs the tests that need a GPU; the paper
recipe, 5 epochs over the whole training split with validation after each, compared with
transformers' Trainer (train_speed.py); prediction of the test split, compared with the pipeline
(predict_speed.py); and the time of an update by technique, compared with what was predicted for an
H200. --try does all this on a CPU, with a small encoder and few sentences, to see that it runs; it
prints what it skips.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # nerc need not be installed

from train_speed import with_bilstm  # noqa: E402

from nerc.config import TrainConfig  # noqa: E402

# name -> milliseconds of an update, predicted for an H200 from counts of kernels and bytes
# (bert-base, batches of 32); bf16 or not; CUDA graphs or not
UPDATES = {
    "float32": ("18 to 25", False, False),
    "bf16, BiLSTM without lengths from the host": ("10 to 15", True, False),
    "bf16, CUDA graphs of few sizes": ("2.8 to 3.8", True, True),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", required=True, help="train.txt, valid.txt and test.txt")
    parser.add_argument(
        "--try", action="store_true", dest="on_cpu", help="a small version, on a CPU"
    )
    given = parser.parse_args()

    import torch

    if not (torch.cuda.is_available() or given.on_cpu):
        parser.error("there is no GPU here; --try runs a small version on a CPU")
    python, here = sys.executable, Path(__file__).parent
    size = ["--sentences", "0", "--repeats", "1"]
    training = [*size, "--judged", "0", "--epochs", "5", "--recipe", "paper"]
    batches = ["1", "32", "128", "512"]
    if given.on_cpu:
        training = ["--sentences", "100", "--judged", "20", "--epochs", "1", "--recipe", "paper"]
        training += ["--repeats", "1"]
        size, batches = ["--sentences", "50", "--repeats", "1"], ["1", "8"]
    with tempfile.TemporaryDirectory() as encoder:
        make_encoder(given, encoder)
        common = ["--corpus", given.corpus, "--encoder", encoder]
        for title, command in (
            (
                "Parity with the plain path",
                ["-m", "pytest", "-q", "-rs", "tests/test_cuda_graphs.py"],
            ),
            ("Training", [here / "train_speed.py", *common, *training]),
            ("Prediction", [here / "predict_speed.py", *common, *size, "--batch-sizes", *batches]),
        ):
            print(f"\n## {title}\n", flush=True)
            subprocess.run([python, *map(str, command)], cwd=ROOT, check=True)
        print("\n## Milliseconds of an update, by technique\n")
        print("| | predicted | measured |\n|---|---:|---:|")
        for name, predicted, measured in techniques(given, encoder):
            print(f"| {name} | {predicted} | {measured} |", flush=True)


def make_encoder(given: argparse.Namespace, folder: str) -> None:
    """Write a random BERT and its tokenizer to folder."""
    import torch
    from transformers import BertConfig, BertModel

    from nerc.data import sources
    from nerc.model.tokenizer import learn_tokenizer

    torch.manual_seed(0)
    vocab_size = 4_000 if given.on_cpu else 28_996  # bert-base-cased's
    tokenizer = learn_tokenizer(sources.load(given.corpus, "train"), vocab_size)
    small = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    small |= {"intermediate_size": 256}
    config = BertConfig(vocab_size=len(tokenizer), **(small if given.on_cpu else {}))
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def techniques(given: argparse.Namespace, encoder: str):
    """Yield the name, the prediction and the measurement of each technique."""
    import torch
    from cuda_graphs import GraphedTrainer
    from torch.nn.utils.rnn import pack_padded_sequence

    from nerc import distributed
    from nerc.data import sources
    from nerc.model import layers
    from nerc.training.trainer import Trainer

    accelerator = distributed.start(uses_every_gpu=False)
    device = accelerator.device
    corpus = sources.load(given.corpus, "train")
    if given.on_cpu:
        corpus = corpus.select(range(200))
    for name, (predicted, bf16, graphs) in UPDATES.items():
        if device.type != "cuda" and (bf16 or graphs):
            yield name, predicted, "skipped: no GPU"
            continue
        config, kind = TrainConfig(recipe="paper"), GraphedTrainer if graphs else Trainer
        trained, updates = with_bilstm(encoder, corpus, config, accelerator, kind, bf16=bf16)
        tagger, updates = trained.model, iter(updates * 60)
        warm_up = 5 if given.on_cpu else 150  # enough to record graphs of most sizes
        update = lambda: trained.step(tagger, next(updates))  # noqa: B023, E731
        with trained.training_mode():
            measured = milliseconds(update, warm_up, 5 if given.on_cpu else 100)
        yield name, predicted, measured

    lengths = torch.tensor(corpus.table["words"].combine_chunks().value_lengths().to_pylist()[:32])
    lstm = tagger.lstm.to(device)
    words = torch.randn(int(lengths.sum()), lstm.input_size, device=device, requires_grad=True)
    grid = torch.randn(len(lengths), int(lengths.max()), lstm.input_size, device=device)
    grid.requires_grad_()

    def packed() -> None:
        rows = pack_padded_sequence(grid, lengths, batch_first=True, enforce_sorted=False)
        lstm(rows)[0].data.sum().backward()

    yield "BiLSTM alone, torch's packed LSTM", "", milliseconds(packed)
    grids = lambda: layers.bilstm(lstm, words, lengths).sum().backward()  # noqa: E731
    yield "BiLSTM alone, nerc's", "", milliseconds(grids)
    for name, how in (("one by one", {"foreach": False}), ("fused", {"fused": True})):
        sgd = torch.optim.SGD(tagger.to(device).parameters(), lr=0.0, momentum=0.9, **how)
        for parameter in tagger.parameters():
            parameter.grad = torch.zeros_like(parameter)
        yield f"SGD alone, {name}", "", milliseconds(sgd.step)


def milliseconds(work: Callable, warm_up: int = 5, times: int = 20) -> str:
    """The median time of a call; the device finishes its work after every five calls."""
    import torch

    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    for _ in range(warm_up):
        work()
    wait()
    found = []
    for _ in range(max(1, times // 5)):
        started = time.perf_counter()
        for _ in range(5):
            work()
        wait()
        found.append((time.perf_counter() - started) / 5)
    return f"{1e3 * statistics.median(found):.1f}"


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    main()
