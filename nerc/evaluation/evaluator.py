"""Evaluates a model on a corpus: predict, decode, score."""

from typing import NamedTuple

import numpy as np
from accelerate import Accelerator

from nerc.data.corpus import Corpus
from nerc.evaluation.metrics import Report, report
from nerc.model import calibration
from nerc.model.encoding import Encoded
from nerc.model.inference import decode, predict
from nerc.model.modeling import NERSmall


class Evaluation(NamedTuple):
    """A model's report on a corpus, its predictions, and the confidence of each entity."""

    report: Report
    predicted: list[list[str]]  # the tags of each sentence
    raw: np.ndarray  # (predicted entities,) the model's own probability, not calibrated
    right: np.ndarray  # (predicted entities,) whether the corpus has exactly this entity

    def fit(self) -> list[float] | None:
        """The calibration of confidences that fits these entities."""
        return calibration.fit(self.raw, self.right)


def evaluate(
    model: NERSmall,
    corpus: Corpus,
    encoded: Encoded,
    *,
    how: str = "viterbi",
    batch_size: int | None = None,
    bf16: bool = False,
    accelerator: Accelerator | None = None,
) -> Evaluation:
    """Evaluate model on corpus, of which encoded is the encoding; how: see decode()."""
    log_probabilities = predict(
        model, encoded, batch_size=batch_size, bf16=bf16, accelerator=accelerator
    )
    word_tags = model.config.word_tags
    predicted = decode(log_probabilities, word_tags, how)
    gold = [sentence.tags for sentence in corpus]
    return Evaluation(
        report(corpus, log_probabilities, predicted, word_tags),
        predicted,
        *calibration.judged(gold, predicted, log_probabilities, word_tags),
    )
