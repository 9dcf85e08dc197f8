"""Ways to learn from expert and cheap labels: stages of training, and what the last one learns.

Every way (arm) has a name, which --combine takes. What a stage gives is kept in the run's
checkpoints, so that a run that was stopped goes on in the stage where it was.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from nerc.model.encoding import NO_LABEL, Encoded
from nerc.training.stages import StageRunner, Tensors

logger = logging.getLogger(__name__)

TEACHERS = 2  # models that label together
PRETRAIN_EPOCHS = 2  # passes over cheap labels: noise is learnt by heart later than what it hides
FOLDS = 3
EXPERT_SHARE = 0.25  # of the sentences that a student reads, about
EXPERT_PASSES = 4  # of a student over the experts' sentences, at least
CONSISTENCY_WEIGHT = 0.25  # weight of what the teachers find of the same word elsewhere
_MIN_PROBABILITY = 1e-3  # probability that a label is given there at least
LIKELY = 0.5  # least probability, by models that have not seen it, of a cheap label that is kept


@dataclass(frozen=True)
class TrainingSet:
    """All sentences of a run in one encoding, and the places of each kind."""

    encoded: Encoded
    expert: np.ndarray
    cheap: np.ndarray
    unlabelled: np.ndarray
    num_labels: int
    # Label ids of the expert sentences' words by the cheap source; NO_LABEL where it has none.
    cheap_too: np.ndarray


class FinalStage(NamedTuple):
    """What the training that gives the model learns from, and starts from (None: the start)."""

    encoded: Encoded
    weights: Tensors | None = None


class CombinationMethod(NamedTuple):
    """sentences(material) are those of the last training, prepare(material, bench) the rest."""

    sentences: Callable[[TrainingSet], np.ndarray]
    prepare: Callable[[TrainingSet, StageRunner], FinalStage]
    epochs: int | None = None  # of the last training; None: as the recipe has them


# ------------------------------------------------------------ the arms


def _all_sentences(material: TrainingSet) -> np.ndarray:
    return np.concatenate([material.expert, material.cheap])


def _train_directly(material: TrainingSet, bench: StageRunner) -> FinalStage:
    return FinalStage(material.encoded)


def _expert_sentences(material: TrainingSet) -> np.ndarray:
    return material.expert


def _pretrain(material: TrainingSet, bench: StageRunner) -> FinalStage:
    return FinalStage(material.encoded, _train_on_weak(material, bench))


def _train_on_weak(material: TrainingSet, bench: StageRunner, again: int = 0) -> Tensors:
    if not PRETRAIN_EPOCHS or not len(material.cheap):
        return bench.initial
    name = f"cheap labels, again {again}" if again else "cheap labels"
    return bench.train(name, material.encoded, material.cheap, epochs=PRETRAIN_EPOCHS)


def _half_expert(material: TrainingSet) -> np.ndarray:
    """All, the experts' sentences so often that they are half of it."""
    return oversample_experts(material.expert, material.cheap, 0.5)


def oversample_experts(
    expert: np.ndarray, others: np.ndarray, share: float, least: int = 1
) -> np.ndarray:
    """The expert sentences, repeated until they are about a share of all, and the others."""
    if not len(expert):
        return others
    wanted = share / (1 - share) * len(others)
    return np.concatenate([np.tile(expert, max(least, round(wanted / len(expert)))), others])


def _filtered(material: TrainingSet, bench: StageRunner) -> FinalStage:
    """Cheap labels that models of the other folds find likely (Wang et al. 2019, CrossWeigh)."""
    targets = hard_targets(material)
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
        logger.info(f"fold {k + 1}: {(~likely).sum():,} of {len(words):,} words are left out")
    return FinalStage(replace(material.encoded, targets=targets))


def _corrected(material: TrainingSet, bench: StageRunner) -> FinalStage:
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
            start=_train_on_weak(material, bench),
            evidence=kinds,
        )
        return {"soft": torch.from_numpy(bench.predict(corrector, reading, material.cheap, kinds))}

    return FinalStage(
        _with_soft_labels(material, material.cheap, bench.once("corrected labels", correct))
    )


def _sentences_to_label(material: TrainingSet) -> np.ndarray:
    """What teachers label for their student."""
    return np.concatenate([material.cheap, material.unlabelled])


def _student_sentences(material: TrainingSet) -> np.ndarray:
    return oversample_experts(
        material.expert, _sentences_to_label(material), EXPERT_SHARE, EXPERT_PASSES
    )


def _self_train(material: TrainingSet, bench: StageRunner) -> FinalStage:
    """Self-training: teachers label text together for a student, who learns from experts, too.

    Each of them begins with the cheap labels, which are forgotten then.
    """
    base = _train_on_weak(material, bench)
    others = _sentences_to_label(material)

    def label() -> Tensors:
        found = 0.0
        for k in range(TEACHERS):
            start = base if k == 0 else _train_on_weak(material, bench, k)
            name = f"teacher {k + 1}"
            teacher = bench.train(name, material.encoded, material.expert, start=start)
            found = found + (bench.predict(teacher, material.encoded, others) - found) / (k + 1)
        return {"soft": torch.from_numpy(one_sense_per_word(material.encoded, others, found))}

    return FinalStage(
        _with_soft_labels(material, others, bench.once("teachers' labels", label)), base
    )


def one_sense_per_word(encoded: Encoded, sentences: np.ndarray, found: np.ndarray) -> np.ndarray:
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
    mixed = (
        found ** (1 - CONSISTENCY_WEIGHT)
        * np.maximum(elsewhere, _MIN_PROBABILITY) ** CONSISTENCY_WEIGHT
    )
    mixed = np.where(number > 1, mixed / mixed.sum(axis=1, keepdims=True), found)
    return mixed.astype(np.float32)


def hard_targets(material: TrainingSet) -> np.ndarray:
    """The labels as targets."""
    if material.encoded.targets is not None:
        return material.encoded.targets.copy()
    labels = material.encoded.labels
    targets = np.zeros((len(labels), material.num_labels), dtype=np.float32)
    known = np.flatnonzero(labels != NO_LABEL)
    targets[known, labels[known]] = 1
    return targets


def _with_soft_labels(material: TrainingSet, sentences: np.ndarray, found: Tensors) -> Encoded:
    """The encoding with these labels of sentences, and those they had of the others."""
    targets = hard_targets(material)
    targets[material.encoded.words_of(sentences)] = found["soft"].cpu().numpy()
    return replace(material.encoded, targets=targets)


SINGLE_SOURCE = CombinationMethod(_all_sentences, _train_directly)  # of one kind of labels
METHODS = {
    "concat": SINGLE_SOURCE,
    "replace": SINGLE_SOURCE,  # which differs in what the material holds
    "weighted": CombinationMethod(_half_expert, _train_directly),
    "pretrain": CombinationMethod(_expert_sentences, _pretrain),
    "filter": CombinationMethod(_half_expert, _filtered),
    "corrector": CombinationMethod(_half_expert, _corrected),
    "selftrain": CombinationMethod(_student_sentences, _self_train, epochs=1),
}
