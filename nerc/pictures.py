"""Pictures of reports, light and dark, as PNG."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from nerc import calibration
from nerc.comparison import Interval

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito
_DARK = {
    "figure.facecolor": "#16181d",
    "axes.facecolor": "#16181d",
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), "#d8dbe0"
    ),
    "grid.color": "#3a3f47",
}
_LIGHT = {"grid.color": "#dddddd"}
_SHAPE = {
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 10,
    "figure.dpi": 110,
}


def both(draw: Callable[[Figure], None], *, size: tuple[float, float]) -> dict[str, bytes]:
    """What draw puts on a figure of size inches, as PNG, light and dark."""
    found = {}
    for name, style in (("light", _LIGHT), ("dark", _DARK)):
        with matplotlib.rc_context(_SHAPE | style):
            figure = Figure(figsize=size, layout="constrained")
            draw(figure)
            file = io.BytesIO()
            figure.savefig(file, format="png")
            found[name] = file.getvalue()
    return found


def data_uri(png: bytes) -> str:
    """A PNG as a page can hold it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def f1_by_type(found: Mapping[str, Mapping[str, Interval]]) -> dict[str, bytes]:
    """F1 of all entities and of each type, a bar with its interval for each revision."""
    names = list(next(iter(found.values())))

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        width = 0.8 / len(found)
        for i, (revision, rows) in enumerate(found.items()):
            values = np.array([rows[name].value for name in names])
            low = values - [rows[name].low for name in names]
            high = [rows[name].high for name in names] - values
            place = np.arange(len(names)) + (i - (len(found) - 1) / 2) * width
            bounds = np.clip(np.stack([low, high]), 0, None)
            colour = _COLOURS[i % len(_COLOURS)]
            line = {"ecolor": "0.5", "capsize": 2, "elinewidth": 1}
            axes.bar(place, values, width, yerr=bounds, color=colour, label=revision, error_kw=line)
        axes.set_xticks(range(len(names)), names)
        axes.set(ylabel="entity F1", ylim=(0, 1))
        axes.grid(axis="x", visible=False)
        _legend(axes, len(found))

    return both(draw, size=(max(5.0, 1.1 * len(names)), 3.4))


def reliability(found: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, bytes]:
    """Share of right entities by confidence, in 15 bins of equal mass, of each revision.

    found: confidences, and what is right.
    """

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
        for i, (revision, (confidence, right)) in enumerate(found.items()):
            bins = calibration.reliability(confidence, right)
            error = calibration.calibration_error(confidence, right)
            x, y = ([part[k].mean() for part in bins] for k in (0, 1))
            label = f"{revision}, error {error:.3f}" if bins else f"{revision}, found nothing"
            axes.plot(
                x, y, color=_COLOURS[i % len(_COLOURS)], marker="o", markersize=3, label=label
            )
        axes.set(xlabel="confidence", ylabel="share that is right", xlim=(0, 1.02), ylim=(0, 1.02))
        axes.legend(frameon=False, fontsize=8)

    return both(draw, size=(4.6, 4.2))


def confusion(counts: Mapping[tuple[str, str], int], types: Sequence[str]) -> dict[str, bytes]:
    """How often an entity of one type (row: gold) was found as another (column), `-` for none."""
    names = [*types, "-"]
    grid = np.array([[counts.get((a, b), 0) for b in names] for a in names])
    shares = grid / np.maximum(grid.sum(axis=1, keepdims=True), 1)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for i, j in np.argwhere(grid > 0):
            colour = "white" if shares[i, j] > 0.5 else "#222222"
            axes.text(j, i, f"{grid[i, j]:,}", ha="center", va="center", color=colour, fontsize=9)
        axes.set_xticks(range(len(names)), [*types, "missed"])
        axes.set_yticks(range(len(names)), [*types, "spurious"])
        axes.set(xlabel="found", ylabel="gold")
        axes.grid(visible=False)

    side = max(3.0, 0.55 * len(names) + 1)
    return both(draw, size=(side + 0.4, side))


def line(points: Mapping[int, float], x: str, y: str) -> dict[str, bytes]:
    """A curve through points, whose axes are called x and y."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot(list(points), list(points.values()), color=_COLOURS[0])
        axes.set(xlabel=x, ylabel=y)
        axes.set_ylim(bottom=0)

    return both(draw, size=(5.2, 3.2))


def bars(figures: Mapping[str, Sequence[float]], names: Sequence[str]) -> dict[str, bytes]:
    """Several figures, as shares, of each thing; names are theirs."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        width = 0.8 / len(names)
        for i, name in enumerate(names):
            places = np.arange(len(figures)) + (i - (len(names) - 1) / 2) * width
            heights = [values[i] for values in figures.values()]
            axes.bar(places, heights, width, color=_COLOURS[i], label=name)
        axes.set_xticks(range(len(figures)), list(figures))
        axes.set_ylim(0, 1)
        _legend(axes, len(names))

    return both(draw, size=(max(4.0, 0.9 * len(figures)), 3.2))


def learning_curves(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, bytes]:
    """Validation F1 and loss by epoch, from the epochs of each run.json."""

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, 2)
        for axes, key, label in zip(
            panels, ("validation_f1", "validation_loss"), ("validation F1", "loss"), strict=True
        ):
            for i, (revision, epochs) in enumerate(histories.items()):
                rows = [row for row in epochs if row[key] is not None]
                x, y = [row["number"] for row in rows], [row[key] for row in rows]
                colour = _COLOURS[i % len(_COLOURS)]
                axes.plot(x, y, color=colour, marker="o", markersize=3, label=revision)
            axes.set(xlabel="epoch", ylabel=label)
            axes.xaxis.get_major_locator().set_params(integer=True)
        _legend(panels[0], len(histories))

    return both(draw, size=(7.6, 3.2))


def bands(
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, float, float]]]],
    levels: Mapping[str, float],
    y: str,
) -> dict[str, bytes]:
    """Panels of curves, each of x, mean and standard deviation; levels are lines across."""

    def draw(figure: Figure) -> None:
        every = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (x, found) in zip(every, panels.items(), strict=True):
            for i, (name, rows) in enumerate(found.items()):
                places, mean, deviation = np.array(rows, dtype=float).T
                colour = _COLOURS[i % len(_COLOURS)]
                axes.plot(places, mean, color=colour, marker="o", markersize=3, label=name)
                low, high = mean - deviation, mean + deviation
                axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
            for (name, level), style in zip(levels.items(), ("--", ":", "-."), strict=False):
                axes.axhline(level, color="0.5", linestyle=style, linewidth=1, label=name)
            axes.set(xlabel=x)
        every[0].set_ylabel(y)
        _legend(every[0], 2)

    return both(draw, size=(3.6 * len(panels) + 0.6, 3.8))


def lengths(found: Mapping[str, Sequence[int]]) -> dict[str, bytes]:
    """How long the sentences are that each strategy asked for."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        edges = np.arange(0, max(map(max, filter(None, found.values())), default=1) + 4, 4)
        for i, (name, values) in enumerate(found.items()):
            colour = _COLOURS[i % len(_COLOURS)]
            shares = {"weights": np.full(len(values), 1 / max(1, len(values)))}
            axes.hist(values, edges, histtype="step", color=colour, label=name, **shares)
        axes.set(xlabel="words of a sentence", ylabel="share of the sentences asked for")
        _legend(axes, len(found))

    return both(draw, size=(5.2, 3.4))


def _legend(axes, num: int) -> None:
    if num > 1:
        place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 2}
        axes.legend(frameon=False, fontsize=8, **place)
