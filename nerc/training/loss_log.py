"""Collects, checks and logs the training loss of an epoch."""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from nerc.errors import InputError

LOG_EVERY = 10  # updates; reading the loss more often would make a GPU wait for the host

Log = Callable[[str, float, int], None]  # name of a curve, value, update


class Update(NamedTuple):
    number: int
    learning_rate: float  # of the encoder
    sentences: np.ndarray  # of all processes
    share: np.ndarray  # of this process
    losses: torch.Tensor  # of the share's sentences


class LossLog:
    """The losses of an epoch: read from the device every few updates, checked and logged.

    labelled: the labelled words of each sentence; location says where a sentence comes from.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        labelled: np.ndarray,
        location: Callable[[int], str],
        log: Log,
    ) -> None:
        self.accelerator, self.labelled = accelerator, labelled
        self.location, self.log = location, log
        self.pending: list[Update] = []  # whose losses are not read yet
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        self.loss_sum, self.num_words, self.seconds = 0.0, 0, 0.0
        self.start()

    def start(self) -> None:
        """Start the clock; what came before does not count."""
        self.logged_at = self.read_at = time.perf_counter()
        self.words_since = 0

    def state(self) -> dict[str, float]:
        """The sums of the epoch so far, for restore()."""
        if self.pending:
            raise RuntimeError("losses that were not read")
        return {name: getattr(self, name) for name in ("loss_sum", "num_words", "seconds")}

    def restore(self, state: dict[str, float]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    def end(self) -> tuple[float, float, float]:
        """Mean loss per word, labelled words per second, and seconds of the whole epoch."""
        loss = self.loss_sum / (self.num_words or 1.0)
        result = loss, self.num_words / self.seconds, self.seconds
        self._begin_epoch()
        return result

    def read(self, *, log_speed: bool) -> None:
        """Read, check and log the losses since the last call; all processes have to call it."""
        sums = torch.stack([update.losses.sum() for update in self.pending])
        sums = self.accelerator.reduce(sums, "sum").tolist()
        now = time.perf_counter()
        for loss, update in zip(sums, self.pending, strict=True):
            if not math.isfinite(loss):
                self._stop(update, loss)
            num_words = float(self.labelled[update.sentences].sum())
            self.log("train/loss", loss / (num_words or 1.0), update.number)
            self.log("train/learning_rate", update.learning_rate, update.number)
            self.loss_sum += loss
            self.num_words += num_words
            self.words_since += num_words
        self.seconds += now - self.read_at
        self.read_at = now
        if log_speed:
            speed = self.words_since / (now - self.logged_at)
            self.log("train/words_per_second", speed, self.pending[-1].number)
            self.logged_at, self.words_since = now, 0
        self.pending.clear()

    def _stop(self, update: Update, loss: float) -> None:
        """Raise InputError with the sentences, of all processes, whose loss is not finite."""
        finite = torch.isfinite(update.losses).tolist()
        share = zip(update.share, finite, strict=False)
        locations = [self.location(int(sentence)) for sentence, ok in share if not ok]
        if self.accelerator.num_processes > 1:
            locations = gather_object(locations)
        raise InputError(
            f"update {update.number}: the loss is {loss}, on {len(locations)} sentences: "
            f"{', '.join(locations)}; look at them, or lower --lr and --head-lr, or set --clip"
        )
