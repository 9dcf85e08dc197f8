"""Compares revisions on one corpus: scores, intervals, errors and confidences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nerc.data.corpus import Corpus
from nerc.evaluation import bootstrap, error_analysis
from nerc.evaluation.bootstrap import Difference, Interval
from nerc.evaluation.error_analysis import Errors, Slice
from nerc.evaluation.evaluator import Evaluation
from nerc.evaluation.metrics import Report
from nerc.model import calibration


@dataclass(frozen=True)
class Comparison:
    """By revision, in the order in which they were asked for; all on the same sentences."""

    corpus: Corpus
    types: tuple[str, ...]
    num_groups: int  # documents, or sentences, that were drawn for the intervals
    reports: dict[str, Report]
    intervals: dict[str, dict[str, Interval]]  # of F1, by type; bootstrap.ALL for all of them
    differences: dict[str, dict[str, Difference]]  # of all but the first revision, against it
    judged: dict[str, Evaluation]
    confidences: dict[str, np.ndarray]  # (entities found,), calibrated where the model is
    calibrated: dict[str, bool]  # whether the confidences are
    trains: Mapping[str, Corpus | None]  # what each was trained on, where it is at hand
    num_draws: int = bootstrap.NUM_DRAWS

    @cached_property
    def errors(self) -> dict[str, Errors]:
        return {
            n: error_analysis.errors(self.corpus, each.predicted) for n, each in self.judged.items()
        }

    @cached_property
    def slices(self) -> dict[str, list[Slice]]:
        return {
            name: error_analysis.slices(self.corpus, each.predicted, self.trains.get(name))
            for name, each in self.judged.items()
        }

    def calibration_error(self, name: str) -> float:
        """Of a revision's confidences, in 15 bins of equal mass."""
        return calibration.calibration_error(self.confidences[name], self.judged[name].right)

    @property
    def first(self) -> str:
        return next(iter(self.reports))


def compare(
    corpus: Corpus,
    judged: Mapping[str, Evaluation],
    calibrations: Mapping[str, Sequence[float] | None],
    trains: Mapping[str, Corpus | None],
) -> Comparison:
    """Compare what models found on corpus."""
    types = tuple(dict.fromkeys(t for each in judged.values() for t in each.report.types))
    counts = {
        name: bootstrap.counts(corpus, each.predicted, types) for name, each in judged.items()
    }
    first = next(iter(counts.values()))
    drawn = bootstrap.bootstrap_draws(len(first))
    return Comparison(
        corpus=corpus,
        types=types,
        num_groups=len(first),
        reports={name: each.report for name, each in judged.items()},
        intervals={n: bootstrap.intervals(c, types, drawn) for n, c in counts.items()},
        differences={
            name: bootstrap.differences(first, own, types, drawn)
            for name, own in list(counts.items())[1:]
        },
        judged=dict(judged),
        confidences={
            name: calibration.calibrated(each.raw, calibrations[name])
            for name, each in judged.items()
        },
        calibrated={name: calibrations[name] is not None for name in judged},
        trains=trains,
    )
