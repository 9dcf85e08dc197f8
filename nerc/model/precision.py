"""Decides by measuring whether models compute in float32 or bf16 on this machine."""

import logging
import time
from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from torch.nn import functional as F
from transformers import PreTrainedConfig

from nerc.distributed import from_main
from nerc.errors import InputError
from nerc.hardware import computes_bf16
from nerc.model.products import linear

logger = logging.getLogger(__name__)

_LEVEL = 1.03  # bf16 has to be this many times as fast, else float32 is as good and more exact
_MOST_PIECES = {"cpu": 512, "cuda": 8192}
_MULTIPLICATIONS = {"cpu": 2.5e8, "cuda": 5e10}  # of a measured pass: some milliseconds
_PASSES = 5  # in each precision; the first is not counted


class Precision:
    """What --precision (auto, float32, bf16 or int8) means for the models of a command.

    auto is decided when the first model is known, by timing products as wide as its layers'; all
    models of the command, and all processes, compute in the same precision. InputError where bf16
    is asked for and the device does not compute in it.
    """

    def __init__(self, asked: str, accelerator: Accelerator) -> None:
        self.accelerator, self.device = accelerator, accelerator.device
        self.decided = None if asked == "auto" else asked
        self.milliseconds: dict[str, float] = {}  # of a pass in each precision
        if asked == "bf16" and not computes_bf16(self.device):
            raise InputError(
                f"--precision bf16: this machine's {self.device.type} does not compute in bf16; "
                f"leave --precision out, or give float32"
            )

    def keep(self, earlier: str | None) -> None:
        """Let auto be what an earlier part of this run computed in, if the device does so, too."""
        if earlier == "float32" or (earlier == "bf16" and computes_bf16(self.device)):
            self.decided = self.decided or earlier

    def of(self, config: PreTrainedConfig) -> str:
        """The precision, decided if need be by a model with this configuration."""
        if self.decided is None:
            is_main = self.accelerator.is_main_process
            measured = self._measure(config) if is_main else None
            self.decided, self.milliseconds = from_main(self.accelerator, measured)
        return self.decided

    def describe(self, config: PreTrainedConfig) -> dict[str, Any]:
        """The precision, for run.json, and what it was decided by."""
        precision = {"precision": self.of(config)}
        return precision | ({"pass_milliseconds": self.milliseconds} if self.milliseconds else {})

    def _measure(self, config: PreTrainedConfig) -> tuple[str, dict[str, float]]:
        """The faster precision, and the milliseconds, which the log tells, too."""
        if not computes_bf16(self.device):
            return "float32", {}
        run = _layer_pass(config.hidden_size, config.intermediate_size, self.device)
        seconds: dict[str, list[float]] = {"float32": [], "bf16": []}
        for _ in range(_PASSES):
            for precision, of_passes in seconds.items():
                of_passes.append(_seconds(run, precision, self.device))
        low, high = (min(seconds[precision][1:]) for precision in ("bf16", "float32"))
        decided = "bf16" if high > _LEVEL * low else "float32"
        logger.info(
            f"--precision auto is {decided}: the products of a layer take {1e3 * high:.2f} ms in "
            f"float32 and {1e3 * low:.2f} ms in bf16"
        )
        return decided, {"float32": round(1e3 * high, 3), "bf16": round(1e3 * low, 3)}


def _layer_pass(width: int, inner: int, device: torch.device) -> Callable[[], torch.Tensor]:
    """A function that does what an encoder's layer does besides attention, forwards.

    Training does as much forwards and twice as much backwards, by the same kinds of products.
    """
    num_weights = 4 * width**2 + 2 * width * inner
    num_pieces = _MULTIPLICATIONS[device.type] / num_weights
    num_pieces = 2 ** max(5, int(min(_MOST_PIECES[device.type], num_pieces)).bit_length() - 1)
    # To draw numbers would take longer than to multiply them.
    shapes = (num_pieces, width), (3 * width, width), (width, width), (inner, width), (width, inner)
    hidden, *weights = (torch.full(shape, 0.01, device=device) for shape in shapes)

    def run() -> torch.Tensor:
        context = linear(hidden, weights[0])[:, :width]
        attended = F.layer_norm(linear(context, weights[1]) + hidden, (width,))
        last = linear(F.gelu(linear(attended, weights[2])), weights[3])
        return F.layer_norm(last + attended, (width,))

    return run


@torch.no_grad()
def _seconds(run: Callable[[], torch.Tensor], precision: str, device: torch.device) -> float:
    """How long a pass takes in a precision, with the casts of its weights."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    started = time.perf_counter()
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        run()
    wait()
    return time.perf_counter() - started
