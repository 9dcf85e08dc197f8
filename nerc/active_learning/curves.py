"""Learning curves: F1 by the number of expert labels, from the revisions of the rounds."""

# What takes seconds to import is imported where it is used, as in train.py.
import csv
import io
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nerc import files, tables
from nerc.data import pool, tags
from nerc.data.pool import Query
from nerc.errors import InputError
from nerc.evaluation import plots
from nerc.store import records
from nerc.store.revisions import Store

UNITS = ("sentences", "words", "entities")  # what is bought
SHARES = (0.90, 0.95, 0.98, 0.99)  # of full gold
_STEPS = 1000  # at which a mean curve is looked at
_ALL_EXPERTS = (None, "100%")  # of --expert, with --data gold


@dataclass(frozen=True)
class Point:
    """A round: what experts had labelled, and F1 by split."""

    name: str
    round: int
    bought: dict[str, int]  # by unit
    f1: dict[str, float]


@dataclass(frozen=True)
class Curve:
    """The rounds of one strategy from one seed, the start first."""

    strategy: str  # and in what its plan differs from others in the store
    seed: int
    points: list[Point]
    folder: Path  # of its last revision

    @cached_property
    def picked(self) -> list[Query]:
        """What the strategy itself asked for."""
        return [query for query in _queries_of(self.folder) if query.round > 0]

    def at(self, place: float, unit: str, split: str) -> float:
        """F1 where so much had been bought, between two rounds by a straight line."""
        before = [p for p in self.points if p.bought[unit] <= place] or self.points[:1]
        after = [p for p in self.points if p.bought[unit] > place] or self.points[-1:]
        (x, y), (x2, y2) = ((p.bought[unit], p.f1[split]) for p in (before[-1], after[0]))
        return y if x2 <= x or place <= x else y + (y2 - y) * (place - x) / (x2 - x)


def read_curves(store: Store) -> list[Curve]:
    """The curves of a store, by strategy and seed; InputError where there is none."""
    runs = {name: records.read_run(store.folder / name) for name in store.names()}
    rounds = {name: run["active"] for name, run in runs.items() if "active" in run}
    if not rounds:
        raise InputError(
            f"--repo {store.folder}: holds no round of active learning (there: "
            f"{', '.join(runs) or ('nothing' if store.folder.is_dir() else 'no such folder')}); "
            f"make some with: python active_learn.py --repo {store.folder}"
        )
    plans: dict[str, dict[str, Any]] = {}
    for about in rounds.values():
        plans.setdefault(str(sorted(about["plan"].items())), about["plan"])
    keys = {key for plan in plans.values() for key in plan}
    differing = sorted(k for k in keys if len({str(plan.get(k)) for plan in plans.values()}) > 1)
    found: dict[tuple, list[tuple[str, dict]]] = {}
    for name, about in rounds.items():
        if about["strategy"] is not None:
            key = (about["strategy"], about["seed"], str(sorted(about["plan"].items())))
            found.setdefault(key, []).append((name, about))
    curves = []
    for (strategy, seed, plan), own in found.items():
        own.sort(key=lambda pair: pair[1]["round"])
        points = [_point(store, name, about) for name, about in own]
        if (start := own[0][1]["start"]) in runs:
            about = rounds.get(start) or {"round": 0} | _known_at_start(store.folder / own[0][0])
            points.insert(0, _point(store, start, about))
        what = ", ".join(f"{key} {plans[plan].get(key)}" for key in differing)
        folder = store.folder / own[-1][0]
        curves.append(Curve(f"{strategy}, {what}" if what else strategy, seed, points, folder))
    return sorted(
        curves, key=lambda curve: (curve.strategy != "default", curve.strategy, curve.seed)
    )


def _queries_of(folder: Path) -> list[Query]:

    return pool.read_queries(folder / pool.QUERIES_FILE)


def _known_at_start(folder: Path) -> dict[str, int]:
    """How much was known before the first round, by unit."""

    return pool.count_acquired(query for query in _queries_of(folder) if query.strategy == "start")


def _point(store: Store, name: str, about: Mapping[str, Any]) -> Point:
    metrics = records.read_metrics(store.folder / name)
    f1 = {split: report["f1"] for split, report in metrics.items()}
    return Point(name, about["round"], {unit: about[unit] for unit in UNITS}, f1)


def reference_levels(store: Store, full: Sequence[str], split: str) -> dict[str, float]:
    """F1 of what is not active learning: all experts' labels, and the cheap ones alone.

    full: the revisions of all experts' labels; else those of the store that are.
    """
    for name in full:
        _check_full(name, store.local(name), split)
    found: dict[str, list[float]] = {}
    for name in store.names():
        run = records.read_run(store.folder / name)
        metrics = records.read_metrics(store.folder / name)
        config = run.get("config", {})
        if split not in metrics or "active" in run:
            continue
        everything = config.get("data") == "gold" and config.get("expert") in _ALL_EXPERTS
        if name in full or (not full and everything):
            found.setdefault("all expert labels", []).append(metrics[split]["f1"])
        elif config.get("data") == "llm":
            found.setdefault("cheap labels alone", []).append(metrics[split]["f1"])
    return {what: statistics.mean(values) for what, values in found.items()}


def _check_full(name: str, folder: Path, split: str) -> None:
    """Raise InputError where a revision of --full is known to be of less than all labels."""
    run, judged = records.read_run(folder), records.read_metrics(folder)
    config = run.get("config", {})
    others = config.get("data", "gold") != "gold" or config.get("expert") not in _ALL_EXPERTS
    if "active" in run or others:
        raise InputError(
            f"--full {name}: did not learn from all expert labels; make one that does with: "
            f"python train.py --data gold --recipe strong --repo {folder.parent} --revision NAME"
        )
    if split not in judged:
        raise InputError(f"--full {name}: was not judged on {split}, wanted one that was")


# ------------------------------------------------------------ figures


def by_strategy(curves: Sequence[Curve]) -> dict[str, list[Curve]]:
    """The curves of each strategy, one for each seed."""
    found: dict[str, list[Curve]] = {}
    for curve in curves:
        found.setdefault(curve.strategy, []).append(curve)
    return found


def common_span(curves: Sequence[Curve], unit: str) -> tuple[float, float]:
    """From where to where all curves go; InputError where one ends before another begins."""
    latest = max(curves, key=lambda curve: curve.points[0].bought[unit])
    first = min(curves, key=lambda curve: curve.points[-1].bought[unit])
    low, high = latest.points[0].bought[unit], first.points[-1].bought[unit]
    if low > high:
        raise InputError(
            f"{first.folder} ends at {high:,} {unit}, before the rounds of {latest.folder} begin, "
            f"at {low:,}; do more of its rounds first"
        )
    return low, high


def area(curve: Curve, span: tuple[float, float], unit: str, split: str) -> float:
    """Mean height of the curve over a span: the area under it (trapezoids), by its width."""
    low, high = span
    inner = [p.bought[unit] for p in curve.points if low < p.bought[unit] < high]
    x = [low, *inner, high]
    y = [curve.at(place, unit, split) for place in x]
    if low == high:
        return y[0]
    pairs = zip(zip(x, y, strict=True), zip(x[1:], y[1:], strict=True), strict=False)
    return sum((b - a) * (c + d) / 2 for (a, c), (b, d) in pairs) / (high - low)


def amount_needed(curves: Sequence[Curve], level: float, unit: str, split: str) -> float | None:
    """How much has to be bought until the mean curve comes to level; None: it does not."""
    low, high = common_span(curves, unit)
    for step in range(_STEPS + 1):
        place = low + (high - low) * step / _STEPS
        if statistics.mean(curve.at(place, unit, split) for curve in curves) >= level:
            return place
    return None


def areas(curves: Sequence[Curve], split: str) -> tables.Rows:
    """Area under each strategy's curve."""
    rows = [["Strategy", "seeds", "sentences", "F1 at the start", "at the end"]]
    rows[0] += [f"area by {unit}" for unit in UNITS[:2]]
    for name, own in by_strategy(curves).items():
        ends = ([100 * c.points[i].f1[split] for c in own] for i in (0, -1))
        last = statistics.mean(curve.points[-1].bought["sentences"] for curve in own)
        row = [name, str(len(own)), f"{last:,.0f}", *map(tables.spread, ends)]
        for unit in UNITS[:2]:
            span = common_span(curves, unit)
            row.append(tables.spread([100 * area(c, span, unit, split) for c in own]))
        rows.append(row)
    return rows


def leads(curves: Sequence[Curve], split: str) -> tables.Rows:
    """What each strategy's area is above that of chance, mean over seeds ± standard error."""
    rows = [["Strategy", "area above that of", *(f"by {unit}" for unit in UNITS[:2])]]
    groups = by_strategy(curves)
    for name, own in groups.items():
        for other in ("random", "random-words"):
            if other in groups and other != name:
                found = [_lead(own, groups[other], unit, split, curves) for unit in UNITS[:2]]
                rows.append([name, other, *found])
    return rows


def _lead(
    own: Sequence[Curve], others: Sequence[Curve], unit: str, split: str, curves: Sequence[Curve]
) -> str:
    """Mean difference of areas of the same seeds, and its standard error."""
    span = common_span(curves, unit)
    by_seed = {curve.seed: area(curve, span, unit, split) for curve in others}
    differences = [
        100 * (area(curve, span, unit, split) - by_seed[curve.seed])
        for curve in own
        if curve.seed in by_seed
    ]
    return tables.gain(differences) if differences else "-"


def shares(curves: Sequence[Curve], full: float, split: str) -> tables.Rows:
    """Sentences and words until shares of full gold's F1 are reached."""
    rows = [["Strategy", *(f"{share:.0%}, {unit}" for share in SHARES for unit in UNITS[:2])]]
    for name, own in by_strategy(curves).items():
        found = [
            amount_needed(own, share * full, unit, split) for share in SHARES for unit in UNITS[:2]
        ]
        rows.append([name, *("not reached" if n is None else f"{n:,.0f}" for n in found)])
    return rows


def acquired_table(curves: Sequence[Curve]) -> tables.Rows:
    """What strategies asked for: lengths, entities, types."""
    groups = {
        name: [query for curve in own for query in curve.picked if query.tags is not None]
        for name, own in by_strategy(curves).items()
    }
    of_types = {
        name: Counter(entity.type for query in own for entity in tags.entities(query.tags))
        for name, own in groups.items()
    }
    types = tags.ordered({t for counts in of_types.values() for t in counts})
    rows = [["Strategy", "sentences", "words each", "entities each", "without entity"]]
    rows[0] += ["with a cheap label", *types]
    for name, own in groups.items():
        number, counts = len(own), of_types[name]
        total = max(1, counts.total())
        if not number:
            continue
        rows.append(
            [
                *(name, f"{number:,}", f"{sum(len(query.words) for query in own) / number:.1f}"),
                f"{counts.total() / number:.2f}",
                f"{sum(not tags.entities(query.tags) for query in own) / number:.0%}",
                f"{sum(query.cheap for query in own) / number:.0%}",
                *(f"{counts[t] / total:.0%}" for t in types),
            ]
        )
    return rows


def rounds(curves: Sequence[Curve], price: float) -> tables.Rows:
    """A row for every revision."""
    splits = [s for s in ("validation", "test") if all(s in p.f1 for c in curves for p in c.points)]
    cost = ["cost"] if price else []
    rows = [["Revision", "strategy", "seed", "round", *UNITS, *cost, *(f"{s} F1" for s in splits)]]
    for curve in curves:
        for point in curve.points:
            row = [point.name, curve.strategy, str(curve.seed), str(point.round)]
            row += [f"{point.bought[unit]:,}" for unit in UNITS]
            row += [f"{price * point.bought['words']:,.2f}"] if price else []
            rows.append(row + [f"{100 * point.f1[split]:.2f}" for split in splits])
    return rows


def summary(store: Store, price: float) -> str:
    """What rounds came to, and the best of them by validation."""
    curves = read_curves(store)
    if not curves:
        return f"round 0 alone is in {store.folder}"
    text = tables.markdown(rounds(curves, price))
    judged = {p.name: p.f1["validation"] for c in curves for p in c.points if "validation" in p.f1}
    if judged:
        best = max(judged, key=judged.get)
        text += f"\n\nbest on validation, of all: {best} ({100 * judged[best]:.2f})"
    else:
        text += "\n\nno validation split says which is best"
    return f"{text}; the curves: python -m nerc curves --repo {store.folder} --output curves"


def curve_plot(
    curves: Sequence[Curve], at_levels: Mapping[str, float], split: str, price: float = 0.0
) -> bytes:
    """Plot the curves by acquired labels and, with a price, by what they cost; as PNG."""

    panels = {f"experts' {unit}": _bands(curves, unit, split, 1) for unit in UNITS}
    if price:
        panels["price of experts' words"] = _bands(curves, "words", split, price)
    return plots.curve_bands(panels, at_levels, f"{split} F1")


def _bands(
    curves: Sequence[Curve], unit: str, split: str, scale: float
) -> dict[str, list[tuple[float, float, float]]]:
    """By strategy, places, mean F1 and its standard deviation over seeds."""
    found = {}
    for name, own in by_strategy(curves).items():
        low, high = common_span(own, unit)
        places = {p.bought[unit] for c in own for p in c.points if low <= p.bought[unit] <= high}
        rows = []
        for place in sorted(places):
            heights = [curve.at(place, unit, split) for curve in own]
            deviation = statistics.stdev(heights) if len(own) > 1 else 0.0
            rows.append((scale * place, statistics.mean(heights), deviation))
        found[name] = rows
    return found


def write_curves(
    folder: Path,
    curves: Sequence[Curve],
    at_levels: Mapping[str, float],
    split: str,
    price: float,
) -> None:
    """Write plots (PNG) and curves.csv to folder."""
    files.check_folder(folder, "--output")
    folder.mkdir(exist_ok=True)
    lengths = {
        name: [len(query.words) for curve in own for query in curve.picked]
        for name, own in by_strategy(curves).items()
    }
    drawn = {
        "curves": ("", curve_plot(curves, at_levels, split, price)),
        "picked": ("", plots.length_plot(lengths)),
    }
    plots.write_plots(folder, drawn)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(
        ["strategy", "seed", "round", "revision", *UNITS, "cost", "validation_f1", "test_f1"]
    )
    for curve in curves:
        for p in curve.points:
            row = [curve.strategy, curve.seed, p.round, p.name, *(p.bought[u] for u in UNITS)]
            scores = [p.f1.get(each, "") for each in ("validation", "test")]
            writer.writerow([*row, price * p.bought["words"] if price else "", *scores])
    files.write_text(folder / "curves.csv", text.getvalue())
