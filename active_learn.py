"""Ask experts for the labels that help most, round by round, and keep every round as a revision.

python active_learn.py --corpus sample --rounds 3     the built-in corpus, no network, minutes
accelerate launch active_learn.py --start main --corpus DIR --add 50 --rounds 5
python active_learn.py --corpus DIR --strategy default random random-words --seeds 0 1 2
python active_learn.py --corpus DIR --oracle labels   people label what lies in the folder labels
python -m nerc curves                                 the learning curves of what is in ./models

Chance is the measure of every strategy: --strategy default random random-words runs all three
import logging
from the same first sentences. The test split chooses nothing; validation names the best round.
"""

import logging
import shlex
import sys
from pathlib import Path

from nerc import files
from nerc.active_learning.config import (
    ActiveConfig,
    ActiveDataConfig,
    ActiveStoreConfig,
    ActiveTrainConfig,
)
from nerc.cli import LogConfig, parse, start_logging
from nerc.config import ModelConfig
from nerc.errors import one_line_errors

PROGRAM = "active_learn.py"
CONFIGS = (
    *(ActiveConfig, ActiveDataConfig, ModelConfig, ActiveTrainConfig, ActiveStoreConfig),
    LogConfig,
)
logger = logging.getLogger("nerc.active_learn")


def main(argv: list[str]) -> None:
    *configs, log = parse(argv, PROGRAM, __doc__, *CONFIGS)
    start_logging(quiet=log.quiet)
    with one_line_errors(PROGRAM):
        run(*configs, command=shlex.join([PROGRAM, *argv]))


def run(
    active: ActiveConfig,
    data: ActiveDataConfig,
    network: ModelConfig,
    config: ActiveTrainConfig,
    keep: ActiveStoreConfig,
    *,
    command: str,
) -> None:
    """Do the rounds of all strategies and seeds, and say what they gave."""
    from nerc import distributed, hardware
    from nerc.active_learning import curves, state
    from nerc.active_learning.plan import prepare
    from nerc.active_learning.rounds import learn
    from nerc.annotation import people
    from nerc.store import revisions

    store = revisions.Store(keep.repo)
    if active.oracle != "gold":
        files.check_folder(Path(active.oracle), "--oracle")
    if keep.status is not None:
        files.check_file(Path(keep.status), "--status")

    with distributed.session(keep.status and Path(keep.status)) as session:
        hardware.keep_freed_memory()
        hardware.set_threads(config.num_threads)
        precision = hardware.choose_precision(config.precision, session.accelerator.device)
        plan = prepare(data, network, config, active, keep, store, precision, command)
        state.check_new(plan, store)
        pool = plan.pool
        logger.info(
            f"{len(pool.sentences):,} different sentences can be asked for, of {pool.total:,}; "
            f"{len(plan.known):,} are known"
        )
        try:
            learn(plan, store, session)
        except people.WaitingForAnswers as waiting:
            logger.info(str(waiting))
            return
        if session.is_main:
            logger.info("\n" + curves.summary(store, active.price))


if __name__ == "__main__":
    main(sys.argv[1:])
