"""Evaluates models on a corpus (predict, decode, score) and compares them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from nerc.data.corpus import Corpus
from nerc.evaluation import bootstrap, error_analysis
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
    model: NERSmall, corpus: Corpus, encoded: Encoded, *, how: str = "viterbi", **options: Any
) -> Evaluation:
    """Evaluate model on corpus, of which encoded is the encoding.

    how is that of decode(); options are batch_size, bf16 and accelerator, as predict() has them.
    """
    log_probabilities = predict(model, encoded, **options)
    word_tags = model.config.word_tags
    predicted = decode(log_probabilities, word_tags, how)
    gold = [sentence.tags for sentence in corpus]
    scores = report(corpus, log_probabilities, predicted, word_tags)
    judged = calibration.judged(gold, predicted, log_probabilities, word_tags)
    return Evaluation(scores, predicted, *judged)


@dataclass(frozen=True)
class EvaluatedRevision:
    """A revision, a corpus, and what the revision predicts there."""

    name: str
    run: Mapping[str, Any]  # its run.json; {} if it has none
    corpus: Corpus
    evaluation: Evaluation
    calibration: Sequence[float] | None  # of its confidences
    train: Corpus | None = None  # its training sentences, if they are needed and available

    @cached_property
    def confidences(self) -> np.ndarray:
        """(predicted entities,), calibrated if the revision has a calibration."""
        return calibration.calibrated(self.evaluation.raw, self.calibration)

    @cached_property
    def errors(self) -> error_analysis.Errors:
        return error_analysis.errors(self.corpus, self.evaluation.predicted)


class Comparison:
    """Revisions evaluated on the same sentences, in the order in which they were named."""

    def __init__(self, revisions: Sequence[EvaluatedRevision]) -> None:
        self.revisions, self.first = revisions, revisions[0]
        self.reports = {r.name: r.evaluation.report for r in revisions}
        types = list(dict.fromkeys(t for report in self.reports.values() for t in report.types))
        corpus, guesses = self.first.corpus, {r.name: r.evaluation.predicted for r in revisions}
        counts = {n: bootstrap.count_entities(corpus, g, types) for n, g in guesses.items()}
        first = counts[self.first.name]
        num_gold = first[:, :, 2].sum(axis=0).astype(int).tolist()
        draws = bootstrap.bootstrap_draws(len(first))
        self.types = types
        self.num_groups = len(first)  # documents, or sentences, that are resampled
        # Gold entities by type, and of ALL.
        self.supports = {bootstrap.ALL: sum(num_gold)} | dict(zip(types, num_gold, strict=True))
        # F1 by revision and then by type or ALL, and its differences from the first revision.
        self.intervals = {n: bootstrap.intervals(c, types, draws) for n, c in counts.items()}
        self.differences = {
            n: bootstrap.differences(first, c, types, draws) for n, c in [*counts.items()][1:]
        }
