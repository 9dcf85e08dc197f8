"""Ask experts for the labels that help most, round by round, and keep every round as a revision.

python active_learn.py --corpus sample --rounds 3     the built-in corpus, no network, minutes
accelerate launch active_learn.py --start main --corpus DIR --add 50 --rounds 5
python active_learn.py --corpus DIR --strategy default random random-words --seeds 0 1 2
python active_learn.py --corpus DIR --oracle labels   people label what lies in the folder labels
python -m nerc.curves show                            the learning curves of what is in ./models

Chance is the measure of every strategy: --strategy default random random-words runs all three
from the same first sentences. The test split chooses nothing; validation names the best round.
"""

# What takes seconds to import is imported where it is used, as in train.py.
import shlex
import sys
from pathlib import Path

from nerc.config import (
    ActiveConfig,
    ActiveDataConfig,
    ActiveStoreConfig,
    ActiveTrainConfig,
    ModelConfig,
    one_line_errors,
    parse,
)

PROGRAM = "active_learn.py"
CONFIGS = (ActiveConfig, ActiveDataConfig, ModelConfig, ActiveTrainConfig, ActiveStoreConfig)


def main(argv: list[str]) -> None:
    configs = parse(argv, PROGRAM, __doc__, *CONFIGS)
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
    from nerc import files, revisions

    store = revisions.Store(keep.repo)
    if active.oracle != "gold":
        files.check_folder(Path(active.oracle), "--oracle")
    if keep.status is not None:
        files.check_file(Path(keep.status), "--status")

    from nerc import active as rounds
    from nerc import curves, launch, machine, oracles

    with launch.session(keep.status and Path(keep.status)) as session:
        say = session.say
        machine.keep_freed_memory()
        machine.set_threads(config.num_threads)
        precision = machine.choose_precision(config.precision, session.accelerator.device)
        plan = rounds.prepare(data, network, config, active, keep, store, precision, command, say)
        rounds.check_new(plan, store)
        pool = plan.pool
        say(
            f"{len(pool.sentences):,} different sentences can be asked for, of {pool.total:,}; "
            f"{len(plan.known):,} are known"
        )
        try:
            rounds.learn(plan, store, session)
        except oracles.Waiting as waiting:
            say(str(waiting))
            return
        if session.is_main:
            say("\n" + curves.summary(store, active.price))


if __name__ == "__main__":
    main(sys.argv[1:])
