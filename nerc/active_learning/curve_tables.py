"""Tables, plots and a CSV file of learning curves."""

import csv
import io
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from nerc import files, tables
from nerc.active_learning.curves import (
    UNITS,
    Curve,
    amount_needed,
    area,
    by_strategy,
    common_span,
    read_curves,
)
from nerc.data import tags
from nerc.evaluation import plots
from nerc.store.revisions import Store

SHARES = (0.90, 0.95, 0.98, 0.99)  # of the F1 of all expert labels
_AREA_UNITS = UNITS[:2]


def area_table(curves: Sequence[Curve], split: str) -> tables.Rows:
    """The area under each strategy's curve."""
    rows = [["Strategy", "seeds", "sentences", "F1 at the start", "at the end"]]
    rows[0] += [f"area by {unit}" for unit in _AREA_UNITS]
    spans = {unit: common_span(curves, unit) for unit in _AREA_UNITS}
    for name, group in by_strategy(curves).items():
        ends = ([100 * curve.points[i].f1[split] for curve in group] for i in (0, -1))
        last = statistics.mean(curve.points[-1].acquired["sentences"] for curve in group)
        row = [name, str(len(group)), f"{last:,.0f}", *map(tables.spread, ends)]
        for unit, span in spans.items():
            row.append(tables.spread([100 * area(curve, span, unit, split) for curve in group]))
        rows.append(row)
    return rows


def lead_table(curves: Sequence[Curve], split: str) -> tables.Rows:
    """How far each strategy's area lies above that of random choice from the same seeds.

    Mean over seeds ± standard error.
    """
    rows = [["Strategy", "area above that of", *(f"by {unit}" for unit in _AREA_UNITS)]]
    spans = {unit: common_span(curves, unit) for unit in _AREA_UNITS}
    groups = by_strategy(curves)

    def lead(group: list[Curve], others: list[Curve], unit: str) -> str:
        by_seed = {curve.seed: area(curve, spans[unit], unit, split) for curve in others}
        differences = [
            100 * (area(curve, spans[unit], unit, split) - by_seed[curve.seed])
            for curve in group
            if curve.seed in by_seed
        ]
        return tables.gain(differences) if differences else "-"

    for name, group in groups.items():
        for other in ("random", "random-words"):
            if other in groups and other != name:
                leads = [lead(group, groups[other], unit) for unit in _AREA_UNITS]
                rows.append([name, other, *leads])
    return rows


def share_table(curves: Sequence[Curve], full: float, split: str) -> tables.Rows:
    """The sentences and words needed to reach shares of full, the F1 of all expert labels."""
    columns = [(share, unit) for share in SHARES for unit in _AREA_UNITS]
    rows = [["Strategy", *(f"{share:.0%}, {unit}" for share, unit in columns)]]
    for name, group in by_strategy(curves).items():
        amounts = [amount_needed(group, share * full, unit, split) for share, unit in columns]
        rows.append([name, *("not reached" if n is None else f"{n:,.0f}" for n in amounts)])
    return rows


def query_table(curves: Sequence[Curve]) -> tables.Rows:
    """What strategies asked for: lengths, entities, types."""
    entities = {}  # of each query that was answered
    groups = {}
    for name, group in by_strategy(curves).items():
        groups[name] = [q for curve in group for q in curve.queries if q.tags is not None]
        entities[name] = [tags.entities(query.tags) for query in groups[name]]
    counts = {
        name: Counter(entity.type for sentence in sentences for entity in sentence)
        for name, sentences in entities.items()
    }
    types = tags.ordered({name for of_types in counts.values() for name in of_types})
    rows = [["Strategy", "sentences", "words each", "entities each", "without entity"]]
    rows[0] += ["with a weak label", *types]
    for name, queries in groups.items():
        number, total = len(queries), counts[name].total()
        if not number:
            continue
        row = [name, f"{number:,}", f"{sum(len(query.words) for query in queries) / number:.1f}"]
        row += [f"{total / number:.2f}", f"{entities[name].count([]) / number:.0%}"]
        row.append(f"{sum(query.cheap for query in queries) / number:.0%}")
        rows.append(row + [f"{counts[name][t] / max(1, total):.0%}" for t in types])
    return rows


def round_table(curves: Sequence[Curve], price: float) -> tables.Rows:
    """A row for every revision."""
    splits = [s for s in ("validation", "test") if all(s in p.f1 for c in curves for p in c.points)]
    cost = ["cost"] if price else []
    rows = [["Revision", "strategy", "seed", "round", *UNITS, *cost, *(f"{s} F1" for s in splits)]]
    for curve in curves:
        for point in curve.points:
            row = [point.name, curve.strategy, str(curve.seed), str(point.round)]
            row += [f"{point.acquired[unit]:,}" for unit in UNITS]
            row += [f"{price * point.acquired['words']:,.2f}"] if price else []
            rows.append(row + [f"{100 * point.f1[split]:.2f}" for split in splits])
    return rows


def summary(store: Store, price: float) -> str:
    """The rounds of a store, and the best of them by validation."""
    curves = read_curves(store)
    if not curves:
        return f"{store.folder} holds round 0 alone"
    points = [point for curve in curves for point in curve.points]
    scores = {p.name: p.f1["validation"] for p in points if "validation" in p.f1}
    best = "there is no validation split to choose the best by"
    if scores:
        name = max(scores, key=scores.get)
        best = f"best on validation, of all: {name} ({100 * scores[name]:.2f})"
    return (
        f"{tables.markdown(round_table(curves, price))}\n\n{best}; the curves: python -m nerc "
        f"curves --repo {store.folder} --output curves"
    )


# ------------------------------------------------------------ plots and curves.csv


def curve_plot(
    curves: Sequence[Curve], levels: Mapping[str, float], split: str, price: float = 0.0
) -> bytes:
    """Plot F1 by acquired labels and, with a price, by their cost; as PNG."""
    panels = {f"experts' {unit}": _bands(curves, unit, split, 1) for unit in UNITS}
    if price:
        panels["price of experts' words"] = _bands(curves, "words", split, price)
    return plots.curve_bands(panels, levels, f"{split} F1")


def _bands(
    curves: Sequence[Curve], unit: str, split: str, scale: float
) -> dict[str, list[tuple[float, float, float]]]:
    """For each strategy: scaled amounts, mean F1 and its standard deviation over seeds."""
    bands = {}
    for name, group in by_strategy(curves).items():
        low, high = common_span(group, unit)
        amounts = {p.acquired[unit] for curve in group for p in curve.points}
        bands[name] = []
        for amount in sorted(x for x in amounts if low <= x <= high):
            scores = [curve.at(amount, unit, split) for curve in group]
            deviation = statistics.stdev(scores) if len(scores) > 1 else 0.0
            bands[name].append((scale * amount, statistics.mean(scores), deviation))
    return bands


def write_curves(
    folder: Path, curves: Sequence[Curve], levels: Mapping[str, float], split: str, price: float
) -> None:
    """Write plots (PNG) and curves.csv to a folder."""
    files.check_folder(folder, "--output")
    folder.mkdir(exist_ok=True)
    lengths = {
        name: [len(query.words) for curve in group for query in curve.queries]
        for name, group in by_strategy(curves).items()
    }
    images = {
        "curves": ("", curve_plot(curves, levels, split, price)),
        "picked": ("", plots.length_plot(lengths)),
    }
    plots.write_plots(folder, images)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    scores = ["validation_f1", "test_f1"]
    writer.writerow(["strategy", "seed", "round", "revision", *UNITS, "cost", *scores])
    for curve in curves:
        for p in curve.points:
            row = [curve.strategy, curve.seed, p.round, p.name, *(p.acquired[u] for u in UNITS)]
            f1 = [p.f1.get(split, "") for split in ("validation", "test")]
            writer.writerow([*row, price * p.acquired["words"] if price else "", *f1])
    files.write_text(folder / "curves.csv", text.getvalue())
