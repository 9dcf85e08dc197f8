"""Methods to combine expert and weak labels: training stages, and what the final one learns.

--combine names a method. The run's checkpoints keep the outputs of finished stages, so an
interrupted run continues in the stage where it was.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from nerc.model.consistency import one_sense_per_word
from nerc.model.encoding import NO_LABEL, Encoded
from nerc.training.stages import StageRunner, Tensors


@dataclass(frozen=True)
class CombinationSettings:
    """The numbers that the methods depend on; the defaults are those that train.py uses."""

    num_teachers: int = 2  # models whose mean labels text for the student
    pretrain_epochs: int = 2  # over weak labels: a model learns the rule first, the noise later
    expert_share: float = 0.25  # of the sentences that a student reads
    expert_passes: int = 4  # least number of times that a student reads the expert sentences
    consistency_weight: float = 0.25  # of the probabilities of the same word in other places


@dataclass(frozen=True)
class TrainingSet:
    """All sentences of a run in one encoding, and the places of each kind."""

    encoded: Encoded
    expert: np.ndarray
    weak: np.ndarray
    unlabelled: np.ndarray
    num_labels: int

    @property
    def without_expert(self) -> np.ndarray:
        """What teachers label for their student."""
        return np.concatenate([self.weak, self.unlabelled])

    @property
    def partly_expert(self) -> np.ndarray:
        """The expert sentences with words that no expert labelled; teachers label these words."""
        without = np.zeros(len(self.encoded.labels) + 1, dtype=np.int64)
        without[1:] = np.cumsum(self.encoded.labels == NO_LABEL)
        per_sentence = np.diff(without[self.encoded.sentence_offsets])
        return self.expert[per_sentence[self.expert] > 0]


# What the training of the final model reads, and its first weights (None: the run's).
FinalStage = tuple[Encoded, Tensors | None]


class CombinationMethod(NamedTuple):
    """How a run learns: sentences() lists those of the final stage, prepare() does the others."""

    sentences: Callable[[TrainingSet, CombinationSettings], np.ndarray]
    prepare: Callable[[TrainingSet, StageRunner, CombinationSettings], FinalStage]
    epochs: int | None = None  # of the final stage; None: the recipe's


# ------------------------------------------------------------ the methods


def _train_on_weak(
    training_set: TrainingSet, runner: StageRunner, settings: CombinationSettings, again: int = 0
) -> Tensors:
    if not settings.pretrain_epochs or not len(training_set.weak):
        return runner.initial
    # The recorded name, from which the seed of the stage follows.
    name = f"cheap labels, again {again}" if again else "cheap labels"
    encoded, sentences = training_set.encoded, training_set.weak
    return runner.train(name, encoded, sentences, epochs=settings.pretrain_epochs)


def _student_sentences(training_set: TrainingSet, settings: CombinationSettings) -> np.ndarray:
    expert, others = training_set.expert, training_set.without_expert
    return oversample_experts(expert, others, settings.expert_share, settings.expert_passes)


def oversample_experts(
    expert: np.ndarray, others: np.ndarray, share: float, least: int = 1
) -> np.ndarray:
    """The others, and the expert sentences repeated until they are about this share of all."""
    if not len(expert):
        return others
    wanted = share / (1 - share) * len(others)
    return np.concatenate([np.tile(expert, max(least, round(wanted / len(expert)))), others])


def _self_train(
    training_set: TrainingSet, runner: StageRunner, settings: CombinationSettings
) -> FinalStage:
    """Teachers label text for a student, which also learns from the experts.

    Teachers and student first learn from the weak labels, which are then dropped. Where experts
    labelled only some words of a sentence, the student has the teachers' labels of the others.
    """
    base = _train_on_weak(training_set, runner, settings)
    encoded = training_set.encoded
    others = np.concatenate([training_set.without_expert, training_set.partly_expert])

    def label() -> Tensors:
        mean = 0.0
        for k in range(settings.num_teachers):
            start = base if k == 0 else _train_on_weak(training_set, runner, settings, k)
            teacher = runner.train(f"teacher {k + 1}", encoded, training_set.expert, start=start)
            mean = mean + (runner.predict(teacher, encoded, others) - mean) / (k + 1)
        soft = one_sense_per_word(encoded, others, mean, settings.consistency_weight)
        return {"soft": torch.from_numpy(soft)}

    soft = runner.cached("teachers' labels", label)["soft"].cpu().numpy()
    targets = hard_targets(training_set)
    words = encoded.words_of(others)
    is_taught = encoded.labels[words] == NO_LABEL
    is_taught[: encoded.num_words(training_set.without_expert).sum()] = True
    targets[words[is_taught]] = soft[is_taught]
    return replace(encoded, targets=targets), base


def hard_targets(training_set: TrainingSet) -> np.ndarray:
    """The labels as targets (words, labels), float32; soft labels where there are any."""
    if training_set.encoded.targets is not None:
        return training_set.encoded.targets.copy()
    labels = training_set.encoded.labels
    targets = np.zeros((len(labels), training_set.num_labels), dtype=np.float32)
    known = np.flatnonzero(labels != NO_LABEL)
    targets[known, labels[known]] = 1
    return targets


SINGLE_SOURCE = CombinationMethod(
    lambda training_set, _: np.concatenate([training_set.expert, training_set.weak]),
    lambda training_set, *_: (training_set.encoded, None),
)
METHODS = {
    "concat": SINGLE_SOURCE,
    "pretrain": CombinationMethod(
        lambda training_set, _: training_set.expert,
        lambda training_set, *more: (training_set.encoded, _train_on_weak(training_set, *more)),
    ),
    "selftrain": CombinationMethod(_student_sentences, _self_train, epochs=1),
}
