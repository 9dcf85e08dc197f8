"""Dropout and BiLSTM of NERSmall: what torch's own compute, in less time on a CPU.

On a CPU, torch draws dropout masks one number at a time, and its packed LSTM adds megabytes to the
gradient of the recurrent weights at every step: together half of a training step on two cores.

Shapes: S sentences with N words in all; D = 2 directions; I inputs, H hidden units.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from nerc.model.products import Linear, multiply


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
    those of a larger grid; with them, or not on a CPU, torch's LSTM computes a padded grid.
    """
    if cells is None and words.device.type != "cpu":
        cells = grid_cells(num_words).to(words.device, non_blocking=True)
    if cells is not None:
        return _by_grid(lstm, words, (len(num_words), int(num_words.max())), cells)
    forth, back, batch_sizes = _time_major(num_words)
    inputs = torch.stack([words.index_select(0, forth), words.index_select(0, back)])  # (D, N, I)
    weights = [torch.stack(of_ways) for of_ways in zip(*lstm_weights(lstm), strict=True)]
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else words.dtype
    with torch.autocast("cpu", enabled=False):
        hidden = _TwoLSTMs.apply(inputs, *weights, batch_sizes, dtype)  # (D, N, H)
    empty = torch.empty_like(hidden[0])
    rows = [empty.index_copy(0, order, h) for order, h in zip((forth, back), hidden, strict=True)]
    return torch.cat(rows, dim=1)


def lstm_weights(lstm: nn.LSTM) -> list[list[nn.Parameter]]:
    """w_ih, w_hh, b_ih and b_hh of each direction."""
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    return [[getattr(lstm, name + suffix) for name in names] for suffix in ("", "_reverse")]


def grid_cells(num_words: torch.Tensor) -> torch.Tensor:
    """The flat cells (2, N) of words in a grid (S, most words): forwards, and backwards."""
    sentence = torch.repeat_interleave(num_words)
    position = torch.arange(len(sentence)) - (num_words.cumsum(0) - num_words)[sentence]
    positions = torch.stack([position, num_words[sentence] - 1 - position])
    return sentence * num_words.max() + positions


def _by_grid(
    lstm: nn.LSTM, words: torch.Tensor, shape: tuple[int, int], cells: torch.Tensor
) -> torch.Tensor:
    """Run both directions as LSTMs of one direction, with the padding at the end of each row.

    There it changes nothing, and the GPU needs no lengths from the host. Autocast is off: small
    gradients would vanish in half precision.
    """
    outputs = []
    with torch.autocast(words.device.type, enabled=False):
        words = words.to(lstm.weight_ih_l0.dtype)
        for one_way_cells, weights in zip(cells, lstm_weights(lstm), strict=True):
            grid = words.new_zeros(shape[0] * shape[1], words.shape[1])
            grid = grid.index_copy(0, one_way_cells, words).view(*shape, -1)  # (S, W, I)
            start = grid.new_zeros(1, shape[0], lstm.hidden_size)
            # has_biases, num_layers, dropout, train, bidirectional, batch_first
            settings = (True, 1, 0.0, lstm.training, False, True)
            output, _, _ = torch.lstm(grid, (start, start), weights, *settings)
            outputs.append(output.flatten(0, 1).index_select(0, one_way_cells))
    return torch.cat(outputs, dim=1)


def _time_major(num_words: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """The order of words (N,): all first words, all second words, ..., longest sentences first.

    Also the same order with every sentence reversed, and batch_sizes: batch_sizes[t] sentences have
    more than t words.
    """
    starts = num_words.cumsum(0) - num_words
    lengths, sentences = num_words.sort(descending=True, stable=True)
    alive = torch.arange(int(lengths[0]))[:, None] < lengths  # (longest, S)
    time, rank = alive.nonzero(as_tuple=True)
    start = starts[sentences[rank]]
    return start + time, start + lengths[rank] - 1 - time, alive.sum(dim=1).tolist()


class _TwoLSTMs(torch.autograd.Function):
    """Two LSTMs side by side over sequences packed time-major (torch.nn.LSTM's equations).

    What does not depend on the step before is computed for all steps at once, above all the
    gradients of the weights. Products are computed in dtype, gates and cells in the weights' dtype.
    """

    @staticmethod
    def forward(ctx, x, w_ih, w_hh, b_ih, b_hh, batch_sizes, dtype):
        # x (D, N, I); w_ih (D, 4 H, I); w_hh (D, 4 H, H); b (D, 4 H); the gates are i, f, g, o
        x, w_ih, w_hh = x.to(dtype), w_ih.to(dtype), w_hh.to(dtype)
        size = w_hh.shape[2]
        gates = multiply(x, w_ih.transpose(1, 2)).to(b_ih.dtype)  # (D, N, 4 H)
        gates += (b_ih + b_hh)[:, None]
        cells = gates.new_empty(*gates.shape[:2], size)
        hidden = torch.empty_like(cells)
        recurrent = w_hh.transpose(1, 2)
        start, before = 0, None
        for batch_size in batch_sizes:
            now = slice(start, start + batch_size)
            gate = gates[:, now]
            if before is not None:
                before = slice(before, before + batch_size)
                gate += multiply(hidden[:, before].to(dtype), recurrent)
            gate[..., : 2 * size].sigmoid_()
            gate[..., 2 * size : 3 * size].tanh_()
            gate[..., 3 * size :].sigmoid_()
            i, f, g, o = gate.chunk(4, dim=-1)
            cell = torch.mul(i, g, out=cells[:, now])
            if before is not None:
                cell.addcmul_(f, cells[:, before])
            torch.mul(o, cell.tanh(), out=hidden[:, now])
            start, before = start + batch_size, start
        ctx.save_for_backward(x, w_ih, w_hh, gates, cells, hidden)
        ctx.batch_sizes = batch_sizes
        return hidden

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_hidden):
        x, w_ih, w_hh, gates, cells, hidden = ctx.saved_tensors
        sizes, first = ctx.batch_sizes, ctx.batch_sizes[0]
        # For each row after the first step, the row of its sentence one step before.
        starts = [sum(sizes[:t]) for t in range(len(sizes))]
        before = torch.cat(
            [torch.arange(start, start + n) for start, n in zip(starts, sizes[1:], strict=False)]
            or [torch.arange(0)]
        )
        i, f, g, o = gates.chunk(4, dim=-1)
        tanh = cells.tanh()
        # Derivatives of the cell by the inputs of gates i, f, g, and of hidden by that of gate o.
        slopes = torch.empty_like(gates)
        s_i, s_f, s_g, s_o = slopes.chunk(4, dim=-1)
        torch.mul(g * i, 1 - i, out=s_i)
        s_f[:, :first] = 0
        torch.mul(cells[:, before] * f[:, first:], 1 - f[:, first:], out=s_f[:, first:])
        torch.mul(i, 1 - g * g, out=s_g)
        torch.mul(tanh * o, 1 - o, out=s_o)
        cell_slope = o * (1 - tanh * tanh)  # d hidden / d cell
        grad_gates = slopes  # overwritten step by step
        grad_hidden = grad_hidden.contiguous().clone()
        grad_cell = None
        for t in range(len(sizes) - 1, -1, -1):
            now = slice(starts[t], starts[t] + sizes[t])
            d_hidden = grad_hidden[:, now]
            d_cell = d_hidden * cell_slope[:, now]
            if grad_cell is not None:
                d_cell[:, : grad_cell.shape[1]] += grad_cell
            size = d_cell.shape[-1]
            gate = grad_gates[:, now]
            gate[..., 3 * size :] *= d_hidden
            gate[..., : 3 * size].unflatten(-1, (3, size)).mul_(d_cell[:, :, None])
            if t:
                grad_cell = d_cell * f[:, now]
                earlier = slice(starts[t - 1], starts[t - 1] + sizes[t])
                grad_hidden[:, earlier] += multiply(gate.to(w_hh.dtype), w_hh)
        grad_b = grad_gates.sum(dim=1)
        low = grad_gates.to(x.dtype)
        by_gate = low.transpose(1, 2)  # (D, 4 H, N)
        earlier = hidden[:, before].to(x.dtype)
        products = (
            multiply(low, w_ih),
            multiply(by_gate, x),
            multiply(by_gate[:, :, first:], earlier),
        )
        grads = [product.to(grad_b.dtype) for product in products]
        # Two tensors: code that clips gradients in place would clip a shared one twice.
        return *grads, grad_b, grad_b.clone(), None, None
