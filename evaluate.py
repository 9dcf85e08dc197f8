"""Evaluate revisions on labelled sentences, side by side.

python evaluate.py --revision main model_primary
python evaluate.py --revision model_primary --split test --json report.json
python evaluate.py --revision model_primary --corpus DIR --split test --decode argmax
"""

import logging
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from nerc import files
from nerc.cli import LogConfig, check_flag, option, parse, start_logging
from nerc.config import MAX_THREADS, PRECISION_HELP, REPO_HELP, THREADS_HELP, TOKENIZER_HELP
from nerc.errors import InputError, one_line_errors
from nerc.tables import markdown

logger = logging.getLogger("nerc.evaluate")

PROGRAM = "evaluate.py"


@dataclass(frozen=True)
class EvaluateConfig:
    """What evaluate.py evaluates, on which corpus, and where the results go."""

    revision: tuple[str, ...] = option((), "the revisions to evaluate, side by side")
    repo: str = option("models", REPO_HELP)
    corpus: str | None = option(
        None, "corpus to evaluate on, as in train.py. Default: the one the revision was trained on"
    )
    split: str = option("validation", "which split of the corpus", ("validation", "test"))
    decode: str = option(
        "viterbi",
        "viterbi: the most probable valid IOB2 sequence; argmax: the most probable tag of each "
        "word on its own",
        ("viterbi", "argmax"),
    )
    batch_size: int | None = option(
        None,
        "sentences per batch; it changes no prediction. Default: what suits the device",
    )
    precision: str = option("float32", PRECISION_HELP, ("float32", "bf16", "auto"))
    tokenizer: str | None = option(None, TOKENIZER_HELP)
    json: str | None = option(
        None, "write the reports to this file as {revision: {split: {figures}}}"
    )
    details: bool = option(
        False,
        "also print F1 by type with intervals, errors by kind, confusions of types, and F1 by "
        "slice: by length, position and letters, and by whether the entity or the sentence "
        "occurs in training",
    )
    html: str | None = option(
        None,
        "write all of this to this file as a page, which also shows the predictions in every "
        "sentence",
    )
    plots: str | None = option(
        None, "write the plots as PNG to this folder, which is created if needed"
    )
    map: tuple[str, ...] = option(
        (),
        "rename entity types of the corpus to those of the revisions, as THEIRS=OURS; THEIRS=O: "
        "do not count this type as an entity",
    )
    num_threads: int = option(0, THREADS_HELP)

    def __post_init__(self) -> None:
        for pair in self.map:
            ok = re.fullmatch(r"[^=\s]+=[^=\s]+", pair) is not None
            check_flag(ok, "map", "pairs of types, such as PERSON=PER or DATE=O", pair)
        theirs = [pair.partition("=")[0] for pair in self.map]
        is_once = len(set(theirs)) == len(theirs)
        check_flag(is_once, "map", "one pair for each type", " ".join(self.map))
        same = self.html is not None and self.html == self.json
        check_flag(not same, "html", "another file than --json", self.html)
        names = self.revision
        check_flag(len(set(names)) == len(names), "revision", "different names", " ".join(names))
        size = self.batch_size
        check_flag(size is None or size >= 1, "batch_size", "1 or more", size)
        threads = self.num_threads
        check_flag(0 <= threads <= MAX_THREADS, "num_threads", f"0 to {MAX_THREADS}", threads)


def main(argv: list[str]) -> None:
    config, log = parse(argv, PROGRAM, __doc__, EvaluateConfig, LogConfig)
    start_logging(quiet=log.quiet)
    with one_line_errors(PROGRAM):
        run(config)


class Candidate(NamedTuple):
    """A revision to evaluate."""

    name: str
    folder: Path
    run: dict[str, Any]  # its run.json; {} if it has none
    source: str  # the corpus to evaluate it on, as --corpus names it


def run(config: EvaluateConfig) -> None:
    """Evaluate the revisions, print a table for each corpus, write the files asked for."""
    # What needs no model is refused before the libraries load, which takes seconds.
    check_outputs(config)
    candidates = find_revisions(config)
    corpora = read_corpora(candidates, config)

    from nerc import distributed, hardware
    from nerc.evaluation.compare import Comparison

    accelerator = distributed.start()
    hardware.set_threads(config.num_threads)
    bf16 = hardware.choose_precision(config.precision, accelerator.device) == "bf16"
    if bf16:
        logger.warning("computed in bf16: figures differ a little between machines")
    by_corpus: dict[str, list] = {}  # figures on different sentences do not compare
    for candidate in candidates:
        corpus = corpora[candidate.source]
        revision = evaluate(candidate, corpus, config, accelerator, bf16=bf16)
        by_corpus.setdefault(corpus.fingerprint(), []).append(revision)
    if accelerator.is_main_process:
        comparisons = [Comparison(revisions) for revisions in by_corpus.values()]
        for comparison in comparisons:
            show(comparison, config)
        write(comparisons, config)
    accelerator.end_training()


def check_outputs(config: EvaluateConfig) -> None:
    """Raise InputError if a file that is asked for cannot be written."""
    for flag in ("json", "html", "plots"):
        if (path := getattr(config, flag)) is not None:
            check = files.check_folder if flag == "plots" else files.check_file
            check(Path(path), f"--{flag}")


def find_revisions(config: EvaluateConfig) -> list[Candidate]:
    """Find the revisions and what each of them is to be evaluated on."""
    from nerc.store import records
    from nerc.store.revisions import Store

    store = Store(config.repo)
    if not config.revision:
        names = store.names()
        there = f"{os.path.join('.', config.repo)} holds: {', '.join(names) or 'none'}"
        if store.hub and not names:
            there = f"python -m nerc revisions list --repo {config.repo} lists those on the Hub"
        raise InputError(
            f"--revision names the revisions to evaluate, such as --revision "
            f"{names[0] if names else 'model_primary'}; {there}"
        )
    candidates = []
    for name, folder in {name: store.path(name) for name in config.revision}.items():
        record = records.read_run(folder)
        source = config.corpus or record.get("config", {}).get("corpus")
        if source is None:
            raise InputError(f"{folder}: has no run.json that names a corpus; give --corpus")
        candidates.append(Candidate(name, folder, record, source))
    return candidates


def read_corpora(candidates: list[Candidate], config: EvaluateConfig) -> dict[str, Any]:
    """Read each corpus once, and rename its types as --map says; by source."""
    from nerc.data.sources import load

    corpora = {}
    for name, _, run, source in candidates:
        if source not in corpora:
            try:
                corpora[source] = load(source, config.split)
            except InputError as error:
                if config.corpus is not None:
                    raise
                raise InputError(
                    f"{name} was trained on {source}: {error}; give --corpus"
                ) from None
        trained = run.get("data", {}).get(config.split)
        if not config.corpus and trained and trained["sha256"] != corpora[source].fingerprint():
            logger.warning(
                f"{name}: the {config.split} sentences of {source} have changed since training"
            )
    types = dict(pair.split("=") for pair in config.map)
    corpora = {source: corpus.renamed(types) for source, corpus in corpora.items()}
    for note in (note for corpus in corpora.values() for note in corpus.notes):
        logger.info(note)
    num_corpora = len({corpus.fingerprint() for corpus in corpora.values()})
    if (config.html or config.plots) and num_corpora > 1:
        raise InputError(
            "--html and --plots compare revisions on the same sentences, and these revisions were "
            "trained on different corpora; give --corpus"
        )
    return corpora


def evaluate(
    candidate: Candidate, corpus: Any, config: EvaluateConfig, accelerator: Any, *, bf16: bool
) -> Any:
    """Evaluate a candidate on a Corpus, all processes together; returns an EvaluatedRevision."""
    from nerc.data.corpus import check_tags
    from nerc.data.tags import types_of
    from nerc.evaluation import evaluator
    from nerc.evaluation.compare import EvaluatedRevision
    from nerc.model import encoding
    from nerc.store import model_files
    from nerc.training.setup import training_sentences

    name, folder, run, _ = candidate
    model, tokenizer = model_files.load_revision(folder, tokenizer=config.tokenizer)
    model.to(accelerator.device)
    check_tags(corpus, model.config.inventory, f"revision {name}")
    absent = types_of(model.config.word_tags) - corpus.entity_types()
    if config.corpus is not None and absent:
        logger.warning(
            f"{name}: the corpus has no {' or '.join(sorted(absent))}, so every such entity that "
            f"it predicts counts as spurious"
        )
    encoded = encoding.encode_for(model, tokenizer, corpus)
    for note in encoded.notes:
        logger.info(f"{name}: {note}")
    evaluation = evaluator.evaluate(
        model,
        corpus,
        encoded,
        how=config.decode,
        batch_size=config.batch_size,
        bf16=bf16,
        accelerator=accelerator,
    )
    train = None
    if accelerator.is_main_process and (config.details or config.html):
        train = training_sentences(run, folder)
    return EvaluatedRevision(name, run, corpus, evaluation, model.config.calibration, train)


def show(comparison: Any, config: EvaluateConfig) -> None:
    """Print the scores of a Comparison, their intervals and, with --details, its other tables."""
    from nerc.evaluation import tables

    print(tables.count_line(comparison.first.evaluation.report, config.split))
    print(tables.report_table(comparison.reports, config.split))
    print("\n".join(tables.summary_lines(comparison)))
    if config.details:
        details = tables.summary_tables(comparison) | tables.error_tables(comparison)
        for title, rows in details.items():
            print(f"\n{title}\n{markdown(rows)}")


def write(comparisons: list[Any], config: EvaluateConfig) -> None:
    """Write the files that --json, --plots and --html ask for."""
    from nerc.evaluation import page
    from nerc.evaluation.plots import write_plots

    if config.html or config.plots:
        (comparison,) = comparisons  # read_corpora() refuses several
        plots = page.comparison_plots(comparison)
        if config.plots:
            write_plots(Path(config.plots), plots)
        if config.html:
            document = page.html_page(comparison, plots, config.split)
            files.write_text(Path(config.html), document)
    if config.json:
        reports = {name: r for each in comparisons for name, r in each.reports.items()}
        values = {name: {config.split: r.to_json()} for name, r in reports.items()}
        files.write_json(Path(config.json), values)


if __name__ == "__main__":
    main(sys.argv[1:])
