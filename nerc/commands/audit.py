__doc__ = """\
Audit weak labels: what they look like and how far they agree with expert labels.

python -m nerc audit --corpus DIR                 compare with all expert labels of train.txt
python -m nerc audit --corpus DIR --expert 50 --plots audit --html audit.html --json audit.json
python -m nerc audit --corpus sample --repair well-formed form

Agreement is computed on the sentences that have both kinds of labels, everything else on all weak
labels.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerc import files
from nerc.cli import check_flag, option, parse, start_logging
from nerc.config import REPAIRS, Amount, check_columns, check_repairs
from nerc.errors import InputError, one_line_errors, visible
from nerc.tables import Table, markdown, shown

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
        "how to repair the weak labels first, as in train.py: inventory, well-formed, form, "
        "auto, none",
        REPAIRS,
    )
    plots: str | None = option(
        None, "write the plots as PNG to this folder, which is created if needed"
    )
    html: str | None = option(None, "write the tables as an HTML page to this file")
    json: str | None = option(
        None, "write the tables as JSON, with shares from 0 to 1, to this file"
    )

    def __post_init__(self) -> None:
        if self.expert is not None:
            Amount.parse(self.expert, "expert")
        check_flag(0 <= self.seed < 2**32, "seed", "at least 0 and below 2^32", self.seed)
        check_columns(self.columns)
        check_repairs(self.repair)


def run(config: AuditConfig) -> None:
    """Print what the weak labels look like and, where experts labelled them too, what is wrong."""
    for name in ("plots", "html", "json"):
        if path := getattr(config, name):
            check = files.check_folder if name == "plots" else files.check_file
            check(Path(path), f"--{name}")

    from nerc.data import labels, sources, tags
    from nerc.evaluation import label_audit, page, plots

    written = sources.load(config.corpus, "llm")
    source = config.corpus, config.columns
    experts = label_audit.read_experts(*source, written, config.expert, config.seed)
    types = frozenset(tags.types_of(tag for row in experts.values() for tag in row))
    if "inventory" in config.repair and not experts:
        raise InputError("--repair inventory compares with expert labels, and there are none here")
    weak = labels.repair(written, config.repair, types)
    for note in weak.notes:
        logger.info(note)
    tables = {
        "weak labels": label_audit.label_statistics(written, weak),
        "word shapes": label_audit.rate_by_shape(weak),
    }
    gold, _ = paired = label_audit.pair_labels(experts, weak)
    if len(gold):
        num_different = len({sentence.words for sentence in gold})
        note = (
            f"{len(gold):,} of these sentences have expert labels too ({num_different:,} different)"
        )
        compared = label_audit.agreement_tables(paired, experts, written, types)
    else:
        note = (
            "none of these sentences has expert labels too (train.txt has none with exactly the "
            "same words), so the audit cannot tell how many of the weak labels are right"
        )
        compared = {}
    blocks = [map(shown, tables.values()), map(shown, compared.values())]
    before, after = ("".join(f"\n{markdown(rows)}\n" for rows in block) for block in blocks)
    print(f"{before}\n{note}\n{after}", end="")
    if config.plots:
        plots.write_plots(Path(config.plots), label_audit.audit_plots(weak, paired))
        print(f"\nplots are in {visible(config.plots)}")
    if config.html:
        rows = {name.capitalize(): shown(table) for name, table in (tables | compared).items()}
        title = f"Audit of the weak labels of {config.corpus}"
        files.write_text(Path(config.html), page.tables_page(title, rows, note))
    if config.json:
        about = {name: getattr(config, name) for name in ("corpus", "expert", "seed", "repair")}
        about |= {"sentences_with_experts": len(gold), "tables": values(tables | compared)}
        files.write_json(Path(config.json), about)


def values(tables: dict[str, Table]) -> dict[str, Any]:
    """Tables as JSON: numbers as they are, null where a cell does not apply."""
    return {
        name: {"columns": header, "rows": [[None if c == "" else c for c in row] for row in rows]}
        for name, (header, *rows) in tables.items()
    }


def main(argv: list[str]) -> None:
    (config,) = parse(argv, PROGRAM, __doc__, AuditConfig)
    start_logging()
    with one_line_errors(PROGRAM):
        run(config)
