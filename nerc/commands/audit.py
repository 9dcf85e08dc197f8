"""Audit weak labels: what they look like and how far they agree with expert labels.

python -m nerc audit --corpus DIR                 compare with all expert labels of train.txt
python -m nerc audit --corpus DIR --expert 50 --plots audit
python -m nerc audit --corpus sample --repair well-formed form

Agreement is computed on sentences that have both kinds of labels, everything else on all of them.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerc import files
from nerc.cli import check_flag, option, parse, start_logging
from nerc.config import REPAIRS, Amount, check_repairs
from nerc.errors import InputError, one_line_errors
from nerc.tables import markdown

logger = logging.getLogger(__name__)

PROGRAM = "python -m nerc audit"


@dataclass(frozen=True)
class AuditConfig:
    """Whose cheap labels are looked at, and beside which expert ones."""

    corpus: str = option(
        "sample",
        "folder with llm.txt (and llm.NAME.txt) and, for experts, train.txt; or sample, "
        "sample:SENTENCES",
    )
    expert: str | None = option(
        None,
        "how many of the sentences that have both labels are compared, drawn by --seed: a share "
        "(12%%) or a number (240). Default: all",
    )
    seed: int = option(0, "seed of that draw")
    repair: tuple[str, ...] = option(
        (), "what is mended first, as in train.py: inventory, well-formed, form, none", REPAIRS
    )
    plots: str | None = option(
        None, "write pictures as PNG to this folder, which is made where it is not there"
    )

    def __post_init__(self) -> None:
        if self.expert is not None:
            Amount.parse(self.expert, "expert")
        check_flag(0 <= self.seed < 2**32, "seed", "at least 0 and below 2^32", self.seed)
        check_repairs(self.repair)


def audit(config: AuditConfig) -> None:
    """What cheap labels look like and, where experts labelled the same sentences, what is wrong."""
    from nerc.data import labels, sources, tags
    from nerc.data.corpus import Corpus
    from nerc.evaluation import error_analysis, plots
    from nerc.evaluation.label_audit import (
        agreement_by_slice,
        by_repair,
        entity_rate_by_position,
        error_kinds,
        experts,
        label_statistics,
        pair_labels,
        rate_by_shape,
        scores_by_type,
    )
    from nerc.evaluation.tables import confusion_table

    written = sources.load_as_written(config.corpus)
    expert = experts(config.corpus, written, config.expert, config.seed)
    types = frozenset(tags.types_of(t for labels_ in expert.values() for t in labels_))
    if "inventory" in config.repair and not expert:
        raise InputError("--repair inventory compares with expert labels, and there are none here")
    cheap = labels.repair(written, config.repair, types)
    gold, own = pair_labels(expert, cheap)
    if config.plots:
        files.check_folder(Path(config.plots), "--plots")
    for note in cheap.notes:
        logger.info(note)
    print(f"\n{markdown(label_statistics(written, cheap))}")
    print(f"\n{markdown(rate_by_shape(cheap))}")
    drawn: dict[str, Any] = {"places": ("", plots.line_plot(*entity_rate_by_position(cheap)))}
    if not gold:
        print(
            "\nno sentence has an expert's label, too (in train.txt, with all its words the same): "
            "how many of these are right is not known"
        )
    else:
        corpus = Corpus.of(gold)
        found = error_analysis.errors(corpus, own)
        scores = scores_by_type(gold, own)
        named = [row[0] for row in scores[2:]]
        different = len({sentence.words for sentence in gold})
        print(f"\n{len(gold):,} of these have an expert's label, too ({different:,} different)\n")
        tables = (
            scores,
            error_kinds(found),
            confusion_table(found.confusion, named, "gold \\ cheap"),
            agreement_by_slice(corpus, own, written),
            by_repair(expert, written, types),
        )
        print("\n\n".join(markdown(table) for table in tables))
        figures = {row[0]: [float(x) for x in row[2:]] for row in scores[1:]}
        drawn["scores"] = "", plots.bar_plot(figures, scores[0][2:])
        drawn["confusion"] = "", plots.confusion_plot(found.confusion, named)
    if config.plots:
        plots.write_plots(Path(config.plots), drawn)
        print(f"\npictures are in {config.plots}")


def main(argv: list[str]) -> None:
    (config,) = parse(argv, PROGRAM, __doc__, AuditConfig)
    start_logging()
    with one_line_errors(PROGRAM):
        audit(config)
