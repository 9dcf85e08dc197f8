__doc__ = """\
Audit weak labels: what they look like and how far they agree with expert labels.

python -m nerc audit --corpus DIR                 compare with all expert labels of train.txt
python -m nerc audit --corpus DIR --expert 50 --plots audit
python -m nerc audit --corpus sample --repair well-formed form

Agreement is computed on the sentences that have both kinds of labels, everything else on all weak
labels.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from nerc import files
from nerc.cli import check_flag, option, parse, start_logging
from nerc.config import REPAIRS, Amount, check_columns, check_repairs
from nerc.errors import InputError, one_line_errors, visible
from nerc.tables import markdown

logger = logging.getLogger(__name__)

PROGRAM = "python -m nerc audit"


@dataclass(frozen=True)
class AuditConfig:
    __doc__ = "Which weak labels to audit, and which expert labels to compare them with."

    corpus: str = option(
        "sample",
        "folder with llm.txt (and llm.NAME.txt) and, for expert labels, train.txt; or sample, "
        "sample:SENTENCES",
    )
    expert: str | None = option(
        None,
        "how many of the sentences with both kinds of labels to compare, drawn at random by "
        "--seed: a share (12%%) or a number (240). Default: all",
    )
    seed: int = option(0, "seed of that draw")
    columns: str | None = option(
        None, "the columns of the word and of the tag in train.txt, as in train.py"
    )
    repair: tuple[str, ...] = option(
        (),
        "how to repair the weak labels first, as in train.py: inventory, well-formed, form, none",
        REPAIRS,
    )
    plots: str | None = option(
        None, "write the plots as PNG to this folder, which is created if needed"
    )

    def __post_init__(self) -> None:
        if self.expert is not None:
            Amount.parse(self.expert, "expert")
        check_flag(0 <= self.seed < 2**32, "seed", "at least 0 and below 2^32", self.seed)
        check_columns(self.columns)
        check_repairs(self.repair)


def run(config: AuditConfig) -> None:
    """Print what the weak labels look like and, where experts labelled them too, what is wrong."""
    if config.plots:
        files.check_folder(Path(config.plots), "--plots")

    from nerc.data import labels, sources, tags
    from nerc.evaluation import label_audit, plots

    written = sources.load(config.corpus, "llm")
    source = config.corpus, config.columns
    experts = label_audit.read_experts(*source, written, config.expert, config.seed)
    types = frozenset(tags.types_of(tag for row in experts.values() for tag in row))
    if "inventory" in config.repair and not experts:
        raise InputError("--repair inventory compares with expert labels, and there are none here")
    weak = labels.repair(written, config.repair, types)
    for note in weak.notes:
        logger.info(note)
    for table in (label_audit.label_statistics(written, weak), label_audit.rate_by_shape(weak)):
        print(f"\n{markdown(table)}")
    gold, _ = paired = label_audit.pair_labels(experts, weak)
    if len(gold):
        num_different = len({sentence.words for sentence in gold})
        print(
            f"\n{len(gold):,} of these sentences have expert labels too ({num_different:,} "
            f"different)"
        )
        for table in label_audit.agreement_tables(paired, experts, written, types):
            print(f"\n{markdown(table)}")
    else:
        print(
            "\nnone of these sentences has expert labels too (train.txt has none with exactly the "
            "same words), so the audit cannot tell how many of the weak labels are right"
        )
    if config.plots:
        plots.write_plots(Path(config.plots), label_audit.audit_plots(weak, paired))
        print(f"\nplots are in {visible(config.plots)}")


def main(argv: list[str]) -> None:
    (config,) = parse(argv, PROGRAM, __doc__, AuditConfig)
    start_logging()
    with one_line_errors(PROGRAM):
        run(config)
