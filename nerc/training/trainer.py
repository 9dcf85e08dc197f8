"""Trains a model: batch plan, loss, optimiser, schedule, and the state that a checkpoint keeps.

Which sentences form update k of epoch e depends only on the seed, e and k. The loss of an update
is the sum over its labelled words divided by their number, wherever they are computed: processes
and micro-batches only split an update. So the number of an update says where a training is.
"""

import math
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from nerc.config import TrainConfig
from nerc.data.random_streams import Stream, seed_of
from nerc.distributed import Session
from nerc.errors import InputError, Interrupted
from nerc.evaluation.metrics import Report
from nerc.model.encoding import MULTIPLE, NO_LABEL, Batch, Encoded, Passages, collate, joined
from nerc.model.modeling import NERSmall
from nerc.progress import Progress
from nerc.training.batch_plan import micro_batches, plan_passages
from nerc.training.loss_log import LOG_EVERY, Log, LossLog, Update
from nerc.training.trained_rows import TrainedRows

_PREDICTION_SPEEDUP = 4  # prediction reads words about this many times as fast as training


@dataclass(frozen=True)
class TrainingData:
    """What a training reads: sentences of an encoding, some of them perhaps several times."""

    encoded: Encoded
    sentences: np.ndarray | None = None  # each once per epoch; None: all
    name: str = "training"  # for people
    location: Callable[[int], str] = "training sentence {}".format  # where a sentence comes from


@dataclass(frozen=True)
class CheckpointSchedule:
    """How often a training writes checkpoints, and the function that writes one.

    write is None in all processes but the main one; the rest is the same in all of them.
    """

    write: Callable[[dict[str, torch.Tensor], dict[str, Any]], None] | None = None
    num_updates: int = sys.maxsize  # from one checkpoint to the next
    seconds: float = math.inf


@dataclass(frozen=True)
class Epoch:
    """The result of one pass over the training sentences; loss is the mean over its words."""

    number: int
    loss: float
    words_per_second: float
    seconds: float  # with validation
    validation: dict[str, float] | None  # loss, accuracy and f1
    kept: bool  # the best so far; the weights that a training leaves are those of the last kept


def learning_rate_factor(update: int, num_updates: int, warmup: float, schedule: str) -> float:
    """Share of the peak learning rate at update 0 <= update < num_updates."""
    num_rising = round(warmup * num_updates)
    if update < num_rising:
        return (update + 1) / num_rising
    if schedule == "constant":
        return 1.0
    return (num_updates - update) / (num_updates - num_rising)


def make_optimizer(
    parameters: Mapping[str, nn.Parameter], encoder: str, config: TrainConfig
) -> torch.optim.Optimizer:
    """Groups by learning rate, and without weight decay for biases and norms.

    encoder: what the names of its parameters begin with. Its top layer learns at config.lr, and
    each layer below at config.layer_decay times the rate of the one above (so Howard and Ruder
    2018), the embeddings last.
    """
    layers = {name: layer_of(name) for name in parameters if name.startswith(f"{encoder}.")}
    top = max((layer for layer in layers.values() if layer < math.inf), default=0)
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in parameters.items():
        rate, decays = config.head_lr, parameter.ndim > 1
        if name in layers:
            rate = config.lr * config.layer_decay ** max(0, top - layers[name])
        group = {"params": [], "peak_lr": rate, "weight_decay": config.weight_decay * decays}
        groups.setdefault((rate, decays), group)["params"].append(parameter)
    described = [*groups.values()]
    if config.optimizer == "sgd":
        return torch.optim.SGD(described, lr=config.lr, momentum=config.momentum, fused=True)
    return torch.optim.AdamW(described, lr=config.lr, fused=True)


def layer_of(name: str) -> float:
    """The layer of an encoder's parameter, from 0; below that embeddings, above it all others."""
    if number := re.search(r"\.(\d+)\.", name):
        return int(number[1])
    return -1 if "emb" in name else math.inf


class Trainer:
    """Trains a model on data; it holds all that a checkpoint needs.

    log(name, value, update) receives the curves. InputError if no word has a label, or if the loss
    is not finite.
    """

    def __init__(
        self,
        model: NERSmall,
        data: TrainingData,
        config: TrainConfig,
        session: Session,
        *,
        bf16: bool,
        log: Log | None = None,
    ) -> None:
        self.model, self.data, self.config, self.session = model, data, config, session
        self.train, self.accelerator, self.bf16 = data.encoded, session.accelerator, bf16
        self.log = log or (lambda *_: None)
        every = np.arange(len(self.train))
        self.sentences = every if data.sentences is None else data.sentences
        self.labelled = self.train.num_labelled()
        if not self.labelled[self.sentences].any():
            raise InputError("no word of the training sentences has a label")
        self.model.to(self.accelerator.device)
        self.rows = TrainedRows.of(model.base_model, self.train, self.sentences)
        self.parameters = dict(model.named_parameters())  # that are trained
        if self.rows is not None:
            (table,) = (k for k, p in self.parameters.items() if p is self.rows.weight)
            self.parameters[table] = self.rows.rows
        self.optimizer = make_optimizer(self.parameters, model.base_model_prefix, config)
        self.num_updates = config.epochs * math.ceil(len(self.sentences) / config.batch_size)
        self.update = 0  # finished ones
        self.resumed_at: list[int] = []  # updates
        self.epochs: list[Epoch] = []  # finished and, if it was their turn, evaluated
        self.best: dict[str, torch.Tensor] = {}  # weights of the last kept epoch, on the CPU
        self.curve = LossLog(self.accelerator, self.labelled, data.location, self.log)
        self.schedule = CheckpointSchedule()
        self._saved_at = time.monotonic()

    def run(
        self,
        evaluate: Callable[[], Report] | None = None,
        schedule: CheckpointSchedule | None = None,
        evaluate_every: int = 1,
    ) -> Iterator[Epoch]:
        """Train to the end from the current update, yielding every epoch.

        evaluate gives the report on validation; it is called after every so many epochs
        (evaluate_every) and the last, and --keep best chooses among these. A stop signal raises
        Interrupted after a checkpoint. In the end, the model has the weights of the kept epoch.
        """
        self.schedule = schedule or self.schedule
        is_shown = self.accelerator.is_local_main_process
        with (
            self.training_mode(),
            Progress(self.data.name, self.num_updates, self.update, shown=is_shown) as progress,
        ):
            wrapped = self.accelerator.prepare(self.model)  # not the optimiser, which stays ours
            self._saved_at = time.monotonic()
            self.curve.start()
            while len(self.epochs) < self.config.epochs:
                self._train_epoch(wrapped, progress)
                self._end_epoch(evaluate, evaluate_every)
                yield self.epochs[-1]
        if self.best:
            self.model.load_state_dict(self.best)

    @contextmanager
    def training_mode(self) -> Iterator[None]:
        """Let step() work; afterwards, even after an error, the model is as before, but trained."""
        was_training = self.model.training
        self.model.train()
        try:
            with self.rows.replacing(self.model.base_model) if self.rows else nullcontext():
                yield
        finally:
            self.optimizer.zero_grad()
            self.model.train(was_training)

    def _train_epoch(self, wrapped: nn.Module, progress: Progress) -> None:
        """Do the updates that are left of the current epoch."""
        stop, status = self.session.stop, self.session.status
        stop.defer()
        self.model.train()
        for passages in self._rest_of_epoch():
            self.step(wrapped, passages)
            progress.advance(self.labelled[joined(passages)].sum())
            signal = stop.any_rank_signalled()
            is_due = self.update % self.schedule.num_updates == 0
            ends_epoch = self.update * self.config.epochs % self.num_updates == 0
            log_speed = ends_epoch or self.update % LOG_EVERY == 0
            if not (signal or is_due or log_speed):
                continue
            self.curve.read(log_speed=log_speed)
            status.running(self.update)
            is_late = time.monotonic() > self._saved_at + self.schedule.seconds
            if signal or is_due or is_late:
                self.save()
            if signal:
                stop.wait_for_all()
                raise Interrupted(signal)

    def _rest_of_epoch(self) -> Sequence[Passages]:
        """What each update that is left of the current epoch reads."""
        number = len(self.epochs) + 1
        how = self.config.batch_size, self.config.seed, number
        updates = plan_passages(self.train, self.sentences, *how)
        return updates[self.update - len(self.epochs) * len(updates) :]

    def step(self, wrapped: nn.Module, passages: Passages) -> None:
        """Update the weights by the gradient of the mean loss of the passages' labelled words."""
        config, accelerator = self.config, self.accelerator
        rank, world = accelerator.process_index, accelerator.num_processes
        # Every update draws its dropout masks anew, so no generator state needs to be kept.
        torch.manual_seed(seed_of(config.seed, Stream.DROPOUT, self.update, rank, dtype=np.uint64))
        factor = learning_rate_factor(self.update, self.num_updates, config.warmup, config.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = factor * group["peak_lr"]
        sentences, share = joined(passages), passages[rank::world]
        # The gradients of the processes are averaged, so each is first multiplied by their number.
        scale = world / (float(self.labelled[sentences].sum()) or 1.0)
        losses = self._backward(wrapped, passages, share, scale)
        if self.rows is not None and self.rows.rows.grad is None:
            raise RuntimeError("the encoder's table of word pieces is not read as a module")
        if config.clip:
            nn.utils.clip_grad_norm_(self.parameters.values(), config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.update += 1
        learning_rate, share = factor * config.lr, joined(share)
        share_losses = torch.cat(losses)[: len(share)]
        update = Update(self.update, learning_rate, sentences, share, share_losses)
        self.curve.pending.append(update)

    def _backward(
        self, wrapped: nn.Module, passages: Passages, share: Passages, scale: float
    ) -> list[torch.Tensor]:
        """Add up the gradients of the share's losses, times scale; returns the losses."""
        # With an empty share, a process computes a passage with weight 0: all have to take part.
        pieces = micro_batches(share, self.train, self.config.micro_batch_words) or [passages[:1]]
        losses = []
        for i, piece in enumerate(pieces):
            is_last = i == len(pieces) - 1
            batch = collate(self.train, piece, MULTIPLE).to(self.accelerator.device)
            with nullcontext() if is_last else self.accelerator.no_sync(wrapped):
                num_sentences = len(joined(piece))
                piece_losses = summed_losses(wrapped, batch, bf16=self.bf16)[:num_sentences]
                (piece_losses.sum() * (scale if len(share) else 0.0)).backward()
            losses.append(piece_losses.detach())
        return losses

    def _end_epoch(self, evaluate: Callable[[], Report] | None, evaluate_every: int) -> None:
        """Evaluate the epoch if it is its turn, keep it if it is the best, and record it."""
        number = len(self.epochs) + 1
        is_last = number == self.config.epochs
        started, validation = time.perf_counter(), None
        if self.rows is not None:
            self.rows.write()
        with self.session.stop.interruptible(self.save):
            if evaluate and (is_last or number % evaluate_every == 0):
                report = evaluate()
                validation = {"loss": report.loss, "accuracy": report.accuracy, "f1": report.f1}
        seconds = time.perf_counter() - started
        for name, value in (validation or {}).items():
            self.log(f"validation/{name}", value, self.update)
        kept = is_last
        if self.config.keep == "best":
            best = max((epoch.validation["f1"] for epoch in self.epochs if epoch.kept), default=0.0)
            kept = validation is not None and validation["f1"] >= best
            if kept:
                state = self.model.state_dict()
                self.best = {name: t.detach().cpu().clone() for name, t in state.items()}
        loss, words_per_second, train_seconds = self.curve.end()
        seconds += train_seconds
        self.epochs.append(Epoch(number, loss, words_per_second, seconds, validation, kept))
        self.session.status.write("running", update=self.update)

    def save(self) -> None:
        """Write a checkpoint, between two updates."""
        if self.schedule.write is None:
            return
        tensors = {f"model.{name}": t for name, t in self.model.state_dict().items()}
        tensors |= {f"best.{name}": t for name, t in self.best.items()}
        for name, parameter in self.parameters.items():
            for key, value in self.optimizer.state[parameter].items():
                if value is not None:
                    tensors[f"optimizer.{key}.{name}"] = value
        progress = {
            "update": self.update,
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "curve": self.curve.state(),
            "resumed_at": self.resumed_at,
        }
        self.schedule.write(tensors, progress)
        self._saved_at = time.monotonic()

    def restore(self, tensors: dict[str, torch.Tensor], progress: dict[str, Any]) -> None:
        """Continue from a checkpoint, which is the same in every process."""
        parts: dict[str, dict[str, torch.Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        self.model.load_state_dict(parts["model"])
        self.best = {name: tensor.cpu() for name, tensor in parts["best"].items()}
        for name, tensor in parts["optimizer"].items():
            key, _, name = name.partition(".")
            parameter = self.parameters[name]
            if tensor.ndim and tensor.shape != parameter.shape:
                raise InputError(
                    f"the checkpoint has {len(tensor):,} rows of {name}, and this version of nerc "
                    f"trains {len(parameter):,}; finish the run with the version that began it, or "
                    f"give --overwrite to start again"
                )
            self.optimizer.state[parameter][key] = tensor
        self.update = progress["update"]
        self.resumed_at = [*progress["resumed_at"], self.update]
        self.epochs = [Epoch(**epoch) for epoch in progress["epochs"]]
        self.curve.restore(progress["curve"])


def epochs_between_reports(training: int, validation: int) -> int:
    """How many epochs of so many words take as long as a report on so many validation words."""
    return max(1, math.ceil(validation / (training * _PREDICTION_SPEEDUP)))


def summed_losses(model: nn.Module, batch: Batch, *, bf16: bool) -> torch.Tensor:
    """Cross entropy of each sentence (S,), summed over its labelled words with their weights."""
    device = batch.labels.device
    # Each weight is cast only once, so caching the casts would cost memory and save nothing.
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
        logits = model(**batch.inputs(device)).logits  # (n, K)
    if batch.targets is None:
        how = {"ignore_index": NO_LABEL, "reduction": "none"}
        losses = F.cross_entropy(logits.float(), batch.labels, **how)
    else:
        targets = batch.targets.to(device, non_blocking=True)
        losses = -(targets * logits.float().log_softmax(dim=-1)).sum(dim=-1)
    return losses.new_zeros(len(batch.num_words)).index_add(0, batch.sentences(), losses)
