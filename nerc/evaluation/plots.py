"""Plots as PNG: of evaluation reports, of weak labels, of active learning."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import cycler, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

from nerc.errors import visible
from nerc.evaluation.bootstrap import ALL, ALL_TYPES, ByType
from nerc.evaluation.error_analysis import NOTHING, Confusion
from nerc.model import calibration

Plots = dict[str, tuple[str, bytes]]  # by file name: title and PNG


def write_plots(folder: Path, plots: Plots) -> None:
    """Write NAME.png for each plot into folder, which is created if needed."""
    folder.mkdir(exist_ok=True)
    for name, (_, image) in plots.items():
        (folder / f"{name}.png").write_bytes(image)


_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito
_FONT_SIZE = 10  # points
_MOST_DOTS = 8000  # of the longer side of a picture
_HEIGHT = 3.6  # inches; the height of most plots, so that plots in one row are level
_CURVE = {"marker": "o", "markersize": 3}
_LEGEND = {"frameon": False, "fontsize": 9}
_style = rc_context(  # decorates the functions that plot
    {
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.prop_cycle": cycler(color=_COLOURS),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": "#dddddd",
        "font.size": _FONT_SIZE,
        "figure.dpi": 144,
        "figure.constrained_layout.use": True,
        "text.parse_math": False,  # a name may hold $
    }
)


def png(figure: Figure) -> bytes:
    """Return a figure as PNG, of fewer dots an inch where it would be too large to be shown."""
    file = io.BytesIO()
    dpi = min(figure.dpi, _MOST_DOTS / max(figure.get_size_inches()))
    figure.savefig(file, format="png", dpi=dpi)
    return file.getvalue()


def f1_by_type(intervals: Mapping[str, ByType]) -> bytes:
    """Plot F1 of all entities and of each type: a bar with its interval for each revision."""
    first = next(iter(intervals.values()))
    names = [ALL_TYPES if type_ is ALL else type_ for type_ in first]
    values, bounds = {}, {}
    for revision, by_type in intervals.items():
        value, low, high = np.array([interval[:3] for interval in by_type.values()]).T
        values[revision], bounds[revision] = value, np.clip([value - low, high - value], 0, None)
    return bar_plot(values, names, bounds=bounds, y="entity F1")


@_style
def bar_plot(
    series: Mapping[str, Sequence[float]],
    groups: Sequence[str],
    *,
    bounds: Mapping[str, np.ndarray] | None = None,
    y: str = "",
) -> bytes:
    """Plot values between 0 and 1: in each group, a bar for each series.

    bounds: (2, groups) for each series, how far an interval reaches below and above each value.
    """
    groups = [*map(_label, groups)]
    slot = max(0.3 + 0.12 * len(series), 4.4 / len(groups))  # inches for each group
    figure = Figure((slot * len(groups) + 0.8, _HEIGHT + _label_height(groups, slot)))
    axes = figure.subplots()
    width = 0.8 / len(series)
    for i, (name, values) in enumerate(series.items()):
        places = np.arange(len(groups)) + (i - (len(series) - 1) / 2) * width
        axes.bar(places, values, width, label=_label(name))
        if bounds:
            style = {"fmt": "none", "ecolor": "0.5", "capsize": 2, "elinewidth": 1}
            axes.errorbar(places, values, bounds[name], **style)
    _label_x(axes, groups, slot)
    axes.margins(x=0.02)
    axes.set(ylabel=y, ylim=(0, 1))
    axes.grid(axis="x", visible=False)
    _add_legend(figure, axes)
    return png(figure)


@_style
def reliability(revisions: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> bytes:
    """Plot the share of correct entities by confidence, in 15 bins of equal mass.

    revisions: by name, the confidence of each predicted entity and whether it is correct.
    """
    figure = Figure((4.2, _HEIGHT))
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    for revision, (confidence, right) in revisions.items():
        bins = calibration.reliability(confidence, right)
        error = calibration.calibration_error(confidence, right)
        x, y = ([part[k].mean() for part in bins] for k in (0, 1))
        label = f"{revision}, error {error:.3f}" if bins else f"{revision}, no entities"
        axes.plot(x, y, label=_label(label), **_CURVE)
    axes.set(xlabel="confidence", ylabel="share correct", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.legend(**_LEGEND)
    return png(figure)


@_style
def confusion_plot(counts: Confusion, types: Sequence[str]) -> bytes:
    """Plot how often an entity of one type (row: gold) was predicted as another (column)."""
    names = [*types, NOTHING]
    labels = [*map(_label, types)]
    rows, columns = [*labels, "spurious"], [*labels, "missed"]
    grid = np.array([[counts.get((a, b), 0) for b in names] for a in names])
    shares = grid / np.maximum(grid.sum(axis=1, keepdims=True), 1)
    cell = 0.65 if len(names) <= 8 else 0.5  # inches; 0.5 hold a count of six characters
    side = cell * len(names) + 0.5
    figure = Figure((side + _text_width(rows), side + _label_height(columns, cell)))
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.argwhere(grid > 0):
        colour = "white" if shares[i, j] > 0.5 else "#222222"
        axes.text(j, i, f"{grid[i, j]:,}", ha="center", va="center", color=colour, fontsize=9)
    _label_x(axes, columns, cell)
    axes.set_yticks(range(len(names)), rows)
    axes.set(xlabel="predicted", ylabel="gold")
    axes.grid(visible=False)
    return png(figure)


@_style
def line_plot(points: Mapping[int, float], x: str, y: str) -> bytes:
    """Plot a curve through points; x and y are the labels of the axes."""
    figure = Figure((5.2, _HEIGHT))
    axes = figure.subplots()
    axes.plot(list(points), list(points.values()))
    axes.set(xlabel=x, ylabel=y)
    axes.set_ylim(bottom=0)
    return png(figure)


@_style
def learning_curves(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
    """Plot validation F1 and loss by epoch, from the epochs of each run.json."""
    figure = Figure((7.2, _HEIGHT))
    panels = figure.subplots(1, 2)
    labels = {"validation_f1": "validation F1", "validation_loss": "loss"}
    for axes, (key, label) in zip(panels, labels.items(), strict=True):
        for revision, epochs in histories.items():
            rows = [row for row in epochs if row[key] is not None]
            x, y = [row["number"] for row in rows], [row[key] for row in rows]
            axes.plot(x, y, label=_label(revision), **_CURVE)
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.get_major_locator().set_params(integer=True)
    _add_legend(figure, panels[0])
    return png(figure)


@_style
def curve_bands(
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, float, float]]]],
    levels: Mapping[str, float],
    y: str,
) -> bytes:
    """Plot panels of curves, each of (x, mean, standard deviation); levels are horizontal lines."""
    figure = Figure((3.6 * len(panels) + 0.6, 3.8))
    all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (x, curves) in zip(all_axes, panels.items(), strict=True):
        for name, rows in curves.items():
            places, mean, deviation = np.array(rows, dtype=float).T
            (line,) = axes.plot(places, mean, label=_label(name), **_CURVE)
            band = {"color": line.get_color(), "alpha": 0.15, "linewidth": 0}
            axes.fill_between(places, mean - deviation, mean + deviation, **band)
        for (name, level), style in zip(levels.items(), ("--", ":", "-."), strict=False):
            axes.axhline(level, color="0.5", linestyle=style, linewidth=1, label=name)
        axes.set(xlabel=x)
    all_axes[0].set_ylabel(y)
    _add_legend(figure, all_axes[0], least=1)
    return png(figure)


@_style
def length_plot(strategies: Mapping[str, Sequence[int]]) -> bytes:
    """Plot the distribution of sentence lengths, in words, of each strategy's queries."""
    figure = Figure((5.2, _HEIGHT))
    axes = figure.subplots()
    edges = np.arange(0, max(map(max, filter(None, strategies.values())), default=1) + 4, 4)
    for name, values in strategies.items():
        weights = np.full(len(values), 1 / max(1, len(values)))
        axes.hist(values, edges, weights=weights, histtype="step", label=_label(name))
    axes.set(xlabel="words in the sentence", ylabel="share of the queried sentences")
    _add_legend(figure, axes)
    return png(figure)


# ------------------------------------------------------------ labels, legends


def _label(name: str) -> str:
    """A name as a label; matplotlib leaves out of a legend what begins with _."""
    text = visible(name if len(name) <= 60 else f"{name[:56]} ...")
    return f" {text}" if text.startswith("_") else text


def _text_width(names: Sequence[str]) -> float:
    """The width of the widest tick label in inches."""
    return max(TextPath((0, 0), name, size=_FONT_SIZE).get_extents().width for name in names) / 72


def _label_height(names: Sequence[str], slot: float) -> float:
    """The inches that the labels of the x axis, slot inches apart, need besides a line of text.

    They are written upright if they do not fit side by side.
    """
    width = _text_width(names)
    return width if width > slot - 0.1 else 0.0


def _label_x(axes: Axes, names: Sequence[str], slot: float) -> None:
    axes.set_xticks(range(len(names)), names, rotation=90 if _label_height(names, slot) else 0)


def _add_legend(figure: Figure, axes: Axes, least: int = 2) -> None:
    """Put the legend of axes above the whole figure, if it has at least `least` entries."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) >= least:
        place = {"loc": "outside upper left", "ncols": 2 if max(map(len, labels)) <= 28 else 1}
        figure.legend(handles, labels, **_LEGEND, **place)
