"""Compares revisions on one corpus: scores, intervals, errors and confidences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nerc.data.corpus import Corpus
from nerc.evaluation import bootstrap, error_analysis
from nerc.evaluation.bootstrap import Difference, Interval
from nerc.evaluation.error_analysis import Errors
from nerc.evaluation.evaluator import Evaluation
from nerc.evaluation.metrics import Report, Scores
from nerc.model import calibration


@dataclass(frozen=True)
class EvaluatedRevision:
    """A revision, a corpus, and what the revision predicts there."""

    name: str
    run: Mapping[str, Any]  # its run.json; {} if it has none
    corpus: Corpus
    evaluation: Evaluation
    calibration: Sequence[float] | None  # of its confidences
    train: Corpus | None = None  # its training sentences, if they are needed and available

    @property
    def report(self) -> Report:
        return self.evaluation.report

    @cached_property
    def confidences(self) -> np.ndarray:
        """(predicted entities,), calibrated if the revision has a calibration."""
        return calibration.calibrated(self.evaluation.raw, self.calibration)

    @cached_property
    def errors(self) -> Errors:
        return error_analysis.errors(self.corpus, self.evaluation.predicted)

    @cached_property
    def slices(self) -> dict[tuple[str, str], Scores]:
        """By family and name of the slice."""
        families = error_analysis.slice_families(self.train)
        return error_analysis.slices(self.corpus, self.evaluation.predicted, families)


@dataclass(frozen=True)
class Comparison:
    """Revisions evaluated on the same sentences, in the order in which they were named."""

    revisions: tuple[EvaluatedRevision, ...]
    types: tuple[str, ...]
    supports: dict[str, int]  # gold entities by type, and of ALL
    num_groups: int  # documents, or sentences, that were resampled for the intervals
    intervals: dict[str, dict[str, Interval]]  # of F1, by revision and then by type or ALL
    differences: dict[str, dict[str, Difference]]  # in F1 from the first revision, by each other

    @property
    def first(self) -> EvaluatedRevision:
        return self.revisions[0]

    @property
    def reports(self) -> dict[str, Report]:
        return {revision.name: revision.report for revision in self.revisions}


def compare(revisions: Sequence[EvaluatedRevision]) -> Comparison:
    """Compare revisions that were evaluated on the same sentences."""
    corpus = revisions[0].corpus
    types = tuple(dict.fromkeys(type_ for r in revisions for type_ in r.report.types))
    counts = {
        r.name: bootstrap.count_entities(corpus, r.evaluation.predicted, types) for r in revisions
    }
    first = counts[revisions[0].name]
    num_gold = first[:, :, 2].sum(axis=0).astype(int).tolist()
    draws = bootstrap.bootstrap_draws(len(first))
    return Comparison(
        revisions=tuple(revisions),
        types=types,
        supports={bootstrap.ALL: sum(num_gold)} | dict(zip(types, num_gold, strict=True)),
        num_groups=len(first),
        intervals={name: bootstrap.intervals(c, types, draws) for name, c in counts.items()},
        differences={
            name: bootstrap.differences(first, c, types, draws)
            for name, c in counts.items()
            if name != revisions[0].name
        },
    )
