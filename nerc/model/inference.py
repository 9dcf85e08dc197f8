"""Predicts tags: a model and sentences -> log-probabilities of every word's tags -> tags.

The prediction for a sentence does not depend on its batch, its place or the number of processes.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nerc.data.corpus import Corpus, Sentence
from nerc.data.words import Text
from nerc.errors import InputError
from nerc.model.consistency import one_sense_per_word
from nerc.model.encoding import MULTIPLE, Encoded, Passages, collate, encode_for, joined

# Word pieces, padding included, that are computed together: enough to keep the device busy. What
# onnxruntime computes should stay in a cache: between its products are many small steps.
BATCH_PIECES = {"cpu": 4096, "cuda": 32768, "onnx": 768}
STREAM_CHUNK = 4096  # sentences of a stream: enough to find many of similar length
_DOCUMENT_WEIGHT = 0.25  # of the probabilities of the same word elsewhere in the document
_VITERBI_CHUNK = 512  # sentences decoded together
_VITERBI_CELLS = 2**24  # fewer sentences, if these times tags times words are more


def predict(
    model: PreTrainedModel, encoded: Encoded, chosen: np.ndarray | None = None, **options: Any
) -> list[np.ndarray]:
    """Log-probabilities (words, tags) of each sentence, float32, in order.

    Covers all sentences or the chosen ones, each listed once. The tags are model.config.word_tags;
    special tags have no probability. options are batch_size, bf16 and accelerator, as read() has
    them.

    Where documents are read, each sentence is read twice, alone and with its neighbours, and the
    probabilities are averaged (so Luoma and Pyysalo 2020 let a sentence's places vote); those of a
    word are then moved towards those of the same word elsewhere in the document.
    """
    chosen = np.arange(len(encoded)) if chosen is None else chosen
    if encoded.documents is None:
        return read(model, encoded, chosen, **options)
    passages = _whole_documents(encoded.documents, chosen)
    sentences = joined(passages)
    alone = read(model, encoded, sentences, **options)
    together = dict(zip(sentences.tolist(), alone, strict=True))
    if longer := [passage for passage in passages if len(passage) > 1]:
        again = read(model, encoded, longer, **options)
        together |= dict(zip(joined(longer).tolist(), again, strict=True))
    rows = np.concatenate(alone), np.concatenate([together[i] for i in sentences.tolist()])
    mean = (np.exp(rows[0]) + np.exp(rows[1])) / 2
    how = {"weight": _DOCUMENT_WEIGHT, "within_documents": True}
    agreed = np.log(one_sense_per_word(encoded, sentences, mean, **how))
    of_sentences = np.split(agreed, encoded.num_words(sentences).cumsum()[:-1])
    by_sentence = dict(zip(sentences.tolist(), of_sentences, strict=True))
    return [by_sentence[sentence] for sentence in chosen.tolist()]


def _whole_documents(documents: np.ndarray, chosen: np.ndarray) -> list[np.ndarray]:
    """The sentences of each document of which one is chosen."""
    numbers = np.unique(documents[chosen])
    bounds = (np.searchsorted(documents, numbers, side) for side in ("left", "right"))
    return [np.arange(first, end) for first, end in zip(*bounds, strict=True)]


@torch.inference_mode()
def read(
    model: PreTrainedModel,
    encoded: Encoded,
    passages: Passages,
    *,
    batch_size: int | None = None,
    bf16: bool = False,
    accelerator: Accelerator | None = None,
) -> list[np.ndarray]:
    """What predict() gives, of the sentences of passages, each read once with its passage.

    A batch is batch_size passages, or as many as suit the device, of similar length, so that there
    is little padding. With an accelerator of several processes, each computes a share and all
    return the whole.
    """
    rank, world = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    inventory, device = model.config.inventory, model.device
    columns = torch.tensor([inventory.index(tag) for tag in model.config.word_tags], device=device)
    num_pieces = encoded.num_pieces()
    sizes = np.array([num_pieces[passage].sum() for passage in passages])
    share = np.argsort(sizes, kind="stable")[::-1][rank::world]
    runner = getattr(model, "runner", device.type)
    batches = _batches(share, sizes[share], batch_size, runner)
    multiple = 1 if runner == "onnx" else MULTIPLE  # onnxruntime computes any shape at once
    quiet = rank > 0 or not sys.stderr.isatty()

    def compute(places: np.ndarray) -> Iterable[tuple[int, np.ndarray]]:
        chosen = [passages[place] for place in places]
        batch, sentences = collate(encoded, chosen, multiple), joined(chosen)
        logits = model(**batch.inputs(device)).logits[..., columns]  # (words, tags)
        rows = logits.float().log_softmax(dim=-1).cpu().numpy()
        if not np.isfinite(rows).all():
            raise InputError(_not_finite(model.name_or_path))
        of_sentences = np.split(rows, batch.num_words.cumsum(0))[: len(sentences)]
        return zip(sentences.tolist(), of_sentences, strict=True)

    results: list[tuple[int, np.ndarray]] = []
    with ExitStack() as at_end, torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        at_end.callback(model.train, model.training)
        model.eval()
        in_turn = map
        if runner == "onnx":  # whose batches are small: each thread computes its own
            in_turn = at_end.enter_context(ThreadPoolExecutor(torch.get_num_threads())).map
        computed = in_turn(compute, batches)
        about = {"total": len(batches), "desc": "tagging", "leave": False, "disable": quiet}
        for of_batch in tqdm(computed, **about):
            results += of_batch
    results = gather_object(results) if world > 1 else results
    by_sentence, sentences = dict(results), joined(passages)
    if not len(results) == len(by_sentence) == len(sentences):
        raise RuntimeError("a sentence is missing or there twice")
    return [by_sentence[sentence] for sentence in sentences.tolist()]


def _not_finite(source: str) -> str:
    source = f"the model from {source}" if source else "the model"
    return (
        f"{source} gives words probabilities that are not finite: its weights are broken; fetch it "
        f"again, or lower --lr or set --clip to train it again"
    )


def predict_stream(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    chunks: Iterable[Sequence[Sentence | Text]],
    *,
    bf16: bool = False,
    encoding_stats: Counter | None = None,
) -> Iterator[list[tuple[Sentence | Text, list[str], np.ndarray | None]]]:
    """For each chunk: its texts, each with its tags and log-probabilities (see predict).

    For a model that reads documents, the sentences of one stand in one chunk, neighbours having
    numbers that differ where their documents do.

    Texts of similar length within a chunk are computed together. Two chunks are in memory at a
    time: another thread reads and encodes the next one. Texts without words have no
    log-probabilities. The stats of the encoding are added to encoding_stats.
    """
    chunks = iter(chunks)

    def read_next() -> tuple[Sequence[Sentence | Text] | None, Encoded | None]:
        chunk = next(chunks, None)
        sentences = [Sentence(t.words, None, "", t.document) for t in chunk or () if t.words]
        encoded = encode_for(model, tokenizer, Corpus.of(sentences)) if sentences else None
        if encoded and encoding_stats is not None:
            encoding_stats.update(encoded.encoding_stats)
        return chunk, encoded

    reader = ThreadPoolExecutor(1)
    try:
        chunk, encoded = read_next()
        while chunk is not None:
            ahead = reader.submit(read_next)
            rows = predict(model, encoded, bf16=bf16) if encoded else []
            answers = zip(decode(rows, model.config.word_tags), rows, strict=True)
            yield [(text, *(next(answers) if text.words else ([], None))) for text in chunk]
            chunk, encoded = ahead.result()
    finally:
        reader.shutdown(wait=False)  # it may be waiting for input that never comes


def _batches(
    passages: np.ndarray, num_pieces: np.ndarray, batch_size: int | None, runner: str
) -> list[np.ndarray]:
    """Cut passages, the longest first, into batches of batch_size, or of BATCH_PIECES."""
    if batch_size is not None:
        return [passages[i : i + batch_size] for i in range(0, len(passages), batch_size)]
    start, batches, room = 0, [], BATCH_PIECES.get(runner, BATCH_PIECES["cpu"])
    while start < len(passages):
        size = max(1, room // int(num_pieces[start] + 2))
        batches.append(passages[start : start + size])
        start += size
    return batches


def decode(
    log_probabilities: Sequence[np.ndarray], word_tags: Sequence[str], how: str = "viterbi"
) -> list[list[str]]:
    """Tags of each sentence: the best valid IOB2 sequence, or each word's best tag (argmax)."""
    if how == "argmax":
        return [[word_tags[i] for i in row.argmax(axis=1)] for row in log_probabilities]
    if how != "viterbi":
        raise ValueError(f"how is {how!r}, wanted viterbi or argmax")
    order = sorted(range(len(log_probabilities)), key=lambda i: -len(log_probabilities[i]))
    result: list[list[str]] = [[] for _ in order]
    start = 0
    while start < len(order):
        cells = len(word_tags) * len(log_probabilities[order[start]])
        chunk = order[start : start + max(1, min(_VITERBI_CHUNK, _VITERBI_CELLS // cells))]
        paths = _viterbi([log_probabilities[i] for i in chunk], word_tags)
        for sentence, path in zip(chunk, paths, strict=True):
            result[sentence] = [word_tags[i] for i in path]
        start += len(chunk)
    return result


def _viterbi(rows: Sequence[np.ndarray], word_tags: Sequence[str]) -> list[np.ndarray]:
    """The best path (Viterbi 1967) over each of rows (words, K), which come longest first.

    Of the tags before a word, I-TYPE wants the better one of B-TYPE and I-TYPE. Every other tag may
    follow all, so it wants the best of all.
    """
    place = {tag: i for i, tag in enumerate(word_tags)}
    inside = [i for i, tag in enumerate(word_tags) if tag.startswith("I-")]
    before = [sorted((place[f"B-{word_tags[i][2:]}"], i)) for i in inside]
    before = np.array(before, dtype=np.int64).reshape(-1, 2)  # (I- tags, 2)
    lengths = np.array([len(row) for row in rows])
    scores = np.stack([row[0] for row in rows]).astype(np.float64)
    scores[:, inside] = -np.inf
    pointers = []  # for word t >= 1 of the sentences that have one: (sentences, K), best tag before
    for t in range(1, lengths[0]):
        alive = int((lengths > t).sum())
        scores_before = scores[:alive]
        best = np.repeat(scores_before.argmax(axis=1)[:, None], len(word_tags), axis=1)
        second = scores_before[:, before[:, 1]] > scores_before[:, before[:, 0]]
        best[:, inside] = np.where(second, before[:, 1], before[:, 0])
        pointers.append(best)
        emitted = np.stack([row[t] for row in rows[:alive]])
        scores[:alive] = np.take_along_axis(scores_before, best, axis=1) + emitted
    paths = []
    for sentence, length in enumerate(lengths):
        path = [int(scores[sentence].argmax())]
        for t in range(length - 1, 0, -1):
            path.append(int(pointers[t - 1][sentence, path[-1]]))
        paths.append(np.array(path[::-1]))
    return paths
