"""Self-attention of NERSmall within windows, on a CPU and on a GPU.

Shapes: N pieces in all windows, without padding; H hidden size, A attention heads; grids of g
rows, t pieces wide, with padding.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F
from transformers.models.bert.modeling_bert import BertLayer

from nerc.model.layers import dropout_mask
from nerc.model.packing import longest_first, rounded_up, take_rows
from nerc.model.products import linear

# Windows whose attention is computed together: their pieces among all N; the pieces' cells in the
# flat grid; the mask (g, t) of what can be attended to.
Grid = tuple[slice, torch.Tensor, torch.Tensor]

_WIDE = 80  # pieces: each row of a wider grid has a window of at least half its width
_WIDTH = 16  # the width of a grid is a multiple of it


class HeadRows(NamedTuple):
    """Where the rows of each head are, (H / A) wide, before attention on a CPU and after it.

    Windows are packed into grids of r rows, t pieces wide; windows in the same row do not see each
    other. In a grid the rows of heads lie in the order (r, A, t), and one grid after the other, C
    rows in all. They are gathered by these numbers, so that the products need no copies of their
    inputs.
    """

    into_grids: torch.Tensor  # (3 C,) queries, keys, values; among N x (3 x A). Padding reads any.
    out_of_grids: torch.Tensor  # (N x A,), among C
    back: torch.Tensor  # (N x 3 x A,) of gradients, among 3 C
    # Of each grid's scores (r x A, t, t), or (r x A, 1, t) where all rows hold one window each: 0,
    # or the least number for what is not seen.
    biases: list[torch.Tensor]

    @classmethod
    def of(cls, lengths: torch.Tensor, num_heads: int, dtype: torch.dtype) -> "HeadRows":
        """The rows of windows with so many pieces (B,), one window after the other."""
        heads, into, biases, num_rows = np.arange(num_heads)[:, None], [], [], 0
        window = torch.repeat_interleave(lengths).numpy()  # of each piece
        pieces = np.split(np.arange(len(window)), lengths.cumsum(0)[:-1])  # of each window
        out = np.empty((len(window), num_heads), dtype=np.int64)
        for width, rows in _packed(lengths.tolist()):
            grid = np.full((len(rows), width), -1)
            for cells, windows in zip(grid, rows, strict=True):
                held = np.concatenate([pieces[i] for i in windows])
                cells[: len(held)] = held
            into.append((grid.clip(0)[:, None] * (3 * num_heads) + heads).ravel())
            row, cell = np.nonzero(grid >= 0)
            out[grid[row, cell]] = num_rows + ((row * num_heads + heads) * width + cell).T
            num_rows += grid.size * num_heads
            owner = np.where(grid < 0, -1, window[grid])
            if max(map(len, rows)) == 1:
                seen = owner[:, None] >= 0
            else:
                seen = owner[:, None] == owner[:, :, None]
            bias = torch.zeros(seen.shape, dtype=dtype)
            bias.masked_fill_(torch.from_numpy(~seen), torch.finfo(dtype).min)
            biases.append(bias.repeat_interleave(num_heads, dim=0))
        queries = torch.from_numpy(np.concatenate(into or [np.arange(0)]))
        kinds, out_of_grids = torch.arange(3)[:, None], torch.from_numpy(out)
        into_grids = (queries + kinds * num_heads).flatten()
        back = (out_of_grids[:, None] + kinds * num_rows).flatten()
        return cls(into_grids, out_of_grids.flatten(), back, biases)

    def parts(self, rows: torch.Tensor) -> Iterator[Sequence[torch.Tensor]]:
        """The rows (kinds, C, H / A) of each grid: for each kind (r x A, t, H / A)."""
        start = 0
        for bias in self.biases:
            count, width = bias.shape[0], bias.shape[2]
            end = start + count * width
            yield rows[:, start:end].unflatten(1, (count, width)).unbind()
            start = end


def _packed(lengths: Sequence[int]) -> Iterator[tuple[int, list[list[int]]]]:
    """Pack windows of so many pieces into grids: the width of each, and the windows in its rows.

    The cost of attention is the square of the width for each row.
    """
    left = longest_first(lengths)
    while left:
        width = rounded_up(lengths[left[0]], _WIDTH)
        least = width // 2 if width > _WIDE else 0
        yield width, take_rows(left, lengths, width, least=least)


def attend_on_cpu(layer: BertLayer, hidden: torch.Tensor, rows: HeadRows) -> torch.Tensor:
    """Self-attention of the pieces (N, H) within their windows: (N, H).

    One product computes queries, keys and values: on a CPU that outweighs joining the weights.
    """
    attention = layer.attention.self
    query, key, value = attention.query, attention.key, attention.value
    weight = torch.cat([query.weight, key.weight, value.weight])
    bias = torch.cat([query.bias, key.bias, value.bias])
    projected = linear(hidden, weight, bias)  # (N, 3 H)
    dropout = attention.dropout.p if attention.training else 0.0
    with torch.autocast(hidden.device.type, enabled=False):
        how = attention.attention_head_size, attention.scaling, dropout
        return _Attention.apply(projected, rows, *how)


class _Attention(torch.autograd.Function):
    """Attention (N, 3 H) -> (N, H) on a CPU.

    The softmax is computed in float32, which is several times as fast as in bf16 where the width is
    no multiple of a vector's.
    """

    @staticmethod
    def forward(ctx, projected, rows, size, scaling, dropout):
        inputs = projected.reshape(-1, size).index_select(0, rows.into_grids).view(3, -1, size)
        contexts, saved = [], []
        for (query, key, value), bias in zip(rows.parts(inputs), rows.biases, strict=True):
            scores = torch.baddbmm(bias, query, key.transpose(1, 2), alpha=scaling)
            probabilities = scores.float().softmax(dim=-1)
            factors, dropped = None, probabilities
            if dropout:
                factors = dropout_mask(probabilities.shape, dropout, torch.float32)
                dropped = probabilities * factors
            dropped = dropped.to(value.dtype)
            contexts.append((dropped @ value).flatten(0, 1))
            saved.append((probabilities, factors, dropped))
        ctx.rows, ctx.inputs, ctx.saved, ctx.scaling = rows, inputs, saved, scaling
        return torch.cat(contexts).index_select(0, rows.out_of_grids).view(len(projected), -1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        rows, inputs = ctx.rows, ctx.inputs
        size, grads = inputs.shape[2], torch.empty_like(inputs)
        of_contexts = grad.new_zeros(1, inputs.shape[1], size)
        of_contexts[0].index_copy_(0, rows.out_of_grids, grad.reshape(-1, size))
        grids = rows.parts(inputs), rows.parts(grads), rows.parts(of_contexts), ctx.saved
        for (query, key, value), (of_query, of_key, of_value), (of_context,), saved in zip(
            *grids, strict=True
        ):
            probabilities, factors, dropped = saved
            torch.bmm(dropped.transpose(1, 2), of_context, out=of_value)
            slopes = (of_context @ value.transpose(1, 2)).float()
            if factors is not None:
                slopes *= factors
            slopes = torch._softmax_backward_data(slopes, probabilities, -1, torch.float32)
            slopes = slopes.to(query.dtype)
            scaled = {"beta": 0, "alpha": ctx.scaling}
            torch.baddbmm(of_query, slopes, key, out=of_query, **scaled)
            torch.baddbmm(of_key, slopes.transpose(1, 2), query, out=of_key, **scaled)
        of_projected = grads.view(-1, size).index_select(0, rows.back)
        return of_projected.view(len(grad), -1), None, None, None, None


def attend_on_gpu(layer: BertLayer, hidden: torch.Tensor, grids: Sequence[Grid]) -> torch.Tensor:
    """What attend_on_cpu computes, with torch's fused kernels, and dropout from torch's stream."""
    attention = layer.attention.self
    heads = attention.num_attention_heads, attention.attention_head_size
    projections = attention.query, attention.key, attention.value
    projected = [F.linear(hidden, p.weight, p.bias) for p in projections]  # (N, H) each
    contexts = []
    for pieces, cells, mask in grids:
        query, key, value = (
            pad(rows[pieces], cells, mask.shape).view(*mask.shape, *heads).transpose(1, 2)
            for rows in projected
        )  # (g, A, t, H / A) each
        how = {"attn_mask": mask[:, None, None, :], "scale": attention.scaling}
        how["dropout_p"] = attention.dropout.p if attention.training else 0.0
        context = F.scaled_dot_product_attention(query, key, value, **how)
        context = context.transpose(1, 2).reshape(mask.numel(), -1)
        contexts.append(context.index_select(0, cells))
    return torch.cat(contexts)


def visible_pieces(mask: torch.Tensor) -> torch.Tensor:
    """The mask with rows of padding alone all True: softmax over nothing would be nan."""
    return mask | ~mask.any(dim=1, keepdim=True)


def pad(rows: torch.Tensor, cells: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Put rows (N, H) into their cells of a grid (B, T, H) of zeros."""
    grid = rows.new_zeros(shape.numel(), rows.shape[1])
    return grid.index_copy(0, cells, rows).view(*shape, -1)
