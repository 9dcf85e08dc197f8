"""Train a tagger and keep it as a revision.

python train.py --corpus sample --recipe strong       the built-in corpus, no network, minutes
accelerate launch train.py --data gold                CoNLL-2003's expert labels, every GPU
accelerate launch train.py --data llm --corpus DIR    the labels a language model wrote
accelerate launch train.py --data mixed --recipe strong --expert 240 --corpus DIR
python train.py --start main --data gold --revision main_tuned
"""

# What takes seconds to import is imported where it is used, so that --help and a mistyped flag
# are answered at once.
import shlex
import sys
import time
from pathlib import Path

from nerc.config import (
    DataConfig,
    ModelConfig,
    StoreConfig,
    TrainConfig,
    one_line_errors,
    parse,
)

PROGRAM = "train.py"


def main(argv: list[str]) -> None:
    configs = parse(argv, PROGRAM, __doc__, DataConfig, ModelConfig, TrainConfig, StoreConfig)
    with one_line_errors(PROGRAM):
        run(*configs, command=shlex.join([PROGRAM, *argv]))


def run(
    data: DataConfig, network: ModelConfig, config: TrainConfig, keep: StoreConfig, *, command: str
) -> None:
    """Train and keep one revision."""
    started = time.perf_counter()
    from nerc import files, reports, revisions

    store = revisions.Store(keep.repo)
    name = keep.revision or revisions.default_name(data)
    store.check_free(name, overwrite=keep.overwrite or keep.resume)
    if network.start is not None:
        store.path(network.start)
    if keep.push:
        done = keep.resume and (store.folder / name).exists()
        store.check_push(name, overwrite=keep.overwrite or done)
    if keep.status is not None:
        files.check_file(Path(keep.status), "--status")

    from accelerate.utils import set_seed

    from nerc import launch, machine, runs

    with launch.session(keep.status and Path(keep.status)) as session, runs.advised(store, name):
        accelerator, say = session.accelerator, session.say
        machine.keep_freed_memory()
        threads = machine.set_threads(config.num_threads)
        precision = machine.choose_precision(config.precision, accelerator.device)
        set_seed(config.seed)  # new weights are drawn from it
        start = runs.prepare(data, network, config, store, precision, say)
        store.check_room(revisions.num_bytes(start.model))
        corpus = start.corpora["train"]
        say(
            f"{name}: {len(corpus):,} sentences, {corpus.num_words:,} words; recipe "
            f"{config.recipe}, {precision}, {accelerator.num_processes} process(es) on "
            f"{accelerator.device.type}, {threads} thread(s) each"
        )
        found = runs.train(start, name, store, keep, session, command)
        if found is None:
            say(f"{store.folder / name} is finished: nothing is left to do")
        else:
            for split, report in found.items():
                say(f"\n{reports.counted(report, split)}\n{reports.table({name: report}, split)}")
            say(f"\nkept as {store.folder / name} after {time.perf_counter() - started:.0f} s")
            if config.recipe == "paper":
                say("this was the published recipe; --recipe strong gives the best F1 we know")
        if keep.push and session.is_main:
            stretch = session.stop.at_once(lambda: None)
            say(store.push(name, overwrite=keep.overwrite, stretch=stretch))


if __name__ == "__main__":
    main(sys.argv[1:])
