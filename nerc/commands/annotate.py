__doc__ = """\
Ask a language model for weak labels, which train.py reads: DIR/llm.txt.

python -m nerc annotate --corpus DIR --model NAME --dry-run             what it would ask and cost
python -m nerc annotate --corpus DIR --model NAME --choose 200          compare ways to ask
python -m nerc annotate --corpus DIR --model NAME --token-price 0.15 0.6 --max-cost 5
python -m nerc annotate --corpus DIR --base-url http://localhost:8000/v1 --model NAME
python -m nerc annotate --corpus DIR --labeller gliner --model FOLDER   without a server

It reads the words of DIR/unlabelled.txt (or train.txt), and shows the model expert sentences of
train.txt as examples. Every reply is kept: the same command goes on after an interruption, and asks
nothing twice. A sentence whose reply is not certain stays unlabelled; llm.faults.csv lists them.
"""

from pathlib import Path

from nerc import files
from nerc.annotation.config import AnnotateConfig, LlmConfig
from nerc.cli import LogConfig, check_only, parse, start_logging
from nerc.errors import InputError, Interrupted, keep_loaded, one_line_errors

PROGRAM = "python -m nerc annotate"


def run(config: AnnotateConfig, llm: LlmConfig) -> None:
    """Label the sentences and write the files, or do what --dry-run, --choose or --batch ask."""
    folder = Path(config.corpus)
    if not folder.is_dir():
        raise InputError(f"--corpus {folder}: no such folder; wanted one with {config.split}.txt")
    files.check_folder(folder, "--corpus")
    if config.batch:
        files.check_file(Path(config.batch), "--batch")
        if Path(config.batch).exists() and not config.overwrite:
            raise InputError(f"--batch {config.batch}: is there already; name another file")

    if config.labeller == "gliner":
        check_only(llm, "model", "definitions", wanted="left out with --labeller gliner")

    from nerc.annotation.annotate import Job

    keep_loaded()
    job = Job.of(config, llm)
    if config.labeller == "gliner":
        from nerc.annotation import local

        print(local.label(job))
        return
    with job.open():
        if config.dry_run:
            print(job.dry_run())
        elif config.choose is not None:
            print(job.choose())
        elif config.batch is not None:
            print(job.write_batch())
        else:
            print(job.label())


def main(argv: list[str]) -> None:
    config, llm, log = parse(argv, PROGRAM, __doc__, AnnotateConfig, LlmConfig, LogConfig)
    start_logging(quiet=log.quiet)
    with one_line_errors(PROGRAM):
        try:
            run(config, llm)
        except (KeyboardInterrupt, Interrupted) as error:
            stopped = error if isinstance(error, Interrupted) else Interrupted(2)
            stopped.advice = "replies so far are kept; the same command goes on"
            raise stopped from None
