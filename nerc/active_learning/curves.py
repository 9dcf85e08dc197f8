"""Learning curves: F1 by the number of expert labels, read from the revisions of rounds."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nerc.active_learning.plan import REMOVED_FLAGS
from nerc.data.pool import QUERIES_FILE, Query, count_acquired, read_queries
from nerc.errors import InputError
from nerc.store import records
from nerc.store.revisions import Store

UNITS = ("sentences", "words", "entities")  # of acquired labels
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

    @cached_property
    def queries(self) -> list[Query]:
        """What the strategy itself asked for, so nothing of round 0."""
        return [query for query in read_queries(self.folder / QUERIES_FILE) if query.round > 0]

    def at(self, amount: float, unit: str, split: str) -> float:
        """F1 with an amount of labels: a straight line between rounds, level outside them."""
        before = [p for p in self.points if p.acquired[unit] <= amount] or self.points[:1]
        after = [p for p in self.points if p.acquired[unit] > amount] or self.points[-1:]
        (x, y), (x2, y2) = ((p.acquired[unit], p.f1[split]) for p in (before[-1], after[0]))
        return y if x2 <= x or amount <= x else y + (y2 - y) * (amount - x) / (x2 - x)


# ------------------------------------------------------------ reading a store


def read_curves(store: Store) -> list[Curve]:
    """The curves of a store, by strategy and seed; InputError where it holds no round."""
    runs = {name: records.read_run(store.folder / name) for name in store.names()}
    rounds = {name: run["active"] for name, run in runs.items() if "active" in run}
    if not rounds:
        held = ", ".join(runs) or ("nothing" if store.folder.is_dir() else "no such folder")
        raise InputError(
            f"--repo {store.folder}: holds no round of active learning (there: {held}); make some "
            f"with: python active_learn.py --repo {store.folder}"
        )
    plans = {}  # by name of the revision; fields that its version did not write are filled in
    for name, about in rounds.items():
        precision = runs[name]["config"].get("precision")
        plans[name] = REMOVED_FLAGS | {"precision": precision} | about["plan"]
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
        points = [_point(store, name, rounds[name]) for name in names]
        start = rounds[names[0]]["start"]
        if start in runs:
            about = rounds.get(start) or _start_record(store.folder / names[0])
            points.insert(0, _point(store, start, about))
        title = f"{strategy}, {what}" if what else strategy
        curves.append(Curve(title, seed, points, store.folder / names[-1]))
    return sorted(
        curves, key=lambda curve: (curve.strategy != "default", curve.strategy, curve.seed)
    )


def _start_record(first_round: Path) -> dict[str, Any]:
    """What a round's run.json would say about a revision of --start."""
    queries = read_queries(first_round / QUERIES_FILE)
    return {"round": 0} | count_acquired(query for query in queries if query.strategy == "start")


def _point(store: Store, name: str, about: Mapping[str, Any]) -> Point:
    metrics = records.read_metrics(store.folder / name)
    f1 = {split: report["f1"] for split, report in metrics.items()}
    return Point(name, about["round"], {unit: about[unit] for unit in UNITS}, f1)


def reference_levels(store: Store, full: Sequence[str], split: str) -> dict[str, float]:
    """F1 without active learning: of all expert labels, and of the weak labels alone.

    full: revisions trained on all expert labels; if empty, those in the store.
    """
    for name in full:
        _check_full(name, store.local(name), split)
    scores: dict[str, list[float]] = {}
    for name in store.names():
        run, metrics = records.read(store.folder / name)
        if split not in metrics or "active" in run:
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
    if "active" in run or is_partial:
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
    x = [low, *inner, high]
    y = [curve.at(amount, unit, split) for amount in x]
    if low == high:
        return y[0]
    pairs = zip(zip(x, y, strict=True), zip(x[1:], y[1:], strict=True), strict=False)
    return sum((b - a) * (c + d) / 2 for (a, c), (b, d) in pairs) / (high - low)


def amount_needed(curves: Sequence[Curve], level: float, unit: str, split: str) -> float | None:
    """The amount of labels at which the mean curve reaches a level; None where it does not."""
    low, high = common_span(curves, unit)
    for step in range(_STEPS + 1):
        amount = low + (high - low) * step / _STEPS
        if statistics.mean(curve.at(amount, unit, split) for curve in curves) >= level:
            return amount
    return None
