"""fit(): batch plan, loss, optimiser and schedule.

Which sentences form update k of epoch e depends on the seed, e and k alone. The loss of an update
is the sum over its labelled words divided by their number, wherever they are computed: processes
only share an update out.
"""

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from nerc.config import InputError, TrainConfig
from nerc.encoding import NO_LABEL, Encoded, collate
from nerc.metrics import Report
from nerc.model import NERSmall

LOG_EVERY = 10  # updates; reading a loss more often would make a GPU wait for the host


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training sentences gave; loss is the mean over its words."""

    number: int
    loss: float
    words_per_second: float
    seconds: float  # with validation
    report: Report | None
    kept: bool  # the best so far; the weights that fit() leaves behind are those of the last kept


def plan(num_sentences: int, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The sentences of every update of an epoch: each sentence once, in an order drawn anew."""
    order = np.random.default_rng([seed, 1, epoch]).permutation(num_sentences)
    return [order[i : i + batch_size] for i in range(0, num_sentences, batch_size)]


def learning_rate_factor(update: int, num_updates: int, warmup: float, schedule: str) -> float:
    """Share of the peak learning rate at update 0 <= update < num_updates."""
    num_rising = round(warmup * num_updates)
    if update < num_rising:
        return (update + 1) / num_rising
    if schedule == "constant":
        return 1.0
    return (num_updates - update) / (num_updates - num_rising)


def make_optimizer(model: NERSmall, config: TrainConfig) -> torch.optim.Optimizer:
    """Encoder and head in groups with their own learning rates; no decay on biases and norms."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        is_head = not name.startswith(model.base_model_prefix + ".")
        groups.setdefault((is_head, parameter.ndim > 1), []).append(parameter)
    described = [
        {
            "params": parameters,
            "peak_lr": config.head_lr if is_head else config.lr,
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (is_head, decays), parameters in groups.items()
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(described, lr=config.lr, momentum=config.momentum, fused=True)
    return torch.optim.AdamW(described, lr=config.lr, fused=True)


def fit(
    model: NERSmall,
    train: Encoded,
    config: TrainConfig,
    accelerator: Accelerator,
    *,
    bf16: bool,
    judge: Callable[[], Report] | None,
    log: Callable[[str, float, int], None],
    origin: Callable[[int], str],
) -> Iterator[Epoch]:
    """Train model (on the accelerator's device), one Epoch at a time.

    judge reports on validation, where there is one; log(name, value, update) receives the curves;
    origin(sentence) says where a sentence stood. Raises InputError on a loss that is not finite.
    Exhausted, it leaves the weights of the epoch that --keep asks for in model.
    """
    labelled = train.num_labelled()
    if not labelled.any():
        raise InputError("not one word of the training sentences has a label")
    optimizer = make_optimizer(model, config)
    wrapped = accelerator.prepare(model)  # the optimiser stays ours: Accelerate's adds nothing
    num_updates = config.epochs * math.ceil(len(train) / config.batch_size)
    quiet = not accelerator.is_local_main_process or not sys.stderr.isatty()
    bar = tqdm(total=num_updates, desc="training", unit="update", leave=False, disable=quiet)
    best, best_weights, update = -math.inf, None, 0
    for number in range(1, config.epochs + 1):
        started = time.perf_counter()
        curve = _Curve(accelerator, labelled, origin, log)
        model.train()
        for sentences in plan(len(train), config.batch_size, config.seed, number):
            factor = learning_rate_factor(update, num_updates, config.warmup, config.schedule)
            for group in optimizer.param_groups:
                group["lr"] = factor * group["peak_lr"]
            share = sentences[accelerator.process_index :: accelerator.num_processes]
            with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=bf16):
                losses = _summed_losses(wrapped, train, share, sentences[:1])
            # The processes' gradients are averaged, so each is scaled up by their number first.
            scale = accelerator.num_processes / max(1, int(labelled[sentences].sum()))
            (losses.sum() * scale).backward()
            if config.clip:
                nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            optimizer.step()
            optimizer.zero_grad()
            update += 1
            curve.add(_Update(update, factor * config.lr, sentences, share, losses.detach()))
            bar.update()
        loss, words_per_second = curve.end()
        report = judge() if judge else None
        score = report.f1 if report else -math.inf
        kept = score >= best if config.keep == "best" else number == config.epochs
        if kept and config.keep == "best":
            best = score
            best_weights = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
        seconds = time.perf_counter() - started
        if report:
            for name in ("loss", "accuracy", "f1"):
                log(f"validation/{name}", getattr(report, name), update)
        yield Epoch(number, loss, words_per_second, seconds, report, kept)
    bar.close()
    if best_weights is not None:
        model.load_state_dict(best_weights)


def _summed_losses(
    model: nn.Module, train: Encoded, share: Sequence[int], instead: Sequence[int]
) -> torch.Tensor:
    """Cross entropy of each sentence of a share (S,), summed over its labelled words.

    A process whose share is empty computes another sentence, at no weight: all must take part.
    """
    weight = 1.0 if len(share) else 0.0
    batch = collate(train, share if len(share) else instead)
    device = next(model.parameters()).device
    logits = model(**batch.inputs(device)).logits  # (S, W, K)
    losses = F.cross_entropy(
        logits.float().flatten(0, 1),
        batch.labels.to(device, non_blocking=True).flatten(),
        ignore_index=NO_LABEL,
        reduction="none",
    )
    return losses.view(batch.labels.shape).sum(dim=1) * weight


class _Update(NamedTuple):
    number: int
    learning_rate: float  # of the encoder
    sentences: np.ndarray  # of all processes
    share: np.ndarray  # of this one
    losses: torch.Tensor  # of the share's sentences


class _Curve:
    """The losses of an epoch, read from the device every LOG_EVERY updates, checked and logged."""

    def __init__(self, accelerator, labelled, origin, log) -> None:
        self.accelerator, self.labelled, self.origin, self.log = accelerator, labelled, origin, log
        self.pending: list[_Update] = []
        self.loss_sum, self.num_words = 0.0, 0
        self.started = self.last_read = time.perf_counter()

    def add(self, update: _Update) -> None:
        self.pending.append(update)
        if len(self.pending) == LOG_EVERY:
            self._read()

    def end(self) -> tuple[float, float]:
        """Mean loss of a word, and labelled words per second, of the whole epoch."""
        if self.pending:
            self._read()
        seconds = time.perf_counter() - self.started
        return self.loss_sum / max(1, self.num_words), self.num_words / seconds

    def _read(self) -> None:
        sums = torch.stack([update.losses.sum() for update in self.pending])
        sums = self.accelerator.reduce(sums, "sum").tolist()
        for loss, update in zip(sums, self.pending, strict=True):
            if not math.isfinite(loss):
                self._stop(update, loss)
        num_words = sum(int(self.labelled[update.sentences].sum()) for update in self.pending)
        now, last = time.perf_counter(), self.pending[-1]
        self.log("train/loss", sum(sums) / max(1, num_words), last.number)
        self.log("train/learning_rate", last.learning_rate, last.number)
        self.log("train/words_per_second", num_words / (now - self.last_read), last.number)
        self.last_read = now
        self.loss_sum += sum(sums)
        self.num_words += num_words
        self.pending.clear()

    def _stop(self, update: _Update, loss: float) -> None:
        finite = torch.isfinite(update.losses).tolist()
        mine = [self.origin(int(s)) for s, ok in zip(update.share, finite, strict=False) if not ok]
        guilty = gather_object(mine) if self.accelerator.num_processes > 1 else mine
        raise InputError(
            f"update {update.number}: the loss is {loss}, on {len(guilty)} sentences: "
            f"{', '.join(guilty)}; look at them, or lower --lr and --head-lr, or set --clip"
        )
