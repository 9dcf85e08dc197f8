"""Judge revisions on labelled sentences, side by side.

python evaluate.py --revision main model_primary
python evaluate.py --revision model_primary --split test --json report.json
python evaluate.py --revision model_primary --corpus DIR --split test --decode argmax
"""

# What takes seconds to import is imported where it is used, as in train.py.
import sys
from pathlib import Path

from nerc.config import EvaluateConfig, InputError, one_line_errors, parse

PROGRAM = "evaluate.py"


def main(argv: list[str]) -> None:
    (config,) = parse(argv, PROGRAM, __doc__, EvaluateConfig)
    with one_line_errors(PROGRAM):
        run(config)


def run(config: EvaluateConfig) -> None:
    """Print one table of all revisions; write what else was asked for."""
    from nerc import files, records, revisions

    for flag in ("json", "html", "plots"):
        if (path := getattr(config, flag)) is not None:
            check = files.check_folder if flag == "plots" else files.check_file
            check(Path(path), f"--{flag}")
    store, remarks = revisions.Store(config.repo), []
    folders = {name: store.path(name, remarks.append) for name in config.revision}
    runs = {name: records.read_run(folder) for name, folder in folders.items()}

    from nerc import launch, machine

    accelerator = launch.start()

    def say(text: str) -> None:
        launch.say(accelerator, text)

    for remark in remarks:
        say(remark)
    machine.set_threads(config.num_threads)
    bf16 = machine.choose_precision(config.precision, accelerator.device) == "bf16"
    if bf16:
        say("computed in bf16: figures differ a little between machines")
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
        tell(corpora, judged, calibrations, runs, folders, config, say)
    accelerator.end_training()


def tell(
    corpora: dict,
    judged: dict,
    calibrations: dict,
    runs: dict,
    folders: dict,
    config: EvaluateConfig,
    say,
) -> None:
    """Say what the revisions are worth, a table for each corpus, and write what was asked for."""
    from nerc import files, findings, reports
    from nerc.runs import training_sentences

    values = {}
    for fingerprint, corpus in corpora.items():
        names, trains = list(judged[fingerprint]), {}
        for name in names if config.details or config.html else []:
            trains[name] = training_sentences(runs[name], folders[name], say)
        found = findings.find(corpus, judged[fingerprint], calibrations, trains)
        say(reports.counted(found.reports[names[0]], config.split))
        say(reports.table(found.reports, config.split))
        say("\n".join(reports.in_words(found, {name: runs[name] for name in names})))
        for title, rows in findings.tables(found, runs) if config.details else []:
            say(f"\n{title}\n{reports.markdown(rows)}")
        values |= {name: {config.split: found.reports[name].to_json()} for name in names}
        plots = findings.plots(found, runs) if config.html or config.plots else {}
        if config.plots:
            findings.write_plots(Path(config.plots), plots)
        if config.html:
            page = findings.page(found, runs, plots, config.split)
            files.write_text(Path(config.html), page)
    if config.json is not None:
        files.write_json(Path(config.json), values)


def judge(name: str, folder: Path, run: dict, config: EvaluateConfig, accelerator, *, bf16: bool):
    """The corpus that one revision is judged on, what it is worth there, and its calibration."""
    from nerc import encoding, launch, prediction, revisions
    from nerc.data import check_tags, load
    from nerc.tags import types_of

    def say(remark: str) -> None:
        launch.say(accelerator, f"{name}: {remark}")

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
        say(f"the {config.split} sentences of {source} have changed since training")
    corpus = corpus.renamed(dict(pair.split("=") for pair in config.map))
    for remark in corpus.remarks:
        launch.say(accelerator, remark)
    model, tokenizer = revisions.load_revision(folder, tokenizer=config.tokenizer, say=say)
    model.to(accelerator.device)
    check_tags(corpus, model.config.inventory, f"revision {name}")
    absent = types_of(model.config.word_tags) - corpus.entity_types()
    if config.corpus is not None and absent:
        say(f"the corpus has no {' or '.join(sorted(absent))}: all that is found of it is spurious")
    encoded = encoding.encode_for(model, tokenizer, corpus)
    for remark in encoded.remarks:
        say(remark)
    found = prediction.judge(
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
