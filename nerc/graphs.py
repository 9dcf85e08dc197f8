"""The gradients of an update by CUDA graphs.

A GPU computes the thousand small kernels of an update faster than a host starts them one by one. A
graph starts them at once, but has fixed sizes and places in memory: so batches are enlarged to few
sizes, and copied to where the graph of their size reads them.
"""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from nerc.config import InputError
from nerc.encoding import Batch, enlarge


class _Recording(NamedTuple):
    graph: torch.cuda.CUDAGraph
    batch: Batch  # what it reads
    scale: torch.Tensor
    losses: torch.Tensor  # what it writes, beside the gradients


class GraphedBackward:
    """Losses of batches and the gradients of all parameters of model, which lies on a GPU.

    losses_of(batch) gives the losses (S,) of a batch's sentences; it must not wait for the GPU.
    Gradients stay where they are from update to update: nobody else may set them to None.
    """

    def __init__(self, model: nn.Module, losses_of: Callable[[Batch], torch.Tensor]) -> None:
        self.device = next(model.parameters()).device
        if self.device.type != "cuda":
            raise InputError("--cuda-graphs: there is no CUDA GPU here; leave it out")
        self.losses_of = losses_of
        self.gradients = []
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
            self.gradients.append(parameter.grad)
        self.pool = torch.cuda.graph_pool_handle()
        self.seen: Counter[tuple] = Counter()
        self.recordings: dict[tuple, _Recording] = {}

    def backward(self, batch: Batch, scale: float) -> torch.Tensor:
        """Gradients of the sum of the losses, times scale; gives the losses.

        The first batch of a size is computed without a graph: most sizes that come once are rare.
        """
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
        with torch.cuda.stream(stream):  # libraries set themselves up, which no graph may hold
            for _ in range(2):
                self._compute(batch, scale)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            losses = self._compute(batch, scale)
        torch.cuda.set_rng_state(dropout, self.device)
        return _Recording(graph, batch, scale, losses)
