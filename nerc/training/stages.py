"""Runs the training stages of a combination method and checkpoints between them."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from zlib import crc32

import numpy as np
import torch

from nerc.config import TrainConfig
from nerc.distributed import Session, tensors_from_main
from nerc.model.encoding import Encoded
from nerc.model.inference import predict
from nerc.model.modeling import NERSmall
from nerc.training.checkpoints import Checkpoints
from nerc.training.trainer import Trainer

logger = logging.getLogger(__name__)

Tensors = dict[str, torch.Tensor]


class StageRunner:
    """Where an arm's stages are worked on: a model, what trains it, and what was made so far.

    configure(number of sentences, epochs) gives a training's settings. folder (of the main process,
    None in others) keeps checkpoints, from which enter() takes up what an earlier process did.
    """

    def __init__(
        self,
        model: NERSmall,
        configure: Callable[[int, int | None], TrainConfig],
        session: Session,
        folder: Checkpoints | None,
        interval: tuple[int, float],
        *,
        bf16: bool,
        started: float,
    ) -> None:
        self.model, self.configure, self.session = model, configure, session
        self.folder, self.interval = folder, interval
        self.bf16, self.started = bf16, started
        self.seed = configure(1, None).seed
        self.initial = copy_weights(model)
        self.made: dict[str, Tensors] = {}  # by stages that are done
        self.stages: list[dict[str, Any]] = []  # for run.json
        self.updates = 0  # of stages that are done
        self.name = ""  # of the training that goes on
        self.waiting: tuple[Tensors, dict[str, Any]] | None = None  # a training broken off

    # -------------------------------------------------------- what arms are made of

    def once(self, name: str, make: Callable[[], Tensors]) -> Tensors:
        """What make gives, now or in an earlier process; what it was made from is forgotten."""
        if name not in self.made:
            before = set(self.made)
            found = make()
            kept = {stage: tensors for stage, tensors in self.made.items() if stage in before}
            self.made = kept | {name: found}
        return self.made[name]

    def train(
        self,
        name: str,
        encoded: Encoded,
        sentences: np.ndarray,
        *,
        start: Tensors | None = None,
        epochs: int | None = None,
        evidence: int = 0,
    ) -> Tensors:
        """Weights of the model after a training on sentences, from start or the run's start."""
        return self.once(
            name, lambda: self._train(name, encoded, sentences, start, epochs, evidence)
        )

    def _train(self, name, encoded, sentences, start, epochs, evidence) -> Tensors:
        config = self.configure(len(sentences), epochs)
        draw = np.random.SeedSequence([config.seed, 5, crc32(name.encode())])
        config = replace(config, keep="last", seed=int(draw.generate_state(1)[0]))
        training = self.enter(name, encoded, sentences, config, start=start, evidence=evidence)
        started = time.perf_counter()
        session = self.session
        session.status.write("running", update=training.update)
        for _ in training.run(None, session.stop, session.status, self.checkpoints, self.interval):
            pass
        session.accelerator.free_memory()
        loss = training.epochs[-1].loss
        self.updates += training.update
        self.stages.append(
            {
                "name": name,
                "sentences": len(sentences),
                "epochs": config.epochs,
                "batch_size": config.batch_size,
                "updates": training.update,
                "loss": loss,
                "seconds": round(time.perf_counter() - started, 1),
                "resumed_at": training.resumed_at,
            }
        )
        logger.info(
            f"{name}: {len(sentences):,} sentences, {training.update:,} updates, "
            f"loss {loss:.4f}, {self.stages[-1]['seconds']:.0f} s"
        )
        return copy_weights(self.model)

    def predict(
        self, weights: Tensors, encoded: Encoded, sentences: np.ndarray, evidence: int = 0
    ) -> np.ndarray:
        """Probabilities (words, labels) of the words of sentences, one after the other."""
        self._put(weights, evidence, 0)
        self.model.to(self.session.accelerator.device)
        with self.session.stop.interruptible(self._write_made):
            rows = predict(
                self.model,
                encoded,
                sentences,
                bf16=self.bf16,
                accelerator=self.session.accelerator,
            )
        config = self.model.config
        columns = [config.inventory.index(tag) for tag in config.word_tags]
        found = np.zeros((sum(map(len, rows)), len(config.inventory)), dtype=np.float32)
        if rows:
            found[:, columns] = np.exp(np.concatenate(rows))
        return found

    def _put(self, weights: Tensors, evidence: int, seed: int) -> None:
        """Let the model have these weights; with evidence, those that read it are drawn anew."""
        self.model.evidence = None
        if evidence:
            torch.manual_seed(seed)
            self.model.read_evidence(evidence)
        self.model.load_state_dict(weights, strict=not evidence)

    # -------------------------------------------------------- trainings and their checkpoints

    @property
    def checkpoints(self) -> "StageRunner | None":
        """What a training writes its checkpoints to: this, in the main process."""
        return self if self.folder else None

    def enter(
        self,
        name: str,
        encoded: Encoded,
        sentences: np.ndarray,
        config: TrainConfig,
        *,
        start: Tensors | None = None,
        evidence: int = 0,
        **more,
    ) -> Trainer:
        """A training from start, or from where the run was stopped in this very training."""
        self.name = name
        self._put(start or self.initial, evidence, config.seed)
        training = Trainer(
            self.model,
            encoded,
            config,
            self.session.accelerator,
            bf16=self.bf16,
            started=self.started,
            sentences=sentences,
            **{"log": lambda *_: None, "location": lambda s: f"training sentence {s}"} | more,
        )
        facts = self.session.status.facts
        facts |= {"training": name, "updates": training.num_updates}
        if self.waiting is not None:
            tensors, progress = self.waiting
            self.waiting = None
            training.restore(tensors, progress)
            self.started = training.started
            stage = "" if name == "last" else f"{name}: "
            logger.info(
                f"{stage}goes on after update {training.update:,} of {training.num_updates:,}"
            )
        return training

    def write(self, tensors: Tensors, progress: dict[str, Any]) -> None:
        """Keep a checkpoint of a training, and what the stages before it made."""
        stage = {"name": self.name, "update": progress["update"], "done": self.stages}
        total = {"update": self.updates + progress["update"], "before": self.updates}
        self.folder.write(tensors | self._named(), progress | {"stage": stage} | total)

    def _write_made(self) -> None:
        """Keep a checkpoint of what the stages made, between two trainings."""
        total = {"update": self.updates, "before": self.updates}
        stage = {"name": None, "done": self.stages}
        processes = self.session.accelerator.num_processes
        self.folder.write(self._named(), total | {"stage": stage, "processes": processes})

    def _named(self) -> Tensors:
        return {
            f"made.{stage}.{name}": tensor
            for stage, found in self.made.items()
            for name, tensor in found.items()
        }

    def resume(self, tensors: Tensors, progress: dict[str, Any]) -> None:
        """Take up what the main process read from a checkpoint (the others give {})."""
        tensors = tensors_from_main(self.session.accelerator, tensors)
        made = [name for name in tensors if name.startswith("made.")]
        for key in made:
            _, stage, name = key.split(".", 2)
            self.made.setdefault(stage, {})[name] = tensors.pop(key)
        # Checkpoints of runs that had one training know of no stages.
        stage = progress.get("stage", {"name": "last", "update": progress["update"], "done": []})
        self.stages, self.updates = stage["done"], progress.get("before", 0)
        if stage["name"] is not None:
            self.waiting = tensors, progress | {"update": stage["update"]}


def copy_weights(model: NERSmall) -> Tensors:
    return {name: t.detach().cpu().clone() for name, t in model.state_dict().items()}
