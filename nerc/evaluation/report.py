"""Renders a comparison of revisions: its tables with titles, its plots, the HTML page."""

from typing import Any

from nerc.data.tags import entities
from nerc.evaluation import plots, tables
from nerc.evaluation.bootstrap import ALL
from nerc.evaluation.compare import Comparison, EvaluatedRevision
from nerc.evaluation.page import render_page
from nerc.evaluation.plots import Plots, data_uri
from nerc.tables import Rows

TitledTables = list[tuple[str, Rows]]
_BY_TYPE = "F1 by type, with 95 % intervals"


def summary_tables(comparison: Comparison) -> TitledTables:
    """Means over seeds, if there are any, and F1 by type."""
    over_seeds = tables.over_seeds(comparison)
    result = [("Mean and standard deviation over seeds", over_seeds)] if over_seeds else []
    return [*result, (_BY_TYPE, tables.f1_by_type(comparison))]


def error_tables(comparison: Comparison) -> TitledTables:
    """Differences by type, kinds of errors, slices, confidences, confusions."""
    result = []
    if comparison.differences:
        title = f"Difference in F1 from {comparison.first.name}, by type"
        result.append((title, tables.differences(comparison, comparison.types)))
    result += [
        ("Errors by kind (numbers of entities)", tables.error_kinds(comparison)),
        ("F1 by slice of the entities", tables.slices(comparison)),
        ("Confidences of the predicted entities", tables.confidences(comparison)),
    ]
    for revision in comparison.revisions:
        types = tables.confusions(revision, comparison.types)
        result.append((_confusion_title(revision), types))
        result.append((f"Most frequent errors, {revision.name}", tables.frequent_errors(revision)))
    return result


def comparison_plots(comparison: Comparison) -> Plots:
    """Plot F1 by type, reliability, confusions, and learning curves if the runs have any."""
    revisions = comparison.revisions
    confidences = {r.name: (r.confidences, r.evaluation.right) for r in revisions}
    result = {
        "f1": (_BY_TYPE, plots.f1_by_type(comparison.intervals)),
        "reliability": (
            "Confidence and share of correct entities",
            plots.reliability(confidences),
        ),
    }
    epochs = {r.name: r.run["epochs"] for r in revisions if len(r.run.get("epochs", ())) > 1}
    if epochs:
        title = "Learning curves on the validation split"
        result["learning"] = title, plots.learning_curves(epochs)
    for revision in revisions:
        image = plots.confusion_plot(revision.errors.confusion, comparison.types)
        result[f"confusion_{revision.name}"] = _confusion_title(revision), image
    return result


def _confusion_title(revision: EvaluatedRevision) -> str:
    return f"Gold and predicted types, {revision.name} (numbers of entities)"


def html_page(comparison: Comparison, images: Plots, split: str) -> str:
    """Return the HTML page of a comparison, which opens without a network.

    Scores by type have a table of their own, so the table of figures has the same columns, and room
    for them, however many types there are. Each interval is in one table only.
    """
    shown = [("Figures", tables.figures(comparison, split))]
    if comparison.differences:
        title = f"Difference in F1 from {comparison.first.name}"
        shown.append((title, tables.differences(comparison, [ALL])))
    shown += summary_tables(comparison)
    counts = tables.count_line(comparison.first.report, split)
    return render_page(
        {
            "title": f"{', '.join(comparison.reports)} on {split}",
            "note": f"{counts}. Confidences are {_calibration_state(comparison)}.",
            "types": list(comparison.types),
            "revisions": list(comparison.reports),
            "tables": [{"title": title, "rows": rows} for title, rows in shown],
            "others": [{"title": t, "rows": rows} for t, rows in error_tables(comparison)],
            "plots": [{"title": title, "image": data_uri(png)} for title, png in images.values()],
            "sentences": page_sentences(comparison),
        }
    )


def _calibration_state(comparison: Comparison) -> str:
    uncalibrated = [r.name for r in comparison.revisions if r.calibration is None]
    if len(uncalibrated) == len(comparison.revisions):
        return "not calibrated"
    return (
        f"calibrated, except those of {', '.join(uncalibrated)}" if uncalibrated else "calibrated"
    )


def page_sentences(comparison: Comparison) -> list[dict[str, Any]]:
    """Return all sentences as render_page() takes them: words, gold, predictions, missed entities.

    Documents are numbered from 1; in a corpus without document boundaries they are None.
    """
    corpus = comparison.first.corpus
    documents = {sentence.document for sentence in corpus}
    shift = int(0 in documents)
    sentences = [
        {
            "words": list(sentence.words),
            "document": sentence.document + shift if len(documents) > 1 else None,
            "gold": [list(entity) for entity in entities(sentence.tags)],
            "predicted": [],
            "missed": [],
        }
        for sentence in corpus
    ]
    for revision in comparison.revisions:
        confidences = iter(revision.confidences.tolist())  # in the order of the predicted entities
        for row, pairs, labels in zip(
            sentences, revision.errors.pairs, revision.evaluation.predicted, strict=True
        ):
            kinds = {pair.predicted: pair.kind for pair in pairs}
            row["predicted"].append(
                [[*e, round(next(confidences), 3), kinds[e]] for e in entities(labels)]
            )
            row["missed"].append([list(pair.gold) for pair in pairs if pair.kind == "missed"])
        assert next(confidences, None) is None, "a confidence belongs to no entity"
    return sentences
