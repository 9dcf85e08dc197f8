"""Tables of reports and comparisons, as rows of text."""

from collections.abc import Mapping, Sequence

from nerc.evaluation.bootstrap import ALL, ALL_TYPES, FEW, NUM_DRAWS, Interval
from nerc.evaluation.error_analysis import (
    confusion_table,
    slice_families,
    slices,
)
from nerc.evaluation.evaluator import Comparison
from nerc.evaluation.metrics import Report
from nerc.model.calibration import calibration_error
from nerc.store import records
from nerc.tables import Rows, markdown, shown, spread

NUM_FREQUENT = 20  # errors listed for each revision
F1_BY_TYPE = "F1 by type, with 95 % intervals"
CONFUSIONS = "Gold and predicted types, {} (numbers of entities)"


def report_table(reports: Mapping[str, Report], split: str) -> str:
    """Reports side by side, as a Markdown table."""
    return markdown(report_rows(reports, split))


def report_rows(reports: Mapping[str, Report], split: str) -> Rows:
    """A row for each report; the last columns are F1 by type."""
    types = list(dict.fromkeys(name for report in reports.values() for name in report.types))
    header = ["Revision", f"{split.capitalize()} Loss", "Seqeval Accuracy", "Precision", "Recall"]
    rows = [[*header, "F1-Score", "Strict F1", *(f"{name} F1" for name in types)]]
    for name, r in reports.items():
        scores = (r.loss, r.accuracy, r.precision, r.recall, r.f1, r.strict_f1)
        by_type = (f"{r.types[t].f1:.5f}" if t in r.types else "-" for t in types)
        rows.append([name, *(f"{score:.5f}" for score in scores), *by_type])
    return rows


def count_line(report: Report, split: str) -> str:
    """What a report covers and how entities are counted, in one line."""
    return (
        f"{split}: {report.entities:,} entities in {report.sentences:,} sentences, "
        f"{report.words:,} words, all of them scored; F1 as in conlleval and seqeval's default mode"
    )


# ------------------------------------------------------------ comparisons


def summary(comparison: Comparison, split: str, *, details: bool) -> str:
    """Scores, F1 with its interval and its difference from the first revision, means over seeds.

    details: also the tables by type and of errors.
    """
    first, num_groups = comparison.first, comparison.num_groups
    groups = "documents" if num_groups < len(first.corpus) else "sentences"
    few = " (too few for reliable intervals)" if num_groups < FEW else ""
    lines = [
        count_line(first.evaluation.report, split),
        report_table(comparison.reports, split),
        f"95 % intervals from {NUM_DRAWS:,} bootstrap resamples of {num_groups:,} {groups}{few}; "
        f"they do not include the variation between training seeds:",
    ]
    for name, intervals in comparison.intervals.items():
        f1 = intervals[ALL]
        line = f"{name}: F1 {f1.value:.5f}, {f1.low:.4f} to {f1.high:.4f}"
        if name in comparison.differences:
            difference, interval, p = _cells(comparison.differences[name][ALL])
            line += f"; difference from {first.name} {difference}, {interval}, p {p}"
        lines.append(line)
    for names, f1, accuracy, loss in over_seeds(comparison)[1:]:
        lines.append(f"mean over seeds ({names}): F1 {f1}, accuracy {accuracy}, loss {loss}")
    if details:
        tables = summary_tables(comparison) | error_tables(comparison)
        lines += [f"\n{title}\n{markdown(rows)}" for title, rows in tables.items()]
    return "\n".join(lines)


def figures(comparison: Comparison, split: str) -> Rows:
    """The scores of each revision without types, with the interval of F1 after F1."""
    rows = report_rows(comparison.reports, split)
    f1 = [by_type[ALL] for by_type in comparison.intervals.values()]
    cells = ["95 % interval", *(f"{i.low:.4f} to {i.high:.4f}" for i in f1)]
    last = rows[0].index("Strict F1")
    return [[*row[:last], cell, row[last]] for row, cell in zip(rows, cells, strict=True)]


def summary_tables(comparison: Comparison) -> dict[str, Rows]:
    """Tables by title: means over seeds, if there are any, and F1 by type."""
    means = over_seeds(comparison)
    tables = {"Mean and standard deviation over seeds": means} if len(means) > 1 else {}
    return tables | {F1_BY_TYPE: f1_by_type(comparison)}


def error_tables(comparison: Comparison) -> dict[str, Rows]:
    """Tables by title: differences by type, kinds of errors, slices, confidences, confusions."""
    first, tables = comparison.first, {}
    if comparison.differences:
        title = f"Difference in F1 from {first.name}, by type"
        tables[title] = differences(comparison, comparison.types)
    errors = {revision.name: revision.errors for revision in comparison.revisions}
    kinds = [[name, *(f"{n:,}" for n in e.kinds.values())] for name, e in errors.items()]
    tables |= {
        "Errors by kind (numbers of entities)": [["Revision", *first.errors.kinds], *kinds],
        "F1 by slice of the entities": f1_by_slice(comparison),
        "Confidences of the predicted entities": confidences(comparison),
    }
    for name, e in errors.items():
        corner = f"{name}: gold \\ predicted"
        confusions = confusion_table(e.confusion, comparison.types, corner)
        tables[CONFUSIONS.format(name)] = shown(confusions)
        rows = [[str(count), *texts] for count, *texts in e.frequent[:NUM_FREQUENT]]
        header = [f"{name}: count", "kind", "gold", "predicted"]
        tables[f"Most frequent errors, {name}"] = [header, *rows]
    return tables


def f1_by_type(comparison: Comparison) -> Rows:
    """F1 of each type with its interval, a column for each revision; - if gold has none."""
    rows = [["Type", "Entities", *(f"F1 of {name}" for name in comparison.reports)]]
    for type_ in comparison.types:
        support = comparison.supports[type_]
        f1 = [by_type[type_] for by_type in comparison.intervals.values()]
        cells = [f"{i.value:.4f} ({i.low:.3f} to {i.high:.3f})" if support else "-" for i in f1]
        rows.append([type_, f"{support:,}", *cells])
    return rows


def differences(comparison: Comparison, types: Sequence[str | None]) -> Rows:
    """The difference in F1 of each revision from the first one, for each of types, or ALL."""
    rows = [["Type", "Revision", "Difference", "95 % interval", "p"]]
    for type_ in types:
        for name, by_type in comparison.differences.items():
            has_gold = comparison.supports[type_] > 0
            cells = _cells(by_type[type_]) if has_gold else ["-"] * 3
            rows.append([ALL_TYPES if type_ is ALL else type_, name, *cells])
    return rows


def _cells(difference: Interval) -> list[str]:
    p = f"{difference.p:.3f}" if difference.p >= 0.001 else "<0.001"
    interval = f"{difference.low:+.4f} to {difference.high:+.4f}"
    return [f"{difference.value:+.5f}", interval, p]


def over_seeds(comparison: Comparison) -> Rows:
    """Mean and standard deviation of revisions that differ only in the seed, below a header."""
    runs = {revision.name: revision.run for revision in comparison.revisions}
    rows = [["Revisions", "F1-Score", "Seqeval Accuracy", "Loss"]]
    for names in records.by_configuration(runs):
        if len(names) > 1:
            reports = [comparison.reports[name] for name in names]
            scores = ([getattr(r, score) for r in reports] for score in ("f1", "accuracy", "loss"))
            rows.append([", ".join(names), *(spread(values, 5) for values in scores)])
    return rows


def f1_by_slice(comparison: Comparison) -> Rows:
    """F1 on each slice of the entities, a column for each revision."""
    by_revision = [
        slices(revision.corpus, revision.evaluation.predicted, slice_families(revision.train))
        for revision in comparison.revisions
    ]
    keys = dict.fromkeys(key for scores in by_revision for key in scores)
    families = list(dict.fromkeys(family for family, _ in keys))
    rows = [["Slice", "Gold entities", *comparison.reports]]
    for key in sorted(keys, key=lambda key: families.index(key[0])):
        parts = [scores.get(key) for scores in by_revision]
        # The revisions' training corpora may differ, and with them the slices by training.
        support = " / ".join(dict.fromkeys(f"{part.support:,}" for part in parts if part))
        f1 = [f"{part.f1:.4f}" if part else "-" for part in parts]
        rows.append([": ".join(key), support, *f1])
    return rows


def confidences(comparison: Comparison) -> Rows:
    """How well the confidences of each revision agree with the share of correct entities."""
    rows = [["Revision", "Predicted entities", "Calibrated", "Mean confidence", "Share correct"]]
    rows[0].append("Calibration error")
    for revision in comparison.revisions:
        sure, right = revision.confidences, revision.evaluation.right
        scores = [sure.mean(), right.mean(), calibration_error(sure, right)] if len(sure) else []
        cells = [f"{score:.4f}" for score in scores] or ["-"] * 3
        calibrated = "no" if revision.calibration is None else "yes"
        rows.append([revision.name, f"{len(sure):,}", calibrated, *cells])
    return rows
