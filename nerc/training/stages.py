"""Runs the training stages of a combination method, and checkpoints between and within them."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import numpy as np
import torch

from nerc.config import TrainConfig
from nerc.data.random_streams import Stream, seed_of
from nerc.distributed import Session, tensors_from_main
from nerc.model.encoding import Encoded
from nerc.model.inference import predict
from nerc.model.modeling import NERSmall
from nerc.training.checkpoints import Checkpoints
from nerc.training.trainer import CheckpointSchedule, Log, Trainer, TrainingData

logger = logging.getLogger(__name__)

Tensors = dict[str, torch.Tensor]
FINAL_STAGE = "last"  # its name in checkpoints


@dataclass(frozen=True, kw_only=True)
class StageSetup:
    """What all stages of a run share; the same in every process."""

    model: NERSmall
    given_config: TrainConfig  # as on the command line: see resolve()
    precision: str  # float32 or bf16
    started: float  # time.perf_counter() when the loading began
    # Called after each stage but the final one, with its record and the runner, whose model then
    # has the weights of the stage. What it adds to the record gets into run.json.
    on_stage: Callable[[dict[str, Any], "StageRunner"], None] | None = None

    def resolve(self, num_sentences: int, epochs: int | None = None) -> TrainConfig:
        """The settings of a training on so many sentences; epochs override the recipe's."""
        encoder = self.model.config
        return self.given_config.resolved(
            num_sentences=num_sentences,
            epochs=epochs,
            hidden_size=encoder.hidden_size,
            num_layers=encoder.num_hidden_layers,
        )


class StageRunner:
    """Trains one model in stages, each of them once, even if the run is interrupted and resumed.

    checkpoints is None in all processes but the main one; interval is that of CheckpointSchedule.
    """

    def __init__(
        self,
        setup: StageSetup,
        session: Session,
        checkpoints: Checkpoints | None,
        interval: tuple[int, float],
    ) -> None:
        self.setup, self.session, self.checkpoints = setup, session, checkpoints
        self.model = setup.model
        self.bf16 = setup.precision == "bf16"
        self.schedule = CheckpointSchedule(self._write if checkpoints else None, *interval)
        self.initial = copy_weights(self.model)
        self.stage_outputs: dict[str, Tensors] = {}  # of finished stages that are still needed
        self.stages: list[dict[str, Any]] = []  # records of finished stages, for run.json
        self.num_updates = 0  # of finished stages
        self.stage = ""  # name of the one that is being trained
        self.pending_resume: tuple[Tensors, dict[str, Any]] | None = None  # of that stage
        self._started = setup.started  # of a resumed run, as if it had never stopped

    @property
    def seconds(self) -> float:
        """How long the run has taken, in all of its processes."""
        return time.perf_counter() - self._started

    # -------------------------------------------------------- what methods consist of

    def cached(self, name: str, compute: Callable[[], Tensors]) -> Tensors:
        """The outputs of compute(), now or before; those of the stages in it are then dropped."""
        if name not in self.stage_outputs:
            before = set(self.stage_outputs)
            outputs = compute()
            kept = {name: value for name, value in self.stage_outputs.items() if name in before}
            self.stage_outputs = kept | {name: outputs}
        return self.stage_outputs[name]

    def train(
        self,
        name: str,
        encoded: Encoded,
        sentences: np.ndarray,
        *,
        start: Tensors | None = None,
        epochs: int | None = None,
    ) -> Tensors:
        """Weights after a training on sentences, from the weights start or the run's first ones."""

        def train_stage() -> Tensors:
            config = self.setup.resolve(len(sentences), epochs)
            seed = seed_of(config.seed, Stream.STAGE_SEED, crc32(name.encode()))
            config = replace(config, keep="last", seed=seed)
            data = TrainingData(encoded, sentences, _displayed(name))
            training = self.start_training(name, data, config, start=start)
            started = time.perf_counter()
            self.session.status.write("running", update=training.update)
            for _ in training.run(schedule=self.schedule):
                pass
            self.session.accelerator.free_memory()
            self.num_updates += training.update
            record = {
                "name": name,
                "sentences": len(sentences),
                "epochs": config.epochs,
                "batch_size": config.batch_size,
                "updates": training.update,
                "loss": training.epochs[-1].loss,
                "seconds": round(time.perf_counter() - started, 1),
                "resumed_at": training.resumed_at,
            }
            self.stages.append(record)
            logger.info(
                f"{data.name}: {len(sentences):,} sentences, {training.update:,} updates, loss "
                f"{record['loss']:.4f}, {record['seconds']:.0f} s"
            )
            if self.setup.on_stage is not None:
                self.setup.on_stage(record, self)
            return copy_weights(self.model)

        return self.cached(name, train_stage)

    def predict(self, weights: Tensors, encoded: Encoded, sentences: np.ndarray) -> np.ndarray:
        """Probabilities (words, labels) of the words of sentences, one sentence after another."""
        self.model.load_state_dict(weights)
        self.model.to(self.session.accelerator.device)
        accelerator = self.session.accelerator
        with self.session.stop.interruptible(lambda: self.checkpoints and self._write({}, {})):
            rows = predict(self.model, encoded, sentences, bf16=self.bf16, accelerator=accelerator)
        inventory = self.model.config.inventory
        columns = [inventory.index(tag) for tag in self.model.config.word_tags]
        probabilities = np.zeros((sum(map(len, rows)), len(inventory)), dtype=np.float32)
        if rows:
            probabilities[:, columns] = np.exp(np.concatenate(rows))
        return probabilities

    # -------------------------------------------------------- trainings and their checkpoints

    def start_training(
        self,
        name: str,
        data: TrainingData,
        config: TrainConfig,
        *,
        start: Tensors | None = None,
        log: Log | None = None,
    ) -> Trainer:
        """A training from the weights start, or from where the run was interrupted in it."""
        self.stage = name
        self.model.load_state_dict(start or self.initial)
        training = Trainer(self.model, data, config, self.session, bf16=self.bf16, log=log)
        facts = self.session.status.facts
        facts |= {"training": name, "updates": training.num_updates}
        if self.pending_resume is not None:
            training.restore(*self.pending_resume)
            self.pending_resume = None
            stage = "" if name == FINAL_STAGE else f"{_displayed(name)}: "
            logger.info(
                f"{stage}resumed after update {training.update:,} of {training.num_updates:,}"
            )
        return training

    def _write(self, tensors: Tensors, progress: dict[str, Any]) -> None:
        """Keep a checkpoint with the outputs of finished stages; between stages, progress is {}."""
        name, update = (self.stage, progress["update"]) if progress else (None, 0)
        stage = {"name": name, "update": update, "done": self.stages}
        outputs = {
            f"made.{stage}.{name}": tensor
            for stage, stage_tensors in self.stage_outputs.items()
            for name, tensor in stage_tensors.items()
        }
        about_run = {
            "stage": stage,
            "update": self.num_updates + update,
            "before": self.num_updates,
            "processes": self.session.accelerator.num_processes,
            "seconds": self.seconds,
        }
        self.checkpoints.write(tensors | outputs, progress | about_run)

    def resume(self, tensors: Tensors, progress: dict[str, Any]) -> None:
        """Continue from a checkpoint, of which only the main process has the tensors."""
        tensors = tensors_from_main(self.session.accelerator, tensors)
        for key in [name for name in tensors if name.startswith("made.")]:
            _, stage, name = key.split(".", 2)
            self.stage_outputs.setdefault(stage, {})[name] = tensors.pop(key)
        # Checkpoints of runs with a single training have no stages.
        single = {"name": FINAL_STAGE, "update": progress["update"], "done": []}
        stage = progress.get("stage", single)
        self.stages, self.num_updates = stage["done"], progress.get("before", 0)
        self._started -= progress.get("seconds", 0.0)
        if stage["name"] is not None:
            self.pending_resume = tensors, progress | {"update": stage["update"]}


def _displayed(stage: str) -> str:
    """A stage's name for people; the recorded one, which gives its seed, never changes."""
    return stage.replace("cheap labels", "weak labels")


def copy_weights(model: NERSmall) -> Tensors:
    return {name: t.detach().cpu().clone() for name, t in model.state_dict().items()}
