"""Learning curves: F1 by the number of expert labels, from the revisions of rounds; as tables,
plots and a CSV file.
"""

import csv
import io
import logging
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise, product
from pathlib import Path
from typing import Any

import numpy as np

from nerc import files, tables
from nerc.active_learning.plan import ADDED_FLAGS, REMOVED_FLAGS
from nerc.data import tags
from nerc.data.pool import Query, answered, count_acquired
from nerc.errors import InputError
from nerc.evaluation import plots
from nerc.store import query_records, records
from nerc.store.revisions import Store

logger = logging.getLogger(__name__)

UNITS = ("sentences", "words", "entities")  # of acquired labels
READ = "words read"  # a unit more, where experts read more words than they label
SHARES = (0.90, 0.95, 0.98, 0.99)  # of the F1 of all expert labels
_STEPS = 1000  # points at which a mean curve is evaluated
_ALL_EXPERTS = (None, "100%")  # values of --expert, with --data gold


@dataclass(frozen=True)
class Point:
    """A round: the expert labels that it had, and its F1 by split."""

    name: str
    round: int
    acquired: dict[str, int]  # by unit
    f1: dict[str, float]


@dataclass(frozen=True)
class Curve:
    """The rounds of one strategy from one seed, with the one that they start from."""

    strategy: str  # and how its plan differs from others in the store
    seed: int
    points: list[Point]
    folder: Path  # of its last revision
    queries: list[Query]  # what the strategy itself asked for, so nothing of round 0
    by_model: bool = False  # whether a language model labelled some of it

    def at(self, amount: float, unit: str, split: str) -> float:
        """F1 with an amount of labels: a straight line between rounds, level outside them."""
        amounts = [point.acquired[unit] for point in self.points]
        return float(np.interp(amount, amounts, [point.f1[split] for point in self.points]))


# ------------------------------------------------------------ reading a store


def read_store(store: Store) -> tuple[dict[str, records.Record], list[str]]:
    """The records of a store's revisions, and what is wrong with those that are left out."""
    return records.read_all({name: store.folder / name for name in store.names()})


def read_curves(
    store: Store, known: Mapping[str, records.Record], faults: list[str]
) -> list[Curve]:
    """The curves of a store, by strategy and seed; InputError where it holds no round.

    known: the records of the store. What is wrong with a curve that is left out joins faults.
    """
    runs = {name: run for name, (run, _) in known.items()}
    rounds = {name: run["active"] for name, run in runs.items() if run.get("active")}
    if not rounds:
        held = ", ".join(runs) or ("nothing" if store.folder.is_dir() else "no such folder")
        raise InputError(
            f"--repo {store.folder}: holds no round of active learning (there: {held}); make some "
            f"with: python active_learn.py --repo {store.folder}"
        )
    fixed = REMOVED_FLAGS | ADDED_FLAGS
    plans = {  # fields that the revision's version did not write are filled in
        name: fixed | {"precision": runs[name]["config"].get("precision")} | about["plan"]
        for name, about in rounds.items()
    }
    keys = sorted({key for plan in plans.values() for key in plan})
    differing = [k for k in keys if len({str(plan.get(k)) for plan in plans.values()}) > 1]
    groups: dict[tuple, list[str]] = {}
    for name, about in rounds.items():
        if about["strategy"] is not None:
            what = ", ".join(f"{key} {plans[name].get(key)}" for key in differing)
            groups.setdefault((about["strategy"], what, about["seed"]), []).append(name)
    curves = []
    for (strategy, what, seed), names in groups.items():
        names.sort(key=lambda name: rounds[name]["round"])
        title = f"{strategy}, {what}" if what else strategy
        try:
            asked = query_records.read(store.folder / names[-1])
            first = _first_point(store, names[0], known)
        except InputError as error:
            faults.append(f"{title}, seed {seed}: {error}")
            continue
        points = [*first, *(_point(name, known, rounds[name]) for name in names)]
        queries = [query for query in asked if query.round > 0]
        by_model = "model" in plans[names[-1]]
        curves.append(Curve(title, seed, points, store.folder / names[-1], queries, by_model))
    return sorted(curves, key=lambda c: (c.strategy != "default", c.strategy, c.seed))


def _first_point(store: Store, name: str, known: Mapping[str, records.Record]) -> list[Point]:
    """The revision from which the first round of a curve started, if it is in the store."""
    start = known[name][0]["active"]["start"]
    if start not in known:
        return []
    about = known[start][0].get("active")
    if about is None:  # a revision of --start
        queries = query_records.read(store.folder / name)
        labelled = count_acquired(query for query in queries if query.strategy == "start")
        about = {"round": 0} | labelled
    return [_point(start, known, about)]


def _point(name: str, known: Mapping[str, records.Record], about: Mapping[str, Any]) -> Point:
    f1 = {split: report["f1"] for split, report in known[name][1].items()}
    return Point(name, about["round"], acquired_labels(about), f1)


def acquired_labels(about: Mapping[str, Any]) -> dict[str, int]:
    """What experts had labelled and read by the round that about describes, by unit."""
    # Earlier versions ask for whole sentences alone.
    return {unit: about[unit] for unit in UNITS} | {READ: about.get("words_read", about["words"])}


def units_of(curves: Sequence[Curve], labels: Sequence[str] = UNITS) -> tuple[str, ...]:
    """The units of labels, and READ where it differs from the words that were labelled."""
    acquired = (point.acquired for curve in curves for point in curve.points)
    is_partial = any(amounts[READ] != amounts["words"] for amounts in acquired)
    return (*labels, READ) if is_partial else tuple(labels)


def _area_units(curves: Sequence[Curve]) -> tuple[str, ...]:
    return units_of(curves, UNITS[:2])


def reference_levels(
    store: Store, known: Mapping[str, records.Record], full: Sequence[str], split: str
) -> dict[str, float]:
    """F1 without active learning: of all expert labels, and of the weak labels alone.

    full: revisions trained on all expert labels; if empty, those among known, the store's records.
    """
    for name in full:
        _check_full(name, store.local(name), split)
    scores: dict[str, list[float]] = {}
    for name, (run, metrics) in known.items():
        if split not in metrics or run.get("active"):
            continue
        config = run.get("config", {})
        is_full = config.get("data") == "gold" and config.get("expert") in _ALL_EXPERTS
        if name in full or (not full and is_full):
            scores.setdefault("all expert labels", []).append(metrics[split]["f1"])
        elif config.get("data") == "llm":
            scores.setdefault("weak labels alone", []).append(metrics[split]["f1"])
    return {what: statistics.mean(values) for what, values in scores.items()}


def _check_full(name: str, folder: Path, split: str) -> None:
    """Raise InputError where a revision of --full did not learn from all expert labels."""
    run, metrics = records.read(folder)
    config = run.get("config", {})
    is_partial = config.get("data", "gold") != "gold" or config.get("expert") not in _ALL_EXPERTS
    if run.get("active") or is_partial:
        raise InputError(
            f"--full {name}: did not learn from all expert labels; make one that does with: "
            f"python train.py --data gold --recipe strong --repo {folder.parent} --revision NAME"
        )
    if split not in metrics:
        raise InputError(f"--full {name}: was not evaluated on {split}, wanted one that was")


# ------------------------------------------------------------ figures


def by_strategy(curves: Sequence[Curve]) -> dict[str, list[Curve]]:
    """The curves of each strategy, one for each seed."""
    groups: dict[str, list[Curve]] = {}
    for curve in curves:
        groups.setdefault(curve.strategy, []).append(curve)
    return groups


def common_span(curves: Sequence[Curve], unit: str) -> tuple[float, float]:
    """The amounts between which all curves have values; InputError where there are none."""
    latest = max(curves, key=lambda curve: curve.points[0].acquired[unit])
    first = min(curves, key=lambda curve: curve.points[-1].acquired[unit])
    low, high = latest.points[0].acquired[unit], first.points[-1].acquired[unit]
    if low > high:
        raise InputError(
            f"{first.folder} ends at {high:,} {unit}, before the rounds of {latest.folder} begin, "
            f"at {low:,}; do more of its rounds first"
        )
    return low, high


def area(curve: Curve, span: tuple[float, float], unit: str, split: str) -> float:
    """The mean height of the curve over a span: the area under it (trapezoids) by its width."""
    low, high = span
    inner = [p.acquired[unit] for p in curve.points if low < p.acquired[unit] < high]
    corners = [(amount, curve.at(amount, unit, split)) for amount in (low, *inner, high)]
    if low == high:
        return corners[0][1]
    return sum((x2 - x) * (y + y2) / 2 for (x, y), (x2, y2) in pairwise(corners)) / (high - low)


def amount_needed(curves: Sequence[Curve], level: float, unit: str, split: str) -> float | None:
    """The amount of labels at which the mean curve reaches a level; None where it does not."""
    low, high = common_span(curves, unit)
    amounts = (low + (high - low) * step / _STEPS for step in range(_STEPS + 1))
    means = ((x, statistics.mean(curve.at(x, unit, split) for curve in curves)) for x in amounts)
    return next((amount for amount, mean in means if mean >= level), None)


# ------------------------------------------------------------ tables


def _areas(curves: Sequence[Curve], split: str) -> dict[str, list[dict[int, float]]]:
    """For each strategy and each of _area_units(): by seed, the area under the curve in percent."""
    spans = {unit: common_span(curves, unit) for unit in _area_units(curves)}
    return {
        name: [
            {curve.seed: 100 * area(curve, span, unit, split) for curve in group}
            for unit, span in spans.items()
        ]
        for name, group in by_strategy(curves).items()
    }


def area_table(curves: Sequence[Curve], split: str) -> tables.Rows:
    """The area under each strategy's curve."""
    rows = [["Strategy", "seeds", "sentences", "F1 at the start", "at the end"]]
    rows[0] += [f"area by {unit}" for unit in _area_units(curves)]
    areas = _areas(curves, split)
    for name, group in by_strategy(curves).items():
        ends = ([100 * curve.points[i].f1[split] for curve in group] for i in (0, -1))
        last = statistics.mean(curve.points[-1].acquired["sentences"] for curve in group)
        values = [*ends, *(list(by_seed.values()) for by_seed in areas[name])]
        rows.append([name, str(len(group)), f"{last:,.0f}", *map(tables.spread, values)])
    return rows


def lead_table(curves: Sequence[Curve], split: str) -> tables.Rows:
    """How far each strategy's area lies above that of random choice from the same seeds.

    Mean over seeds ± standard error.
    """
    rows = [["Strategy", "area above that of", *(f"by {unit}" for unit in _area_units(curves))]]
    areas = _areas(curves, split)
    for name, other in product(areas, ("random", "random-words")):
        if other in areas and other != name:
            row = [name, other]
            for here, there in zip(areas[name], areas[other], strict=True):
                leads = [here[seed] - there[seed] for seed in here if seed in there]
                row.append(tables.gain(leads) if leads else "-")
            rows.append(row)
    return rows


def share_table(curves: Sequence[Curve], full: float, split: str) -> tables.Rows:
    """The sentences and words needed to reach shares of full, the F1 of all expert labels."""
    columns = [(share, unit) for share in SHARES for unit in _area_units(curves)]
    rows = [["Strategy", *(f"{share:.0%}, {unit}" for share, unit in columns)]]
    for name, group in by_strategy(curves).items():
        amounts = [amount_needed(group, share * full, unit, split) for share, unit in columns]
        rows.append([name, *("not reached" if n is None else f"{n:,.0f}" for n in amounts)])
    return rows


def query_table(curves: Sequence[Curve]) -> tables.Rows:
    """What strategies asked for: lengths, entities, types."""
    groups = {}  # the answered queries of each strategy, with their entities
    for name, group in by_strategy(curves).items():
        queries = answered(query for curve in group for query in curve.queries)
        if queries:
            groups[name] = [(query, tags.entities(query.tags)) for query in queries]
    counts = {
        name: Counter(entity.type for _, entities in queries for entity in entities)
        for name, queries in groups.items()
    }
    types = tags.ordered({*chain(*counts.values())})
    rows = [["Strategy", "sentences", "words each", "entities each", "without entity"]]
    rows[0] += ["with a weak label", *types]
    for name, queries in groups.items():
        number, total = len(queries), counts[name].total()
        row = [name, f"{number:,}", f"{sum(len(q.words) for q, _ in queries) / number:.1f}"]
        row += [f"{total / number:.2f}", f"{sum(not e for _, e in queries) / number:.0%}"]
        row.append(f"{sum(query.cheap for query, _ in queries) / number:.0%}")
        rows.append(row + [f"{counts[name][t] / max(1, total):.0%}" for t in types])
    return rows


def round_table(curves: Sequence[Curve], price: float) -> tables.Rows:
    """A row for every revision."""
    splits = [s for s in ("validation", "test") if all(s in p.f1 for c in curves for p in c.points)]
    units, cost = units_of(curves), ["cost"] if price else []
    rows = [["Revision", "strategy", "seed", "round", *units, *cost, *(f"{s} F1" for s in splits)]]
    for curve in curves:
        for point in curve.points:
            row = [point.name, curve.strategy, str(curve.seed), str(point.round)]
            row += [f"{point.acquired[unit]:,}" for unit in units]
            row += [f"{price * point.acquired['words']:,.2f}"] if price else []
            rows.append(row + [f"{100 * point.f1[split]:.2f}" for split in splits])
    return rows


def summary(store: Store, price: float) -> str:
    """The rounds of a store, and the best of them by validation."""
    known, faults = read_store(store)
    curves = read_curves(store, known, faults)
    for fault in faults:
        logger.warning(f"left out: {fault}")
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
    whose = "" if any(curve.by_model for curve in curves) else "experts' "
    panels = {f"{whose}{unit}": _bands(curves, unit, split, 1) for unit in units_of(curves)}
    if price:
        panels[f"price of {whose}words"] = _bands(curves, "words", split, price)
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
    units = units_of(curves)
    writer.writerow(["strategy", "seed", "round", "revision", *units, "cost", *scores])
    for curve in curves:
        for p in curve.points:
            row = [curve.strategy, curve.seed, p.round, p.name, *(p.acquired[u] for u in units)]
            f1 = [p.f1.get(split, "") for split in ("validation", "test")]
            writer.writerow([*row, price * p.acquired["words"] if price else "", *f1])
    files.write_text(folder / "curves.csv", text.getvalue())
