"""Tables of evaluation reports and comparisons, as rows of text."""

from collections.abc import Mapping, Sequence
from typing import Any

from nerc import tables
from nerc.data import tags
from nerc.data.corpus import Corpus
from nerc.evaluation.compare import Comparison
from nerc.evaluation.metrics import Report
from nerc.store import records
from nerc.tables import Rows, markdown

FEW = 30  # documents or sentences, under which intervals come out too narrow


def report_table(reports: Mapping[str, Report], split: str) -> str:
    """Reports side by side, as a Markdown table."""
    return markdown(report_rows(reports, split))


def report_rows(reports: Mapping[str, Report], split: str) -> Rows:
    """Reports side by side, a row each; F1 per type in the last columns."""
    types = list(dict.fromkeys(name for report in reports.values() for name in report.types))
    header = ["Revision", f"{split.capitalize()} Loss", "Seqeval Accuracy", "Precision", "Recall"]
    header += ["F1-Score", "Strict F1", *(f"{name} F1" for name in types)]
    rows = [
        [
            name,
            f"{r.loss:.5f}",
            *(f"{v:.5f}" for v in (r.accuracy, r.precision, r.recall, r.f1, r.strict_f1)),
            *(f"{r.types[t].f1:.5f}" if t in r.types else "-" for t in types),
        ]
        for name, r in reports.items()
    ]
    return [header, *rows]


def samples(corpus: Corpus, predicted: Sequence[Sequence[str]], num: int = 20) -> str:
    """Some sentences, evenly spread, with gold's entities and those found, as Markdown."""
    rows = [["sentence", "gold", "found"]]
    for i in sorted({round(k * (len(corpus) - 1) / max(1, num - 1)) for k in range(num)}):
        sentence = corpus[i]
        cells = [" ".join(sentence.words)]
        cells += [_named(sentence.words, labels) for labels in (sentence.tags, predicted[i])]
        rows.append([cell.replace("|", "\\|") for cell in cells])
    return markdown(rows)


def _named(words: Sequence[str], labels: Sequence[str]) -> str:
    found = tags.entities(labels)
    return ", ".join(f"{' '.join(words[e.start : e.end])} ({e.type})" for e in found) or "-"


def count_line(report: Report, split: str) -> str:
    """What a report stands on, in one line."""
    return (
        f"{split}: {report.entities:,} entities in {report.sentences:,} sentences, "
        f"{report.words:,} words, every one judged; F1 as conlleval and seqeval's default count"
    )


# ------------------------------------------------------------ findings


def intervals(found: Comparison) -> Rows:
    """F1 of each revision with its interval and, for all but the first, the difference to it."""
    rows = [["Revision", "F1-Score", "95 % interval"]]
    if found.differences:
        rows[0] += [f"against {found.first}", "95 % interval", "p"]
    for name, by_type in found.intervals.items():
        every = by_type["all"]
        rows.append([name, f"{every.value:.5f}", f"{every.low:.4f} to {every.high:.4f}"])
        if name in found.differences:
            rows[-1] += _difference(found.differences[name]["all"])
        elif found.differences:
            rows[-1] += ["-"] * 3
    return rows


def interval_lines(found: Comparison, runs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Intervals, differences and means over seeds, a line each."""
    groups = "documents" if found.num_groups < len(found.corpus) else "sentences"
    few = ", too few to be trusted" if found.num_groups < FEW else ""
    lines = [
        f"95 % intervals, of {found.num_groups:,} {groups}{few}, drawn anew {found.num_draws:,} "
        f"times; of other seeds of training they say nothing:"
    ]
    for name, figures in found.intervals.items():
        every = figures["all"]
        line = f"{name}: F1 {every.value:.5f}, {every.low:.4f} to {every.high:.4f}"
        if name in found.differences:
            difference, interval, p = _difference(found.differences[name]["all"])
            line += f"; against {found.first} {difference}, {interval}, p {p}"
        lines.append(line)
    for names, f1, accuracy, loss in seeds(found.reports, runs)[1:]:
        lines.append(f"seeds {names}: F1 {f1}, accuracy {accuracy}, loss {loss}")
    return lines


def by_type(found: Comparison) -> Rows:
    """F1 of each type with its interval, a column for each revision and each difference."""
    rows = [["Type", "Entities", *(f"F1 of {name}" for name in found.reports)]]
    for name in found.differences:
        rows[0] += [f"{name} against {found.first}", "95 % interval", "p"]
    for type_ in found.types:
        own = [by_type[type_] for by_type in found.intervals.values()]
        support = next(iter(found.reports.values())).types[type_].support
        rows.append([type_, f"{support:,}"])
        if not support:  # nothing to estimate F1 from
            rows[-1] += ["-"] * (len(rows[0]) - 2)
            continue
        rows[-1] += [f"{i.value:.4f} ({i.low:.3f} to {i.high:.3f})" for i in own]
        for by_type in found.differences.values():
            rows[-1] += _difference(by_type[type_])
    return rows


def _difference(found) -> list[str]:
    p = f"{found.p:.3f}" if found.p >= 0.001 else "<0.001"
    return [f"{found.value:+.5f}", f"{found.low:+.4f} to {found.high:+.4f}", p]


def errors(found: Comparison) -> Rows:
    """How many entities of each kind each revision has."""
    kinds = list(next(iter(found.errors.values())).kinds)
    rows = [["Revision", *kinds]]
    for name, own in found.errors.items():
        rows.append([name, *(f"{own.kinds[kind]:,}" for kind in kinds)])
    return rows


def confusion_table(
    counts: Mapping[tuple[str, str], int], types: Sequence[str], corner: str
) -> Rows:
    """How often an entity of one type (row: gold) was found as another (column)."""
    rows = [[corner, *types, "missed"]]
    for gold in (*types, "-"):
        label = "spurious" if gold == "-" else gold
        rows.append([label, *(f"{counts[gold, t]:,}" for t in (*types, "-"))])
    return rows


def frequent(found: Comparison, name: str, num: int = 20) -> Rows:
    """The errors that one revision makes most often, on the same words."""
    rows = [[f"{name}: times", "kind", "gold", "found"]]
    return rows + [[str(times), *what] for times, *what in found.errors[name].frequent[:num]]


def confidences(found: Comparison) -> Rows:
    """How far each revision's confidences are from the share of its entities that is right."""
    rows = [
        ["Revision", "Found", "Calibrated", "Mean confidence", "Share right", "Calibration error"]
    ]
    for name, sure in found.confidences.items():
        right = found.judged[name].right
        figures = [sure.mean(), right.mean(), found.calibration_error(name)] if len(sure) else []
        cells = [f"{figure:.4f}" for figure in figures] or ["-"] * 3
        calibrated = "yes" if found.calibrated[name] else "no"
        rows.append([name, f"{len(sure):,}", calibrated, *cells])
    return rows


def slices(found: Comparison) -> Rows:
    """F1 of parts of the entities, a column for each revision."""
    rows = [["Entities by", "In gold", *found.reports]]
    scores = [{(s.family, s.name): s for s in own} for own in found.slices.values()]
    families = list(dict.fromkeys(family for own in scores for family, _ in own))
    every = dict.fromkeys(key for own in scores for key in own)
    for family, part in sorted(every, key=lambda key: families.index(key[0])):
        own = [each.get((family, part)) for each in scores]
        # Of training, each revision had its own.
        support = " / ".join(dict.fromkeys(f"{s.support:,}" for s in own if s))
        rows.append([f"{family}: {part}", support, *(f"{s.f1:.4f}" if s else "-" for s in own)])
    return rows


def seeds(found: Mapping[str, Report], runs: Mapping[str, Mapping[str, Any]]) -> Rows:
    """Mean and standard deviation of revisions that differ by the seed alone; [] without any."""
    groups = [g for g in records.by_configuration(runs) if len(g) > 1]
    rows = [["Revisions", "F1-Score", "Seqeval Accuracy", "Loss"]]
    for names in groups:
        figures = (
            [getattr(found[n], figure) for n in names] for figure in ("f1", "accuracy", "loss")
        )
        rows.append([", ".join(names), *(tables.spread(values, 5) for values in figures)])
    return rows if groups else []
