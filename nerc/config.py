"""One frozen dataclass per concern, and parse(), which turns a command line into them.

A field is a flag: name, type, default, help and range stand in one place. Fields that are None are
decided by the recipe, the corpus or the machine; what was decided stands in a revision's run.json.
"""

import argparse
import errno
import math
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, NoReturn, get_args

# What each recipe sets where the command line does not.
RECIPES: dict[str, dict[str, Any]] = {
    # The published recipe of the project that nerc replaces.
    "paper": {
        "optimizer": "sgd",
        "lr": 1e-3,
        "head_lr": 1e-3,
        "momentum": 0.9,
        "weight_decay": 0.0,
        "warmup": 0.0,
        "schedule": "constant",
        "clip": 0.0,
        "batch_size": 32,
        "epochs": 5,
        "combine": "concat",
        "repair": ("none",),
    },
    # Chosen on validation F1. The learning rate is that of bert-base; see TrainConfig.resolved.
    "strong": {
        "optimizer": "adamw",
        "lr": 5e-5,
        "head_lr": 1e-3,
        "momentum": 0.0,
        "weight_decay": 0.01,
        "warmup": 0.1,
        "schedule": "linear",
        "clip": 1.0,
        "batch_size": 32,
        "epochs": 4,
        "epochs_llm": 2,
        "combine": "selftrain",
        "repair": ("well-formed", "form"),
    },
}

# strong gives training sets of fewer sentences than SMALL smaller batches, and so many updates at
# least, and those of fewer than FEW a smaller learning rate of the encoder.
SMALL = 2000
SMALL_BATCH_SIZE = 16
SMALL_UPDATES = 480
FEW = 500
FEW_LR = 0.5

# How expert and cheap labels are combined: nerc.combining.ARMS.
COMBINATIONS = tuple("concat replace weighted pretrain filter corrector selftrain".split())
REPAIRS = ("inventory", "well-formed", "form", "none")
STRATEGIES = tuple(
    "default random random-words least-confidence mnlp margin entropy-mean entropy-sum entropy-top "
    "bald label-error".split()
)
UNLABELLED = 8000  # sentences that selftrain reads


MAX_THREADS = 1024  # past some thousands, torch crashes
_WAIT_FOR_MAIN = 5.0  # seconds, in which a launcher ends the other processes of one that failed


class InputError(ValueError):
    """Bad input from the user; the message is one line: where, found, wanted, what to do."""


class Interrupted(BaseException):
    """A signal asked the run to stop; like KeyboardInterrupt, it is no Exception to be caught."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.name = signal.Signals(number).name
        self.exit_code = 128 + number
        self.advice = "nothing is kept of it; run the same command again"


def option(default: Any, help: str, choices: Sequence[str] | None = None) -> Any:
    """A dataclass field that is a command-line flag."""
    return field(default=default, metadata={"help": help, "choices": choices})


def _check(ok: bool, flag: str, wanted: str, found: Any) -> None:
    if not ok:
        raise InputError(f"--{flag.replace('_', '-')} must be {wanted}, not {found!r}")


@dataclass(frozen=True)
class DataConfig:
    """Whose labels (--data) on which text (--corpus)."""

    data: str = option(
        "gold",
        "whose labels: expert (gold), a large language model's (llm), or both (mixed); see "
        "--combine",
        ("gold", "llm", "mixed"),
    )
    expert: str | None = option(
        None,
        "how many expert sentences gold or mixed may use, drawn at random by --seed: a share of "
        "the training split (12%%) or a number (240). 12%% of CoNLL-2003 is 1,685 sentences; the "
        "published notebooks' '12 %%' was 244. Default: all for gold, 12%% for mixed",
    )
    corpus: str = option(
        "conll2003",
        "which text: conll2003 (from the Hub), sample or sample:SENTENCES (built in, needs no "
        "network; sample:SENTENCES:missing has other errors in its cheap labels), a folder with "
        "train.txt valid.txt test.txt and, for cheap labels, llm.txt (of more sources, "
        "llm.NAME.txt) in CoNLL columns, or the id USER/NAME of a data set on the Hub",
    )
    combine: str | None = option(
        None,
        "how mixed learns from cheap labels. selftrain: two models that were trained on the cheap "
        "labels, then on the experts', label text for a third one, which learns from the experts, "
        "too. concat: all labels alike, a sentence that has two twice. replace: the same, where "
        "the expert's label replaces the cheap one. weighted: and the experts' count as much as "
        "all the others. pretrain: first the cheap labels, then the experts'. filter: weighted, "
        "without cheap labels that models trained on the others find unlikely. corrector: a model "
        "that reads cheap labels learns from the experts to correct them. On CoNLL-2003 concat, "
        "replace, weighted and filter did worse than the experts alone. Default: selftrain for "
        "--recipe strong, concat for paper",
        COMBINATIONS,
    )
    repair: tuple[str, ...] = option(
        (),
        "what is mended in cheap labels before anything is learnt from them, one or several: "
        "inventory, entities of types that no drawn expert's label has are left unlabelled (mixed "
        "alone); well-formed, sentences whose tags no scheme allows are left out; form, entities "
        "are dropped in which no word has a form (capitals, digits, ...) that the cheap labels "
        "often have in entities; none. Default: for llm alone with --recipe strong, well-formed "
        "and form, else none",
        REPAIRS,
    )
    unlabelled: int | None = option(
        None,
        "most sentences that selftrain reads without labels, drawn by --seed from unlabelled.txt, "
        "and from those of the training split whose labels are not used (default: 8000)",
    )

    def __post_init__(self) -> None:
        if self.expert is not None:
            _check(self.data != "llm", "expert", "left out with --data llm", self.expert)
            parse_amount(self.expert, flag="expert")
        if self.data != "mixed":
            for flag in ("combine", "unlabelled"):
                value = getattr(self, flag)
                _check(value is None, flag, "left out without --data mixed", value)
        repairs = " ".join(self.repair)
        gold = self.data == "gold" and self.repair
        _check(not gold, "repair", "left out with --data gold, which has no cheap labels", repairs)
        alone = self.data == "llm" and "inventory" in self.repair
        wanted = "without inventory, which compares with expert labels, with --data llm"
        _check(not alone, "repair", wanted, repairs)
        _check_repairs(self.repair)
        number = self.unlabelled
        _check(number is None or number >= 0, "unlabelled", "0 or more", number)

    def resolved(self, recipe: str) -> "DataConfig":
        """This configuration with what the recipe decides in the place of what is not given."""
        decided: dict[str, Any] = {"expert": self.expert_amount}
        if self.data == "mixed":
            combine = self.combine or RECIPES[recipe]["combine"]
            asked, wanted = self.unlabelled, "left out without --combine selftrain"
            _check(combine == "selftrain" or asked is None, "unlabelled", wanted, asked)
            number = UNLABELLED if asked is None else asked
            decided |= {"combine": combine, "unlabelled": number if combine == "selftrain" else 0}
        if self.data == "llm":
            decided["repair"] = self.repair or RECIPES[recipe]["repair"]
        return replace(self, **decided)

    @property
    def expert_amount(self) -> str | None:
        """--expert, or what it stands for when it is not given; None: every expert sentence."""
        return self.expert or ("12%" if self.data == "mixed" else None)


def _check_repairs(repairs: Sequence[str]) -> None:
    alone = len(repairs) == 1 or "none" not in repairs
    _check(alone, "repair", "none, or others without it", " ".join(repairs))


def parse_amount(text: str, *, flag: str) -> float | int:
    """'12%' -> 0.12 (a share, float); '240' -> 240 (a number, int); InputError otherwise."""
    wanted = "a percentage above 0 and up to 100, such as 12%, or a whole number above 0"
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)%", text)
    if match:
        _check(0 < float(match[1]) <= 100, flag, wanted, text)
        return float(match[1]) / 100
    _check(re.fullmatch(r"[0-9]+", text) is not None and int(text) > 0, flag, wanted, text)
    return int(text)


@dataclass(frozen=True)
class ModelConfig:
    """The network, before training."""

    encoder: str | None = option(
        None,
        "pretrained BERT: a folder, a Hub name, or tiny (2 layers from scratch, vocabulary learnt "
        "from the training text). Default: bert-base-cased, and tiny for --corpus sample",
    )
    start: str | None = option(
        None,
        "go on from the weights of this revision in --repo instead of an encoder's (fine-tuning); "
        "in active_learn.py it asks first, what its experts labelled is known, and rounds begin "
        "with the encoder that it began with",
    )
    tokenizer: str | None = option(
        None,
        "tokenizer, a folder or a Hub name, of a published revision that holds none. Default: that "
        "of the encoder which its config.json names, or bert-base-cased",
    )
    lstm_hidden_size: int | None = option(
        None, "units of the BiLSTM per direction; 0: no BiLSTM. Default: 512, and 128 for tiny"
    )
    dropout: float | None = option(
        None,
        "dropout everywhere: encoder, attention and before the linear tagger, 0 to 1. "
        "Default: 0.1, or as the revision of --start has it",
    )

    def __post_init__(self) -> None:
        if self.start == "none":
            object.__setattr__(self, "start", None)
        size, dropout = self.lstm_hidden_size, self.dropout
        _check(size is None or 0 <= size <= 2**16, "lstm_hidden_size", "0 to 65536", size)
        _check(dropout is None or 0 <= dropout < 1, "dropout", "at least 0 and below 1", dropout)
        if self.start is not None:
            for flag in ("encoder", "lstm_hidden_size"):
                value = getattr(self, flag)
                _check(value is None, flag, "left out with --start, whose revision has it", value)
        else:
            wanted = "left out without --start: an encoder has its own"
            _check(self.tokenizer is None, "tokenizer", wanted, self.tokenizer)


@dataclass(frozen=True)
class TrainConfig:
    """The optimisation; the recipe decides what is not given."""

    recipe: str = option(
        "paper",
        "paper: the published SGD recipe; strong: AdamW, the best F1 we know for the class",
        tuple(RECIPES),
    )
    optimizer: str | None = option(None, "sgd or adamw", ("sgd", "adamw"))
    lr: float | None = option(
        None,
        "peak learning rate of the encoder; strong's is for bert-base and grows for smaller ones",
    )
    head_lr: float | None = option(None, "peak learning rate of BiLSTM and linear tagger")
    momentum: float | None = option(None, "momentum of sgd, 0 to 1")
    weight_decay: float | None = option(None, "weight decay, not on biases and norms")
    warmup: float | None = option(None, "share of updates with rising learning rate, 0 to 1")
    schedule: str | None = option(
        None, "learning rate after warm-up: constant, or linear to 0", ("constant", "linear")
    )
    clip: float | None = option(None, "largest norm of the gradient; 0: no clipping")
    batch_size: int | None = option(
        None, "sentences per update, over all processes together, however many there are"
    )
    epochs: int | None = option(
        None, "passes over the training sentences, in every stage that --combine has"
    )
    keep: str = option(
        "best",
        "best: the epoch with the highest validation F1, of those that were judged (every one, but "
        "for few sentences, where reports would take longer than training); last: the last one, "
        "for runs in which validation labels must choose nothing",
        ("best", "last"),
    )
    micro_batch_words: int = option(
        0,
        "most words that a process computes at a time, which bounds its memory; an update is the "
        "sum of as many micro-batches as it takes. 0: a process's whole share of the update",
    )
    seed: int = option(0, "seed of weights, order, dropout and the draw of expert sentences")
    precision: str = option(
        "auto",
        "auto: bf16 where the device computes in it, else float32. Reports are always float32",
        ("auto", "float32", "bf16"),
    )
    cuda_graphs: bool = option(
        False,
        "start the kernels of an update all at once, as CUDA graphs: faster on a fast GPU, for "
        "one process without micro-batches. Not tried on a real GPU yet",
    )
    num_threads: int = option(
        0, "CPU threads of each process; 0: the machine's cores shared among its processes"
    )

    def __post_init__(self) -> None:
        def check(flag: str, test: Callable[[Any], bool], wanted: str) -> None:
            value = getattr(self, flag)
            _check(value is None or test(value), flag, wanted, value)

        for flag in ("lr", "head_lr"):
            check(flag, lambda v: 0 < v < float("inf"), "above 0")
        for flag in ("weight_decay", "clip"):
            check(flag, lambda v: 0 <= v < float("inf"), "0 or more")
        check("momentum", lambda v: 0 <= v < 1, "at least 0 and below 1")
        check("warmup", lambda v: 0 <= v <= 1, "between 0 and 1")
        for flag in ("batch_size", "epochs"):
            check(flag, lambda v: v >= 1, "1 or more")
        check("micro_batch_words", lambda v: v >= 0, "0 or more")
        whole = not (self.cuda_graphs and self.micro_batch_words)
        _check(whole, "micro_batch_words", "left out with --cuda-graphs", self.micro_batch_words)
        check("seed", lambda v: 0 <= v < 2**32, "at least 0 and below 2^32")
        check("num_threads", lambda v: 0 <= v <= MAX_THREADS, f"0 to {MAX_THREADS}")

    def resolved(
        self,
        *,
        hidden_size: int,
        num_layers: int,
        num_sentences: int = SMALL,
        epochs: int | None = None,
    ) -> "TrainConfig":
        """This configuration with the recipe's values in the place of None.

        strong gives an encoder that is narrower or shallower than bert-base (768 wide, 12 layers)
        larger steps in proportion, up to those of the head; and few sentences smaller batches and
        so many epochs that there are enough updates. epochs takes the place of the recipe's.
        """
        names = {f.name for f in fields(self)}
        values = {name: v for name, v in RECIPES[self.recipe].items() if name in names}
        values["epochs"] = epochs or values["epochs"]
        if self.recipe == "strong":
            if epochs is None and num_sentences < SMALL:
                values["batch_size"] = SMALL_BATCH_SIZE
            updates = math.ceil(num_sentences / (self.batch_size or values["batch_size"]))
            least = SMALL_UPDATES // 4 if epochs else SMALL_UPDATES
            values["epochs"] = max(values["epochs"], math.ceil(least / updates))
            scaled = values["lr"] * (768 / hidden_size) * (12 / num_layers)
            if epochs is None and num_sentences < FEW:
                scaled *= FEW_LR
            values["lr"] = min(scaled, self.head_lr or values["head_lr"])
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        given = {name: value for name, value in given.items() if value is not None}
        config = replace(self, **(values | given))
        if config.optimizer == "adamw":
            _check(not self.momentum, "momentum", "left out with --optimizer adamw", self.momentum)
            config = replace(config, momentum=0.0)
        return config


@dataclass(frozen=True)
class StoreConfig:
    """Where a run leaves its revision."""

    repo: str = option(
        "models",
        "folder that holds the revisions; USER/NAME of a repository on the Hub is the folder of "
        "that name, and what is not in it is read from the Hub, where a revision is a branch",
    )
    revision: str | None = option(
        None,
        "name of the revision. Default: main for llm, model_primary for gold, model_mixed_12 or "
        "model_mixed_240_sentences for mixed",
    )
    overwrite: bool = option(
        False,
        "replace a revision of that name, finished (the old one stays until the new one is "
        "complete) or interrupted",
    )
    resume: bool = option(
        False,
        "go on with the interrupted run of this revision from its last checkpoint; without one "
        "start anew, and with nothing left to do say so",
    )
    push: bool = option(
        False,
        "send the revision to the branch of its name of the repository on the Hub that --repo "
        "names; a branch that holds something else is replaced with --overwrite only",
    )
    checkpoint_every: str = option(
        "15m",
        "how often to keep what --resume needs: a time (30s, 15m, 2h), a number of updates (500), "
        "or never, which is but for signals",
    )
    status: str | None = option(
        None,
        "write the run's state (running, interrupted, finished or failed) and update to this "
        "file, for job scripts. Default: status.json among the run's checkpoints",
    )

    def __post_init__(self) -> None:
        self.interval  # noqa: B018

    @property
    def interval(self) -> tuple[int, float]:
        """--checkpoint-every as (updates, seconds), inf for the one that does not count."""
        if self.checkpoint_every == "never":
            return sys.maxsize, math.inf
        match = re.fullmatch(r"([0-9]{1,9})([smh]?)", self.checkpoint_every)
        wanted = "a time such as 30s, 15m or 2h, a number of updates, or never"
        ok = match is not None and int(match[1]) > 0
        _check(ok, "checkpoint_every", wanted, self.checkpoint_every)
        number, unit = int(match[1]), match[2]
        if not unit:
            return number, math.inf
        return sys.maxsize, number * {"s": 1.0, "m": 60.0, "h": 3600.0}[unit]


_REPO = StoreConfig.__dataclass_fields__["repo"].metadata["help"]
_TOKENIZER = ModelConfig.__dataclass_fields__["tokenizer"].metadata["help"]
_THREADS = TrainConfig.__dataclass_fields__["num_threads"].metadata["help"]


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
        _check(self.rounds >= 1, "rounds", "1 or more", self.rounds)
        _check(0 <= self.price < math.inf, "price", "0 or more", self.price)
        for number in range(1, len(self.add) + 1):
            self.amount(number)
        wanted = f"one amount, or up to {self.rounds}, one for each of --rounds"
        _check(len(self.add) <= max(1, self.rounds), "add", wanted, " ".join(self.add))
        seeds = " ".join(self.seeds)
        ok = all(re.fullmatch("[0-9]{1,9}", s) for s in self.seeds)
        _check(ok and len(set(self.seeds)) == len(self.seeds), "seeds", "different numbers", seeds)
        names = " ".join(self.strategy)
        _check(len(set(self.strategy)) == len(self.strategy), "strategy", "different names", names)
        if self.oracle != "gold":
            for flag in ("seeds", "strategy"):
                value = getattr(self, flag)
                _check(len(value) <= 1, flag, "one alone with people as --oracle", " ".join(value))
        else:
            wanted = "left out with --oracle gold, whose types are known"
            _check(not self.types, "types", wanted, " ".join(self.types))
        wrong = [t for t in self.types if not re.fullmatch(r"[^\s-]\S*", t)]
        _check(not wrong, "types", "names such as PER", " ".join(wrong))

    def amount(self, number: int) -> tuple[float | int, str]:
        """What --add says for a round, as (share or number, "sentences" or "words")."""
        add = self.add or ("50",)
        text = add[min(max(number, 1), len(add)) - 1]
        if match := re.fullmatch(r"([0-9]{1,9})w", text):
            _check(int(match[1]) > 0, "add", "above 0", text)
            return int(match[1]), "words"
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)?%|[0-9]+", text):
            _check(False, "add", "a number (50), a percentage (2%) or words (500w)", text)
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


@dataclass(frozen=True)
class EvaluateConfig:
    """What evaluate.py judges, on what, and where the report goes."""

    revision: tuple[str, ...] = option((), "revisions to judge, side by side")
    repo: str = option("models", _REPO)
    corpus: str | None = option(
        None, "text to judge on, as in train.py. Default: the one the revision was trained on"
    )
    split: str = option("validation", "which split of it", ("validation", "test"))
    decode: str = option(
        "viterbi",
        "viterbi: the most probable valid IOB2 sequence; argmax: the most probable tag of each "
        "word by itself",
        ("viterbi", "argmax"),
    )
    batch_size: int | None = option(
        None,
        "sentences computed together, which changes no prediction. Default: what suits the device",
    )
    precision: str = option(
        "float32",
        "float32, whose figures are the same everywhere; bf16 for speed, where the device computes "
        "in it; auto: the faster of the two. The output says bf16",
        ("float32", "bf16", "auto"),
    )
    tokenizer: str | None = option(None, _TOKENIZER)
    json: str | None = option(
        None, "write the reports to this file as {revision: {split: {figures}}}"
    )
    details: bool = option(
        False,
        "print, too, F1 by type with intervals, errors by kind, confusions, and F1 of parts: by "
        "length, letters, and whether training had the entity or the sentence",
    )
    html: str | None = option(
        None,
        "write all of it, and every sentence with what was found in it, as a page to this file",
    )
    plots: str | None = option(
        None, "write the plots as PNG to this folder, which is made where it is not there"
    )
    map: tuple[str, ...] = option(
        (),
        "what entity types of the corpus are called by the revisions, as THEIRS=OURS; THEIRS=O "
        "for those that are to count as no entity",
    )
    num_threads: int = option(0, _THREADS)

    def __post_init__(self) -> None:
        for pair in self.map:
            ok = re.fullmatch(r"[^=\s]+=[^=\s]+", pair) is not None
            _check(ok, "map", "pairs of types, such as PERSON=PER or DATE=O", pair)
        theirs = [pair.partition("=")[0] for pair in self.map]
        _check(len(set(theirs)) == len(theirs), "map", "of each type once", " ".join(self.map))
        same = self.html is not None and self.html == self.json
        _check(not same, "html", "another file than --json", self.html)
        _check(bool(self.revision), "revision", "followed by one or more names", "")
        names = " ".join(self.revision)
        _check(len(set(self.revision)) == len(self.revision), "revision", "different names", names)
        size = self.batch_size
        _check(size is None or size >= 1, "batch_size", "1 or more", size)
        threads = self.num_threads
        _check(0 <= threads <= MAX_THREADS, "num_threads", f"0 to {MAX_THREADS}", threads)


@dataclass(frozen=True)
class TableConfig:
    """What is tabulated."""

    repo: str = option("models", "folder that holds the revisions, or their records alone")


@dataclass(frozen=True)
class CurvesConfig:
    """Which learning curves are shown, and where pictures of them go."""

    repo: str = option("models", "folder that holds the rounds of active_learn.py")
    split: str = option("test", "whose F1: test or validation", ("test", "validation"))
    full: tuple[str, ...] = option(
        (),
        "revisions of all expert labels, no rounds, whose mean F1 is 100 %%. Default: those of "
        "--data gold in the folder that left out none",
    )
    price: float = option(0.0, "what an answer costs for each of its words, in any currency")
    output: str | None = option(
        None,
        "write pictures (PNG), curves.csv and TensorBoard's events to this folder, which is made "
        "where it is not there",
    )

    def __post_init__(self) -> None:
        _check(0 <= self.price < math.inf, "price", "0 or more", self.price)


@dataclass(frozen=True)
class AuditConfig:
    """Whose cheap labels are looked at, and beside which expert ones."""

    corpus: str = option(
        "sample",
        "folder with llm.txt (and llm.NAME.txt) and, for experts, train.txt; or sample, "
        "sample:SENTENCES",
    )
    expert: str | None = option(
        None,
        "how many of the sentences that have both labels are compared, drawn by --seed: a share "
        "(12%%) or a number (240). Default: all",
    )
    seed: int = option(0, "seed of that draw")
    repair: tuple[str, ...] = option(
        (), "what is mended first, as in train.py: inventory, well-formed, form, none", REPAIRS
    )
    plots: str | None = option(
        None, "write pictures as PNG to this folder, which is made where it is not there"
    )

    def __post_init__(self) -> None:
        if self.expert is not None:
            parse_amount(self.expert, flag="expert")
        _check(0 <= self.seed < 2**32, "seed", "at least 0 and below 2^32", self.seed)
        _check_repairs(self.repair)


@dataclass(frozen=True)
class PredictConfig:
    """What is tagged, by which revision, and where the entities go."""

    revision: str = option("model_primary", "revision that finds the entities")
    repo: str = option("models", _REPO)
    input: tuple[str, ...] = option(
        (), "files to read, one after the other; - is standard input. Default: standard input"
    )
    format: str = option(
        "text",
        "what the input is: text, a text a line; json, an object a line with text or words; "
        "conll, a word a line, first column, texts parted by empty lines",
        ("text", "json", "conll"),
    )
    output: str | None = option(None, "file to write. Default: standard output")
    to: str = option(
        "json",
        "what to write: json, an object a line with the entities, their type, text, characters, "
        "words and confidence; conll, a word and its tag a line",
        ("json", "conll"),
    )
    tokenizer: str | None = option(None, _TOKENIZER)
    strict: bool = option(False, "end at the first line that cannot be read, and write no more")
    precision: str = option(
        "float32",
        EvaluateConfig.__dataclass_fields__["precision"].metadata["help"],
        ("float32", "bf16", "auto"),
    )
    num_threads: int = option(0, _THREADS)

    def __post_init__(self) -> None:
        threads = self.num_threads
        _check(0 <= threads <= MAX_THREADS, "num_threads", f"0 to {MAX_THREADS}", threads)


_HUB = "repository USER/NAME on the Hub, where a revision is a branch. Default: what --repo says"


@dataclass(frozen=True)
class ListConfig:
    """What is listed."""

    repo: str = option("models", "folder that holds the revisions, or USER/NAME on the Hub")
    hub: str | None = option(
        None, "repository USER/NAME on the Hub, also where there is a folder of that name here"
    )


@dataclass(frozen=True)
class PushConfig:
    """What is sent, and where."""

    repo: str = option("models", "folder that holds the revisions")
    hub: str | None = option(None, _HUB)
    revision: tuple[str, ...] = option((), "revisions to send. Default: all of them")
    overwrite: bool = option(False, "replace branches that hold something else")
    public: bool = option(
        False, "where the repository is not there yet, make one that everybody may read"
    )


@dataclass(frozen=True)
class PullConfig:
    """What is fetched, and where to."""

    repo: str = option("models", "folder to put the revisions in")
    hub: str | None = option(None, _HUB)
    revision: tuple[str, ...] = option((), "revisions to fetch. Default: all of them")
    overwrite: bool = option(False, "replace revisions of that name that hold something else")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        if _rank():  # every process has the same command line
            raise SystemExit(2)
        fail(self.prog, f"{message}; see {self.prog} --help")

    def print_help(self, file=None) -> None:
        if not _rank():
            super().print_help(file)


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def fail(program: str, message: str) -> NoReturn:
    """End with exit code 2 and one line.

    What is wrong for all processes of a run the main process says; another one waits until its
    launcher has ended it for that, and speaks where it is alone.
    """
    if _rank():
        time.sleep(_WAIT_FOR_MAIN)
        message = f"process {_rank()}: {message}"
    sys.stderr.write(f"{program}: error: {' '.join(message.split())}\n")
    raise SystemExit(2)


@contextmanager
def one_line_errors(program: str):
    """Turn what the user can mend (InputError, a full disk) into one line and exit code 2."""
    try:
        yield
    except InputError as error:
        fail(program, str(error))
    except PermissionError as error:
        fail(program, f"{error.filename}: may not be read or written; check its permissions")
    except BrokenPipeError:  # nobody reads on; as a program that SIGPIPE ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from None
    except OSError as error:
        if not is_disk_full(error):
            raise
        place = f" while writing {error.filename}" if error.filename else ""
        fail(program, f"no room on the disk{place}: {error.strerror}; make room and run again")
    except KeyboardInterrupt:
        _end_interrupted(program, Interrupted(signal.SIGINT))
    except Interrupted as interrupted:
        _end_interrupted(program, interrupted)


def _end_interrupted(program: str, interrupted: Interrupted) -> NoReturn:
    if _rank() == 0:
        sys.stderr.write(f"{program}: interrupted by {interrupted.name}: {interrupted.advice}\n")
    raise SystemExit(interrupted.exit_code)


def is_disk_full(error: OSError) -> bool:
    """Whether error says that a disk, a quota or the allowed file size is exhausted."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def parse(argv: Sequence[str], program: str, description: str, *configs: type) -> tuple:
    """One instance of each config from the command line; ends with one line on bad input.

    Flags accept - and _; field names must be unique among the configs.
    """
    parser = _Parser(
        prog=program,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for config in configs:
        group = parser.add_argument_group(config.__doc__.splitlines()[0].rstrip("."))
        for f in fields(config):
            _add_flag(group, f, RECIPES if issubclass(config, TrainConfig) else {})
    values = vars(parser.parse_args([_with_hyphens(argument) for argument in argv]))
    for name, value in values.items():
        if "" in (value if isinstance(value, (list, tuple)) else [value]):
            parser.error(f"--{name.replace('_', '-')} is empty")
    try:
        return tuple(c(**{f.name: _value(f, values) for f in fields(c)}) for c in configs)
    except InputError as error:
        parser.error(str(error))


def run_action(
    argv: Sequence[str], program: str, description: str, actions: dict[str, tuple[Callable, type]]
) -> None:
    """Do what argv begins with, one of actions by name, with the config that its flags make."""
    if not argv or argv[0] not in actions:
        parse([a for a in argv if a in ("-h", "--help")], program, description)
        fail(program, f"wanted {', '.join(actions)}, and its flags; see {program} --help")
    act, config_class = actions[argv[0]]
    program = f"{program} {argv[0]}"
    (config,) = parse(argv[1:], program, act.__doc__, config_class)
    with one_line_errors(program):
        act(config)


def _with_hyphens(argument: str) -> str:
    """--batch_size=8 -> --batch-size=8."""
    flag, equals, value = argument.partition("=")
    return flag.replace("_", "-") + equals + value if argument.startswith("--") else argument


def _value(f: Any, values: dict[str, Any]) -> Any:
    value = values[f.name]
    return tuple(value) if isinstance(value, list) else value


def _add_flag(group: argparse._ArgumentGroup, f: Any, recipes: dict[str, dict]) -> None:
    flag = "--" + f.name.replace("_", "-")
    default = None if f.default is MISSING else f.default
    help_text = f.metadata["help"]
    recipe_values = [f"{name} {r[f.name]}" for name, r in recipes.items() if f.name in r]
    if recipe_values:
        help_text += f" ({', '.join(recipe_values)})"
    elif not (default is None or default is False or default == ()):
        help_text += f" (default: {default})"
    if f.type is bool:
        group.add_argument(flag, dest=f.name, action="store_true", help=help_text)
        return
    choices = f.metadata["choices"]
    if f.type == tuple[str, ...]:
        how = {"nargs": "+", "action": "extend", "default": [], "choices": choices}
        group.add_argument(flag, dest=f.name, metavar=f.name.upper(), help=help_text, **how)
        return
    kind = f.type if isinstance(f.type, type) else get_args(f.type)[0]
    metavar = None if choices else f.name.upper()
    group.add_argument(
        flag,
        dest=f.name,
        type=kind,
        default=default,
        choices=choices,
        metavar=metavar,
        help=help_text,
    )
