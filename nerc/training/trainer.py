"""Training: batch plan, loss, optimiser and schedule, and a place from which to go on.

Which sentences form update k of epoch e depends on the seed, e and k alone. The loss of an update
is the sum over its labelled words divided by their number, wherever they are computed: processes
and micro-batches only cut an update up. So a place in a run is the number of an update.
"""

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from nerc.config import TrainConfig
from nerc.distributed import Status, StopSignals, from_main, tensors_from_main
from nerc.errors import InputError, Interrupted
from nerc.evaluation.metrics import Report
from nerc.model.encoding import MULTIPLE, NO_LABEL, Batch, Encoded, collate
from nerc.model.modeling import NERSmall
from nerc.training.checkpoints import Checkpoints
from nerc.training.loss_log import LOG_EVERY, LossLog, Update

_PREDICTION_SPEEDUP = 4  # as training, prediction reads words, about


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training sentences gave; loss is the mean over its words."""

    number: int
    loss: float
    words_per_second: float
    seconds: float  # with validation
    validation: dict[str, float] | None  # loss, accuracy and f1
    kept: bool  # the best so far; the weights that a training leaves are those of the last kept


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


class Trainer:
    """A run's model, optimiser and place in the plan: all that a checkpoint holds.

    An epoch takes each of the sentences of train once, or those that sentences lists, some of them
    several times. log(name, value, update) receives the curves; location(sentence) says where a
    sentence stood. Raises InputError on a loss that is not finite.
    """

    def __init__(
        self,
        model: NERSmall,
        train: Encoded,
        config: TrainConfig,
        accelerator: Accelerator,
        *,
        bf16: bool,
        log: Callable[[str, float, int], None],
        location: Callable[[int], str],
        started: float,
        sentences: np.ndarray | None = None,
    ) -> None:
        self.started = started  # perf_counter() then; of a resumed run, as if it had not stopped
        self.sentences = np.arange(len(train)) if sentences is None else sentences
        self.labelled = train.num_labelled()
        if not self.labelled[self.sentences].any():
            raise InputError("not one word of the training sentences has a label")
        self.model, self.train, self.config, self.accelerator = model, train, config, accelerator
        self.bf16, self.log, self.location = bf16, log, location
        self.model.to(accelerator.device)
        self.optimizer = make_optimizer(model, config)
        self.table = model.bert.embeddings.word_embeddings  # pieces x hidden size
        self.by_row = accelerator.device.type == "cpu" and accelerator.num_processes == 1
        if self.by_row:  # an update reads a hundredth of the rows: the others' gradient stays 0
            self.table.sparse = True
            self.table.weight.grad = torch.zeros_like(self.table.weight)
        self.num_updates = config.epochs * math.ceil(len(self.sentences) / config.batch_size)
        self.update = 0  # done so far
        self.resumed_at: list[int] = []  # updates
        self.epochs: list[Epoch] = []  # with their judgement
        self.best: dict[str, torch.Tensor] = {}  # weights of the last kept epoch, on the CPU
        self.curve = LossLog(accelerator, self.labelled, location, log)

    def run(
        self,
        judge: Callable[[], Report] | None,
        stop: StopSignals,
        status: Status,
        checkpoints: Checkpoints | None = None,
        interval: tuple[int, float] = (sys.maxsize, math.inf),
        judge_every: int = 1,
    ) -> Iterator[Epoch]:
        """Train, one Epoch at a time, from wherever it stands.

        judge reports on validation, where there is one, after every so many epochs (judge_every)
        and the last; --keep best chooses among these. The main process writes checkpoints every
        so many updates or seconds (interval), and when stop asks for the end, which raises
        Interrupted. Exhausted, it leaves the weights of the epoch that --keep asks for in model.
        """
        updates_between, seconds_between = interval
        wrapped = self.accelerator.prepare(self.model)  # the optimiser stays ours
        quiet = not self.accelerator.is_local_main_process or not sys.stderr.isatty()
        with tqdm(
            **{"desc": "training", "unit": "update", "leave": False, "disable": quiet},
            **{"total": self.num_updates, "initial": self.update},
        ) as bar:
            saved = time.monotonic()
            self.curve.start()
            while len(self.epochs) < self.config.epochs:
                stop.defer()
                self.model.train()
                for sentences in self._rest_of_epoch():
                    self.step(wrapped, sentences)
                    bar.update()
                    number = stop.any_rank_signalled()
                    due = self.update % updates_between == 0
                    ends = self.update * self.config.epochs % self.num_updates == 0
                    log_speed = ends or self.update % LOG_EVERY == 0
                    if not (number or due or log_speed):
                        continue
                    self.curve.read(log_speed=log_speed)
                    status.running(self.update)
                    late = time.monotonic() > saved + seconds_between
                    if checkpoints and (number or due or late):
                        self.save(checkpoints)
                        saved = time.monotonic()
                    if number:
                        stop.wait_for_all()
                        raise Interrupted(number)
                with stop.interruptible(lambda: self.save(checkpoints)):
                    started = time.perf_counter()
                    epoch = len(self.epochs) + 1
                    is_judged = epoch % judge_every == 0 or epoch == self.config.epochs
                    report = judge() if judge and is_judged else None
                self._end_epoch(report, time.perf_counter() - started)
                status.write("running", update=self.update)
                yield self.epochs[-1]
        if self.best:
            self.model.load_state_dict(self.best)

    def _rest_of_epoch(self) -> Sequence[np.ndarray]:
        """Sentences of the updates of the epoch that is not judged yet, but for those done."""
        number = len(self.epochs) + 1
        updates = plan(len(self.sentences), self.config.batch_size, self.config.seed, number)
        done = self.update - len(self.epochs) * len(updates)
        return [self.sentences[places] for places in updates[done:]]

    def step(self, wrapped: nn.Module, sentences: np.ndarray) -> None:
        """One update of the weights, by the gradient of the mean loss of its labelled words."""
        config, accelerator = self.config, self.accelerator
        rank, world = accelerator.process_index, accelerator.num_processes
        # Dropout masks are drawn anew for each update, so that resuming needs no generator's state.
        draw = np.random.SeedSequence([config.seed, 2, self.update, rank])
        torch.manual_seed(int(draw.generate_state(1, np.uint64)[0]))
        factor = learning_rate_factor(self.update, self.num_updates, config.warmup, config.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = factor * group["peak_lr"]
        # The processes' gradients are averaged, so each is scaled up by their number first.
        scale = world / (float(self.labelled[sentences].sum()) or 1.0)
        share = sentences[rank::world]
        losses = self._backward(wrapped, sentences, share, scale)
        if config.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        self.optimizer.step()
        self._forget_gradients(sentences)
        self.update += 1
        own = torch.cat(losses)[: len(share)]
        self.curve.add(Update(self.update, factor * config.lr, sentences, share, own))

    def _backward(
        self, wrapped: nn.Module, sentences: np.ndarray, share: np.ndarray, scale: float
    ) -> list[torch.Tensor]:
        """Add up the gradients of the share's losses, times scale; gives the losses."""
        # A process whose share is empty computes another sentence, at no weight: all take part.
        pieces = micro_batches(share, self.train, self.config.micro_batch_words) or [sentences[:1]]
        losses = []
        for i, piece in enumerate(pieces):
            is_last = i == len(pieces) - 1
            batch = collate(self.train, piece, MULTIPLE).to(self.accelerator.device)
            with nullcontext() if is_last else self.accelerator.no_sync(wrapped):
                own = summed_losses(wrapped, batch, bf16=self.bf16)[: len(piece)]
                (own.sum() * (scale if len(share) else 0.0)).backward()
            losses.append(own.detach())
        return losses

    def _forget_gradients(self, sentences: np.ndarray) -> None:
        of_rows = self.table.weight.grad
        self.optimizer.zero_grad()
        if self.by_row:
            of_rows[torch.from_numpy(self.train.distinct_pieces(sentences))] = 0
            self.table.weight.grad = of_rows

    def _end_epoch(self, report: Report | None, seconds: float) -> None:
        number, keep = len(self.epochs) + 1, self.config.keep
        validation = None
        if report:
            validation = {"loss": report.loss, "accuracy": report.accuracy, "f1": report.f1}
            for name, value in validation.items():
                self.log(f"validation/{name}", value, self.update)
        kept = number == self.config.epochs
        if keep == "best":
            before = [epoch.validation["f1"] for epoch in self.epochs if epoch.kept]
            kept = validation is not None and (not before or validation["f1"] >= before[-1])
            if kept:
                state = self.model.state_dict()
                self.best = {name: t.detach().cpu().clone() for name, t in state.items()}
        loss, words_per_second, train_seconds = self.curve.end()
        seconds += train_seconds
        self.epochs.append(Epoch(number, loss, words_per_second, seconds, validation, kept))

    def save(self, checkpoints: Checkpoints | None) -> None:
        """Write a checkpoint, between two updates; None, in other processes, writes none."""
        if checkpoints is None:
            return
        tensors = {f"model.{name}": t for name, t in self.model.state_dict().items()}
        tensors |= {f"best.{name}": t for name, t in self.best.items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                if value is not None:
                    tensors[f"optimizer.{key}.{name}"] = value
        progress = {
            "update": self.update,
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "curve": self.curve.state(),
            "processes": self.accelerator.num_processes,
            "seconds": time.perf_counter() - self.started,
            "resumed_at": self.resumed_at,
        }
        checkpoints.write(tensors, progress)

    def restore(self, tensors: dict[str, torch.Tensor], progress: dict[str, Any]) -> None:
        """Take up what the main process read from a checkpoint (the others give {})."""
        progress = from_main(self.accelerator, progress)
        parts: dict[str, dict[str, torch.Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
        for name, tensor in tensors_from_main(self.accelerator, tensors).items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        self.model.load_state_dict(parts["model"])
        self.best = {name: tensor.cpu() for name, tensor in parts["best"].items()}
        parameters = dict(self.model.named_parameters())
        for name, tensor in parts["optimizer"].items():
            key, _, parameter = name.partition(".")
            self.optimizer.state[parameters[parameter]][key] = tensor
        self.update = progress["update"]
        self.resumed_at = [*progress["resumed_at"], self.update]
        self.started -= progress["seconds"]
        self.epochs = [Epoch(**epoch) for epoch in progress["epochs"]]
        self.curve.restore(progress["curve"])


def epochs_between_reports(training: int, validation: int) -> int:
    """So many that reports on so many words of validation take no longer than their training."""
    return max(1, math.ceil(validation / (training * _PREDICTION_SPEEDUP)))


def micro_batches(share: np.ndarray, train: Encoded, num_words: int) -> list[np.ndarray]:
    """Cut a share of an update into pieces of at most num_words words, but at least a sentence.

    0: one piece. A share of nothing has no piece.
    """
    if not len(share) or not num_words:
        return [share] if len(share) else []
    pieces, words = [[]], 0
    for sentence, length in zip(share, train.num_words(share), strict=True):
        if words + length > num_words and pieces[-1]:
            pieces.append([])
            words = 0
        pieces[-1].append(sentence)
        words += length
    return [np.array(piece) for piece in pieces]


def summed_losses(model: nn.Module, batch: Batch, *, bf16: bool) -> torch.Tensor:
    """Cross entropy of each sentence (S,), summed over its labelled words by their weights."""
    device = batch.labels.device
    # Each weight is cast only once, so a cache of casts would cost memory and save nothing.
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
        logits = model(**batch.inputs(device)).logits  # (n, K)
    if batch.targets is None:
        how = {"ignore_index": NO_LABEL, "reduction": "none"}
        losses = F.cross_entropy(logits.float(), batch.labels, **how)
    else:
        targets = batch.targets.to(device, non_blocking=True)
        losses = -(targets * logits.float().log_softmax(dim=-1)).sum(dim=-1)
    return losses.new_zeros(len(batch.num_words)).index_add(0, batch.sentences(), losses)
