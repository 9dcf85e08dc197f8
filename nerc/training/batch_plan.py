"""Which sentences form each update of an epoch, and which of them are read together."""

from collections.abc import Iterator, Sequence

import numpy as np

from nerc.data.random_streams import Stream, generator
from nerc.model.encoding import PASSAGE_PIECES, Encoded, Passages

LONE_SHARE = 0.5  # of the documents: their sentences are read alone in an epoch


def plan(num_sentences: int, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The places of the sentences of every update of an epoch: each once, in a new order."""
    order = generator(seed, Stream.BATCH_ORDER, epoch).permutation(num_sentences)
    return [order[i : i + batch_size] for i in range(0, num_sentences, batch_size)]


def plan_passages(
    encoded: Encoded, sentences: np.ndarray, batch_size: int, seed: int, epoch: int
) -> list[Passages]:
    """What every update of an epoch reads: each of sentences once, in a new order.

    Where documents are read, neighbours are read in passages, cut at new places in every epoch. A
    batch has batch_size sentences, so a passage that lies across its end is cut there.
    """
    if encoded.documents is None:
        return [sentences[places] for places in plan(len(sentences), batch_size, seed, epoch)]
    rng = generator(seed, Stream.BATCH_ORDER, epoch)
    passages = list(_passages(encoded, sentences, rng))
    batches: list[list[np.ndarray]] = [[]]
    room = batch_size
    for place in rng.permutation(len(passages)):
        passage = passages[place]
        while len(passage):
            if not room:
                batches.append([])
                room = batch_size
            part, passage = passage[:room], passage[room:]
            batches[-1].append(part)
            room -= len(part)
    return batches


def _passages(
    encoded: Encoded, sentences: np.ndarray, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Cut sentences into passages of up to PASSAGE_PIECES pieces; some documents into sentences."""
    documents, num_pieces = encoded.documents, encoded.num_pieces()
    most = min(PASSAGE_PIECES, encoded.limit)
    for document in _split_by_document(documents, sentences):
        if len(document) == 1 or rng.random() < LONE_SHARE:
            yield from np.split(document, len(document))
            continue
        room, first = rng.integers(most), 0
        for i, size in enumerate(num_pieces[document].tolist()):
            if size > room and i > first:
                yield document[first:i]
                first, room = i, most
            room -= size
        yield document[first:]


def _split_by_document(documents: np.ndarray, sentences: np.ndarray) -> Sequence[np.ndarray]:
    """Runs of neighbours in one document."""
    of = documents[sentences]
    begins = (of[1:] != of[:-1]) | (sentences[1:] != sentences[:-1] + 1)
    return np.split(sentences, np.flatnonzero(begins) + 1)


def micro_batches(passages: Passages, train: Encoded, num_words: int) -> list[Passages]:
    """Cut passages into parts of at most num_words words, and at least one passage.

    0: one part. No passages have no parts.
    """
    if not len(passages) or not num_words:
        return [passages] if len(passages) else []
    parts, words = [[]], 0
    for passage in passages:
        length = int(train.num_words(np.atleast_1d(passage)).sum())
        if words + length > num_words and parts[-1]:
            parts.append([])
            words = 0
        parts[-1].append(passage)
        words += length
    return parts
