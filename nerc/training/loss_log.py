"""Collects, checks and logs the training loss of an epoch."""

import math
import time
from typing import NamedTuple

import numpy as np
import torch
from accelerate.utils import gather_object

from nerc.errors import InputError

LOG_EVERY = 10  # updates; reading a loss more often would make a GPU wait for the host


class Update(NamedTuple):
    number: int
    learning_rate: float  # of the encoder
    sentences: np.ndarray  # of all processes
    share: np.ndarray  # of this one
    losses: torch.Tensor  # of the share's sentences


class LossLog:
    """The losses of an epoch: read from the device every few updates, checked and logged."""

    def __init__(self, accelerator, labelled, location, log) -> None:
        self.accelerator, self.labelled, self.location, self.log = (
            accelerator,
            labelled,
            location,
            log,
        )
        self.pending: list[Update] = []
        self._begin()

    def _begin(self) -> None:
        self.loss_sum, self.num_words, self.seconds = 0.0, 0, 0.0
        self.start()

    def start(self) -> None:
        """Start the clock, which should not count what came before."""
        self.logged = self.last_read = time.perf_counter()
        self.words_since = 0

    def state(self) -> dict[str, float]:
        """What was read of the epoch so far, for restore()."""
        assert not self.pending, "losses that were not read"
        return {name: getattr(self, name) for name in ("loss_sum", "num_words", "seconds")}

    def restore(self, state: dict[str, float]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    def add(self, update: Update) -> None:
        self.pending.append(update)

    def end(self) -> tuple[float, float, float]:
        """Mean loss of a word, labelled words per second, and seconds, of the whole epoch."""
        loss = self.loss_sum / (self.num_words or 1.0)
        found = loss, self.num_words / self.seconds, self.seconds
        self._begin()
        return found

    def read(self, *, log_speed: bool) -> None:
        """Read, check and log the losses since the last time; all processes take part."""
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
        self.seconds += now - self.last_read
        self.last_read = now
        if log_speed:
            speed = self.words_since / (now - self.logged)
            self.log("train/words_per_second", speed, self.pending[-1].number)
            self.logged, self.words_since = now, 0
        self.pending.clear()

    def _stop(self, update: Update, loss: float) -> None:
        finite = torch.isfinite(update.losses).tolist()
        mine = [
            self.location(int(s)) for s, ok in zip(update.share, finite, strict=False) if not ok
        ]
        guilty = gather_object(mine) if self.accelerator.num_processes > 1 else mine
        raise InputError(
            f"update {update.number}: the loss is {loss}, on {len(guilty)} sentences: "
            f"{', '.join(guilty)}; look at them, or lower --lr and --head-lr, or set --clip"
        )
