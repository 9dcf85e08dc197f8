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
    """Print one table of all revisions; with --json, write the reports too."""
    from nerc import files, reports, revisions

    if config.json is not None:
        files.check_file(Path(config.json), "--json")
    store, remarks = revisions.Store(config.repo), []
    folders = {name: store.path(name, remarks.append) for name in config.revision}

    from nerc import launch, machine

    accelerator = launch.start()
    for remark in remarks:
        launch.say(accelerator, remark)
    machine.set_threads(config.num_threads)
    bf16 = machine.choose_precision(config.precision, accelerator.device) == "bf16"
    if bf16:
        launch.say(accelerator, "computed in bf16: figures differ a little between machines")
    found, tables = {}, {}
    for name, folder in folders.items():
        source, found[name] = report_on(name, folder, config, accelerator, bf16=bf16)
        tables.setdefault(source, {})[name] = found[name]
    for judged in tables.values():  # a table for each corpus: figures of others do not compare
        first = next(iter(judged.values()))
        launch.say(accelerator, reports.counted(first, config.split))
        launch.say(accelerator, reports.table(judged, config.split))
    if config.json is not None and accelerator.is_main_process:
        values = {name: {config.split: report.to_json()} for name, report in found.items()}
        files.write_json(Path(config.json), values)
    accelerator.end_training()


def report_on(name: str, folder: Path, config: EvaluateConfig, accelerator, *, bf16: bool):
    """What the corpus is known by, and the report of one revision on it."""
    from nerc import encoding, launch, revisions
    from nerc.data import check_tags, load
    from nerc.prediction import judge

    def say(remark: str) -> None:
        launch.say(accelerator, f"{name}: {remark}")

    run = revisions.read_run(folder)
    source = config.corpus or run.get("config", {}).get("corpus")
    if source is None:
        raise InputError(f"{folder}: has no run.json that names a corpus; give --corpus")
    corpus = load(source, config.split)
    for remark in corpus.remarks:
        launch.say(accelerator, remark)
    fingerprint = corpus.fingerprint()
    known = run.get("data", {}).get(config.split)
    if config.corpus is None and known and known["sha256"] != fingerprint:
        say(f"the {config.split} sentences of {source} have changed since training")
    model, tokenizer = revisions.load_revision(folder, tokenizer=config.tokenizer, say=say)
    model.to(accelerator.device)
    check_tags(corpus, model.config.inventory, f"revision {name}")
    encoded = encoding.encode_for(model, tokenizer, corpus)
    for remark in encoded.remarks:
        say(remark)
    judged = judge(
        model,
        corpus,
        encoded,
        how=config.decode,
        batch_size=config.batch_size,
        bf16=bf16,
        accelerator=accelerator,
    )
    return fingerprint, judged.report


if __name__ == "__main__":
    main(sys.argv[1:])
