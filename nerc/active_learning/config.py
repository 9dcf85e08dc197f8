"""The settings of active_learn.py."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

from nerc.annotation.config import LlmConfig
from nerc.cli import Effect, check_flag, check_only, help_of, option
from nerc.config import FORMATS, Amount, DataConfig, StoreConfig

STRATEGIES = ("default", "random", "random-words", "least-confidence", "mnlp", "margin")


@dataclass(frozen=True)
class ActiveConfig:
    __doc__ = "Which sentences are labelled, who labels them, and when to stop."

    rounds: int = option(
        5, "how many times to choose sentences, get their labels and train", effect=Effect.EXTENT
    )
    add: tuple[str, ...] = option(
        (),
        "how much to ask for in a round: a number of sentences (50), a share of all training "
        "sentences (2%%), or sentences with about that many words to label (500w). With several "
        "amounts, each is for one round, and the last for all that follow. Default: 50",
    )
    ask: str = option(
        "sentences",
        "what experts label of the sentences that are chosen: all words (sentences), or those that "
        "the model doubts, and the entities that these words are part of (words). Round 0, which "
        "has no model, asks for sentences. With words, strategies see the doubted words alone, "
        "--add 500w counts these, and a later round may ask for other words of a sentence",
        ("sentences", "words"),
    )
    strategy: tuple[str, ...] = option(
        (),
        "how to choose sentences; each of several strategies starts from the same first "
        "sentences. default: draw them, with a probability in proportion to the uncertainty about "
        "words not yet asked about. random. random-words: at random, as many words as the first "
        "of the strategies. least-confidence, mnlp, margin: the most uncertain ones by that "
        "measure",
        STRATEGIES,
        effect=Effect.EXTENT,
    )
    oracle: str = option(
        "gold",
        "who labels: gold, the labels of the training split, which simulates experts; llm, a "
        "language model (--model); or a folder, where people find the sentences of a round "
        "(round_1.jsonl, round_1.conll) and leave their answers (round_1.answers.jsonl or .conll, "
        "or round_1.answers.NAME.jsonl for each person), which --resume reads. A folder and "
        "--model: people label where the --samples of the model differ",
        effect=Effect.PLACE,
    )
    exchange: tuple[str, ...] = option(
        (),
        "formats of these files: those that the tool imports and exports in which people label. "
        "Default: jsonl and conll, for text editors",
        FORMATS[:5],
        effect=Effect.NONE,
    )
    annotators: int = option(
        1, "how many people answer each sentence of a round", effect=Effect.NONE
    )
    disagreement: str = option(
        "ask",
        "what happens to sentences with different answers. ask: they are asked again, in round_1."
        "adjudication; majority: the entities count that more than half of the people gave, and "
        "only ties are asked again",
        ("ask", "majority"),
        effect=Effect.NONE,
    )
    seeds: tuple[str, ...] = option(
        (), "seeds; every strategy runs once for each. Default: --seed", effect=Effect.SEED
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
        effect=Effect.EXTENT,
    )
    price: float = option(
        0.0, "price of labelling a word, in any currency, for the table", effect=Effect.NONE
    )

    def __post_init__(self) -> None:
        def check(flag: str, ok: bool, wanted: str) -> None:
            value = getattr(self, flag)
            check_flag(ok, flag, wanted, " ".join(value) if isinstance(value, tuple) else value)

        check("rounds", self.rounds >= 1, "1 or more")
        check("annotators", self.annotators >= 1, "1 or more")
        formats = self.exchange
        num_lines = len(set(formats) & {"jsonl", "prodigy", "doccano"})
        is_clear = len(formats) == len(set(formats)) and num_lines <= 1
        check("exchange", is_clear, "different formats, of jsonl, prodigy and doccano one at most")
        wanted = f"left out with --oracle {self.oracle}, where no people label"
        check("exchange", self.people or not formats, wanted)
        is_clear = self.ask == "sentences" or {*formats} <= {"jsonl", "conll"}
        wanted = "jsonl or conll with --ask words, which the other tools cannot show"
        check("exchange", is_clear, wanted)
        check("price", 0 <= self.price < math.inf, "0 or more")
        for text in self.add:
            Amount.parse(text, "add", words=True)
        wanted = f"one amount, or up to {self.rounds}, one for each of --rounds"
        check("add", len(self.add) <= max(1, self.rounds), wanted)
        are_seeds = all(re.fullmatch("[0-9]{1,9}", seed) for seed in self.seeds)
        check("seeds", are_seeds and len({*self.seeds}) == len(self.seeds), "different numbers")
        check("strategy", len({*self.strategy}) == len(self.strategy), "different names")
        is_clear = self.people or not any(Path(self.oracle).glob("round_*.jsonl"))
        wanted = f"./{self.oracle} for the folder here; for what {self.oracle} means, rename it"
        check("oracle", is_clear, wanted)
        for flag in ("seeds", "strategy") if self.oracle != "gold" else ():
            wanted = "a single one when people label (--oracle DIR), or a language model"
            check(flag, len(getattr(self, flag)) <= 1, wanted)
        wanted = "left out with --oracle gold, whose types are known"
        check("types", self.oracle != "gold" or not self.types, wanted)
        are_names = all(re.fullmatch(r"[^\s-]\S*", name) for name in self.types)
        check("types", are_names, "names such as PER")

    @property
    def people(self) -> bool:
        """Whether people answer, through files in a folder."""
        return self.oracle not in ("gold", "llm")

    def amount(self, number: int) -> Amount:
        """How much a round asks for, by --add."""
        add = self.add or ("50",)
        return Amount.parse(add[min(max(number, 1), len(add)) - 1], "add", words=True)


@dataclass(frozen=True)
class ActiveDataConfig(DataConfig):
    __doc__ = "What is known at the start, and what rounds learn from."

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
    __doc__ = "Where rounds are kept, as revisions active_iter_ROUND_added_PERCENT."

    repo: str = option("models", help_of(StoreConfig, "repo"), effect=Effect.NONE)
    resume: bool = option(
        False,
        "continue an interrupted run, or one that waited for people's answers, or a finished one "
        "with more --rounds, strategies or seeds. Other flags that change results must stay as "
        "they were",
        effect=Effect.NONE,
    )
    check: bool = option(
        False,
        "check the answers that people gave so far, which takes seconds: name faults, say what is "
        "missing and how far annotators agree, and train nothing",
        effect=Effect.NONE,
    )
    checkpoint_every: str = option(
        "15m", help_of(StoreConfig, "checkpoint_every"), effect=Effect.NONE
    )
    status: str | None = option(
        None,
        "write the run's state (running, interrupted, finished or failed) to this file, for job "
        "scripts; a run that waits for people's answers is finished",
        effect=Effect.NONE,
    )

    def __post_init__(self) -> None:
        self.of_round  # noqa: B018

    @property
    def of_round(self) -> StoreConfig:
        """The settings of a round's training, which resumes where it was interrupted."""
        return StoreConfig(
            self.repo, resume=True, checkpoint_every=self.checkpoint_every, status=self.status
        )


def check_oracle(active: ActiveConfig, llm: LlmConfig) -> None:
    """Raise InputError where the flags of a language model do not fit who labels."""
    if llm.model is None:
        check_flag(active.oracle != "llm", "model", "given with --oracle llm", None)
        check_only(llm, wanted="left out without --model")
        return
    wanted = "left out with --oracle gold, whose labels are known"
    check_flag(active.oracle != "gold", "model", wanted, llm.model)
    wanted = "sentences with --model, which labels all words"
    check_flag(active.ask == "sentences", "ask", wanted, active.ask)
    wanted = "2 or more with a folder and --model, as people label where samples differ"
    check_flag(not active.people or llm.samples > 1, "samples", wanted, llm.samples)
