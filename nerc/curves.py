"""Learning curves: what labels bought in F1, from the revisions that active learning left.

python -m nerc.curves show                          tables of ./models
python -m nerc.curves show --output curves          and pictures, curves.csv, TensorBoard's events
python -m nerc.curves show --split test --full model_primary
"""

# What takes seconds to import is imported where it is used, as in train.py.
import csv
import io
import statistics
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nerc import records, reports, tags
from nerc.config import CurvesConfig, InputError, run_action
from nerc.revisions import Store

if TYPE_CHECKING:
    from nerc.queries import Query

PROGRAM = "python -m nerc.curves"
UNITS = ("sentences", "words", "entities")  # what is bought
SHARES = (0.90, 0.95, 0.98, 0.99)  # of full gold
_STEPS = 1000  # at which a mean curve is looked at
_EVERYTHING = (None, "100%")  # of --expert, with --data gold


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
    def picked(self) -> list["Query"]:
        """What the strategy itself asked for."""
        return [query for query in _asked(self.folder) if query.round > 0]

    def at(self, place: float, unit: str, split: str) -> float:
        """F1 where so much had been bought, between two rounds by a straight line."""
        before = [p for p in self.points if p.bought[unit] <= place] or self.points[:1]
        after = [p for p in self.points if p.bought[unit] > place] or self.points[-1:]
        (x, y), (x2, y2) = ((p.bought[unit], p.f1[split]) for p in (before[-1], after[0]))
        return y if x2 <= x or place <= x else y + (y2 - y) * (place - x) / (x2 - x)


def read(store: Store) -> list[Curve]:
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
            about = rounds.get(start) or {"round": 0} | _known(store.folder / own[0][0])
            points.insert(0, _point(store, start, about))
        what = ", ".join(f"{key} {plans[plan].get(key)}" for key in differing)
        folder = store.folder / own[-1][0]
        curves.append(Curve(f"{strategy}, {what}" if what else strategy, seed, points, folder))
    return sorted(
        curves, key=lambda curve: (curve.strategy != "default", curve.strategy, curve.seed)
    )


def _asked(folder: Path) -> list["Query"]:
    from nerc import queries

    return queries.read(folder / queries.FILE)


def _known(folder: Path) -> dict[str, int]:
    """How much was known before the first round, by unit."""
    from nerc import queries

    return queries.sizes(query for query in _asked(folder) if query.strategy == "start")


def _point(store: Store, name: str, about: Mapping[str, Any]) -> Point:
    metrics = records.read_metrics(store.folder / name)
    f1 = {split: report["f1"] for split, report in metrics.items()}
    return Point(name, about["round"], {unit: about[unit] for unit in UNITS}, f1)


def levels(store: Store, full: Sequence[str], split: str) -> dict[str, float]:
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
        everything = config.get("data") == "gold" and config.get("expert") in _EVERYTHING
        if name in full or (not full and everything):
            found.setdefault("all expert labels", []).append(metrics[split]["f1"])
        elif config.get("data") == "llm":
            found.setdefault("cheap labels alone", []).append(metrics[split]["f1"])
    return {what: statistics.mean(values) for what, values in found.items()}


def _check_full(name: str, folder: Path, split: str) -> None:
    """Raise InputError where a revision of --full is known to be of less than all labels."""
    run, judged = records.read_run(folder), records.read_metrics(folder)
    config = run.get("config", {})
    others = config.get("data", "gold") != "gold" or config.get("expert") not in _EVERYTHING
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


def common(curves: Sequence[Curve], unit: str) -> tuple[float, float]:
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


def needed(curves: Sequence[Curve], level: float, unit: str, split: str) -> float | None:
    """How much has to be bought until the mean curve comes to level; None: it does not."""
    low, high = common(curves, unit)
    for step in range(_STEPS + 1):
        place = low + (high - low) * step / _STEPS
        if statistics.mean(curve.at(place, unit, split) for curve in curves) >= level:
            return place
    return None


def areas(curves: Sequence[Curve], split: str) -> reports.Rows:
    """Area under each strategy's curve."""
    rows = [["Strategy", "seeds", "sentences", "F1 at the start", "at the end"]]
    rows[0] += [f"area by {unit}" for unit in UNITS[:2]]
    for name, own in by_strategy(curves).items():
        ends = ([100 * c.points[i].f1[split] for c in own] for i in (0, -1))
        last = statistics.mean(curve.points[-1].bought["sentences"] for curve in own)
        row = [name, str(len(own)), f"{last:,.0f}", *map(records.spread, ends)]
        for unit in UNITS[:2]:
            span = common(curves, unit)
            row.append(records.spread([100 * area(c, span, unit, split) for c in own]))
        rows.append(row)
    return rows


def leads(curves: Sequence[Curve], split: str) -> reports.Rows:
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
    span = common(curves, unit)
    by_seed = {curve.seed: area(curve, span, unit, split) for curve in others}
    differences = [
        100 * (area(curve, span, unit, split) - by_seed[curve.seed])
        for curve in own
        if curve.seed in by_seed
    ]
    return records.gain(differences) if differences else "-"


def shares(curves: Sequence[Curve], full: float, split: str) -> reports.Rows:
    """Sentences and words until shares of full gold's F1 are reached."""
    rows = [["Strategy", *(f"{share:.0%}, {unit}" for share in SHARES for unit in UNITS[:2])]]
    for name, own in by_strategy(curves).items():
        found = [needed(own, share * full, unit, split) for share in SHARES for unit in UNITS[:2]]
        rows.append([name, *("not reached" if n is None else f"{n:,.0f}" for n in found)])
    return rows


def picked(curves: Sequence[Curve]) -> reports.Rows:
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


def rounds(curves: Sequence[Curve], price: float) -> reports.Rows:
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
    curves = read(store)
    if not curves:
        return f"round 0 alone is in {store.folder}"
    text = reports.markdown(rounds(curves, price))
    judged = {p.name: p.f1["validation"] for c in curves for p in c.points if "validation" in p.f1}
    if judged:
        best = max(judged, key=judged.get)
        text += f"\n\nbest on validation, of all: {best} ({100 * judged[best]:.2f})"
    else:
        text += "\n\nno validation split says which is best"
    return f"{text}; the curves: {PROGRAM} show --repo {store.folder} --output curves"


# ------------------------------------------------------------ what is written


def show(config: CurvesConfig) -> None:
    """Print tables of the curves of a store; write pictures, a CSV file and events if asked to."""
    store = Store(config.repo)
    curves = read(store)
    if not curves:
        raise InputError(f"--repo {store.folder}: holds round 0 alone, and no curve without more")
    everywhere = set.intersection(*(set(p.f1) for c in curves for p in c.points))
    split = config.split
    if split not in everywhere:
        raise InputError(
            f"--split {split}: not all rounds in {store.folder} were judged on it (all were on: "
            f"{', '.join(sorted(everywhere)) or 'none'})"
        )
    at_levels = levels(store, config.full, split)
    print(f"F1 on {split}, in percent; areas are mean heights of curves where all go\n")
    print(reports.markdown(areas(curves, split)))
    if len(over_chance := leads(curves, split)) > 1:
        print(f"\n{reports.markdown(over_chance)}")
    if "all expert labels" in at_levels:
        full = at_levels["all expert labels"]
        print(f"\nall expert labels: {100 * full:.2f}; bought until a share of it is reached:\n")
        print(reports.markdown(shares(curves, full, split)))
    else:
        print(f"\nno revision of all expert labels is in {store.folder}: --full names some")
    print(f"\nWhat was asked for\n\n{reports.markdown(picked(curves))}")
    print(f"\nRounds\n\n{reports.markdown(rounds(curves, config.price))}")
    if config.output:
        write(Path(config.output), curves, at_levels, split, config.price)
        print(f"\nwritten to {config.output}")


def write(
    folder: Path,
    curves: Sequence[Curve],
    at_levels: Mapping[str, float],
    split: str,
    price: float,
) -> None:
    """Write pictures, curves.csv and TensorBoard's events."""
    from nerc import files, findings, pictures

    files.check_folder(folder, "--output")
    folder.mkdir(exist_ok=True)
    lengths = {
        name: [len(query.words) for curve in own for query in curve.picked]
        for name, own in by_strategy(curves).items()
    }
    drawn = {
        "curves": ("", picture(curves, at_levels, split, price)),
        "picked": ("", pictures.lengths(lengths)),
    }
    findings.write_plots(folder, drawn)
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
    _write_events(folder / "tensorboard", curves)


def picture(
    curves: Sequence[Curve], at_levels: Mapping[str, float], split: str, price: float = 0.0
) -> dict[str, bytes]:
    """The curves by what was bought, and by its price; PNG by style."""
    from nerc import pictures

    panels = {f"experts' {unit}": _bands(curves, unit, split, 1) for unit in UNITS}
    if price:
        panels["price of experts' words"] = _bands(curves, "words", split, price)
    return pictures.bands(panels, at_levels, f"{split} F1")


def _bands(
    curves: Sequence[Curve], unit: str, split: str, scale: float
) -> dict[str, list[tuple[float, float, float]]]:
    """By strategy, places, mean F1 and its standard deviation over seeds."""
    found = {}
    for name, own in by_strategy(curves).items():
        low, high = common(own, unit)
        places = {p.bought[unit] for c in own for p in c.points if low <= p.bought[unit] <= high}
        rows = []
        for place in sorted(places):
            heights = [curve.at(place, unit, split) for curve in own]
            deviation = statistics.stdev(heights) if len(own) > 1 else 0.0
            rows.append((scale * place, statistics.mean(heights), deviation))
        found[name] = rows
    return found


def _write_events(folder: Path, curves: Sequence[Curve]) -> None:
    """A run of TensorBoard's for each curve, with F1 by sentences and by words."""
    import shutil

    from torch.utils.tensorboard import SummaryWriter

    for curve in curves:
        name = f"{curve.strategy}_seed{curve.seed}".replace(" ", "_").replace("/", "_")
        shutil.rmtree(folder / name, ignore_errors=True)
        with SummaryWriter(str(folder / name)) as writer:
            for point in curve.points:
                for split, f1 in point.f1.items():
                    for unit in UNITS:
                        writer.add_scalar(f"{split} F1/by {unit}", f1, point.bought[unit])


def main(argv: list[str]) -> None:
    run_action(argv, PROGRAM, __doc__, {"show": (show, CurvesConfig)})


if __name__ == "__main__":
    main(sys.argv[1:])
