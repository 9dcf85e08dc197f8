"""All that is known of some models on one corpus, and how it is shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from nerc import analysis, calibration, comparison, pictures, reports
from nerc.analysis import Errors, Slice
from nerc.comparison import Difference, Interval
from nerc.data import Corpus
from nerc.metrics import Report
from nerc.page import page as page_of
from nerc.prediction import Judged
from nerc.tags import entities


@dataclass(frozen=True)
class Findings:
    """By revision, in the order in which they were asked for; all on the same sentences."""

    corpus: Corpus
    types: tuple[str, ...]
    num_groups: int  # documents, or sentences, that were drawn for the intervals
    reports: dict[str, Report]
    intervals: dict[str, dict[str, Interval]]  # of F1, by type; comparison.ALL for all of them
    differences: dict[str, dict[str, Difference]]  # of all but the first revision, against it
    judged: dict[str, Judged]
    confidences: dict[str, np.ndarray]  # (entities found,), calibrated where the model is
    calibrated: dict[str, bool]  # whether the confidences are
    trains: Mapping[str, Corpus | None]  # what each was trained on, where it is at hand
    num_draws: int = comparison.NUM_DRAWS

    @cached_property
    def errors(self) -> dict[str, Errors]:
        return {n: analysis.errors(self.corpus, each.predicted) for n, each in self.judged.items()}

    @cached_property
    def slices(self) -> dict[str, list[Slice]]:
        return {
            name: analysis.slices(self.corpus, each.predicted, self.trains.get(name))
            for name, each in self.judged.items()
        }

    def calibration_error(self, name: str) -> float:
        """Of a revision's confidences, in 15 bins of equal mass."""
        return calibration.calibration_error(self.confidences[name], self.judged[name].right)

    @property
    def first(self) -> str:
        return next(iter(self.reports))


def find(
    corpus: Corpus,
    judged: Mapping[str, Judged],
    calibrations: Mapping[str, Sequence[float] | None],
    trains: Mapping[str, Corpus | None],
) -> Findings:
    """Compare what models found on corpus."""
    types = tuple(dict.fromkeys(t for each in judged.values() for t in each.report.types))
    counts = {
        name: comparison.counts(corpus, each.predicted, types) for name, each in judged.items()
    }
    first = next(iter(counts.values()))
    drawn = comparison.draws(len(first))
    return Findings(
        corpus=corpus,
        types=types,
        num_groups=len(first),
        reports={name: each.report for name, each in judged.items()},
        intervals={n: comparison.intervals(c, types, drawn) for n, c in counts.items()},
        differences={
            name: comparison.differences(first, own, types, drawn)
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


def sentences(found: Findings) -> list[dict[str, Any]]:
    """Every sentence as nerc.page shows it: words, gold, and what each revision found or missed."""
    places = {name: 0 for name in found.judged}  # in the confidences
    rows = []
    for i, sentence in enumerate(found.corpus):
        row = {"words": list(sentence.words), "document": sentence.document}
        row |= {"gold": [list(e) for e in entities(sentence.tags)], "found": [], "missed": []}
        for name, each in found.judged.items():
            pairs = found.errors[name].pairs[i]
            kinds = {pair.found: pair.kind for pair in pairs if pair.found is not None}
            own = entities(each.predicted[i])
            sure = found.confidences[name][places[name] : places[name] + len(own)]
            places[name] += len(own)
            row["found"].append(
                [[*e, round(float(c), 3), kinds[e]] for e, c in zip(own, sure, strict=True)]
            )
            row["missed"].append([list(pair.gold) for pair in pairs if pair.kind == "missed"])
        rows.append(row)
    assert all(places[name] == len(c) for name, c in found.confidences.items())
    return rows


_NUM_SHOWN = 3  # tables of a page that are not folded away
Runs = Mapping[str, Mapping[str, Any]]  # run.json by revision
Plots = dict[str, tuple[str, dict[str, bytes]]]  # by file name: title, and PNG light and dark


def tables(found: Findings, runs: Runs) -> list[tuple[str, reports.Rows]]:
    """What is to be seen beside the table of figures, each with a title."""
    result = [("F1, with intervals", reports.intervals(found))]
    if rows := reports.seeds(found.reports, {name: runs[name] for name in found.reports}):
        result.append(("Mean and standard deviation over seeds", rows))
    result.append(("F1 by type", reports.by_type(found)))
    result.append(("Errors by kind", reports.errors(found)))
    result.append(("F1 of parts", reports.slices(found)))
    result.append(("Confidences of the entities found", reports.confidences(found)))
    for name in found.reports:
        counts, corner = found.errors[name].confusion, f"{name}: gold \\ found"
        types = reports.confusion(counts, found.types, corner)
        result.append((f"Types in gold and found, {name}", types))
        result.append((f"Most frequent errors, {name}", reports.frequent(found, name)))
    return result


def plots(found: Findings, runs: Runs) -> Plots:
    """F1 by type, reliability, confusion, and learning curves where runs have any."""
    sure = {n: (found.confidences[n], each.right) for n, each in found.judged.items()}
    result = {
        "f1": ("F1 by type, with 95 % intervals", pictures.f1_by_type(found.intervals)),
        "reliability": ("How far confidences can be trusted", pictures.reliability(sure)),
    }
    histories = {n: runs[n]["epochs"] for n in found.reports if len(runs[n].get("epochs", ())) > 1}
    if histories:
        picture = pictures.learning_curves(histories)
        result["learning"] = ("Learning curves, on validation", picture)
    for name, own in found.errors.items():
        picture = pictures.confusion(own.confusion, found.types)
        result[f"confusion_{name}"] = (f"Types in gold and found, {name}", picture)
    return result


def write_plots(folder: Path, drawn: Plots) -> None:
    """Write NAME.png and NAME_dark.png of each plot."""
    folder.mkdir(exist_ok=True)
    for name, (_, pictures_) in drawn.items():
        for style, png in pictures_.items():
            (folder / f"{name}{'_dark' if style == 'dark' else ''}.png").write_bytes(png)


def page(found: Findings, runs: Runs, drawn: Plots, split: str) -> str:
    """The page of everything, which opens without a network."""
    first = found.reports[found.first]
    main = ("Figures", reports.table_rows(found.reports, split))
    shown = [main, *tables(found, runs)]
    return page_of(
        {
            "title": f"{', '.join(found.reports)} on {split}",
            "note": f"{reports.counted(first, split)}. Confidences are calibrated where a "
            f"revision's validation split taught how.",
            "types": list(found.types),
            "revisions": list(found.reports),
            "tables": [{"title": title, "rows": rows} for title, rows in shown[:_NUM_SHOWN]],
            "others": [{"title": title, "rows": rows} for title, rows in shown[_NUM_SHOWN:]],
            "plots": [
                {"title": title} | {style: pictures.data_uri(png) for style, png in both.items()}
                for title, both in drawn.values()
            ],
            "sentences": sentences(found),
        }
    )
