"""Compares words/s and F1 of a revision in float32 and in 8 bits, by torch and by onnxruntime.

python benchmarks/onnx_speed.py --corpus DIR --revision models/model_primary --num-threads 2

Measures the way from the words of the test split to tags, in turns after a warm-up. Peers have the
weights of the revision's encoder: transformers' pipeline, which reads the words joined by blanks,
and its BertForTokenClassification, exported by torch, quantised by onnxruntime's quantize_dynamic
(a scale for each column), with and without onnxruntime's fusion of BERTs before, and run in batches
sorted by length. F1 of peers is null where the revision has a BiLSTM or reads the shapes of words,
which they lack. A row with several batch sizes tells its best one. Prints a Markdown table of
medians; --record FILE keeps every run, with the seconds of the processor, too.
"""

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import records  # before nerc, which it finds: nerc need not be installed
import tables
import torch
from transformers import BertForTokenClassification, pipeline

from nerc.data import sources
from nerc.data.corpus import Corpus
from nerc.evaluation.metrics import entity_scores
from nerc.model import encoding, inference, loading, onnx_engine
from nerc.store import model_files

Runner = Callable[[Corpus], list[list[str]]]  # tags of each sentence


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", required=True, help="folder with test.txt")
    parser.add_argument("--revision", required=True, help="folder of a revision")
    parser.add_argument("--sentences", type=int, default=0, help="default: 0, all")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 32, 64])
    parser.add_argument("--repeats", type=int, default=3, help="runs of every row (default: 3)")
    parser.add_argument("--num-threads", type=int, default=2, help="default: 2")
    records.add_flag(parser)
    given = parser.parse_args()
    about = records.about("onnx_speed", given, "sentences", threads=given.num_threads, seeds=[])
    torch.set_num_threads(given.num_threads)
    corpus = sources.load(given.corpus, "test")
    if given.sentences:
        size = min(given.sentences, len(corpus))
        corpus = corpus.select([i * len(corpus) // size for i in range(size)])  # evenly spaced
    with tempfile.TemporaryDirectory() as folder:
        model, tokenizer = model_files.load_revision(Path(given.revision))
        model.config.context = "none"  # peers read sentences alone
        rows = ours(model, tokenizer) | peers(model, tokenizer, Path(folder), given)
        found, seconds = measure(rows, corpus, given.repeats)
    same = model.lstm is None and model.word_shapes is None
    about["settings"] |= {"revision": Path(given.revision).resolve().name}
    about["settings"] |= {"lstm_hidden_size": model.config.lstm_hidden_size}
    gold = [list(sentence.tags) for sentence in corpus]
    measured: dict[str, dict[str, Any]] = {}
    slowest_first = sorted(
        seconds.items(), key=lambda item: -statistics.median(clock for clock, _ in item[1])
    )
    for (name, size), times in slowest_first:  # so that the best batch size stays
        f1 = None
        if same or name.startswith("nerc"):
            f1 = entity_scores(gold, found[name, size], ())[0].f1
        runs = [
            {"words_per_second": corpus.num_words / clock, "processor_seconds": processor}
            | {"batch_size": size, "f1": f1}
            for clock, processor in times
        ]
        measured[name] = about | {"row": name, "runs": runs}
    tables.report([*measured.values()], given.record)


def measure(rows: dict, corpus: Corpus, repeats: int) -> tuple[dict, dict]:
    """The tags that each row finds, and the seconds of its runs, which take turns."""
    for run in rows.values():
        run(corpus.select(range(min(50, len(corpus)))))
    found, seconds = {}, {key: [] for key in rows}
    for _ in range(repeats):
        for key, run in rows.items():
            clock, processor = time.perf_counter(), time.process_time()
            found[key] = run(corpus)
            seconds[key].append((time.perf_counter() - clock, time.process_time() - processor))
            print(f"{key}: {seconds[key][-1][0]:.2f} s", file=sys.stderr, flush=True)
    return found, seconds


def ours(model, tokenizer) -> dict[tuple[str, int | None], Runner]:
    def by(tagger) -> Runner:
        def run(corpus: Corpus) -> list[list[str]]:
            encoded = encoding.encode_for(tagger, tokenizer, corpus)
            rows = inference.predict(tagger, encoded)
            return inference.decode(rows, tagger.config.word_tags)

        return run

    return {
        ("nerc float32", None): by(model),
        ("nerc float32, onnxruntime", None): by(onnx_engine.Tagger.of(model, int8=False)),
        ("nerc int8, onnxruntime", None): by(onnx_engine.Tagger.of(model, int8=True)),
    }


def peers(model, tokenizer, folder: Path, given) -> dict[tuple[str, int | None], Runner]:
    with loading.quiet():
        model.save_pretrained(folder / "peer")
        how = {"dtype": torch.float32, "ignore_mismatched_sizes": True}  # a head after a BiLSTM
        peer = BertForTokenClassification.from_pretrained(folder / "peer", **how)
    peer.eval()
    pipe = pipeline("token-classification", model=peer, tokenizer=tokenizer)
    labels = model.config.inventory
    rows = {("pipeline float32", n): by_pipeline(pipe, n) for n in given.batch_sizes}
    for name, session in exported(peer, folder, given.num_threads).items():
        for size in given.batch_sizes:
            rows[f"BertForTokenClassification {name}", size] = by_session(
                session, tokenizer, labels, size
            )
    return rows


def by_pipeline(pipe, size: int) -> Runner:
    def run(corpus: Corpus) -> list[list[str]]:
        sentences = [sentence.words for sentence in corpus]
        found = pipe([" ".join(words) for words in sentences], batch_size=size)
        result = []
        for words, pieces in zip(sentences, found, strict=True):
            starts = np.cumsum([0, *(len(word) + 1 for word in words)])
            tags = {piece["start"]: piece["entity"] for piece in pieces}
            result.append([tags.get(int(start), "O") for start in starts[:-1]])
        return result

    return run


def by_session(session, tokenizer, labels, size: int) -> Runner:
    def run(corpus: Corpus) -> list[list[str]]:
        words = [list(sentence.words) for sentence in corpus]
        encoded = tokenizer(words, is_split_into_words=True, truncation=True, max_length=512)
        order = sorted(range(len(words)), key=lambda i: -len(encoded["input_ids"][i]))
        result: list[list[str]] = [[] for _ in words]
        for first in range(0, len(order), size):
            chosen = order[first : first + size]
            rows = [encoded["input_ids"][i] for i in chosen]
            ids = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
            mask = np.zeros_like(ids)
            for i, row in enumerate(rows):
                ids[i, : len(row)], mask[i, : len(row)] = row, 1
            (logits,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
            best = logits.argmax(axis=-1)
            for i, sentence in enumerate(chosen):
                places = encoded.word_ids(sentence)
                tags = ["O"] * len(words[sentence])
                for place in range(len(places) - 1, -1, -1):  # so that the first piece decides
                    if places[place] is not None:
                        tags[places[place]] = labels[best[i, place]]
                result[sentence] = tags
        return result

    return run


def exported(peer, folder: Path, num_threads: int) -> dict[str, Any]:
    """onnxruntime's sessions of a peer: plain and quantised, with and without its fusion."""
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers import optimizer

    paths = {"float32": folder / "float32.onnx"}
    names = ["input_ids", "attention_mask"]
    example = torch.ones(2, 7, dtype=torch.int64), torch.ones(2, 7, dtype=torch.int64)
    axes = {name: {0: "batch", 1: "length"} for name in (*names, "logits")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        how = {"input_names": names, "output_names": ["logits"], "dynamic_axes": axes}
        torch.onnx.export(peer, example, paths["float32"], dynamo=False, opset_version=17, **how)
    config = peer.config
    about = {"num_heads": config.num_attention_heads, "hidden_size": config.hidden_size}
    with contextlib.chdir(folder):  # where its shape inference leaves files
        fused = optimizer.optimize_model(str(paths["float32"]), "bert", opt_level=0, **about)
    paths["float32, fused"] = folder / "fused.onnx"
    fused.save_model_to_file(str(paths["float32, fused"]))
    for end in ("", ", fused"):
        path = paths[f"int8{end}"] = folder / f"int8{end[2:]}.onnx"
        how = {"per_channel": True, "weight_type": QuantType.QInt8}
        how["extra_options"] = {"DefaultTensorType": 1}  # float32, after operators of its own
        quantize_dynamic(paths[f"float32{end}"], path, **how)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    providers = ["CPUExecutionProvider"]
    return {n: onnxruntime.InferenceSession(p, options, providers) for n, p in paths.items()}


if __name__ == "__main__":
    main()
