"""The settings of active_learn.py."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields

from nerc.cli import check_flag, option
from nerc.config import Amount, DataConfig, StoreConfig, TrainConfig
from nerc.recipes import RECIPES

STRATEGIES = tuple(
    "default random random-words least-confidence mnlp margin entropy-mean entropy-sum entropy-top "
    "bald label-error".split()
)
HELP = {f.name: f.metadata["help"] for config in (TrainConfig, StoreConfig) for f in fields(config)}


@dataclass(frozen=True)
class ActiveConfig:
    """Which sentences are labelled, who labels them, and when to stop."""

    rounds: int = option(5, "how many times to choose sentences, get their labels and train")
    add: tuple[str, ...] = option(
        (),
        "how much to ask for in a round: a number of sentences (50), a share of all training "
        "sentences (2%%), or whole sentences of about that many words (500w). With several "
        "amounts, each is for one round, and the last for all that follow. Default: 50",
    )
    strategy: tuple[str, ...] = option(
        (),
        "how to choose sentences; each of several strategies starts from the same first "
        "sentences. default: draw them, with a probability in proportion to the uncertainty about "
        "words not yet asked about. random. random-words: at random, as many words as the first "
        "of the strategies. least-confidence, mnlp, margin, entropy-mean, entropy-sum, "
        "entropy-top, bald: the most uncertain ones by that measure. label-error: those whose weak "
        "label the model doubts most",
        STRATEGIES,
    )
    oracle: str = option(
        "gold",
        "who labels: gold, the labels of the training split, which simulates experts; or a folder, "
        "where people find the sentences of a round (round_1.jsonl, round_1.conll) and leave their "
        "answers (round_1.answers.jsonl or .conll), which --resume reads",
    )
    seeds: tuple[str, ...] = option(
        (), "seeds; every strategy runs once for each. Default: the one of --seed"
    )
    types: tuple[str, ...] = option(
        (),
        "entity types that answers in a folder may have. Default: the types of the labels that "
        "the corpus has; without any labels, all types",
    )
    stop: str = option(
        "budget",
        "when to stop: budget, after the last round; plateau, also when validation F1 no longer "
        "rises. With budget, the run only reports when plateau would stop it",
        ("budget", "plateau"),
    )
    price: float = option(
        0.0, "price of labelling a word, in any currency, for the table and the plots"
    )

    def __post_init__(self) -> None:
        check_flag(self.rounds >= 1, "rounds", "1 or more", self.rounds)
        check_flag(0 <= self.price < math.inf, "price", "0 or more", self.price)
        for text in self.add:
            Amount.parse(text, "add", words=True)
        wanted = f"one amount, or up to {self.rounds}, one for each of --rounds"
        check_flag(len(self.add) <= max(1, self.rounds), "add", wanted, " ".join(self.add))
        are_seeds = all(re.fullmatch("[0-9]{1,9}", seed) for seed in self.seeds)
        wanted = "different numbers"
        check_flag(are_seeds and _differ(self.seeds), "seeds", wanted, " ".join(self.seeds))
        names = " ".join(self.strategy)
        check_flag(_differ(self.strategy), "strategy", "different names", names)
        types = " ".join(self.types)
        if self.people:
            for flag in ("seeds", "strategy"):
                values = getattr(self, flag)
                wanted = "a single one when people label (--oracle DIR)"
                check_flag(len(values) <= 1, flag, wanted, " ".join(values))
        else:
            wanted = "left out with --oracle gold, whose types are known"
            check_flag(not self.types, "types", wanted, types)
        are_names = all(re.fullmatch(r"[^\s-]\S*", name) for name in self.types)
        check_flag(are_names, "types", "names such as PER", types)

    @property
    def people(self) -> bool:
        """Whether people answer, through files in a folder."""
        return self.oracle != "gold"

    def amount(self, number: int) -> Amount:
        """How much a round asks for, by --add."""
        add = self.add or ("50",)
        return Amount.parse(add[min(max(number, 1), len(add)) - 1], "add", words=True)


def _differ(values: Sequence[str]) -> bool:
    return len(set(values)) == len(values)


@dataclass(frozen=True)
class ActiveDataConfig(DataConfig):
    """What is known at the start, and what rounds learn from."""

    data: str = option(
        "mixed",
        "whose labels rounds learn from: the experts' and the corpus's weak labels (mixed), or the "
        "experts' alone (gold)",
        ("gold", "mixed"),
    )
    expert: str | None = option(
        None,
        "the first sentences, drawn at random by --seed, before any strategy chooses: a share of "
        "all training sentences (2%%) or a number (60). Default: as many as --add; with --start, "
        "none",
    )

    @property
    def expert_amount(self) -> str | None:
        """None: a round learns from all expert labels that it has, and draws none."""
        return None


@dataclass(frozen=True)
class ActiveStoreConfig:
    """Where rounds are kept, as revisions active_iter_ROUND_added_PERCENT."""

    repo: str = option("models", HELP["repo"])
    resume: bool = option(
        False,
        "continue an interrupted run, or one that waited for people's answers, or a finished one "
        "with more --rounds, strategies or seeds. Other flags that change results must stay as "
        "they were",
    )
    checkpoint_every: str = option("15m", HELP["checkpoint_every"])
    status: str | None = option(
        None,
        "write the run's state (running, interrupted, finished or failed) to this file, for job "
        "scripts; a run that waits for people's answers is finished",
    )

    def __post_init__(self) -> None:
        self.of_round  # noqa: B018

    @property
    def of_round(self) -> StoreConfig:
        """The settings of a round's training, which resumes where it was interrupted."""
        return StoreConfig(
            self.repo, resume=True, checkpoint_every=self.checkpoint_every, status=self.status
        )


@dataclass(frozen=True)
class ActiveTrainConfig(TrainConfig):
    """The optimisation of every round; the recipe decides what is not given."""

    recipe: str = option("strong", HELP["recipe"], tuple(RECIPES))
