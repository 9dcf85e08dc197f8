__doc__ = """\
Tabulate the scores of all revisions in a folder: a row per configuration, means over seeds.

python -m nerc results                        the revisions of ./models
python -m nerc results --repo experiments/results
python -m nerc results --format latex         for a paper; csv: for a spreadsheet
"""

import csv
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerc import tables
from nerc.cli import option, parse, start_logging
from nerc.errors import InputError, one_line_errors, visible
from nerc.recipes import RECIPES
from nerc.store import records
from nerc.store.revisions import is_closed
from nerc.tables import Rows

PROGRAM = "python -m nerc results"
SCORES = ("validation F1", "test precision", "test recall", "test F1", "test accuracy")
DATA = ("gold", "mixed", "llm")  # the order of the rows


@dataclass(frozen=True)
class ResultsConfig:
    __doc__ = "What is tabulated, and how."

    repo: str = option("models", "folder that holds the revisions, or only their records")
    format: str = option(
        "markdown",
        "markdown; latex: a tabular that needs the package booktabs; csv: with a column of its own "
        "for each standard deviation",
        ("markdown", "latex", "csv"),
    )


# Revisions that differ only in the seed: their settings, their seeds, and by column their scores in
# percent, [] if there is no report on the split.
Group = tuple[dict[str, Any], list[int], dict[str, list[float]]]


def read_groups(folder: Path) -> tuple[list[Group], list[str]]:
    """The records of all revisions in a folder, and what is wrong with those that are left out.

    InputError if there are none.
    """
    if not folder.is_dir():
        raise InputError(f"--repo {folder}: is no folder")
    if (folder / "metrics.json").exists():
        raise InputError(f"--repo {folder}: is a revision; give the folder that it is in")
    names = ("run.json", "metrics.json")
    folders = {
        place.name: place
        for place in sorted(folder.iterdir())
        if is_closed(place) or any(os.path.lexists(place / name) for name in names)
    }
    found, faults = records.read_all(folders)
    for name, (run, metrics) in list(found.items()):
        if missing := _missing(run, metrics):
            faults.append(f"{name}: {folders[name] / missing[0]}: {missing[1]}")
            del found[name]
    if not found:
        none = f"--repo {folder}: holds no revision with a run.json and a metrics.json"
        raise InputError("; ".join(faults) or none)
    groups = []
    for names in sorted(records.by_configuration({name: run for name, (run, _) in found.items()})):
        members = sorted((found[name] for name in names), key=lambda r: r[0]["config"]["seed"])
        scores = {}
        for column in SCORES:
            split, score = column.lower().split()
            scores[column] = [100 * r[split][score] for _, r in members if split in r]
        seeds = [run["config"]["seed"] for run, _ in members]
        groups.append((records.settings(members[0][0]), seeds, scores))
    return sorted(groups, key=lambda group: DATA.index(group[0]["data"])), faults


def _missing(run: dict[str, Any], metrics: dict[str, Any]) -> tuple[str, str] | None:
    """The file that lacks what a row of the table needs, and what it lacks."""
    if not run:
        return "run.json", "no such file"
    for name in ("data", "recipe", "seed"):
        if run["config"].get(name) is None:
            return "run.json", f"has no config.{name}"
    for split, score in (column.lower().split() for column in SCORES):
        if split in metrics and metrics[split].get(score) is None:
            return "metrics.json", f"has no {split}.{score}"
    return None


def differing_settings(groups: Sequence[Group]) -> list[str]:
    """The settings to show: data, recipe, and those that differ between groups.

    A setting that the recipe decides is shown only if it differs between groups of one recipe.
    """
    shown, every = ["data", "recipe"], [settings for settings, *_ in groups]
    for key in dict.fromkeys(key for settings in every for key in settings):
        is_decided = key in RECIPES["paper"]
        values = {(is_decided and settings["recipe"], str(settings.get(key))) for settings in every}
        if key not in shown and len(values) > len({recipe for recipe, _ in values}):
            shown.append(key)
    return shown


def _cell(value: Any) -> str:
    """A setting as its flag takes it; a dash where there is none."""
    if isinstance(value, list):
        value = " ".join(value) or None
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def results_table(groups: Sequence[Group], *, split_deviation: bool = False) -> Rows:
    """A row for each group; the mean and standard deviation in one cell, or in a column each."""
    shown = differing_settings(groups)
    header = [*(f"--{key.replace('_', '-')}" for key in shown), "seeds"]
    for column in SCORES:
        header += [column, f"{column} deviation"] if split_deviation else [column]
    rows = [header]
    for settings, seeds, by_column in groups:
        values = [settings.get(key) for key in shown]
        row = [_cell(value) for value in values]
        row.append(", ".join(map(str, seeds)))
        for scores in by_column.values():
            if split_deviation:
                row.append(f"{statistics.mean(scores):.4f}" if scores else "")
                row.append(f"{statistics.stdev(scores):.4f}" if len(scores) > 1 else "")
            else:
                row.append(tables.spread(scores) if scores else "-")
        rows.append(row)
    return rows


def main(argv: list[str]) -> None:
    (config,) = parse(argv, PROGRAM, __doc__, ResultsConfig)
    start_logging()
    with one_line_errors(PROGRAM):
        groups, faults = read_groups(Path(config.repo))
        rows = results_table(groups, split_deviation=config.format == "csv")
        if config.format == "csv":
            shown = [[visible(cell) for cell in row] for row in rows]
            csv.writer(sys.stdout, lineterminator="\n").writerows(shown)
        else:
            print(tables.latex(rows) if config.format == "latex" else tables.markdown(rows))
        if faults:
            sys.stdout.flush()
            raise InputError("; ".join(faults))
