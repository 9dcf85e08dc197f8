"""Computes the gradients of an update with CUDA graphs.

A GPU computes the thousand small kernels of an update faster than the host starts them one by one.
A graph starts all of them at once, but its sizes and memory addresses are fixed. So batches are
enlarged to a few sizes, and copied to the memory that the graph of their size reads.
"""

from collections import Counter
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from nerc.errors import InputError
from nerc.model.encoding import NO_LABEL, Batch, collate, rounded_up
from nerc.model.layers import grid_cells
from nerc.training.trainer import Trainer, summed_losses


class _Recording(NamedTuple):
    graph: torch.cuda.CUDAGraph
    batch: Batch  # its input
    scale: torch.Tensor
    losses: torch.Tensor  # its output, beside the gradients


class GraphedBackward:
    """Computes losses of batches and the gradients of all parameters of a model on a GPU.

    losses_of(batch) returns the losses (S,) of a batch's sentences; it must not wait for the GPU.
    Gradients keep their memory between updates.
    """

    def __init__(self, model: nn.Module, losses_of: Callable[[Batch], torch.Tensor]) -> None:
        self.device = next(model.parameters()).device
        if self.device.type != "cuda":
            raise InputError("CUDA graphs need a CUDA GPU, and there is none here")
        self.losses_of = losses_of
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.gradients = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.pool = torch.cuda.graph_pool_handle()
        self.seen: Counter[tuple] = Counter()
        self.recordings: dict[tuple, _Recording] = {}

    def backward(self, batch: Batch, scale: float) -> torch.Tensor:
        """Compute the gradients of the sum of the losses, times scale; return the losses.

        The first batch of a size is computed without a graph, since many sizes occur only once.
        """
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = gradient  # which the optimiser has dropped
        num_sentences, batch = len(batch.num_words), enlarge(batch)
        tensors = (getattr(batch, name) for name in (*batch.moved, "num_words"))
        size = (*(tensor.shape for tensor in tensors), int(batch.num_words.max()))
        self.seen[size] += 1
        if self.seen[size] == 1:
            scale_there = torch.tensor(scale, device=self.device)
            return self._compute(batch.to(self.device), scale_there)[:num_sentences]
        if size not in self.recordings:
            self.recordings[size] = self._record(batch.to(self.device))
        recording = self.recordings[size]
        for name in recording.batch.moved:
            getattr(recording.batch, name).copy_(getattr(batch, name), non_blocking=True)
        recording.scale.fill_(scale)
        recording.graph.replay()
        return recording.losses[:num_sentences].clone()

    def _compute(self, batch: Batch, scale: torch.Tensor) -> torch.Tensor:
        torch._foreach_zero_(self.gradients)
        losses = self.losses_of(batch)
        (losses.sum() * scale).backward()
        return losses.detach()

    def _record(self, batch: Batch) -> _Recording:
        scale = torch.ones((), device=self.device)
        dropout = torch.cuda.get_rng_state(self.device)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # libraries initialise themselves, outside the graph
            for _ in range(2):
                self._compute(batch, scale)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            losses = self._compute(batch, scale)
        torch.cuda.set_rng_state(dropout, self.device)
        return _Recording(graph, batch, scale, losses)


def enlarge(batch: Batch, step: int = 64) -> Batch:
    """The batch with all of its sizes rounded up, so that few different sizes occur.

    The number of pieces becomes a multiple of 2 step, the widths of windows and the lengths of
    sentences multiples of step. Surplus pieces and words lie in one cell of a window, and of a
    sentence, that are all padding; they have no label.
    """
    (rows, width), longest = batch.input_ids.shape, int(batch.num_words.max())
    to_width, to_longest = rounded_up(width, step), rounded_up(longest, step)
    more_pieces = -len(batch.real_pieces) % (2 * step)
    # The most words that these pieces can be, since two pieces of each window are special ones.
    more_words = len(batch.real_pieces) + more_pieces - 2 * rows - len(batch.labels)
    real_pieces = batch.real_pieces // width * to_width + batch.real_pieces % width
    cells = grid_cells(batch.num_words)
    cells = cells // longest * to_longest + cells % longest
    last_cell = len(batch.num_words) * to_longest
    grid = (0, to_width - width, 0, 1)
    return Batch(
        input_ids=F.pad(batch.input_ids, grid),
        attention_mask=F.pad(batch.attention_mask, grid),
        real_pieces=F.pad(real_pieces, (0, more_pieces), value=rows * to_width),
        word_pieces=F.pad(batch.word_pieces, (0, more_words)),
        num_words=F.pad(batch.num_words, (0, 1), value=to_longest),
        word_cells=F.pad(cells, (0, more_words), value=last_cell),
        labels=F.pad(batch.labels, (0, more_words), value=NO_LABEL),
        groups=None,
        targets=None if batch.targets is None else F.pad(batch.targets, (0, 0, 0, more_words)),
    )


class GraphedTrainer(Trainer):
    """A Trainer that records CUDA graphs: one process on a GPU, without micro-batches."""

    @cached_property
    def graphed(self) -> GraphedBackward:
        return GraphedBackward(
            self.model, lambda batch: summed_losses(self.model, batch, bf16=self.bf16)
        )

    def _backward(self, wrapped, passages, share, scale) -> list[torch.Tensor]:
        return [self.graphed.backward(collate(self.train, share), scale)]
