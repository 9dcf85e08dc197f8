"""Tabulate the scores of all revisions in a folder: a row per configuration, means over seeds.

python -m nerc results                        the revisions of ./models
python -m nerc results --repo experiments/results
python -m nerc results --format latex         for a paper; csv: for a spreadsheet
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from nerc import tables
from nerc.cli import option, parse, start_logging
from nerc.errors import InputError, one_line_errors
from nerc.recipes import RECIPES
from nerc.store import records
from nerc.tables import Rows

PROGRAM = "python -m nerc results"
SCORES = ("validation F1", "test precision", "test recall", "test F1", "test accuracy")
DATA = ("gold", "mixed", "llm")  # the order of the rows


@dataclass(frozen=True)
class ResultsConfig:
    """What is tabulated, and how."""

    repo: str = option("models", "folder that holds the revisions, or only their records")
    format: str = option(
        "markdown",
        "markdown; latex: a tabular that needs the package booktabs; csv: with a column of its own "
        "for each standard deviation",
        ("markdown", "latex", "csv"),
    )


class Group(NamedTuple):
    """Revisions that differ only in the seed."""

    settings: dict[str, Any]
    seeds: list[int]
    scores: dict[str, list[float]]  # in percent, by column; [] if there is no report on the split


def read_groups(folder: Path) -> list[Group]:
    """Read the records of all revisions in a folder; InputError if there are none."""
    if not folder.is_dir():
        raise InputError(f"--repo {folder}: is no folder")
    if (folder / "metrics.json").exists():
        raise InputError(f"--repo {folder}: is a revision; give the folder that it is in")
    found = {path.parent.name: records.read(path.parent) for path in folder.glob("*/metrics.json")}
    found = {name: found[name] for name in sorted(found) if found[name][0]}
    if not found:
        raise InputError(f"--repo {folder}: holds no revision with a run.json and a metrics.json")
    groups = []
    for names in sorted(records.by_configuration({name: run for name, (run, _) in found.items()})):
        members = sorted((found[name] for name in names), key=lambda r: r[0]["config"]["seed"])
        runs, reports = zip(*members, strict=True)
        scores = {}
        for column in SCORES:
            split, score = column.lower().split()
            scores[column] = [100 * r[split][score] for r in reports if split in r]
        seeds = [run["config"]["seed"] for run in runs]
        groups.append(Group(records.settings(runs[0]), seeds, scores))
    return sorted(groups, key=lambda group: DATA.index(group.settings["data"]))


def differing_settings(groups: Sequence[Group]) -> list[str]:
    """The settings to show: data, recipe, and those that differ between groups.

    A setting that the recipe decides is shown only if it differs between groups of one recipe.
    """
    shown = ["data", "recipe"]
    for key in dict.fromkeys(key for group in groups for key in group.settings):
        values: dict[Any, set[str]] = {}
        for group in groups:
            decides = group.settings["recipe"] if key in RECIPES["paper"] else None
            values.setdefault(decides, set()).add(str(group.settings.get(key)))
        if key not in shown and any(len(different) > 1 for different in values.values()):
            shown.append(key)
    return shown


def results_table(groups: Sequence[Group], *, split_deviation: bool = False) -> Rows:
    """A row for each group; the mean and standard deviation in one cell, or in a column each."""
    shown = differing_settings(groups)
    header = [*(f"--{key.replace('_', '-')}" for key in shown), "seeds"]
    for column in SCORES:
        header += [column, f"{column} deviation"] if split_deviation else [column]
    rows = [header]
    for group in groups:
        values = [group.settings.get(key) for key in shown]
        row = ["-" if value is None else str(value) for value in values]
        row.append(", ".join(map(str, group.seeds)))
        for scores in group.scores.values():
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
        groups = read_groups(Path(config.repo))
        rows = results_table(groups, split_deviation=config.format == "csv")
        write = {"markdown": tables.markdown, "latex": tables.latex, "csv": tables.csv}
        print(write[config.format](rows))
