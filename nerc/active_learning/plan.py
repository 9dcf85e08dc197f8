"""The plan of an active-learning command: its settings, its pool of sentences and its trials.

It needs no model, so that what cannot work is refused before the libraries load.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

from nerc.active_learning.config import ActiveConfig, ActiveDataConfig, ActiveStoreConfig
from nerc.cli import Effect, flags_with
from nerc.config import ModelConfig, TrainConfig
from nerc.data.labels import num_drawn
from nerc.data.pool import Pool, open_pool
from nerc.errors import InputError
from nerc.store import records
from nerc.store.revisions import Store

_FROM_START = ("encoder", "lstm_hidden_size", "dropout")  # flags that rounds take from --start
# Flags of earlier versions, with the only value that is still possible.
REMOVED_FLAGS = {"from_last": False}
# Flags that runs of the same plan may differ in; of the two places, the content is described.
_VARIABLE_FLAGS = {"corpus", "oracle"} | flags_with(
    {Effect.NONE, Effect.SEED, Effect.EXTENT},
    ActiveConfig,
    ActiveDataConfig,
    ModelConfig,
    TrainConfig,
)


class Trial(NamedTuple):
    """One run of a command: a strategy from one seed, or the round 0 that strategies share."""

    strategy: str | None  # None: round 0
    seed: int
    suffix: str  # of the names of its revisions
    words_of: str | None = None  # the strategy that random-words acquires as many words as


@dataclass(frozen=True)
class Plan:
    """What a command does; the same in every process."""

    active: ActiveConfig
    data: ActiveDataConfig
    network: ModelConfig  # of every round; with --start, that of its revision
    training: TrainConfig
    keep: ActiveStoreConfig
    start: str | None  # the revision that asks first
    pool: Pool
    command: str

    def trials(self) -> list[list[Trial]]:
        """For each seed, the trial of its round 0 and then those of all strategies."""
        strategies = self.active.strategy or ("default",)
        seeds = [int(seed) for seed in self.active.seeds] or [self.training.seed]
        groups = []
        for seed in seeds:
            of_seed = f"_seed{seed}" if len(seeds) > 1 else ""
            trials = [Trial(None, seed, of_seed)]
            for name in strategies:
                suffix = f"_{name}{of_seed}" if len(strategies) > 1 else of_seed
                words_of = strategies[0] if name == "random-words" != strategies[0] else None
                trials.append(Trial(name, seed, suffix, words_of))
            groups.append(trials)
        return groups

    @cached_property
    def description(self) -> dict[str, Any]:
        """What a run of this plan is recognised by, besides its strategy and seed."""
        configs = (self.data, self.network, self.training, self.active)
        flags = {name: value for config in configs for name, value in asdict(config).items()}
        flags |= {"start": self.start, "add": " ".join(self.active.add)}
        flags = {name: value for name, value in flags.items() if name not in _VARIABLE_FLAGS}
        flags["oracle"] = "people" if self.active.people else "gold"
        return json.loads(json.dumps(flags | {"pool": self.pool.text.fingerprint()}))

    def changes(self, earlier: Mapping[str, Any]) -> list[str]:
        """How the description of an earlier run differs from this one, in words."""
        # Records of earlier versions lack the precision, and may have removed flags.
        earlier = REMOVED_FLAGS | {"precision": self.training.precision} | earlier
        return [
            "the corpus had other sentences"
            if name == "pool"
            else f"{name.replace('_', '-')} was {earlier.get(name)}, is {value}"
            for name, value in (REMOVED_FLAGS | self.description).items()
            if earlier.get(name) != value
        ]

    def identity(self, trial: Trial) -> str:
        """Text that differs between trials of different plans."""
        return json.dumps([self.description, trial])

    def earlier_identity(self, trial: Trial) -> str:
        """The identity that versions with the flag --from-last gave the trial."""
        flags = {name: value for name, value in self.description.items() if name != "precision"}
        last = {name: flags.pop(name) for name in ("oracle", "pool")}
        return json.dumps([flags | REMOVED_FLAGS | last, trial[:3]])


def make_plan(
    active: ActiveConfig,
    data: ActiveDataConfig,
    network: ModelConfig,
    training: TrainConfig,
    keep: ActiveStoreConfig,
    store: Store,
    command: str,
) -> Plan:
    """Check the flags against one another and read the pool."""
    if active.seeds and training.seed:
        raise InputError("--seed must be left out with --seeds")
    start = network.start
    if start is not None:
        network = _network_of_start(start, data, network, store)
    is_mixed = data.data == "mixed"
    pool = open_pool(data.corpus, active.oracle, with_weak=is_mixed, types=active.types)
    if data.expert is not None:
        num_drawn(pool.total, data.expert, "sentences")  # raises where there are fewer
    return Plan(active, data, network, training, keep, start, pool, command)


def _network_of_start(
    start: str, data: ActiveDataConfig, network: ModelConfig, store: Store
) -> ModelConfig:
    """The network that the revision of --start began with."""
    if data.expert is not None:
        raise InputError("--expert must be left out with --start, whose experts are known")
    if network.tokenizer is not None:
        raise InputError("--tokenizer must be left out: rounds use the encoder's")
    settings = records.read_run(store.path(start)).get("config", {})
    if not settings.get("encoder"):
        raise InputError(
            f"--start {start}: no run.json names the encoder that it began with, wanted a "
            f"revision that train.py or active_learn.py trained from an encoder"
        )
    given = {} if network.dropout is None else {"dropout": network.dropout}
    return ModelConfig(**{name: settings[name] for name in _FROM_START} | given)
