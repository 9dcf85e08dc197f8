"""Measure time per word and memory by number of sentences: cost should grow linearly.

python benchmarks/scale.py
python benchmarks/scale.py --sizes 10000 100000 --repeats 1

Uses the encoder tiny on the built-in corpus; every figure comes from a process of its own. Loading
means reading, learning the word pieces and encoding all splits (validation and test are an eighth
each); training is a fixed number of updates; prediction reads a stream. Prints a Markdown table of
medians in microseconds per word, with the ratio to the first size in brackets; memory is the peak
of a process. --record FILE keeps every run.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from itertools import islice

import numpy as np
import records  # before nerc, which it finds: nerc need not be installed
import tables

from nerc.config import DataConfig, ModelConfig, TrainConfig
from nerc.errors import Interrupted

WARM_UP = 100  # updates that are not timed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sizes = [10_000, 100_000, 1_000_000]
    parser.add_argument("--sizes", type=int, nargs="+", default=sizes, help="in sentences")
    parser.add_argument("--updates", type=int, default=400, help="timed (default: 400)")
    parser.add_argument("--repeats", type=int, default=3, help="of every figure (default: 3)")
    parser.add_argument("--measure", choices=MEASURES, help=argparse.SUPPRESS)
    records.add_flag(parser)
    given = parser.parse_args()
    if given.measure:
        found = MEASURES[given.measure](given.sizes[0], given.updates)
        found[f"gib_{given.measure}"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps(found))
        return
    how = {"threads": len(os.sched_getaffinity(0)), "device": records.device(), "seeds": [0]}
    data = {"encoder": "tiny", "corpus": "sample"}
    about = records.about("scale", given, "updates", **data, **how)
    runs: dict[int, list[dict]] = {size: [] for size in given.sizes}
    for _ in range(given.repeats):
        for size in given.sizes:
            runs[size].append({})
            for what in MEASURES:
                command = [sys.executable, __file__, "--measure", what, "--sizes", str(size)]
                command += ["--updates", str(given.updates)]
                run = subprocess.run(command, stdout=subprocess.PIPE, text=True)
                if run.returncode:
                    raise SystemExit(f"{' '.join(command)} failed")
                found = json.loads(run.stdout.splitlines()[-1])
                print(f"{size:,} sentences, {what}: {found}", file=sys.stderr, flush=True)
                runs[size][-1] |= found
    measured = [about | {"row": f"{size:,}", "runs": of} for size, of in runs.items()]
    tables.report(measured, given.record)


def train(size: int, num_updates: int) -> dict[str, float]:
    """Microseconds per word of loading a corpus and of training on it."""
    import torch

    from nerc import distributed, hardware
    from nerc.model.precision import Precision
    from nerc.training import batch_plan, setup, trainer

    class StopAfter(distributed.StopSignals):
        """A stop signal after the last timed update; also records the time of every update."""

        def any_rank_signalled(self) -> int:
            times.append(time.perf_counter())
            return int(len(times) == WARM_UP + num_updates)

    accelerator = distributed.start()
    hardware.set_threads(0)
    hardware.keep_freed_memory()
    torch.manual_seed(0)
    times: list[float] = []
    started = time.perf_counter()
    config = TrainConfig(recipe="strong", epochs=1 + 32 * (WARM_UP + num_updates) // size)
    data = DataConfig(corpus=f"sample:{size}")
    start = setup.prepare(data, ModelConfig(), config, None, Precision("float32", accelerator))
    loaded = time.perf_counter() - started
    corpus, config = start.encoded["train"], start.config
    stop, status = StopAfter(accelerator), distributed.Status(None)
    session = distributed.Session(accelerator, stop, status)
    data = trainer.TrainingData(corpus)
    trained = trainer.Trainer(start.model, data, replace(config, keep="last"), session, bf16=False)
    with suppress(Interrupted):
        list(trained.run())
    updates = [
        update
        for epoch in range(1, config.epochs + 1)
        for update in batch_plan.plan(len(corpus), config.batch_size, config.seed, epoch)
    ]
    # The first of the timed ones begins where the last of the others ended.
    timed = np.concatenate(updates[WARM_UP : WARM_UP + num_updates])
    seconds = times[-1] - times[WARM_UP - 1]
    everything = sum(len(encoded.labels) for encoded in start.encoded.values())
    words = int(corpus.num_words(timed).sum())
    return {"loading": 1e6 * loaded / everything, "training": 1e6 * seconds / words}


def predict(size: int, _: int) -> dict[str, float]:
    """Microseconds per word of prediction over a stream, from words to tags."""
    import torch

    from nerc import hardware
    from nerc.data import sources, synthetic
    from nerc.data.corpus import Sentence
    from nerc.model import inference, loading
    from nerc.model.tokenizer import learn_tokenizer

    hardware.set_threads(0)
    torch.manual_seed(0)
    corpus = sources.load("sample:1000", "train")
    tokenizer = learn_tokenizer(corpus, loading.TINY_VOCAB_SIZE)
    shape = {"lstm_hidden_size": loading.TINY_LSTM_HIDDEN_SIZE, "dropout": 0.1}
    tagger = loading.tiny(len(tokenizer), corpus.inventory(), **shape)
    sentences = (
        Sentence(tuple(words), None, "", document)
        for words, _, document in synthetic.generate("test", size)
    )
    num_words, started = 0, time.perf_counter()
    chunks = iter(lambda: list(islice(sentences, inference.STREAM_CHUNK)), [])
    for found in inference.predict_stream(tagger, tokenizer, chunks):
        num_words += sum(len(tags) for _, tags, _ in found)
    return {"prediction": 1e6 * (time.perf_counter() - started) / num_words}


MEASURES = {"training": train, "prediction": predict}


if __name__ == "__main__":
    main()
