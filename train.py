__doc__ = """\
Train a tagger and keep it as a revision.

python train.py --corpus sample                       the built-in corpus, no network, minutes
accelerate launch train.py --data gold                CoNLL-2003's expert labels, every GPU
accelerate launch train.py --data llm --corpus DIR    the labels a language model wrote
accelerate launch train.py --data mixed --expert 240 --corpus DIR
python train.py --start main --data gold --revision main_tuned
"""

import logging
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from nerc import files
from nerc.cli import LogConfig, parse, start_logging
from nerc.config import DataConfig, ModelConfig, StoreConfig, TrainConfig
from nerc.errors import is_launched_alone, one_line_errors

PROGRAM = "train.py"
CONFIGS = (DataConfig, ModelConfig, TrainConfig, StoreConfig, LogConfig)
logger = logging.getLogger("nerc.train")


def main(argv: list[str]) -> None:
    *configs, log = parse(argv, PROGRAM, __doc__, *CONFIGS)
    start_logging(quiet=log.quiet, alone=True)
    with one_line_errors(PROGRAM):
        run(*configs, command=shlex.join([PROGRAM, *argv]))


def open_store(data: DataConfig, network: ModelConfig, keep: StoreConfig):
    """The store and the name of the revision; refuses what needs no model before libraries load."""
    from nerc.store import revisions

    store = revisions.Store(keep.repo)
    name = keep.revision or revisions.default_name(data)
    store.check_free(name, overwrite=keep.overwrite or keep.resume)
    if network.start is not None:
        store.path(network.start)
    if keep.push:
        is_finished = keep.resume and (store.folder / name).exists()
        store.check_push(name, overwrite=keep.overwrite or is_finished)
    if keep.status is not None:
        files.check_file(Path(keep.status), "--status")
    return store, name


def run(
    data: DataConfig,
    network: ModelConfig,
    config: TrainConfig,
    keep: StoreConfig,
    *,
    command: str,
    customize: Callable | None = None,
) -> None:
    """Train and keep one revision; customize, of experiments, may change the RunSetup."""
    store, name = open_store(data, network, keep)
    from nerc.data.sources import read_sources

    sources = None  # prepare() reads them
    if is_launched_alone():
        sources = read_sources(data.resolved(config.recipe), config.keep)

    from accelerate.utils import set_seed

    from nerc import distributed, hardware
    from nerc.model.precision import Precision
    from nerc.store import model_files
    from nerc.tables import counted
    from nerc.training import resume, setup
    from nerc.training.run import train

    with (
        distributed.session(keep.status and Path(keep.status), PROGRAM) as session,
        resume.resume_advice(store, name),
    ):
        accelerator = session.accelerator
        hardware.keep_freed_memory()
        threads = hardware.set_threads(config.num_threads)
        precision = Precision(config.precision, accelerator)
        if keep.resume:
            precision.keep(resume.precision_so_far(store, name))
        set_seed(config.seed)  # new weights are drawn from it
        start = setup.prepare(data, network, config, store, precision, sources=sources)
        if customize is not None:
            start = customize(start)
        store.check_room(model_files.num_bytes(start.model))
        corpus = start.corpora["train"]
        logger.info(
            f"{name}: {len(corpus):,} sentences, {corpus.num_words:,} words; recipe "
            f"{config.recipe}, {start.precision}, "
            f"{counted(accelerator.num_processes, 'process')} on {accelerator.device.type}, "
            f"{counted(threads, 'thread')} each"
        )
        if train(start, name, store, keep, session, command) is None:
            logger.info(f"{store.folder / name} is finished: nothing is left to do")
        else:
            if config.recipe == "paper":
                logger.info("this was the published recipe; --recipe strong gives a higher F1")
            if data.corpus.partition(":")[0] == "sample":
                logger.info(
                    "the built-in corpus is for trying nerc out; to tag real text, train on "
                    "--corpus conll2003 or a folder of your own"
                )
        if keep.push and session.is_main:
            stretch = session.stop.interruptible(lambda: None)
            logger.info(store.push(name, overwrite=keep.overwrite, stretch=stretch))


if __name__ == "__main__":
    main(sys.argv[1:])
