__doc__ = """\
Show learning curves of active learning: F1 by the number of expert labels.

python -m nerc curves                         tables of ./models
python -m nerc curves --output curves         also plots and curves.csv
python -m nerc curves --split test --full model_primary
"""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerc import tables
from nerc.cli import check_flag, option, parse, start_logging
from nerc.errors import InputError, one_line_errors, visible

PROGRAM = "python -m nerc curves"


@dataclass(frozen=True)
class CurvesConfig:
    __doc__ = "Which learning curves to show, and where to write plots of them."

    repo: str = option("models", "folder that holds the rounds of active_learn.py")
    split: str = option("test", "whose F1 to show: test or validation", ("test", "validation"))
    full: tuple[str, ...] = option(
        (),
        "revisions trained on all expert labels, whose mean F1 is 100 %%. Default: those of --data "
        "gold in the folder that used them all",
    )
    price: float = option(0.0, "price of labelling a word, in any currency")
    output: str | None = option(
        None, "write plots (PNG) and curves.csv to this folder, which need not exist"
    )

    def __post_init__(self) -> None:
        check_flag(0 <= self.price < math.inf, "price", "0 or more", self.price)


def show(config: CurvesConfig) -> None:
    """Show the curves of a store; InputError at the end lists the revisions that are left out."""
    from nerc.active_learning import curves as learning_curves
    from nerc.store.revisions import Store

    store = Store(config.repo)
    known, faults = learning_curves.read_store(store)
    try:
        curves = learning_curves.read_curves(store, known, faults)
        levels = learning_curves.reference_levels(store, known, config.full, config.split)
        print_tables(config, curves, levels)
    except InputError as error:
        faults.insert(0, str(error))
    if faults:
        sys.stdout.flush()
        raise InputError("; ".join(faults))


def print_tables(config: CurvesConfig, curves: list[Any], levels: dict[str, float]) -> None:
    """Print tables of curves; write plots and a CSV file if asked to."""
    from nerc.active_learning import curves as learning_curves

    split = config.split
    if not curves:
        raise InputError(f"--repo {config.repo}: holds round 0 alone, wanted a round after it")
    splits = set.intersection(*(set(point.f1) for curve in curves for point in curve.points))
    if split not in splits:
        raise InputError(
            f"--split {split}: not all rounds in {config.repo} were evaluated on it (all were on: "
            f"{', '.join(sorted(splits)) or 'none'})"
        )
    print(f"F1 on {split}, in percent; areas are mean heights where all curves have values\n")
    print(tables.markdown(learning_curves.area_table(curves, split)))
    if len(leads := learning_curves.lead_table(curves, split)) > 1:
        print(f"\n{tables.markdown(leads)}")
    if "all expert labels" in levels:
        full = levels["all expert labels"]
        print(f"\nall expert labels: {100 * full:.2f}; labels needed to reach a share of it:\n")
        print(tables.markdown(learning_curves.share_table(curves, full, split)))
    else:
        print(
            f"\nno revision in {visible(config.repo)} used all expert labels: name some with --full"
        )
    print(f"\nWhat strategies asked for\n\n{tables.markdown(learning_curves.query_table(curves))}")
    print(f"\nRounds\n\n{tables.markdown(learning_curves.round_table(curves, config.price))}")
    if config.output:
        learning_curves.write_curves(Path(config.output), curves, levels, split, config.price)
        print(f"\nwritten to {visible(config.output)}")


def main(argv: list[str]) -> None:
    (config,) = parse(argv, PROGRAM, __doc__, CurvesConfig)
    start_logging()
    with one_line_errors(PROGRAM):
        show(config)
