__doc__ = """\
Evaluate revisions on labelled sentences, side by side.

python evaluate.py --revision main model_primary
python evaluate.py --revision model_primary --split test --json report.json
python evaluate.py --revision model_primary --corpus DIR --split test --decode argmax
"""

import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerc import files
from nerc.cli import LogConfig, check_flag, option, parse, start_logging
from nerc.config import (
    INT8_HELP,
    MAX_THREADS,
    REPO_HELP,
    THREADS_HELP,
    TOKENIZER_HELP,
    check_columns,
    check_map,
)
from nerc.errors import InputError, one_line_errors

logger = logging.getLogger("nerc.evaluate")

PROGRAM = "evaluate.py"
_OUTPUTS = ("json", "html", "plots")
Source = tuple[str, str | None]  # --corpus and --columns
Found = tuple[str, Path, dict[str, Any], Source]  # name, folder, run.json ({} if none), corpus


@dataclass(frozen=True)
class EvaluateConfig:
    __doc__ = "What evaluate.py evaluates, on which corpus, and where the results go."

    revision: tuple[str, ...] = option((), "the revisions to evaluate, side by side")
    repo: str = option("models", REPO_HELP)
    corpus: str | None = option(
        None, "corpus to evaluate on, as in train.py. Default: the one the revision was trained on"
    )
    columns: str | None = option(
        None, "the columns of the word and of the tag, as in train.py. Default: as in training"
    )
    split: str = option("validation", "which split of the corpus", ("validation", "test"))
    decode: str = option(
        "viterbi",
        "viterbi: the most probable valid IOB2 sequence; argmax: the most probable tag of each "
        "word on its own",
        ("viterbi", "argmax"),
    )
    context: str | None = option(
        None,
        "none: read every sentence alone, although the revision reads documents. Default: as the "
        "revision does",
        ("none",),
    )
    batch_size: int | None = option(
        None,
        "sentences per batch; it changes no prediction. Default: what suits the device",
    )
    precision: str = option("float32", INT8_HELP, ("float32", "bf16", "int8", "auto"))
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
        check_columns(self.columns)
        check_map(self.map)
        names, size, threads = self.revision, self.batch_size, self.num_threads
        outputs = {f: os.path.realpath(v) for f in _OUTPUTS if (v := getattr(self, f)) is not None}
        for flag, path in outputs.items():
            is_other = list(outputs.values()).count(path) == 1
            check_flag(is_other, flag, "another place than the other outputs", getattr(self, flag))
        check_flag(len(set(names)) == len(names), "revision", "different names", " ".join(names))
        check_flag(size is None or size >= 1, "batch_size", "1 or more", size)
        check_flag(0 <= threads <= MAX_THREADS, "num_threads", f"0 to {MAX_THREADS}", threads)


def main(argv: list[str]) -> None:
    config, log = parse(argv, PROGRAM, __doc__, EvaluateConfig, LogConfig)
    start_logging(quiet=log.quiet)
    with one_line_errors(PROGRAM):
        run(config)


def run(config: EvaluateConfig) -> None:
    """Evaluate the revisions, print a table for each corpus, write the files asked for."""
    # What needs no model is refused before the libraries load, which takes seconds.
    for flag in _OUTPUTS:
        if path := getattr(config, flag):
            check = files.check_folder if flag == "plots" else files.check_file
            check(Path(path), f"--{flag}")
    found = find_revisions(config)
    corpora = read_corpora(found, config)

    from nerc import distributed, hardware
    from nerc.evaluation import tables
    from nerc.evaluation.evaluator import Comparison
    from nerc.model.precision import Precision

    accelerator = distributed.start()
    hardware.set_threads(config.num_threads)
    precision = Precision(config.precision, accelerator)
    by_corpus: dict[str, list] = {}  # figures on different sentences do not compare
    with distributed.watching(accelerator, PROGRAM):
        for candidate in found:
            revision = evaluate(candidate, corpora, config, accelerator, precision)
            by_corpus.setdefault(revision.corpus.fingerprint(), []).append(revision)
    if precision.decided != "float32":
        logger.warning(f"computed in {precision.decided}: figures differ a little between machines")
    if accelerator.is_main_process:
        comparisons = [Comparison(revisions) for revisions in by_corpus.values()]
        for comparison in comparisons:
            print(tables.summary(comparison, config.split, details=config.details))
        write(comparisons, config)
    accelerator.end_training()


def find_revisions(config: EvaluateConfig) -> list[Found]:
    """Find the revisions, and the corpus to evaluate each of them on."""
    from nerc.store import records
    from nerc.store.revisions import Store

    store = Store(config.repo)
    if not config.revision:
        names = store.names()
        there = f"{os.path.join('.', config.repo)} holds: {', '.join(names) or 'none'}"
        if store.repository and not store.folder.exists():
            there = f"python -m nerc revisions list --repo {config.repo} lists those on the Hub"
        raise InputError(
            f"--revision names the revisions to evaluate, such as --revision "
            f"{names[0] if names else 'model_primary'}; {there}"
        )
    found = []
    for name, folder in {name: store.path(name) for name in config.revision}.items():
        record = records.read_run(folder)
        trained_on = record.get("config", {})
        corpus = config.corpus or trained_on.get("corpus")
        if corpus is None:
            raise InputError(f"{folder}: has no run.json that names a corpus; give --corpus")
        columns = config.columns or (None if config.corpus else trained_on.get("columns"))
        found.append((name, folder, record, (corpus, columns)))
    return found


def read_corpora(found: list[Found], config: EvaluateConfig) -> dict[Source, Any]:
    """Read each corpus once, and rename its types as --map says; by source."""
    from nerc.data.sources import load

    corpora = {}
    for name, _, record, source in found:
        try:
            corpus = corpora.get(source) or load(source[0], config.split, source[1])
            corpora[source] = corpus
        except InputError as error:
            if config.corpus is not None:
                raise
            raise InputError(f"{name} was trained on {source[0]}: {error}; give --corpus") from None
        trained = record.get("data", {}).get(config.split)
        if not config.corpus and trained and trained["sha256"] != corpus.fingerprint():
            logger.warning(
                f"{name}: the {config.split} sentences of {source[0]} have changed since training"
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
    found: Found, corpora: dict[str, Any], config: EvaluateConfig, accelerator: Any, precision: Any
):
    """Evaluate a revision on its corpus, all processes together; returns an EvaluatedRevision."""
    from nerc.data.corpus import check_tags
    from nerc.data.tags import types_of
    from nerc.evaluation import evaluator
    from nerc.model import encoding, onnx_engine
    from nerc.store import model_files, records
    from nerc.training.setup import training_sentences

    name, folder, record, source = found
    corpus = corpora[source]
    model, tokenizer = model_files.load_revision(folder, tokenizer=config.tokenizer)
    if records.read_run(folder) != record:
        raise InputError(f"{folder}: was replaced meanwhile; run the same command again")
    if precision.decided == "int8":
        model = onnx_engine.Tagger.of(model, int8=True)
    model.to(accelerator.device)
    check_tags(corpus, model.config.inventory, f"revision {name}")
    absent = types_of(model.config.word_tags) - corpus.entity_types()
    if config.corpus is not None and absent:
        logger.warning(
            f"{name}: the corpus has no {' or '.join(sorted(absent))}, so every such entity that "
            f"it predicts counts as spurious"
        )
    model.config.context = config.context or model.config.context
    encoded = encoding.encode_for(model, tokenizer, corpus)
    if config.context:
        logger.info(f"{name}: every sentence is read alone (--context none)")
    for note in encoded.notes:
        logger.info(f"{name}: {note}")
    how = {"how": config.decode, "batch_size": config.batch_size}
    how["bf16"] = precision.of(model.config) == "bf16"
    evaluation = evaluator.evaluate(model, corpus, encoded, accelerator=accelerator, **how)
    needs_train = accelerator.is_main_process and (config.details or config.html)
    train = training_sentences(record, folder) if needs_train else None
    calibration = model.config.calibration
    return evaluator.EvaluatedRevision(name, record, corpus, evaluation, calibration, train)


def write(comparisons: list[Any], config: EvaluateConfig) -> None:
    """Write the files that --json, --plots and --html ask for."""
    from nerc.evaluation import page, plots

    if config.html or config.plots:
        (comparison,) = comparisons  # read_corpora() refuses several
        images = page.comparison_plots(comparison)
        if config.plots:
            plots.write_plots(Path(config.plots), images)
        if config.html:
            text = page.html_page(comparison, images, config.split)
            files.write_text(Path(config.html), text)
    if config.json:
        reports = [item for comparison in comparisons for item in comparison.reports.items()]
        values = {name: {config.split: report.to_json()} for name, report in reports}
        files.write_json(Path(config.json), values)
    if written := [path for path in (config.plots, config.html, config.json) if path]:
        logger.info(f"\nwritten: {', '.join(written)}")


if __name__ == "__main__":
    main(sys.argv[1:])
