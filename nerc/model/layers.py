"""Dropout and BiLSTM of NERSmall: what torch's own compute, in less time on a CPU.

On a CPU, torch draws dropout masks one number at a time, and its packed LSTM adds megabytes to the
gradient of the recurrent weights at every step: together half of a training step on two cores.
oneDNN's LSTM, which torch uses for a padded grid, does not.

Shapes: S sentences with N words in all; I inputs, H hidden units.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from nerc.model.packing import longest_first, rounded_up, take_rows
from nerc.model.products import Linear

_CLOSED = -1e4  # a gate's input: its sigmoid is 0 in float32
_WIDTH = 8  # the width of a grid of words is a multiple of it


class Dropout(nn.Dropout):
    """nn.Dropout with masks by dropout_mask() on a CPU."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0 or x.device.type != "cpu":
            return F.dropout(x, self.p, self.training)
        return x * dropout_mask(x.shape, self.p, x.dtype)


def dropout_mask(shape: torch.Size, p: float, dtype: torch.dtype) -> torch.Tensor:
    """Numbers that are 0 with probability p, else 1 / (1 - p), on the CPU.

    Draws its seed from torch's global generator. Eight bits are drawn for each number, and more for
    the mask: it has one of the two multiples of 1 / 256 beside p, so that p is exact on average.
    """
    seed, size = int(torch.empty((), dtype=torch.int64).random_()), shape.numel()
    bits = np.random.SFC64(seed).random_raw(size // 8 + 2)  # twice as fast as torch's
    num_zeros = int(256 * p + bits[-1] / 2**64)  # of the 256 draws, how many mean 0
    value = torch.ones((), dtype=dtype).div_(1 - p)
    if num_zeros in (0, 256):
        return torch.full(shape, 0.0 if num_zeros else value.item(), dtype=dtype)
    draws = torch.from_numpy(bits.view(np.uint8)[:size]).view(shape)
    # Comparing, and casting what it gives, would take ten times as long.
    kept = draws.clamp_(num_zeros - 1, num_zeros).sub_(num_zeros - 1)
    if dtype.itemsize == 2:
        return kept.to(torch.int16).mul_(value.view(torch.int16)).view(dtype)
    return kept.to(dtype).mul_(value)


def replace_layers(module: nn.Module) -> None:
    """Replace every nn.Dropout and nn.Linear inside module by ours."""
    for parent in module.modules():
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p))
            elif type(child) is nn.Linear:
                child.__class__ = Linear  # a new one would draw new weights


def bilstm(
    lstm: nn.LSTM, words: torch.Tensor, num_words: torch.Tensor, cells: torch.Tensor | None = None
) -> torch.Tensor:
    """Run a one-layer bidirectional LSTM over S sentences: words (N, I) -> (N, 2 H).

    num_words (S,), on the CPU, are the lengths of the sentences. cells are grid_cells(num_words) or
    those of a larger grid, which has a row for each sentence; without them, sentences share rows on
    a CPU. Padding at the end of a row changes nothing, and a GPU needs no lengths from the host.
    """
    shape, gaps, dtype = (len(num_words), int(num_words.max())), [], lstm.weight_ih_l0.dtype
    device = words.device
    if device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")  # not on a GPU: float16 loses small gradients
    if cells is None and device.type == "cpu":
        shape, first_cells, gaps = _shared_rows(num_words)
        cells = _cells_from(first_cells, num_words)
    elif cells is None:
        cells = grid_cells(num_words).to(device, non_blocking=True)
    outputs = []
    with torch.autocast(device.type, enabled=False):
        words = F.pad(words.to(dtype), (0, 1 if gaps else 0))
        for one_way_cells, parameters in zip(cells, lstm_weights(lstm), strict=True):
            w_ih, *weights = (parameter.to(dtype) for parameter in parameters)
            grid = words.new_zeros(shape[0] * shape[1], words.shape[1])
            if gaps:
                grid[gaps, -1] = 1
                w_ih = F.pad(w_ih, (0, 1), value=_CLOSED)
            grid = grid.index_copy(0, one_way_cells, words).view(*shape, -1)
            start = grid.new_zeros(1, shape[0], lstm.hidden_size)
            # has_biases, num_layers, dropout, train, bidirectional, batch_first
            settings = (True, 1, 0.0, torch.is_grad_enabled(), False, True)
            output, _, _ = torch.lstm(grid, (start, start), [w_ih, *weights], *settings)
            outputs.append(output.flatten(0, 1).index_select(0, one_way_cells))
    return torch.cat(outputs, dim=1)


def lstm_weights(lstm: nn.LSTM) -> list[list[nn.Parameter]]:
    """w_ih, w_hh, b_ih and b_hh of each direction."""
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    return [[getattr(lstm, name + suffix) for name in names] for suffix in ("", "_reverse")]


def grid_cells(num_words: torch.Tensor) -> torch.Tensor:
    """The flat cells (2, N) of words in a grid (S, most words): forwards, and backwards."""
    return _cells_from(torch.arange(len(num_words)) * num_words.max(), num_words)


def _cells_from(first_cells: torch.Tensor, num_words: torch.Tensor) -> torch.Tensor:
    """The flat cells (2, N) of the words of sentences that begin at first_cells (S,)."""
    sentence = torch.repeat_interleave(num_words)
    position = torch.arange(len(sentence)) - (num_words.cumsum(0) - num_words)[sentence]
    positions = torch.stack([position, num_words[sentence] - 1 - position])
    return first_cells[sentence] + positions


def _shared_rows(num_words: torch.Tensor) -> tuple[tuple[int, int], torch.Tensor, list[int]]:
    """A grid with few rows: its shape, the sentences' first cells (S,), and the cells of gaps.

    A gap parts two sentences in a row. It is marked in an input of its own, whose weights close all
    gates: the state after it is 0, as at the start of a row.
    """
    lengths = num_words.tolist()
    width = rounded_up(max(lengths), _WIDTH)
    rows = take_rows(longest_first(lengths), lengths, width, gap=1)
    first_cells, gaps = torch.zeros_like(num_words), []
    for number, row in enumerate(rows):
        cell = number * width
        for sentence in row:
            first_cells[sentence] = cell
            cell += lengths[sentence] + 1
            gaps.append(cell - 1)
        gaps.pop()
    return (len(rows), width), first_cells, gaps
