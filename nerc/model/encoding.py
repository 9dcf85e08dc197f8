"""Turns sentences into word pieces, windows that lose no word, and batches."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nerc.data.corpus import Corpus
from nerc.data.tags import SPECIAL_TAGS
from nerc.model.packing import rounded_up
from nerc.model.word_shapes import word_shapes

NO_LABEL = -100  # for padding and words without a label: cross entropy ignores it
MULTIPLE = 32  # training and prediction pad batches to a multiple of it, so that few shapes occur

PASSAGE_PIECES = 254  # that are read together of a document, at most, without special pieces

_WIDE = 128  # pieces: wider rows are not grouped with rows of less than half their width
_WIDTH = 8  # the width of a grid of pieces is a multiple of it
_CHUNK = 1000  # sentences that the tokenizer gets at a time


class Window(NamedTuple):
    """Words start to end of a sentence, which the encoder reads together.

    Words own_start to own_end take their vectors from this window; the others are context.
    """

    start: int
    own_start: int
    own_end: int
    end: int


@dataclass(frozen=True)
class Encoded:
    """A corpus as flat arrays; offsets[i] to offsets[i + 1] belong to word or sentence i."""

    pieces: np.ndarray  # (number of pieces,) int32, without special pieces
    word_offsets: np.ndarray  # (number of words + 1,) int64, into pieces
    sentence_offsets: np.ndarray  # (number of sentences + 1,) int64, into words
    labels: np.ndarray  # (number of words,) int64
    limit: int  # most pieces in a window, without [CLS] and [SEP]
    cls_id: int
    sep_id: int
    # (number of words, K) float32: soft labels, used instead of labels. A row sums to the weight of
    # its word; words with weight 0 are ignored.
    targets: np.ndarray | None = None
    word_shapes: np.ndarray | None = None  # (number of words,) uint8, for models that read them
    # (number of sentences,) int64, not decreasing, for models that read documents: sentences with
    # the same number may be read together.
    documents: np.ndarray | None = None
    # How many words were encoded in an unusual way, by what was done to them.
    encoding_stats: Mapping[str, int] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """The encoding_stats, and what is read in documents, in words, one line each."""
        notes = encoding_notes(self.encoding_stats)
        if self.documents is None:
            return notes
        number = int((np.bincount(self.documents)[self.documents] > 1).sum())
        documents = f"{number:,} of {len(self):,} sentences are read with others of their documents"
        return (*notes, documents)

    def __len__(self) -> int:
        return len(self.sentence_offsets) - 1

    def num_words(self, sentences: Sequence[int] | slice = slice(None)) -> np.ndarray:
        """The number of words in each sentence."""
        return np.diff(self.sentence_offsets)[sentences]

    def num_pieces(self) -> np.ndarray:
        """The number of word pieces in each sentence, without special pieces."""
        return np.diff(self.word_offsets[self.sentence_offsets])

    def num_labelled(self) -> np.ndarray:
        """The number of labelled words in each sentence; with targets, the sum of their weights."""
        weights = self.labels != NO_LABEL
        if self.targets is not None:
            weights = self.targets.sum(axis=1, dtype=np.float64)
        before = np.concatenate([[0], np.cumsum(weights)])
        return np.diff(before[self.sentence_offsets])

    def words_of(self, sentences: np.ndarray) -> np.ndarray:
        """The indices of the words of sentences, one sentence after the other."""
        which, nth = _ranges(self.num_words(sentences))
        return self.sentence_offsets[sentences][which] + nth

    def distinct_pieces(self, sentences: np.ndarray) -> np.ndarray:
        """The ids of all word pieces in sentences, and of the special ones, each once."""
        starts = self.word_offsets[self.sentence_offsets[sentences]]
        ends = self.word_offsets[self.sentence_offsets[sentences + 1]]
        pieces = [self.pieces[start:end] for start, end in zip(starts, ends, strict=True)]
        return np.unique(np.concatenate([[self.cls_id, self.sep_id], *pieces]))


def encoding_notes(stats: Mapping[str, int]) -> tuple[str, ...]:
    """Encoded.encoding_stats in words, one line each."""
    return tuple(f"{count} words {what}" for what, count in stats.items() if count)


def encode(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    inventory: Sequence[str],
    limit: int,
    *,
    with_shapes: bool = False,
    with_documents: bool = False,
) -> Encoded:
    """Cut every word into pieces; limit is the encoder's number of positions.

    A word that the tokenizer drops (a lone control character, say) becomes the unknown piece, so
    every word has a first piece. A word keeps at most a quarter of a window's pieces, which leaves
    room for context.
    """
    room = limit - 2
    parts, num_words, encoding_stats = [], [], Counter()
    how = {"is_split_into_words": True, "add_special_tokens": False, "verbose": False}
    how["split_special_tokens"] = True  # "[SEP]" in the text is a word like any other
    # SentencePiece cuts "</s>" into that piece all the same.
    special = [*{*tokenizer.all_special_ids} - {tokenizer.unk_token_id}]
    for batch in corpus.table.to_batches(max_chunksize=_CHUNK):
        words = batch["words"].to_pylist()
        lengths = [len(sentence) for sentence in words]
        encodings = tokenizer(words, **how).encodings
        pieces, counts, stats = _align(
            encodings, lengths, tokenizer.unk_token_id, most_pieces(limit)
        )
        pieces[np.isin(pieces, special)] = tokenizer.unk_token_id
        labels = _labels(batch["tags"].to_pylist(), lengths, inventory)
        parts.append((pieces, counts, labels, word_shapes(words if with_shapes else ())))
        num_words += lengths
        encoding_stats.update(stats)
    pieces, counts, labels, shapes = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Encoded(
        pieces=pieces,
        word_offsets=_offsets(counts),
        sentence_offsets=_offsets(num_words),
        labels=labels,
        limit=room,
        cls_id=tokenizer.cls_token_id,
        sep_id=tokenizer.sep_token_id,
        word_shapes=shapes if with_shapes else None,
        documents=corpus.documents() if with_documents else None,
        encoding_stats=encoding_stats,
    )


def most_pieces(limit: int) -> int:
    """How many pieces a word keeps at most; limit: the encoder's number of positions."""
    return (limit - 2) // 4


def encode_for(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, corpus: Corpus
) -> Encoded:
    """Encode a corpus with the label ids and the window size of a model."""
    config = model.config
    limit = config.max_position_embeddings
    reads = {"with_shapes": config.word_shapes > 0, "with_documents": config.context == "document"}
    return encode(corpus, tokenizer, config.inventory, limit, **reads)


def _offsets(counts: Iterable[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def _labels(tags: list[list[str] | None], lengths: list[int], inventory: Sequence[str]):
    """The label ids of all words of some sentences, int64."""
    ids = {tag: i for i, tag in enumerate(inventory)} | dict.fromkeys(SPECIAL_TAGS, NO_LABEL)
    ids[None] = NO_LABEL
    filled = (of or [None] * length for of, length in zip(tags, lengths, strict=True))
    return np.array([ids[tag] for tag in chain.from_iterable(filled)], dtype=np.int64)


def _align(
    encodings: list, lengths: list[int], unknown: int, max_count: int
) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """The pieces of some sentences, each word's number of them (1 to max_count), and the stats."""
    pieces = np.concatenate([np.array(e.ids, dtype=np.int32) for e in encodings])
    words = np.concatenate([np.array(e.word_ids, dtype=np.int64) for e in encodings])
    words += np.repeat(_offsets(lengths)[:-1], [len(e.ids) for e in encodings])  # not decreasing
    counts = np.bincount(words, minlength=sum(lengths))
    cut = f"have more than {max_count} pieces, of which the first {max_count} are read"
    unread = "have no piece that the tokenizer knows, and are read as the unknown piece"
    stats = {cut: int((counts > max_count).sum()), unread: int((counts == 0).sum())}
    if counts.max() > max_count:
        first = np.cumsum(counts) - counts
        keep = np.arange(len(pieces)) - first[words] < max_count
        pieces, words = pieces[keep], words[keep]
        counts = np.minimum(counts, max_count)
    if not counts.all():
        dropped = np.flatnonzero(counts == 0)
        pieces = np.insert(pieces, np.searchsorted(words, dropped), unknown)
        counts = np.maximum(counts, 1)
    return pieces, counts, stats


def windows(counts: np.ndarray, limit: int) -> list[Window]:
    """Cut a sentence or a document into windows of at most limit pieces.

    counts are the pieces of each word.
    Every word is the own word of exactly one window. Up to a quarter of a window on either side is
    context, which it shares with its neighbours.
    """
    ends = np.cumsum(counts)
    starts = ends - counts
    n, own_start, result = len(counts), 0, []
    while own_start < n:
        start = int(np.searchsorted(starts, starts[own_start] - limit // 4))
        end = int(np.searchsorted(ends, starts[start] + limit, side="right"))
        own_end = n if end == n else int(np.searchsorted(starts, ends[end - 1] - limit // 4))
        result.append(Window(start, own_start, own_end, end))
        own_start = own_end
    return result


class Batch(NamedTuple):
    """S sentences with n words in all, in B windows of at most T pieces, the longest window first.

    real_pieces are the flat cells of the (B, T) grid that hold pieces; word_pieces are indices into
    real_pieces. Words are in the order in which the sentences were asked for. groups are rows of
    similar length, (first, last + 1, width), which encoders that read padding may read one by one.
    """

    input_ids: torch.Tensor  # (B, T)
    attention_mask: torch.Tensor  # (B, T) bool
    real_pieces: torch.Tensor  # (number of real pieces,)
    word_pieces: torch.Tensor  # (n,), the first piece of each word
    num_words: torch.Tensor  # (S,), always on the CPU
    labels: torch.Tensor  # (n,), NO_LABEL where there is none
    groups: list[tuple[int, int, int]] | None
    word_cells: torch.Tensor | None = None  # (2, n), unless they are layers.grid_cells(num_words)
    targets: torch.Tensor | None = None  # (n, K), used instead of labels
    word_shapes: torch.Tensor | None = None  # (n,), 0 for padding

    @property
    def moved(self) -> list[str]:
        """The names of the fields that a GPU reads."""
        on_the_cpu = ("num_words", "groups")
        return [n for n, v in self._asdict().items() if v is not None and n not in on_the_cpu]

    def to(self, device: torch.device) -> "Batch":
        """The batch for a model on device."""
        fields = {name: getattr(self, name).to(device, non_blocking=True) for name in self.moved}
        return self._replace(**fields)

    def inputs(self, device: torch.device) -> dict[str, Any]:
        """The arguments of NERSmall.forward, without labels."""
        return self.to(device)._asdict() | {"labels": None}

    def sentences(self) -> torch.Tensor:
        """The sentence of each word (n,), on the device of the labels."""
        if self.word_cells is None:
            return torch.repeat_interleave(self.num_words).to(self.labels.device, non_blocking=True)
        return self.word_cells[0] // int(self.num_words.max())


# Sentences of a batch, in order: each a sentence, or several neighbours that are read together.
Passages = Sequence[int | np.ndarray]


def joined(passages: Passages) -> np.ndarray:
    """The sentences of passages, one after the other."""
    if isinstance(passages, np.ndarray):
        return passages
    arrays = [np.atleast_1d(passage) for passage in passages]
    return np.concatenate(arrays) if arrays else np.array([], dtype=np.int64)


def collate(encoded: Encoded, passages: Passages, multiple: int = 1) -> Batch:
    """The batch of the sentences of these passages, in this order.

    Pads the batch to a multiple of `multiple` pieces and words, by one sentence without meaning:
    the CPU's matmul library pays some milliseconds once per new shape.
    """
    sentences = firsts = lasts = joined(passages)
    if len(sentences) > len(passages):
        firsts, lasts = np.array([(passage[0], passage[-1]) for passage in passages]).T
    windows = _windows_of(encoded, firsts, lasts)
    starts = encoded.word_offsets[windows.start]  # into pieces
    lengths = encoded.word_offsets[windows.end] - starts + 2  # with [CLS] and [SEP]
    if filler := -int(lengths.sum()) % multiple:
        starts, lengths = np.append(starts, 0), np.append(lengths, filler)
    order = np.argsort(-lengths, kind="stable")  # of rows
    row, within = _ranges(lengths[order])  # of each real piece
    first_real = np.empty_like(lengths)  # of a window, among all real pieces
    first_real[order] = np.flatnonzero(within == 0)
    pieces = encoded.pieces.take(starts[order][row] + within - 1, mode="clip").astype(np.int64)
    pieces[within == 0] = encoded.cls_id
    pieces[within == lengths[order][row] - 1] = encoded.sep_id
    pieces[order[row] == len(windows.start)] = encoded.sep_id  # of the padding
    mask = np.arange(rounded_up(int(lengths.max()), _WIDTH)) < lengths[order][:, None]  # (B, T)
    input_ids = np.zeros(mask.shape, dtype=np.int64)
    input_ids[mask] = pieces

    window, nth = _ranges(windows.own_end - windows.own_start)  # of each word
    word = windows.own_start[window] + nth
    word_pieces = encoded.word_offsets[word] - starts[window] + 1 + first_real[window]
    num_words, labels = encoded.num_words(sentences), encoded.labels[word]
    targets = None if encoded.targets is None else encoded.targets[word]
    shapes = None if encoded.word_shapes is None else encoded.word_shapes[word].astype(np.int64)
    if filler := -len(word) % multiple:
        num_words = np.append(num_words, filler)
        word_pieces = np.pad(word_pieces, (0, filler))
        labels = np.pad(labels, (0, filler), constant_values=NO_LABEL)
        targets = None if targets is None else np.pad(targets, ((0, filler), (0, 0)))
        shapes = None if shapes is None else np.pad(shapes, (0, filler))
    arrays = {
        "input_ids": input_ids,
        "attention_mask": mask,
        "real_pieces": np.flatnonzero(mask),
        "word_pieces": word_pieces,
        "num_words": num_words,
        "labels": labels,
        "targets": targets,
        "word_shapes": shapes,
    }
    tensors = {name: torch.from_numpy(a) for name, a in arrays.items() if a is not None}
    return Batch(**tensors, groups=_groups(lengths[order].tolist()))


def _windows_of(encoded: Encoded, firsts: np.ndarray, lasts: np.ndarray) -> Window:
    """The windows of passages, one after the other, as arrays of indices of words."""
    start, end = encoded.sentence_offsets[firsts], encoded.sentence_offsets[lasts + 1]
    offsets, limit = encoded.word_offsets, encoded.limit
    limits = np.where(firsts == lasts, limit, min(limit, PASSAGE_PIECES))
    if (offsets[end] - offsets[start] <= limits).all():
        return Window(start, start, end, end)
    rows = [
        [first + word for word in window]
        for first, last, most in zip(start, end, limits, strict=True)
        for window in windows(np.diff(offsets[first : last + 1]), most)
    ]
    return Window(*np.array(rows).T)


def _ranges(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For consecutive ranges of these lengths: each element's range, and its position in it."""
    which = np.repeat(np.arange(len(lengths)), lengths)
    return which, np.arange(len(which)) - (np.cumsum(lengths) - lengths)[which]


def _groups(lengths: Sequence[int]) -> list[tuple[int, int, int]]:
    """Halve the rows, the longest first, for encoders that read padding, too.

    More groups cost more small operations than they save, and groups with any number of rows cost
    more new shapes. Only passages, which are far wider than sentences, have groups of their own.
    """
    size, groups, first = max(16, len(lengths) // 2), [], 0
    while first < len(lengths):
        end, width = min(first + size, len(lengths)), rounded_up(lengths[first], _WIDTH)
        if width > _WIDE:
            end = next((i for i in range(first, end) if lengths[i] < width / 2), end)
        groups.append((first, end, width))
        first = end
    return groups
