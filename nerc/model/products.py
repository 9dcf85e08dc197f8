"""Matrix products in float32 on a CPU, by the faster of the two libraries that torch brings.

torch asks MKL, which on AMD's processors reaches half of what oneDNN does. Both round sums of
float32 numbers; they differ in the last digits.
"""

from collections.abc import Mapping
from functools import cache

import torch
from torch import nn
from torch.nn import functional as F

from nerc.hardware import processor_facts


def linear(
    rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """torch.nn.functional.linear."""
    if not _suits(rows):
        return F.linear(rows, weight, bias)
    return _Linear.apply(rows.flatten(0, -2), weight, bias).unflatten(0, rows.shape[:-1])


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
def onednn_is_faster() -> bool:
    """Whether oneDNN is much faster than MKL: on AMD's processors with AVX-512, which MKL ignores.

    This is not measured: all processes and all runs on a machine have to round alike.
    """
    has_both = torch.backends.mkldnn.is_available() and torch.backends.mkl.is_available()
    return has_both and is_amd_with_avx512(processor_facts())


def is_amd_with_avx512(facts: Mapping[str, str]) -> bool:
    """facts: see nerc.hardware.processor_facts."""
    is_amd = facts.get("vendor_id") == "AuthenticAMD"
    return is_amd and "avx512f" in facts.get("flags", "").split()
