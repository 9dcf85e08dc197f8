"""Tabulate the scores of all revisions in a folder: one row per configuration, means over seeds.

python -m nerc results                        the revisions of ./models
python -m nerc results --repo experiments/results
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerc import tables
from nerc.cli import option, parse, start_logging
from nerc.errors import InputError, one_line_errors
from nerc.recipes import RECIPES
from nerc.store import records
from nerc.tables import Rows, markdown

PROGRAM = "python -m nerc results"


@dataclass(frozen=True)
class ResultsConfig:
    """What is tabulated."""

    repo: str = option("models", "folder that holds the revisions, or their records alone")


# ------------------------------------------------------------ stores


def results_table(folder: Path) -> Rows:
    """The results in a store: a row for each configuration, means over its seeds, in percent.

    Settings in which no two rows differ have no column, but for whose labels and which recipe.
    """
    if not folder.is_dir():
        raise InputError(f"--repo {folder}: is no folder")
    if (folder / "metrics.json").exists():
        raise InputError(f"--repo {folder}: is a revision; give the folder that it is in")
    found = {
        path.parent.name: records.read(path.parent)
        for path in sorted(folder.glob("*/metrics.json"))
    }
    found = {name: record for name, record in found.items() if record[0]}
    if not found:
        raise InputError(f"--repo {folder}: holds no revision with a run.json and a metrics.json")
    groups = records.by_configuration({name: run for name, (run, _) in found.items()})
    configs = [records.settings(found[names[0]][0]) for names in groups]
    columns = ["data", "recipe"]
    for key in dict.fromkeys(key for config in configs for key in config):
        by_recipe: dict[Any, set] = {}
        for config in configs:
            decides = config["recipe"] if key in RECIPES["paper"] else None
            by_recipe.setdefault(decides, set()).add(str(config.get(key)))
        if key not in columns and any(len(values) > 1 for values in by_recipe.values()):
            columns.append(key)
    rows = [[*(f"--{c.replace('_', '-')}" for c in columns), "seeds", "validation F1"]]
    rows[0] += ["test F1", "test accuracy"]
    order = {"gold": 0, "mixed": 1, "llm": 2}
    for config, names in sorted(
        zip(configs, groups, strict=True), key=lambda row: (order[row[0]["data"]], row[1])
    ):
        runs = sorted((found[n] for n in names), key=lambda record: record[0]["config"]["seed"])
        values = [config.get(column) for column in columns]
        cells = ["-" if value is None else str(value) for value in values]
        cells.append(", ".join(str(run["config"]["seed"]) for run, _ in runs))
        for split, figure in (("validation", "f1"), ("test", "f1"), ("test", "accuracy")):
            values = [100 * m[split][figure] for _, m in runs if split in m]
            cells.append(tables.spread(values) if values else "-")
        rows.append(cells)
    return rows


def show(config: ResultsConfig) -> None:
    """The results in a store, as Markdown."""
    print(markdown(results_table(Path(config.repo))))


def main(argv: list[str]) -> None:
    (config,) = parse(argv, PROGRAM, __doc__, ResultsConfig)
    start_logging()
    with one_line_errors(PROGRAM):
        show(config)
