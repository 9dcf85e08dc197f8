"""Renders a comparison of revisions: detail tables, plots and the HTML page."""

from collections.abc import Mapping
from typing import Any

from nerc.data.tags import entities
from nerc.evaluation import tables
from nerc.evaluation.compare import Comparison
from nerc.evaluation.page import render_page
from nerc.evaluation.plots import (
    Plots,
    confusion_plot,
    data_uri,
    f1_by_type,
    learning_curves,
    reliability,
)
from nerc.tables import Rows

Runs = Mapping[str, Mapping[str, Any]]  # run.json by revision
_SEEDS = "Mean and standard deviation over seeds"
_BY_TYPE = "F1 by type, with 95 % intervals"


def page_sentences(found: Comparison) -> list[dict[str, Any]]:
    """Return every sentence as nerc.page shows it: words, gold, what each revision found or missed.

    Documents are numbered from 1; in a corpus without document boundaries they are None.
    """
    documents = {sentence.document for sentence in found.corpus}
    shift = int(0 in documents)
    places = {name: 0 for name in found.judged}  # in the confidences
    rows = []
    for i, sentence in enumerate(found.corpus):
        document = sentence.document + shift if len(documents) > 1 else None
        row = {"words": list(sentence.words), "document": document}
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


def detail_tables(found: Comparison, runs: Runs) -> list[tuple[str, Rows]]:
    """Return what is shown after the figures of each revision, as tables with titles."""
    result = []
    if rows := tables.seeds(found.reports, {name: runs[name] for name in found.reports}):
        result.append((_SEEDS, rows))
    by_type = tables.by_type(found)
    num_f1 = 2 + len(found.reports)  # columns; three for each difference follow them
    result.append((_BY_TYPE, [row[:num_f1] for row in by_type]))
    if found.differences:
        rows = [["Type", "Revision", "Difference", "95 % interval", "p"]]
        for row in by_type[1:]:
            for i, name in enumerate(found.differences):
                rows.append([row[0], name, *row[num_f1 + 3 * i : num_f1 + 3 * (i + 1)]])
        result.append((f"Difference in F1 by type, against {found.first}", rows))
    result.append(("Errors by kind (numbers of entities)", tables.errors(found)))
    result.append(("F1 of parts of the entities", tables.slices(found)))
    result.append(("Confidences of the entities found", tables.confidences(found)))
    for name in found.reports:
        counts, corner = found.errors[name].confusion, f"{name}: gold \\ predicted"
        types = tables.confusion_table(counts, found.types, corner)
        result.append((f"Gold and predicted types, {name} (numbers of entities)", types))
        result.append((f"Most frequent errors, {name}", tables.frequent(found, name)))
    return result


def comparison_plots(found: Comparison, runs: Runs) -> Plots:
    """Plot F1 by type, reliability, confusion, and learning curves where runs have any."""
    sure = {n: (found.confidences[n], each.right) for n, each in found.judged.items()}
    result = {
        "f1": (_BY_TYPE, f1_by_type(found.intervals)),
        "reliability": ("Confidence and share of correct entities", reliability(sure)),
    }
    histories = {n: runs[n]["epochs"] for n in found.reports if len(runs[n].get("epochs", ())) > 1}
    if histories:
        picture = learning_curves(histories)
        result["learning"] = ("Learning curves on the validation split", picture)
    for name, own in found.errors.items():
        title = f"Gold and predicted types, {name} (numbers of entities)"
        result[f"confusion_{name}"] = (title, confusion_plot(own.confusion, found.types))
    return result


def page_of(found: Comparison, runs: Runs, drawn: Plots, split: str) -> str:
    """Return the HTML page of a comparison, which opens without a network.

    Types are the rows of their own table, so that the table of figures has the same columns, and
    room for them, however many types there are. Each interval is in one table only.
    """
    figures = tables.report_rows(found.reports, split)
    intervals = tables.intervals(found)
    num_figures = len(figures[0]) - len(found.types)
    after_f1 = figures[0].index("F1-Score") + 1
    main = [
        [*row[:after_f1], interval[2], *row[after_f1:num_figures]]
        for row, interval in zip(figures, intervals, strict=True)
    ]
    shown = [("Figures", main)]
    if found.differences:
        rows = [["Revision", "Difference", "95 % interval", "p"]]
        rows += [[row[0], *row[3:]] for row in intervals[2:]]
        shown.append((f"Difference in F1, against {found.first}", rows))
    others = []
    for title, rows in detail_tables(found, runs):
        (shown if title in (_SEEDS, _BY_TYPE) else others).append((title, rows))
    uncalibrated = [name for name, is_calibrated in found.calibrated.items() if not is_calibrated]
    state = "calibrated" if len(uncalibrated) < len(found.calibrated) else "not calibrated"
    if state == "calibrated" and uncalibrated:
        state += f", except those of {', '.join(uncalibrated)}"
    counts = tables.count_line(found.reports[found.first], split)
    return render_page(
        {
            "title": f"{', '.join(found.reports)} on {split}",
            "note": f"{counts}. Confidences are {state}.",
            "types": list(found.types),
            "revisions": list(found.reports),
            "tables": [{"title": title, "rows": rows} for title, rows in shown],
            "others": [{"title": title, "rows": rows} for title, rows in others],
            "plots": [{"title": title, "image": data_uri(png)} for title, png in drawn.values()],
            "sentences": page_sentences(found),
        }
    )
