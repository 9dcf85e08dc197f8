"""A model and sentences -> log-probabilities of every word's tags -> tags -> Report.

What is predicted for a sentence does not depend on its batch, its place or the number of processes.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nerc.data import tags
from nerc.data.corpus import Corpus, Sentence
from nerc.model.encoding import MULTIPLE, Encoded, collate, encode_for

# Cells of the grid of word pieces that are computed together: enough to keep the device busy.
BATCH_PIECES = {"cpu": 4096, "cuda": 32768}
STREAM_CHUNK = 4096  # sentences of a stream: enough to find many of like length
_VITERBI_CHUNK = 512  # sentences decoded together


@torch.inference_mode()
def predict(
    model: PreTrainedModel,
    encoded: Encoded,
    chosen: np.ndarray | None = None,
    *,
    batch_size: int | None = None,
    bf16: bool = False,
    accelerator: Accelerator | None = None,
) -> list[np.ndarray]:
    """Log-probabilities (words, tags a word may have) of each sentence, float32, in their order.

    Of all sentences, or of the chosen ones, each listed once. The tags are model.config.word_tags;
    those of no word (special ones) have no probability. batch_size sentences, or as many as suit
    the device, are computed together; sentences of like length, so that next to nothing is padding.
    With an accelerator of several processes, each computes a share and every one gets the whole.
    """
    rank, world = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    was_training = model.training
    model.eval()
    inventory = model.config.inventory
    columns = torch.tensor(
        [inventory.index(t) for t in model.config.word_tags], device=model.device
    )
    chosen = np.arange(len(encoded)) if chosen is None else chosen
    by_length = np.argsort(encoded.num_pieces()[chosen], kind="stable")[::-1]
    by_length = chosen[by_length][rank::world]
    batches = _batches(by_length, encoded.num_pieces()[by_length], batch_size, model.device.type)
    quiet = rank > 0 or not sys.stderr.isatty()
    found: list[tuple[int, np.ndarray]] = []
    with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
        for sentences in tqdm(batches, desc="tagging", leave=False, disable=quiet):
            batch = collate(encoded, sentences, MULTIPLE)
            logits = model(**batch.inputs(model.device)).logits[..., columns]  # (words, tags)
            rows = logits.float().log_softmax(dim=-1).cpu().numpy()
            own = np.split(rows, batch.num_words.cumsum(0))[: len(sentences)]
            found += zip(sentences.tolist(), own, strict=True)
    model.train(was_training)
    found = gather_object(found) if world > 1 else found
    result = dict(found)
    assert len(found) == len(result) == len(chosen), "a sentence was judged twice or not at all"
    return [result[i] for i in chosen.tolist()]


def predict_stream(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    chunks: Iterable[Sequence[Sentence]],
    *,
    batch_size: int | None = None,
    bf16: bool = False,
    encoding_stats: Counter | None = None,
) -> Iterator[list[tuple[list[str], np.ndarray]]]:
    """For each chunk of sentences, the tags of each, and what predict() gives for it.

    Sentences of like length within a chunk are computed together; there may be any number of
    chunks, of which two are in memory: the next is read and cut into pieces meanwhile, by another
    thread. Encoded.encoding_stats are added to encoding_stats.
    """
    chunks = iter(chunks)

    def read_on() -> tuple[bool, Encoded | None]:
        chunk = next(chunks, None)
        encoded = encode_for(model, tokenizer, Corpus.of(chunk)) if chunk else None
        if encoded and encoding_stats is not None:
            encoding_stats.update(encoded.encoding_stats)
        return chunk is None, encoded

    reader = ThreadPoolExecutor(1)
    try:
        at_end, encoded = read_on()
        while not at_end:
            ahead = reader.submit(read_on)
            found = predict(model, encoded, batch_size=batch_size, bf16=bf16) if encoded else []
            yield list(zip(decode(found, model.config.word_tags), found, strict=True))
            at_end, encoded = ahead.result()
    finally:
        reader.shutdown(wait=False)  # it may be waiting for input that never comes


def _batches(
    sentences: np.ndarray, num_pieces: np.ndarray, batch_size: int | None, device: str
) -> list[np.ndarray]:
    """Cut sentences, the longest first, into batches of batch_size, or of a grid that suits."""
    if batch_size is not None:
        return [sentences[i : i + batch_size] for i in range(0, len(sentences), batch_size)]
    start, batches = 0, []
    while start < len(sentences):
        size = max(1, BATCH_PIECES.get(device, BATCH_PIECES["cpu"]) // int(num_pieces[start] + 2))
        batches.append(sentences[start : start + size])
        start += size
    return batches


def decode(
    log_probabilities: Sequence[np.ndarray], word_tags: Sequence[str], how: str = "viterbi"
) -> list[list[str]]:
    """Tags of each sentence: the best valid IOB2 sequence, or the best of each word (argmax)."""
    if how == "argmax":
        return [[word_tags[i] for i in row.argmax(axis=1)] for row in log_probabilities]
    assert how == "viterbi", how
    order = sorted(range(len(log_probabilities)), key=lambda i: -len(log_probabilities[i]))
    result: list[list[str]] = [[] for _ in order]
    for start in range(0, len(order), _VITERBI_CHUNK):
        chunk = order[start : start + _VITERBI_CHUNK]
        paths = _viterbi([log_probabilities[i] for i in chunk], word_tags)
        for sentence, path in zip(chunk, paths, strict=True):
            result[sentence] = [word_tags[i] for i in path]
    return result


def _viterbi(rows: Sequence[np.ndarray], word_tags: Sequence[str]) -> list[np.ndarray]:
    """Best paths (Viterbi 1967) over rows (words, K), longest first."""
    allowed = np.array([[tags.may_follow(a, b) for b in word_tags] for a in word_tags])
    begins = np.array([tags.may_follow(None, tag) for tag in word_tags])
    cost = np.where(allowed, 0.0, -np.inf)  # (K, K), from row to column
    lengths = np.array([len(row) for row in rows])
    scores = np.stack([row[0] for row in rows]).astype(np.float64) + np.where(begins, 0.0, -np.inf)
    pointers = []  # of word t >= 1 and the sentences that have it: (sentences, K), best tag before
    for t in range(1, lengths[0]):
        alive = int((lengths > t).sum())
        steps = scores[:alive, :, None] + cost  # (sentences, K, K)
        best = steps.argmax(axis=1)
        pointers.append(best)
        emitted = np.stack([row[t] for row in rows[:alive]])
        scores[:alive] = np.take_along_axis(steps, best[:, None], axis=1)[:, 0] + emitted
    paths = []
    for sentence, length in enumerate(lengths):
        path = [int(scores[sentence].argmax())]
        for t in range(length - 1, 0, -1):
            path.append(int(pointers[t - 1][sentence, path[-1]]))
        paths.append(np.array(path[::-1]))
    return paths
