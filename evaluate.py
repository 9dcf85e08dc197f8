"""Judge revisions on labelled sentences, side by side.

python evaluate.py --revision main model_primary
python evaluate.py --revision model_primary --split test --json report.json
python evaluate.py --revision model_primary --corpus DIR --split test --decode argmax
"""

import logging
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from nerc import files
from nerc.cli import LogConfig, check_flag, option, parse, start_logging
from nerc.config import MAX_THREADS, PRECISION_HELP, REPO_HELP, THREADS_HELP, TOKENIZER_HELP
from nerc.errors import InputError, one_line_errors
from nerc.tables import markdown

logger = logging.getLogger("nerc.evaluate")

PROGRAM = "evaluate.py"


@dataclass(frozen=True)
class EvaluateConfig:
    """What evaluate.py judges, on what, and where the report goes."""

    revision: tuple[str, ...] = option((), "revisions to judge, side by side")
    repo: str = option("models", REPO_HELP)
    corpus: str | None = option(
        None, "text to judge on, as in train.py. Default: the one the revision was trained on"
    )
    split: str = option("validation", "which split of it", ("validation", "test"))
    decode: str = option(
        "viterbi",
        "viterbi: the most probable valid IOB2 sequence; argmax: the most probable tag of each "
        "word by itself",
        ("viterbi", "argmax"),
    )
    batch_size: int | None = option(
        None,
        "sentences computed together, which changes no prediction. Default: what suits the device",
    )
    precision: str = option(
        "float32",
        PRECISION_HELP,
        ("float32", "bf16", "auto"),
    )
    tokenizer: str | None = option(None, TOKENIZER_HELP)
    json: str | None = option(
        None, "write the reports to this file as {revision: {split: {figures}}}"
    )
    details: bool = option(
        False,
        "print, too, F1 by type with intervals, errors by kind, confusions, and F1 of parts: by "
        "length, letters, and whether training had the entity or the sentence",
    )
    html: str | None = option(
        None,
        "write all of it, and every sentence with what was found in it, as a page to this file",
    )
    plots: str | None = option(
        None, "write the plots as PNG to this folder, which is made where it is not there"
    )
    map: tuple[str, ...] = option(
        (),
        "what entity types of the corpus are called by the revisions, as THEIRS=OURS; THEIRS=O "
        "for those that are to count as no entity",
    )
    num_threads: int = option(0, THREADS_HELP)

    def __post_init__(self) -> None:
        for pair in self.map:
            ok = re.fullmatch(r"[^=\s]+=[^=\s]+", pair) is not None
            check_flag(ok, "map", "pairs of types, such as PERSON=PER or DATE=O", pair)
        theirs = [pair.partition("=")[0] for pair in self.map]
        check_flag(len(set(theirs)) == len(theirs), "map", "of each type once", " ".join(self.map))
        same = self.html is not None and self.html == self.json
        check_flag(not same, "html", "another file than --json", self.html)
        check_flag(bool(self.revision), "revision", "followed by one or more names", "")
        names = " ".join(self.revision)
        check_flag(
            len(set(self.revision)) == len(self.revision), "revision", "different names", names
        )
        size = self.batch_size
        check_flag(size is None or size >= 1, "batch_size", "1 or more", size)
        threads = self.num_threads
        check_flag(0 <= threads <= MAX_THREADS, "num_threads", f"0 to {MAX_THREADS}", threads)


def main(argv: list[str]) -> None:
    config, log = parse(argv, PROGRAM, __doc__, EvaluateConfig, LogConfig)
    start_logging(quiet=log.quiet)
    with one_line_errors(PROGRAM):
        run(config)


def run(config: EvaluateConfig) -> None:
    """Print one table of all revisions; write what else was asked for."""
    from nerc import distributed, hardware
    from nerc.store import records, revisions

    for flag in ("json", "html", "plots"):
        if (path := getattr(config, flag)) is not None:
            check = files.check_folder if flag == "plots" else files.check_file
            check(Path(path), f"--{flag}")
    store = revisions.Store(config.repo)
    folders = {name: store.path(name) for name in config.revision}
    runs = {name: records.read_run(folder) for name, folder in folders.items()}

    accelerator = distributed.start()

    hardware.set_threads(config.num_threads)
    bf16 = hardware.choose_precision(config.precision, accelerator.device) == "bf16"
    if bf16:
        logger.warning("computed in bf16: figures differ a little between machines")
    corpora, judged, calibrations = {}, {}, {}
    for name, folder in folders.items():  # by corpus: figures of others do not compare
        corpus, found, calibration = judge(name, folder, runs[name], config, accelerator, bf16=bf16)
        fingerprint = corpus.fingerprint()
        corpora[fingerprint] = corpus
        judged.setdefault(fingerprint, {})[name] = found
        calibrations[name] = calibration
    if (config.html or config.plots) and len(corpora) > 1:
        raise InputError(
            "--html and --plots show revisions on the same sentences, and these were trained on "
            "different ones; give --corpus"
        )
    if accelerator.is_main_process:
        tell(corpora, judged, calibrations, runs, folders, config)
    accelerator.end_training()


def tell(
    corpora: dict,
    judged: dict,
    calibrations: dict,
    runs: dict,
    folders: dict,
    config: EvaluateConfig,
) -> None:
    """Say what the revisions are worth, a table for each corpus, and write what was asked for."""
    from nerc.evaluation import compare, report, tables
    from nerc.evaluation.plots import write_plots
    from nerc.training.setup import training_sentences

    values = {}
    for fingerprint, corpus in corpora.items():
        names, trains = list(judged[fingerprint]), {}
        for name in names if config.details or config.html else []:
            trains[name] = training_sentences(runs[name], folders[name])
        found = compare.compare(corpus, judged[fingerprint], calibrations, trains)
        print(tables.count_line(found.reports[names[0]], config.split))
        print(tables.report_table(found.reports, config.split))
        print("\n".join(tables.interval_lines(found, {name: runs[name] for name in names})))
        for title, rows in report.detail_tables(found, runs) if config.details else []:
            print(f"\n{title}\n{markdown(rows)}")
        values |= {name: {config.split: found.reports[name].to_json()} for name in names}
        plots = report.comparison_plots(found, runs) if config.html or config.plots else {}
        if config.plots:
            write_plots(Path(config.plots), plots)
        if config.html:
            page = report.page_of(found, runs, plots, config.split)
            files.write_text(Path(config.html), page)
    if config.json is not None:
        files.write_json(Path(config.json), values)


def judge(name: str, folder: Path, run: dict, config: EvaluateConfig, accelerator, *, bf16: bool):
    """The corpus that one revision is judged on, what it is worth there, and its calibration."""
    from nerc.data.corpus import check_tags
    from nerc.data.sources import load
    from nerc.data.tags import types_of
    from nerc.evaluation import evaluator
    from nerc.model import encoding
    from nerc.store import model_files

    source = config.corpus or run.get("config", {}).get("corpus")
    if source is None:
        raise InputError(f"{folder}: has no run.json that names a corpus; give --corpus")
    try:
        corpus = load(source, config.split)
    except InputError as error:
        if config.corpus is not None:
            raise
        raise InputError(f"{name} was trained on {source}: {error}; give --corpus") from None
    known = run.get("data", {}).get(config.split)
    if config.corpus is None and known and known["sha256"] != corpus.fingerprint():
        logger.warning(
            f"{name}: the {config.split} sentences of {source} have changed since training"
        )
    corpus = corpus.renamed(dict(pair.split("=") for pair in config.map))
    for note in corpus.notes:
        logger.info(note)
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
    found = evaluator.evaluate(
        model,
        corpus,
        encoded,
        how=config.decode,
        batch_size=config.batch_size,
        bf16=bf16,
        accelerator=accelerator,
    )
    return corpus, found, model.config.calibration


if __name__ == "__main__":
    main(sys.argv[1:])
