"""Compares prediction speed with transformers' pipeline: same weights, sentences and threads.

python benchmarks/predict_speed.py --corpus DIR --encoder DIR
python benchmarks/predict_speed.py --corpus DIR --encoder DIR --sentences 0 --repeats 5

Measures the way from the words of the test split to entities: tokenising, computing and decoding.
The rows take turns, after a warm-up. The pipeline gets the words joined by blanks, at each of the
batch sizes, in float32, its default; its model is the BertForTokenClassification of the same
encoder and tagger. Of peak: the arithmetic of the real word pieces' matrix products as a share of
what the device multiplies at most in that precision. Prints a Markdown table of medians; --record
FILE keeps every run.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable

import records  # it finds nerc, which need not be installed
import tables
from train_speed import arithmetic, of_peak, peak


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", required=True, help="folder with test.txt")
    parser.add_argument("--encoder", required=True, help="folder of a pretrained encoder")
    parser.add_argument("--sentences", type=int, default=1000, help="0: all (default: 1000)")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 32, 64])
    parser.add_argument("--repeats", type=int, default=3, help="runs of every row (default: 3)")
    records.add_flag(parser)
    given = parser.parse_args()
    how = {"threads": len(os.sched_getaffinity(0)), "device": records.device()}
    about = records.about("predict_speed", given, "sentences", seeds=[0], **how)

    import torch

    from nerc import hardware
    from nerc.data import sources

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    corpus = sources.load(given.corpus, "test")
    if given.sentences:
        size = min(given.sentences, len(corpus))
        corpus = corpus.select([i * len(corpus) // size for i in range(size)])  # evenly spaced
    rows = contenders(corpus, given, device, bf16=hardware.computes_bf16(device))
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for run in rows.values():
        run(corpus.select(range(min(50, len(corpus)))))
    for _ in range(given.repeats):
        for name, run in rows.items():
            started = time.perf_counter()
            run(corpus)
            seconds[name].append(time.perf_counter() - started)
            print(f"{name}: {seconds[name][-1]:.2f} s", file=sys.stderr, flush=True)
    work = {lstm: arithmetic(given.encoder, corpus, lstm) for lstm in (False, True)}
    peaks = {low: peak(low) for low in {"bf16" in name for name in rows}}
    print(f"{len(corpus):,} sentences, {corpus.num_words:,} words, {device.type}\n")
    measured = []
    for name, of in seconds.items():
        speeds = [corpus.num_words / time for time in of]
        rates = [speed * work["with BiLSTM" in name] for speed in speeds]
        runs = [
            {"words_per_second": speed} | of_peak(rate, peaks, name)
            for speed, rate in zip(speeds, rates, strict=True)
        ]
        measured.append(about | {"row": name, "runs": runs})
    tables.report(measured, given.record)


def contenders(corpus, given: argparse.Namespace, device, *, bf16: bool) -> dict[str, Callable]:
    """name -> a function that finds the entities of a corpus."""
    import torch
    from transformers import BertForTokenClassification, pipeline

    from nerc.model import encoding, inference, loading
    from nerc.model.tokenizer import load_tokenizer

    torch.manual_seed(0)
    inventory = corpus.inventory()
    taggers = {
        name: loading.from_encoder(given.encoder, inventory, lstm_hidden_size=size, dropout=0.1)
        for name, size in (
            ("nerc without BiLSTM", 0),
            ("nerc with BiLSTM", loading.LSTM_HIDDEN_SIZE),
        )
    }
    for tagger in taggers.values():
        tagger.to(device)
    plain = taggers["nerc without BiLSTM"]
    tokenizer = load_tokenizer(given.encoder, plain.config.vocab_size)
    with tempfile.TemporaryDirectory() as place:  # without a BiLSTM, it has the same weights
        plain.save_pretrained(place)
        with loading.quiet():
            peer = BertForTokenClassification.from_pretrained(place, dtype=torch.float32)
    pipe = pipeline("token-classification", model=peer, tokenizer=tokenizer, device=device)

    def by_pipeline(batch_size: int) -> Callable:
        def run(corpus) -> None:
            texts = [" ".join(s.words) for s in corpus]
            pipe(texts, batch_size=batch_size, aggregation_strategy="simple")

        return run

    def by_us(tagger, *, bf16: bool) -> Callable:
        def run(corpus) -> None:
            encoded = encoding.encode_for(tagger, tokenizer, corpus)
            found = inference.predict(tagger, encoded, bf16=bf16)
            inference.decode(found, tagger.config.word_tags)

        return run

    rows = {f"pipeline, batches of {n}, float32": by_pipeline(n) for n in given.batch_sizes}
    for name, tagger in taggers.items():
        rows[f"{name}, float32"] = by_us(tagger, bf16=False)
        if bf16:
            rows[f"{name}, bf16"] = by_us(tagger, bf16=True)
    return rows


if __name__ == "__main__":
    main()
