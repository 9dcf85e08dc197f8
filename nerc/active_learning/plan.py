"""The plan of an active-learning command: its trials, pool and budget."""

import json
import logging
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from nerc.active_learning.config import ActiveConfig, ActiveDataConfig, ActiveStoreConfig
from nerc.active_learning.strategies import Budget
from nerc.config import ModelConfig, TrainConfig
from nerc.data.corpus import Corpus, Sentence
from nerc.data.pool import Pool, Query, open_pool
from nerc.errors import InputError
from nerc.store import records
from nerc.store.revisions import Store
from nerc.training import setup

logger = logging.getLogger(__name__)

STOP_SET_SIZE = 500  # sentences on which the models of two rounds are compared
# Flags of no consequence for what is bought or learnt.
_CHANGE_NOTHING = {
    *("rounds", "strategy", "seeds", "seed", "price", "stop", "corpus", "oracle"),
    *("num_threads", "micro_batch_words", "precision"),
}


class Trial(NamedTuple):
    """One of the runs of a command: a strategy from one seed. strategy None: their first round."""

    strategy: str | None
    seed: int
    suffix: str  # of the revisions' names


@dataclass(frozen=True)
class Plan:
    """What a command does, every setting as it was given; the same in every process."""

    data: ActiveDataConfig
    network: ModelConfig  # of rounds: what the start has
    config: TrainConfig
    active: ActiveConfig
    keep: ActiveStoreConfig
    start: str | None  # the revision that asks first
    known: list[Query]  # what it had learnt from
    pool: Pool
    precision: str
    command: str

    def arms(self) -> list[tuple[Trial, list[Trial]]]:
        """Of each seed the first round, and an arm for every strategy."""
        strategies = self.active.strategy or ("default",)
        seeds = [int(seed) for seed in self.active.seeds] or [self.config.seed]
        found = []
        for seed in seeds:
            of_seed = f"_seed{seed}" if len(seeds) > 1 else ""
            suffixes = [f"_{s}{of_seed}" if len(strategies) > 1 else of_seed for s in strategies]
            arms = [Trial(s, seed, x) for s, x in zip(strategies, suffixes, strict=True)]
            found.append((Trial(None, seed, of_seed), arms))
        return found

    @cached_property
    def description(self) -> dict[str, Any]:
        """By which a run of the same plan is known, but for strategy and seed."""
        flags = asdict(self.data) | asdict(self.network) | asdict(self.config) | asdict(self.active)
        flags = {name: value for name, value in flags.items() if name not in _CHANGE_NOTHING}
        people = self.active.oracle != "gold"
        flags |= {"start": self.start, "oracle": "people" if people else "gold"}
        flags["add"] = " ".join(self.active.add)
        return json.loads(json.dumps(flags | {"pool": self.pool.text.fingerprint()}))

    def budget(self, number: int) -> Budget:
        """What a round may buy."""
        number, unit = self.active.amount(number)
        if isinstance(number, float):
            number = max(1, round(number * self.pool.total))
        return Budget(number, of_words=unit == "words")

    def free(self, before: list[Query]) -> list[int]:
        """Places of the sentences that have not been asked for."""
        had = {query.words for query in before}
        return [i for i, s in enumerate(self.pool.sentences) if s.words not in had]

    @cached_property
    def watched(self) -> list[int]:
        """Places of the sentences on which models are compared."""
        order = np.random.default_rng(11).permutation(len(self.pool.sentences))
        return np.sort(order[:STOP_SET_SIZE]).tolist()

    @cached_property
    def corpus(self) -> Corpus:
        """The pool, without its answers."""
        return Corpus.of(sentence._replace(tags=None) for sentence in self.pool.sentences)


def prepare(
    data: ActiveDataConfig,
    network: ModelConfig,
    config: TrainConfig,
    active: ActiveConfig,
    keep: ActiveStoreConfig,
    store: Store,
    precision: str,
    command: str,
) -> Plan:
    """Read the pool, and what the revision of --start was trained on."""
    strategies = active.strategy
    if "label-error" in strategies and data.data != "mixed":
        raise InputError("--strategy label-error needs cheap labels: --data mixed")
    if "bald" in strategies and network.dropout == 0:
        raise InputError("--strategy bald needs a model under dropout, and --dropout is 0")
    if active.seeds and config.seed:
        raise InputError("--seed must be left out with --seeds")
    start, known = network.start, []
    pool = open_pool(
        data.corpus, active.oracle, with_cheap=data.data == "mixed", types=active.types
    )
    if start is not None:
        if data.expert is not None:
            raise InputError("--expert must be left out with --start, whose experts are known")
        folder = store.path(start)
        run = records.read_run(folder)
        settings = run.get("config", {})
        if not settings.get("encoder"):
            raise InputError(
                f"--start {start}: no run.json names the encoder that it began with, wanted a "
                f"revision that train.py or active_learn.py made from one"
            )
        if network.tokenizer is not None:
            raise InputError("--tokenizer must be left out: rounds have that of the encoder")
        given = {} if network.dropout is None else {"dropout": network.dropout}
        network = ModelConfig(**{f: settings[f] for f in _NETWORK_FLAGS} | given)
        known = [_known(sentence) for sentence in setup.expert_sentences(run, folder)]
        logger.info(f"{start}: {len(known)} expert sentences are known from it")
    setup.read_sources(data.resolved(config.recipe), config, with_train=False)  # fails early
    known += [_known(sentence) for sentence in pool.known]
    known = list({query.words: query for query in known}.values())
    return Plan(data, network, config, active, keep, start, known, pool, precision, command)


_NETWORK_FLAGS = ("encoder", "lstm_hidden_size", "dropout")


def _known(sentence: Sentence) -> Query:
    return Query(0, "start", None, sentence.location, sentence.words, sentence.tags)
