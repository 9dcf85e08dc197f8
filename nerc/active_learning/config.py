"""The settings of active_learn.py."""

import math
import re
from dataclasses import dataclass

from nerc.cli import check_flag, option
from nerc.config import DataConfig, StoreConfig, TrainConfig, parse_amount
from nerc.recipes import RECIPES

STRATEGIES = tuple(
    "default random random-words least-confidence mnlp margin entropy-mean entropy-sum entropy-top "
    "bald label-error".split()
)


@dataclass(frozen=True)
class ActiveConfig:
    """Whom to ask for labels, for which sentences, and when to stop."""

    rounds: int = option(5, "how many times sentences are chosen, labelled and learnt from")
    add: tuple[str, ...] = option(
        (),
        "how much is asked for in a round: a number of sentences (50), a share of all training "
        "sentences (2%%), or whole sentences of about so many words together (500w). Of "
        "several, each is for a round, and the last for all that follow. Default: 50",
    )
    strategy: tuple[str, ...] = option(
        (),
        "how sentences are chosen, one or several, each a run of its own from the same first "
        "sentences. default: by lot, the more likely the more uncertainty a sentence adds about "
        "words not yet asked about. random. random-words: at random, as many words as the first "
        "of the strategies. "
        "least-confidence, mnlp, margin, entropy-mean, entropy-sum, entropy-top, bald: the most "
        "uncertain ones by that measure. label-error: where the model doubts the cheap label",
        STRATEGIES,
    )
    oracle: str = option(
        "gold",
        "who labels: gold, the labels of the training split, which simulates it; or a folder, in "
        "which people find the sentences of a round (round_1.jsonl, round_1.conll) and leave their "
        "answers (round_1.answers.jsonl or .conll), which --resume reads",
    )
    seeds: tuple[str, ...] = option((), "seeds, each a run of its own. Default: that of --seed")
    types: tuple[str, ...] = option(
        (),
        "entity types that answers in a folder may have. Default: those of the labels that there "
        "are; where there are none, whichever come",
    )
    from_last: bool = option(
        False, "go on from the last round's weights, instead of from the encoder's in every round"
    )
    stop: str = option(
        "budget",
        "what ends it early, beside the last round: budget, nothing; kappa, predictions that stay "
        "as they are (Bloodgood & Vijay-Shanker 2009); plateau, validation F1 that does. What the "
        "others would do is printed",
        ("budget", "kappa", "plateau"),
    )
    price: float = option(
        0.0, "what an answer costs for each of its words, in any currency, for the table and plots"
    )

    def __post_init__(self) -> None:
        check_flag(self.rounds >= 1, "rounds", "1 or more", self.rounds)
        check_flag(0 <= self.price < math.inf, "price", "0 or more", self.price)
        for number in range(1, len(self.add) + 1):
            self.amount(number)
        wanted = f"one amount, or up to {self.rounds}, one for each of --rounds"
        check_flag(len(self.add) <= max(1, self.rounds), "add", wanted, " ".join(self.add))
        seeds = " ".join(self.seeds)
        ok = all(re.fullmatch("[0-9]{1,9}", s) for s in self.seeds)
        check_flag(
            ok and len(set(self.seeds)) == len(self.seeds), "seeds", "different numbers", seeds
        )
        names = " ".join(self.strategy)
        check_flag(
            len(set(self.strategy)) == len(self.strategy), "strategy", "different names", names
        )
        if self.oracle != "gold":
            for flag in ("seeds", "strategy"):
                value = getattr(self, flag)
                check_flag(
                    len(value) <= 1, flag, "one alone with people as --oracle", " ".join(value)
                )
        else:
            wanted = "left out with --oracle gold, whose types are known"
            check_flag(not self.types, "types", wanted, " ".join(self.types))
        wrong = [t for t in self.types if not re.fullmatch(r"[^\s-]\S*", t)]
        check_flag(not wrong, "types", "names such as PER", " ".join(wrong))

    def amount(self, number: int) -> tuple[float | int, str]:
        """What --add says for a round, as (share or number, "sentences" or "words")."""
        add = self.add or ("50",)
        text = add[min(max(number, 1), len(add)) - 1]
        if match := re.fullmatch(r"([0-9]{1,9})w", text):
            check_flag(int(match[1]) > 0, "add", "above 0", text)
            return int(match[1]), "words"
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)?%|[0-9]+", text):
            check_flag(False, "add", "a number (50), a percentage (2%) or words (500w)", text)
        return parse_amount(text, flag="add"), "sentences"


@dataclass(frozen=True)
class ActiveDataConfig(DataConfig):
    """What is known at the start, and how rounds learn from it (as train.py does)."""

    data: str = option(
        "mixed",
        "whose labels rounds learn from: the experts' and the corpus's cheap ones (mixed), or the "
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
        """Nothing is drawn where sentences are bought."""
        return None


@dataclass(frozen=True)
class ActiveStoreConfig:
    """Where the rounds leave their revisions, active_iter_ROUND_added_PERCENT."""

    repo: str = option("models", StoreConfig.__dataclass_fields__["repo"].metadata["help"])
    resume: bool = option(
        False,
        "go on where an interrupted run of these strategies came to, or with the answers that "
        "people gave, or with more --rounds, strategies or seeds; nothing else may change what is "
        "bought or learnt",
    )
    checkpoint_every: str = option(
        "15m", StoreConfig.__dataclass_fields__["checkpoint_every"].metadata["help"]
    )
    status: str | None = option(
        None,
        "write the run's state (running, interrupted, finished or failed) to this file, for job "
        "scripts; it is finished, too, when people have to answer first",
    )

    def __post_init__(self) -> None:
        self.of_round  # noqa: B018

    @property
    def of_round(self) -> StoreConfig:
        """Where a round leaves its own, going on where it was interrupted."""
        return StoreConfig(
            self.repo, resume=True, checkpoint_every=self.checkpoint_every, status=self.status
        )


@dataclass(frozen=True)
class ActiveTrainConfig(TrainConfig):
    """The optimisation of every round; the recipe decides what is not given."""

    recipe: str = option(
        "strong", TrainConfig.__dataclass_fields__["recipe"].metadata["help"], tuple(RECIPES)
    )
