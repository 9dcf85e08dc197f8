"""Ways to learn from expert and cheap labels: stages of training, and what the last one learns.

Every way (arm) has a name, which --combine takes. What a stage gives is kept in the run's
checkpoints, so that a run that was stopped goes on in the stage where it was.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import torch

from nerc.checkpoints import Checkpoints
from nerc.config import TrainConfig
from nerc.encoding import NO_LABEL, Encoded
from nerc.launch import Session, tensors_from_main
from nerc.model import NERSmall
from nerc.prediction import predict
from nerc.training import Training

Tensors = dict[str, torch.Tensor]

TEACHERS = 2  # models that label together
PRETRAIN_EPOCHS = 2  # passes over cheap labels: noise is learnt by heart later than what it hides
FOLDS = 3
EXPERT_SHARE = 0.25  # of the sentences that a student reads, about
EXPERT_PASSES = 4  # of a student over the experts' sentences, at least
SENSE = 0.25  # weight of what the teachers find of the same word elsewhere
_LEAST = 1e-3  # probability that a label is given there at least
LIKELY = 0.5  # least probability, by models that have not seen it, of a cheap label that is kept


@dataclass(frozen=True)
class Material:
    """All sentences of a run in one encoding, and the places of each kind."""

    encoded: Encoded
    expert: np.ndarray
    cheap: np.ndarray
    unlabelled: np.ndarray
    num_labels: int
    # Label ids of the expert sentences' words by the cheap source; NO_LABEL where it has none.
    cheap_too: np.ndarray


class Last(NamedTuple):
    """What the training that gives the model learns from, and starts from (None: the start)."""

    encoded: Encoded
    weights: Tensors | None = None


class Arm(NamedTuple):
    """sentences(material) are those of the last training, prepare(material, bench) the rest."""

    sentences: Callable[[Material], np.ndarray]
    prepare: Callable[[Material, "Bench"], Last]
    epochs: int | None = None  # of the last training; None: as the recipe has them


class Bench:
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
        self.initial = _weights(model)
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
        session.say(
            f"{name}: {len(sentences):,} sentences, {training.update:,} updates, "
            f"loss {loss:.4f}, {self.stages[-1]['seconds']:.0f} s"
        )
        return _weights(self.model)

    def predict(
        self, weights: Tensors, encoded: Encoded, sentences: np.ndarray, evidence: int = 0
    ) -> np.ndarray:
        """Probabilities (words, labels) of the words of sentences, one after the other."""
        self._put(weights, evidence, 0)
        self.model.to(self.session.accelerator.device)
        with self.session.stop.at_once(self._write_made):
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
    def checkpoints(self) -> "Bench | None":
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
    ) -> Training:
        """A training from start, or from where the run was stopped in this very training."""
        self.name = name
        self._put(start or self.initial, evidence, config.seed)
        training = Training(
            self.model,
            encoded,
            config,
            self.session.accelerator,
            bf16=self.bf16,
            started=self.started,
            sentences=sentences,
            **{"log": lambda *_: None, "origin": lambda s: f"training sentence {s}"} | more,
        )
        facts = self.session.status.facts
        facts |= {"training": name, "updates": training.num_updates}
        if self.waiting is not None:
            tensors, progress = self.waiting
            self.waiting = None
            training.restore(tensors, progress)
            self.started = training.started
            stage = "" if name == "last" else f"{name}: "
            self.session.say(
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


def _weights(model: NERSmall) -> Tensors:
    return {name: t.detach().cpu().clone() for name, t in model.state_dict().items()}


# ------------------------------------------------------------ the arms


def _all(material: Material) -> np.ndarray:
    return np.concatenate([material.expert, material.cheap])


def _as_they_are(material: Material, bench: Bench) -> Last:
    return Last(material.encoded)


def _expert_alone(material: Material) -> np.ndarray:
    return material.expert


def _pretrained(material: Material, bench: Bench) -> Last:
    return Last(material.encoded, _learn_cheap(material, bench))


def _learn_cheap(material: Material, bench: Bench, again: int = 0) -> Tensors:
    if not PRETRAIN_EPOCHS or not len(material.cheap):
        return bench.initial
    name = f"cheap labels, again {again}" if again else "cheap labels"
    return bench.train(name, material.encoded, material.cheap, epochs=PRETRAIN_EPOCHS)


def _half_expert(material: Material) -> np.ndarray:
    """All, the experts' sentences so often that they are half of it."""
    return with_experts(material.expert, material.cheap, 0.5)


def with_experts(
    expert: np.ndarray, others: np.ndarray, share: float, least: int = 1
) -> np.ndarray:
    """The expert sentences, repeated until they are about a share of all, and the others."""
    if not len(expert):
        return others
    wanted = share / (1 - share) * len(others)
    return np.concatenate([np.tile(expert, max(least, round(wanted / len(expert)))), others])


def _filtered(material: Material, bench: Bench) -> Last:
    """Cheap labels that models of the other folds find likely (Wang et al. 2019, CrossWeigh)."""
    targets = hard(material)
    order = np.random.default_rng([bench.seed, 6]).permutation(material.cheap)
    for k in range(FOLDS):
        own, rest = order[k::FOLDS], np.setdiff1d(order, order[k::FOLDS])
        words = material.encoded.words_of(own)

        def unlikely(own=own, rest=rest, words=words, k=k) -> Tensors:
            weights = bench.train(
                f"without fold {k + 1}", material.encoded, rest, epochs=PRETRAIN_EPOCHS
            )
            found = bench.predict(weights, material.encoded, own)
            labels = targets[words].argmax(axis=1)
            return {"likely": torch.from_numpy(found[np.arange(len(words)), labels] >= LIKELY)}

        likely = bench.once(f"fold {k + 1}", unlikely)["likely"].cpu().numpy()
        targets[words[~likely]] = 0
        bench.session.say(f"fold {k + 1}: {(~likely).sum():,} of {len(words):,} words are left out")
    return Last(replace(material.encoded, targets=targets))


def _corrected(material: Material, bench: Bench) -> Last:
    """Cheap labels as a model corrects them that reads them; experts' labels are its teachers."""
    encoded, kinds = material.encoded, material.num_labels + 1
    evidence = np.zeros(len(encoded.labels), dtype=np.int64)  # 0: none
    cheap = encoded.words_of(material.cheap)
    evidence[cheap] = encoded.labels[cheap]
    evidence[encoded.words_of(material.expert)] = material.cheap_too
    evidence = np.where(evidence == NO_LABEL, -1, evidence) + 1
    evidence[encoded.words_of(material.unlabelled)] = 0
    reading = replace(encoded, evidence=evidence)

    def correct() -> Tensors:
        corrector = bench.train(
            "corrector",
            reading,
            material.expert,
            start=_learn_cheap(material, bench),
            evidence=kinds,
        )
        return {"soft": torch.from_numpy(bench.predict(corrector, reading, material.cheap, kinds))}

    return Last(_softened(material, material.cheap, bench.once("corrected labels", correct)))


def _read(material: Material) -> np.ndarray:
    """What teachers label for their student."""
    return np.concatenate([material.cheap, material.unlabelled])


def _students_sentences(material: Material) -> np.ndarray:
    return with_experts(material.expert, _read(material), EXPERT_SHARE, EXPERT_PASSES)


def _self_trained(material: Material, bench: Bench) -> Last:
    """Self-training: teachers label text together for a student, who learns from experts, too.

    Each of them begins with the cheap labels, which are forgotten then.
    """
    base = _learn_cheap(material, bench)
    others = _read(material)

    def label() -> Tensors:
        found = 0.0
        for k in range(TEACHERS):
            start = base if k == 0 else _learn_cheap(material, bench, k)
            name = f"teacher {k + 1}"
            teacher = bench.train(name, material.encoded, material.expert, start=start)
            found = found + (bench.predict(teacher, material.encoded, others) - found) / (k + 1)
        return {"soft": torch.from_numpy(one_sense(material.encoded, others, found))}

    return Last(_softened(material, others, bench.once("teachers' labels", label)), base)


def one_sense(encoded: Encoded, sentences: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Probabilities of the words of sentences, drawn towards those of the same words elsewhere.

    found: (words, labels). A word has one sense in most of a text (Gale et al. 1992), as entities
    have one type (Krishnan & Manning 2006). It is the weighted geometric mean of found, and of the
    mean over the other places where the same word pieces stand.
    """
    words = encoded.words_of(sentences)
    bounds = zip(encoded.word_offsets[words], encoded.word_offsets[words + 1], strict=True)
    ids: dict[bytes, int] = {}
    every = [ids.setdefault(encoded.pieces[a:b].tobytes(), len(ids)) for a, b in bounds]
    which = np.array(every, dtype=np.int64)
    number = np.bincount(which, minlength=len(ids))[which, None]
    total = np.zeros((len(ids), found.shape[1]))
    np.add.at(total, which, found)
    elsewhere = (total[which] - found) / np.maximum(number - 1, 1)
    mixed = found ** (1 - SENSE) * np.maximum(elsewhere, _LEAST) ** SENSE
    mixed = np.where(number > 1, mixed / mixed.sum(axis=1, keepdims=True), found)
    return mixed.astype(np.float32)


def hard(material: Material) -> np.ndarray:
    """The labels as targets."""
    if material.encoded.targets is not None:
        return material.encoded.targets.copy()
    labels = material.encoded.labels
    targets = np.zeros((len(labels), material.num_labels), dtype=np.float32)
    known = np.flatnonzero(labels != NO_LABEL)
    targets[known, labels[known]] = 1
    return targets


def _softened(material: Material, sentences: np.ndarray, found: Tensors) -> Encoded:
    """The encoding with these labels of sentences, and those they had of the others."""
    targets = hard(material)
    targets[material.encoded.words_of(sentences)] = found["soft"].cpu().numpy()
    return replace(material.encoded, targets=targets)


ALONE = Arm(_all, _as_they_are)  # of one kind of labels
ARMS = {
    "concat": ALONE,
    "replace": ALONE,  # which differs in what the material holds
    "weighted": Arm(_half_expert, _as_they_are),
    "pretrain": Arm(_expert_alone, _pretrained),
    "filter": Arm(_half_expert, _filtered),
    "corrector": Arm(_half_expert, _corrected),
    "selftrain": Arm(_students_sentences, _self_trained, epochs=1),
}
