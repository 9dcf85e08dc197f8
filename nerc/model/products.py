"""Matrix products in float32 on a CPU, by the faster of the two libraries that torch brings.

torch asks MKL, which on AMD's processors reaches half of what oneDNN does. Both round sums of
float32 numbers; they differ in the last digits.
"""

import time
from functools import cache

import torch
from torch import nn
from torch.nn import functional as F

_MUCH = 1.25  # times as fast, so that noise decides nothing
_PASSES = 5  # the first is not counted


def linear(
    rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """torch.nn.functional.linear."""
    if not _suits(rows):
        return F.linear(rows, weight, bias)
    return _Linear.apply(rows.flatten(0, -2), weight, bias).unflatten(0, rows.shape[:-1])


def multiply(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a @ b (D, M, K) x (D, K, N), without a gradient."""
    if not _suits(a):
        return a @ b
    return torch.stack([_by_onednn(x, y.T) for x, y in zip(a, b, strict=True)])


class Linear(nn.Linear):
    """nn.Linear whose products are those of linear()."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return linear(rows, self.weight, self.bias)


def _suits(rows: torch.Tensor) -> bool:
    """Whether oneDNN multiplies these rows faster than MKL."""
    if rows.device.type != "cpu" or rows.dtype != torch.float32 or not rows.numel():
        return False
    return not torch.is_autocast_enabled("cpu") and onednn_is_faster()


class _Linear(torch.autograd.Function):
    """rows (N, I) x weight (O, I) -> (N, O)."""

    @staticmethod
    def forward(ctx, rows, weight, bias):
        ctx.save_for_backward(rows, weight)
        return _by_onednn(rows, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        rows, weight = ctx.saved_tensors
        needs_rows, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            _by_onednn(grad, weight.T) if needs_rows else None,
            _by_onednn(grad.T, rows.T) if needs_weight else None,
            grad.sum(dim=0) if needs_bias else None,
        )


def _by_onednn(
    rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")


@cache
@torch.inference_mode()
def onednn_is_faster() -> bool:
    """Whether this process measures oneDNN to be much faster than MKL, once, in some 0.03 s."""
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkl.is_available()):
        return False
    rows, weight = torch.full((256, 384), 0.01), torch.full((1536, 384), 0.01)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(_PASSES):
        for is_onednn, times in seconds.items():
            started = time.perf_counter()
            _by_onednn(rows, weight) if is_onednn else rows @ weight.T
            times.append(time.perf_counter() - started)
    return min(seconds[False][1:]) > _MUCH * min(seconds[True][1:])
