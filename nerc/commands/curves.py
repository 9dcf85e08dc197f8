"""Show the learning curves of active learning: what expert labels bought in F1.

python -m nerc curves                         tables of ./models
python -m nerc curves --output curves         also plots and curves.csv
python -m nerc curves --split test --full model_primary
"""

# What takes seconds to import is imported where it is used, as in train.py.
import math
from dataclasses import dataclass
from pathlib import Path

from nerc import tables
from nerc.cli import check_flag, option, parse, start_logging
from nerc.errors import InputError, one_line_errors

PROGRAM = "python -m nerc curves"


@dataclass(frozen=True)
class CurvesConfig:
    """Which learning curves are shown, and where pictures of them go."""

    repo: str = option("models", "folder that holds the rounds of active_learn.py")
    split: str = option("test", "whose F1: test or validation", ("test", "validation"))
    full: tuple[str, ...] = option(
        (),
        "revisions of all expert labels, no rounds, whose mean F1 is 100 %%. Default: those of "
        "--data gold in the folder that left out none",
    )
    price: float = option(0.0, "what an answer costs for each of its words, in any currency")
    output: str | None = option(
        None,
        "write plots (PNG) and curves.csv to this folder, which is made where it is not there",
    )

    def __post_init__(self) -> None:
        check_flag(0 <= self.price < math.inf, "price", "0 or more", self.price)


# ------------------------------------------------------------ what is written


def show(config: CurvesConfig) -> None:
    """Print tables of the curves of a store; write pictures, a CSV file and events if asked to."""
    from nerc.active_learning.curves import (
        acquired_table,
        areas,
        leads,
        read_curves,
        reference_levels,
        rounds,
        shares,
        write_curves,
    )
    from nerc.store.revisions import Store

    store = Store(config.repo)
    curves = read_curves(store)
    if not curves:
        raise InputError(f"--repo {store.folder}: holds round 0 alone, and no curve without more")
    everywhere = set.intersection(*(set(p.f1) for c in curves for p in c.points))
    split = config.split
    if split not in everywhere:
        raise InputError(
            f"--split {split}: not all rounds in {store.folder} were judged on it (all were on: "
            f"{', '.join(sorted(everywhere)) or 'none'})"
        )
    at_levels = reference_levels(store, config.full, split)
    print(f"F1 on {split}, in percent; areas are mean heights of curves where all go\n")
    print(tables.markdown(areas(curves, split)))
    if len(over_chance := leads(curves, split)) > 1:
        print(f"\n{tables.markdown(over_chance)}")
    if "all expert labels" in at_levels:
        full = at_levels["all expert labels"]
        print(f"\nall expert labels: {100 * full:.2f}; bought until a share of it is reached:\n")
        print(tables.markdown(shares(curves, full, split)))
    else:
        print(f"\nno revision of all expert labels is in {store.folder}: --full names some")
    print(f"\nWhat was asked for\n\n{tables.markdown(acquired_table(curves))}")
    print(f"\nRounds\n\n{tables.markdown(rounds(curves, config.price))}")
    if config.output:
        write_curves(Path(config.output), curves, at_levels, split, config.price)
        print(f"\nwritten to {config.output}")


def main(argv: list[str]) -> None:
    (config,) = parse(argv, PROGRAM, __doc__, CurvesConfig)
    start_logging()
    with one_line_errors(PROGRAM):
        show(config)
