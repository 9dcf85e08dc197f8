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
    """A model's report on a corpus, and of each entity it found there how sure it was."""

    report: Report
    predicted: list[list[str]]  # the tags of each sentence
    raw: np.ndarray  # (entities found,) the model's probability, not calibrated
    right: np.ndarray  # (entities found,) whether the corpus has the very same

    def fit(self) -> list[float] | None:
        """The calibration that these entities teach."""
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
    """What model is worth on corpus, of which encoded is the encoding."""
    found = predict(model, encoded, batch_size=batch_size, bf16=bf16, accelerator=accelerator)
    word_tags = model.config.word_tags
    predicted = decode(found, word_tags, how)
    gold = [sentence.tags for sentence in corpus]
    return Evaluation(
        report(corpus, found, predicted, word_tags),
        predicted,
        *calibration.judged(gold, predicted, found, word_tags),
    )
