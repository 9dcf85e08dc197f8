__doc__ = """\
Choose which sentences experts label next, round by round, and keep every round as a revision.

python active_learn.py --corpus sample --rounds 3     the built-in corpus, no network, minutes
accelerate launch active_learn.py --start main --corpus DIR --add 50 --rounds 5
python active_learn.py --corpus DIR --strategy default random random-words --seeds 0 1 2
python active_learn.py --corpus DIR --oracle labels   people label, by files in labels
python active_learn.py --corpus DIR --oracle llm --model NAME     a language model labels
python -m nerc curves                                 the learning curves of the rounds in ./models

Random choice is the baseline of every strategy: --strategy default random random-words runs all
three from the same first sentences. The test split chooses nothing; validation names the best
round.
"""

import logging
import shlex
import sys
from dataclasses import replace
from pathlib import Path

from nerc import files
from nerc.active_learning.config import (
    ActiveConfig,
    ActiveDataConfig,
    ActiveStoreConfig,
    check_oracle,
)
from nerc.annotation.config import LlmConfig, without_secrets
from nerc.cli import LogConfig, parse, start_logging
from nerc.config import ModelConfig, TrainConfig
from nerc.errors import InputError, is_launched_alone, one_line_errors

PROGRAM = "active_learn.py"
CONFIGS = (
    *(ActiveConfig, ActiveDataConfig, ModelConfig, TrainConfig, ActiveStoreConfig),
    *(LlmConfig, LogConfig),
)
logger = logging.getLogger("nerc.active_learn")


def main(argv: list[str]) -> None:
    *configs, llm, log = parse(argv, PROGRAM, __doc__, *CONFIGS)
    start_logging(quiet=log.quiet, alone=True)
    if llm.base_url:
        argv = [text.replace(llm.base_url, without_secrets(llm.base_url)) for text in argv]
    with one_line_errors(PROGRAM):
        run(*configs, llm, command=shlex.join([PROGRAM, *argv]))


def run(
    active: ActiveConfig,
    data: ActiveDataConfig,
    network: ModelConfig,
    training: TrainConfig,
    keep: ActiveStoreConfig,
    llm: LlmConfig,
    *,
    command: str,
) -> None:
    """Run all strategies and seeds, and log a table of their rounds."""
    check_oracle(active, llm)
    if active.people:
        files.check_folder(Path(active.oracle), "--oracle")
    elif keep.check:
        raise InputError(
            f"--check must be left out with --oracle {active.oracle}, where no people label"
        )
    if keep.status is not None:
        files.check_file(Path(keep.status), "--status")

    # What needs no model is refused before the libraries load, which takes seconds.
    from nerc.active_learning.oracle import labeller_of
    from nerc.active_learning.plan import Plan, check_answers, check_store, make_plan
    from nerc.store.revisions import Store

    store = Store(keep.repo)

    def checked_plan() -> Plan:
        plan = make_plan(active, data, network, training, keep, store, command)
        plan = replace(plan, labeller=labeller_of(llm, plan.pool, store.folder))
        check_store(plan, store)
        return plan

    plan = checked_plan() if is_launched_alone() else None
    if keep.check:
        check_answers(plan or checked_plan(), store)
        return

    from nerc import distributed, hardware
    from nerc.active_learning.curves import summary
    from nerc.active_learning.learner import run_trials
    from nerc.annotation.people import WaitingForAnswers
    from nerc.model.precision import Precision

    with distributed.session(keep.status and Path(keep.status), PROGRAM) as session:
        hardware.keep_freed_memory()
        hardware.set_threads(training.num_threads)
        precision = Precision(training.precision, session.accelerator)
        plan = plan or checked_plan()
        try:
            run_trials(plan, store, session, precision)
        except WaitingForAnswers as waiting:
            logger.info(str(waiting))
            return
        if session.is_main:
            logger.info("\n" + summary(store, active.price))


if __name__ == "__main__":
    main(sys.argv[1:])
