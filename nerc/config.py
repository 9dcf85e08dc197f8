"""One frozen dataclass per concern, and parse(), which turns a command line into them.

A field is a flag: name, type, default, help and range stand in one place. Fields that are None are
decided by the recipe, the corpus or the machine; what was decided stands in a revision's run.json.
"""

import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from nerc.cli import check_flag, option
from nerc.recipes import FEW, FEW_LR, RECIPES, SMALL, SMALL_BATCH_SIZE, SMALL_UPDATES

# How expert and weak labels are combined: nerc.training.combine.METHODS.
COMBINATIONS = ("concat", "pretrain", "selftrain")
REPAIRS = ("inventory", "well-formed", "form", "none")
MAX_UNLABELLED = 8000  # sentences that selftrain reads


MAX_THREADS = 1024  # past some thousands, torch crashes


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
        "which text: conll2003 (from the Hub); sample or sample:SENTENCES (generated text, without "
        "a network, for trying nerc out, not for models that tag real text; "
        "sample:SENTENCES:missing has other errors in its weak labels); a folder with train.txt "
        "valid.txt test.txt and, for weak labels, llm.txt (of more sources, llm.NAME.txt) in CoNLL "
        "columns; or the id USER/NAME of a data set on the Hub",
    )
    combine: str | None = option(
        None,
        "how mixed combines expert and weak labels. selftrain: two models learn first from the "
        "weak labels, then from the experts'; what they tag together teaches a third model, which "
        "also learns from the experts. pretrain: one model, first the weak labels, then the "
        "experts'. concat: all labels alike, and both of a sentence that has two; on CoNLL-2003 "
        "worse than the experts alone. Default: selftrain for --recipe strong, concat for paper",
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
            check_flag(self.data != "llm", "expert", "left out with --data llm", self.expert)
            parse_amount(self.expert, flag="expert")
        if self.data != "mixed":
            for flag in ("combine", "unlabelled"):
                value = getattr(self, flag)
                check_flag(value is None, flag, "left out without --data mixed", value)
        repairs = " ".join(self.repair)
        gold = self.data == "gold" and self.repair
        check_flag(
            not gold, "repair", "left out with --data gold, which has no cheap labels", repairs
        )
        alone = self.data == "llm" and "inventory" in self.repair
        wanted = "without inventory, which compares with expert labels, with --data llm"
        check_flag(not alone, "repair", wanted, repairs)
        check_repairs(self.repair)
        number = self.unlabelled
        check_flag(number is None or number >= 0, "unlabelled", "0 or more", number)

    def resolved(self, recipe: str) -> "DataConfig":
        """This configuration with what the recipe decides in the place of what is not given."""
        decided: dict[str, Any] = {"expert": self.expert_amount}
        if self.data == "mixed":
            combine = self.combine or RECIPES[recipe]["combine"]
            asked, wanted = self.unlabelled, "left out without --combine selftrain"
            check_flag(combine == "selftrain" or asked is None, "unlabelled", wanted, asked)
            number = MAX_UNLABELLED if asked is None else asked
            decided |= {"combine": combine, "unlabelled": number if combine == "selftrain" else 0}
        if self.data == "llm":
            decided["repair"] = self.repair or RECIPES[recipe]["repair"]
        return replace(self, **decided)

    @property
    def expert_amount(self) -> str | None:
        """--expert, or what it stands for when it is not given; None: every expert sentence."""
        return self.expert or ("12%" if self.data == "mixed" else None)


def check_repairs(repairs: Sequence[str]) -> None:
    alone = len(repairs) == 1 or "none" not in repairs
    check_flag(alone, "repair", "none, or others without it", " ".join(repairs))


def parse_amount(text: str, *, flag: str) -> float | int:
    """'12%' -> 0.12 (a share, float); '240' -> 240 (a number, int); InputError otherwise."""
    wanted = "a percentage above 0 and up to 100, such as 12%, or a whole number above 0"
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)%", text)
    if match:
        check_flag(0 < float(match[1]) <= 100, flag, wanted, text)
        return float(match[1]) / 100
    check_flag(re.fullmatch(r"[0-9]+", text) is not None and int(text) > 0, flag, wanted, text)
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
        check_flag(size is None or 0 <= size <= 2**16, "lstm_hidden_size", "0 to 65536", size)
        check_flag(
            dropout is None or 0 <= dropout < 1, "dropout", "at least 0 and below 1", dropout
        )
        if self.start is not None:
            for flag in ("encoder", "lstm_hidden_size"):
                value = getattr(self, flag)
                check_flag(
                    value is None, flag, "left out with --start, whose revision has it", value
                )
        else:
            wanted = "left out without --start: an encoder has its own"
            check_flag(self.tokenizer is None, "tokenizer", wanted, self.tokenizer)


def _recipe_option(name: str, help: str, choices: Sequence[str] | None = None) -> Any:
    """A flag whose default is the recipe's value of this name."""
    by_recipe = {recipe: values[name] for recipe, values in RECIPES.items()}
    return option(None, help, choices, by_recipe=by_recipe)


@dataclass(frozen=True)
class TrainConfig:
    """The optimisation; the recipe decides what is not given."""

    recipe: str = option(
        "paper",
        "paper: the published SGD recipe; strong: AdamW, the best F1 we know for the class",
        tuple(RECIPES),
    )
    optimizer: str | None = _recipe_option("optimizer", "sgd or adamw", ("sgd", "adamw"))
    lr: float | None = _recipe_option(
        "lr",
        "peak learning rate of the encoder; strong's is for bert-base and grows for smaller ones",
    )
    head_lr: float | None = _recipe_option(
        "head_lr", "peak learning rate of BiLSTM and linear tagger"
    )
    momentum: float | None = _recipe_option("momentum", "momentum of sgd, 0 to 1")
    weight_decay: float | None = _recipe_option(
        "weight_decay", "weight decay, not on biases and norms"
    )
    warmup: float | None = _recipe_option(
        "warmup", "share of updates with rising learning rate, 0 to 1"
    )
    schedule: str | None = _recipe_option(
        "schedule", "learning rate after warm-up: constant, or linear to 0", ("constant", "linear")
    )
    clip: float | None = _recipe_option("clip", "largest norm of the gradient; 0: no clipping")
    batch_size: int | None = _recipe_option(
        "batch_size", "sentences per update, over all processes together, however many there are"
    )
    epochs: int | None = _recipe_option(
        "epochs", "passes over the training sentences, in every stage that --combine has"
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
    num_threads: int = option(
        0, "CPU threads of each process; 0: the machine's cores shared among its processes"
    )

    def __post_init__(self) -> None:
        def check(flag: str, test: Callable[[Any], bool], wanted: str) -> None:
            value = getattr(self, flag)
            check_flag(value is None or test(value), flag, wanted, value)

        for flag in ("lr", "head_lr"):
            check(flag, lambda v: 0 < v < float("inf"), "above 0")
        for flag in ("weight_decay", "clip"):
            check(flag, lambda v: 0 <= v < float("inf"), "0 or more")
        check("momentum", lambda v: 0 <= v < 1, "at least 0 and below 1")
        check("warmup", lambda v: 0 <= v <= 1, "between 0 and 1")
        for flag in ("batch_size", "epochs"):
            check(flag, lambda v: v >= 1, "1 or more")
        check("micro_batch_words", lambda v: v >= 0, "0 or more")
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
            check_flag(
                not self.momentum, "momentum", "left out with --optimizer adamw", self.momentum
            )
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
        check_flag(ok, "checkpoint_every", wanted, self.checkpoint_every)
        number, unit = int(match[1]), match[2]
        if not unit:
            return number, math.inf
        return sys.maxsize, number * {"s": 1.0, "m": 60.0, "h": 3600.0}[unit]


REPO_HELP = StoreConfig.__dataclass_fields__["repo"].metadata["help"]
TOKENIZER_HELP = ModelConfig.__dataclass_fields__["tokenizer"].metadata["help"]
PRECISION_HELP = (
    "float32, whose figures are the same everywhere; bf16 for speed, where the device computes in "
    "it; auto: the faster of the two. The output says bf16"
)
THREADS_HELP = TrainConfig.__dataclass_fields__["num_threads"].metadata["help"]
