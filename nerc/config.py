"""The settings of a run: one frozen dataclass per concern, one field per flag.

A field holds a flag's name, type, default, help and range. Fields that are None are decided by the
recipe, the corpus or the machine; run.json of the revision records the decision.
"""

import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

from nerc.cli import Effect, check_flag, check_given, help_of, option
from nerc.recipes import FEW, FEW_LR, RECIPES, SMALL, SMALL_BATCH_SIZE, SMALL_UPDATES

# How expert and weak labels are combined: nerc.training.combine.METHODS.
COMBINATIONS = ("concat", "pretrain", "selftrain")
REPAIRS = ("inventory", "well-formed", "form", "auto", "none")
# Formats of annotated text that convert knows; active learning asks people in the first five.
FORMATS = ("conll", "jsonl", "label-studio", "prodigy", "doccano")
FORMATS += ("conllu", "universal-ner", "csv", "brat", "spacy", "hub")
TEXT = "text"  # without entities, which convert reads, too
MAX_UNLABELLED = 8000  # sentences that selftrain reads
MAX_THREADS = 1024  # past some thousands, torch crashes


@dataclass(frozen=True)
class DataConfig:
    __doc__ = "Whose labels (--data) on which text (--corpus)."

    data: str = option(
        "gold",
        "whose labels to learn from: experts' (gold), a language model's (llm), or both (mixed)",
        ("gold", "llm", "mixed"),
    )
    expert: str | None = option(
        None,
        "how many expert sentences to use, drawn by --seed: a share of the training split (12%%; "
        "1,685 sentences of CoNLL-2003) or a number (240; about the notebooks' '12 %%'). Default: "
        "all for gold, 12%% for mixed",
    )
    corpus: str = option(
        "conll2003",
        "which text: a folder with train.txt, valid.txt, test.txt and, for weak labels, llm.txt "
        "(further sources: llm.NAME.txt) in CoNLL columns; conll2003 or USER/NAME, data sets on "
        "the Hub; sample, built in, for trying nerc out without a network (sample:1000: 1,000 "
        "training sentences; sample:1000:KIND: weak labels with errors of another kind, which is "
        "missing, spurious, type or boundary)",
        effect=Effect.PLACE,
    )
    columns: str | None = option(
        None,
        "the columns of the word and of the tag in train.txt, valid.txt and test.txt: their "
        "numbers, such as 2,4, or their names in the first line, such as TOKEN,NER. Default: the "
        "first and the last one, or others where that is certain; the output says which",
        effect=Effect.PLACE,
    )
    combine: str | None = option(
        None,
        "how mixed combines labels. selftrain: two models learn from weak, then expert labels; "
        "what they tag together teaches a third, which also learns from the experts. pretrain: "
        "one model, first weak, then expert labels. concat: all labels alike; on CoNLL-2003 worse "
        "than expert labels alone",
        COMBINATIONS,
        by_recipe=True,
    )
    repair: tuple[str, ...] = option(
        (),
        "how to repair weak labels, one or several of: well-formed (drop sentences whose tags no "
        "scheme allows), form (remove entities without a word whose shape, such as capitals or "
        "digits, is common in entities), inventory (remove types that no expert label has; --data "
        "mixed only), auto (well-formed and form where the weak labels themselves show that "
        "they will help), none. Default: auto for --data llm --recipe strong, else none",
        REPAIRS,
    )
    unlabelled: int | None = option(
        None,
        "how many sentences without labels selftrain reads at most, drawn by --seed from "
        "unlabelled.txt and the training sentences whose labels are not used. Default: 8000",
    )

    def __post_init__(self) -> None:
        if self.data == "llm":
            check_given(self, "left out with --data llm", "expert")
            wanted = "without inventory, which compares with expert labels, with --data llm"
            check_given(self, wanted, "repair", test=lambda repairs: "inventory" not in repairs)
        if self.expert is not None:
            Amount.parse(self.expert, "expert")
        if self.data != "mixed":
            check_given(self, "left out without --data mixed", "combine", "unlabelled")
        if self.data == "gold":
            check_given(self, "left out with --data gold, which has no weak labels", "repair")
        check_repairs(self.repair)
        check_columns(self.columns)
        check_given(self, "0 or more", "unlabelled", test=lambda number: number >= 0)

    def resolved(self, recipe: str) -> "DataConfig":
        """This configuration, with the recipe's values where a flag was not given."""
        decided: dict[str, Any] = {"expert": self.expert_amount}
        if self.data == "mixed":
            combine = self.combine or RECIPES[recipe]["combine"]
            if combine != "selftrain":
                check_given(self, "left out without --combine selftrain", "unlabelled")
            number = MAX_UNLABELLED if self.unlabelled is None else self.unlabelled
            decided |= {"combine": combine, "unlabelled": number if combine == "selftrain" else 0}
        if self.data == "llm":
            decided["repair"] = self.repair or RECIPES[recipe]["repair"]
        return replace(self, **decided)

    @property
    def expert_amount(self) -> str | None:
        """--expert or its default; None: every expert sentence."""
        return self.expert or ("12%" if self.data == "mixed" else None)


def check_columns(columns: str | None) -> None:
    """Raise InputError unless columns names two columns."""
    ok = columns is None or re.fullmatch(r"([^\s,]+),([^\s,]+)", columns) is not None
    check_flag(ok, "columns", "two numbers or names, such as 2,4 or TOKEN,NER", columns)


def check_map(pairs: Sequence[str]) -> None:
    """Raise InputError unless each of pairs renames another type."""
    for pair in pairs:
        ok = re.fullmatch(r"[^=]*[^=\s]=[^=\s]+", pair) is not None
        check_flag(ok, "map", "pairs of types, such as PERSON=PER or DATE=O", pair)
    is_once = len({pair.partition("=")[0] for pair in pairs}) == len(pairs)
    check_flag(is_once, "map", "one pair for each type", " ".join(pairs))


def check_repairs(repairs: Sequence[str]) -> None:
    """Raise InputError where auto or none stands beside another repair."""
    alone = len(repairs) == 1 or not {"auto", "none"} & {*repairs}
    check_flag(alone, "repair", "auto or none by itself, or others alone", " ".join(repairs))


class Unit(Enum):
    """What an amount counts; the value follows the number in its text."""

    SHARE = "%"
    SENTENCES = ""
    WORDS = "w"


@dataclass(frozen=True)
class Amount:
    """An amount of sentences: a share of them (0.12), a number of sentences, or of words."""

    number: float  # int but for shares
    unit: Unit

    @classmethod
    def parse(cls, text: str, flag: str, *, words: bool = False) -> "Amount":
        """Read 12%, 240 or, with words, 500w; InputError, which names the flag, for other text."""
        wanted = "a percentage above 0 and up to 100, such as 12%, or a whole number above 0"
        if words:
            wanted += ", of sentences (50) or words (500w)"
        match = re.fullmatch(r"([0-9]{1,15})(\.[0-9]+)?(%|w?)", text)
        check_flag(match is not None, flag, wanted, text)
        whole, fraction, unit = match.groups(default="")
        number, unit = float(whole + fraction), Unit(unit)
        is_share = unit is Unit.SHARE
        ok = number <= 100 if is_share else not fraction and (words or unit is Unit.SENTENCES)
        check_flag(ok and number > 0, flag, wanted, text)
        return cls(number / 100 if is_share else int(whole), unit)

    def num_sentences(self, total: int) -> int:
        """How many of total sentences a share or a number of sentences is."""
        if self.unit is Unit.WORDS:
            raise ValueError("words are not counted in sentences")
        return max(1, round(self.number * total)) if self.unit is Unit.SHARE else int(self.number)


@dataclass(frozen=True)
class ModelConfig:
    __doc__ = "The network, before training."

    encoder: str | None = option(
        None,
        "pretrained encoder, such as a BERT: a folder, a name on the Hub, or tiny (2 layers, "
        "random weights). Default: bert-base-cased, and tiny for --corpus sample",
        effect=Effect.PLACE,
    )
    start: str | None = option(
        None,
        "train on from the weights of this revision in --repo instead of an encoder's. In "
        "active_learn.py it chooses the first sentences, its expert labels are known, and every "
        "round starts from its encoder. none: no revision",
    )
    tokenizer: str | None = option(
        None,
        "tokenizer for a published revision that has none: a folder or a name on the Hub. "
        "Default: that of the encoder named in its config.json, or bert-base-cased",
        effect=Effect.PLACE,
    )
    lstm_hidden_size: int | None = option(
        None, "units of the BiLSTM per direction; 0: no BiLSTM. Default: 512, or 128 for tiny"
    )
    word_shapes: str | None = option(
        None,
        "whether the model also reads the shape of each word: capitals, digits. Default: yes where "
        "the encoder's tokenizer folds capitals to small letters, but for --recipe paper; or as "
        "the revision of --start does",
        ("yes", "no"),
    )
    context: str | None = option(
        None,
        "what the encoder reads beside a sentence. document: its neighbours in the document, where "
        "the corpus has documents; none: nothing. Default: none, or as the revision of --start "
        "does",
        ("document", "none"),
    )
    dropout: float | None = option(
        None,
        "dropout in the encoder, its attention and before the linear tagger, 0 to 1. Default: "
        "0.1, or that of the revision of --start",
    )

    def __post_init__(self) -> None:
        if self.start == "none":
            object.__setattr__(self, "start", None)
        is_clear = self.encoder != "tiny" or not Path("tiny", "config.json").exists()
        wanted = "./tiny for the folder here; to use nerc's own tiny, rename the folder"
        check_flag(is_clear, "encoder", wanted, self.encoder)
        check_given(self, "0 to 65536", "lstm_hidden_size", test=lambda v: 0 <= v <= 2**16)
        check_given(self, "at least 0 and below 1", "dropout", test=lambda v: 0 <= v < 1)
        if self.start is None:
            wanted = "left out without --start: an encoder brings its own"
            check_given(self, wanted, "tokenizer")
        else:
            wanted = "left out with --start, whose revision decides it"
            check_given(self, wanted, "encoder", "lstm_hidden_size", "word_shapes", "context")


# Flags that earlier versions lack, with what they did.
EARLIER_VALUES = {"word_shapes": "no", "context": "none", "layer_decay": 1.0}

_by_recipe = partial(option, None, by_recipe=True)


@dataclass(frozen=True)
class TrainConfig:
    __doc__ = "How to train; the recipe decides what is not given."

    recipe: str = option(
        "strong",
        "strong: AdamW and the best way we know to combine labels; paper: the published SGD "
        "recipe, which is too short for a new BiLSTM",
        tuple(RECIPES),
    )
    optimizer: str | None = _by_recipe("sgd or adamw", ("sgd", "adamw"))
    lr: float | None = _by_recipe(
        "peak learning rate of the encoder; strong raises its own for those smaller than bert-base"
    )
    head_lr: float | None = _by_recipe("peak learning rate of the BiLSTM and the linear tagger")
    layer_decay: float = option(
        1.0,
        "learning rate of a layer of the encoder, as a share of that of the layer above it; 1: all "
        "learn alike",
    )
    momentum: float | None = _by_recipe("momentum of sgd, 0 to 1")
    weight_decay: float | None = _by_recipe("weight decay of all but biases and norms")
    warmup: float | None = _by_recipe(
        "share of the updates in which the learning rate rises, 0 to 1"
    )
    schedule: str | None = _by_recipe(
        "learning rate after warm-up: constant, or linear to 0", ("constant", "linear")
    )
    clip: float | None = _by_recipe("largest allowed norm of the gradient; 0: no clipping")
    batch_size: int | None = _by_recipe("sentences per update, summed over all processes")
    epochs: int | None = _by_recipe(
        "passes over the training sentences, in every stage of --combine; strong's own number "
        f"rises until they are {SMALL_UPDATES} updates"
    )
    keep: str = option(
        "best",
        "which epoch to keep. best: the one with the highest validation F1 (with few training "
        "sentences, only some are evaluated); last: the last one, without a validation split",
        ("best", "last"),
    )
    micro_batch_words: int = option(
        0,
        "how many words a process computes at a time at most, to bound its memory; the update "
        "stays the same. 0: the process's whole share of the update",
        effect=Effect.NONE,
    )
    seed: int = option(
        0,
        "seed of new weights, batch order, dropout and the draw of expert sentences",
        effect=Effect.SEED,
    )
    precision: str = option(
        "auto",
        "auto: the faster one of float32 and bf16, as measured when the run starts. Evaluation is "
        "always float32",
        ("auto", "float32", "bf16"),
        effect=Effect.MACHINE,
    )
    num_threads: int = option(
        0,
        "CPU threads of each process; 0: what you set OMP_NUM_THREADS to, else the cores of the "
        "machine divided by its processes, or fewer where fewer are measured to be faster",
        effect=Effect.NONE,
    )

    def __post_init__(self) -> None:
        for wanted, test, *flags in (
            ("above 0", lambda v: 0 < v < math.inf, "lr", "head_lr"),
            ("0 or more", lambda v: 0 <= v < math.inf, "weight_decay", "clip", "micro_batch_words"),
            ("at least 0 and below 1", lambda v: 0 <= v < 1, "momentum"),
            ("between 0 and 1", lambda v: 0 <= v <= 1, "warmup"),
            ("above 0 and at most 1", lambda v: 0 < v <= 1, "layer_decay"),
            ("1 or more", lambda v: v >= 1, "batch_size", "epochs"),
            ("at least 0 and below 2^32", lambda v: 0 <= v < 2**32, "seed"),
            (f"0 to {MAX_THREADS}", lambda v: 0 <= v <= MAX_THREADS, "num_threads"),
        ):
            check_given(self, wanted, *flags, test=test)

    def resolved(
        self,
        *,
        hidden_size: int,
        num_layers: int,
        num_sentences: int = SMALL,
        epochs: int | None = None,
    ) -> "TrainConfig":
        """This configuration with the recipe's values in place of None.

        strong scales the learning rate of encoders that are narrower or shallower than bert-base
        (768 wide, 12 layers) up to at most that of the head. Few sentences get smaller batches and
        more epochs, so that there are enough updates. epochs overrides the recipe's.
        """
        recipe = RECIPES[self.recipe]
        values = {name: value for name, value in recipe.items() if name in vars(self)}
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
        given = {name: value for name, value in vars(self).items() if value is not None}
        config = replace(self, **(values | given))
        if config.optimizer == "adamw":
            check_given(self, "left out with --optimizer adamw", "momentum", test=lambda v: v == 0)
            config = replace(config, momentum=0.0)
        return config


_without_effect = partial(option, effect=Effect.NONE)  # on what is learnt


@dataclass(frozen=True)
class StoreConfig:
    __doc__ = "Where a run saves its revision."

    repo: str = _without_effect(
        "models",
        "folder that holds the revisions. Where there is no such folder, USER/NAME is read from "
        "the Hub, where a revision is a branch",
    )
    revision: str | None = _without_effect(
        None,
        "name of the revision. Default: model_primary for gold, main for llm, model_mixed_12 or "
        "model_mixed_240_sentences for mixed",
    )
    overwrite: bool = _without_effect(
        False,
        "replace a revision of this name, finished or interrupted, when the new one is complete",
    )
    resume: bool = _without_effect(
        False,
        "continue the interrupted run of this revision from its last checkpoint; where there is "
        "none, start; where the revision is finished, do nothing",
    )
    push: bool = _without_effect(
        False,
        "send the revision to the branch of its name in the Hub repository that --repo names; "
        "only --overwrite replaces a branch that holds something else",
    )
    checkpoint_every: str = _without_effect(
        "15m",
        "how often to write a checkpoint: a time (30s, 15m, 2h), a number of updates (500) or "
        "never (signals still write one)",
    )
    status: str | None = _without_effect(
        None,
        "file for the run's state (running, interrupted, finished or failed) and its update "
        "number, for job scripts. Default: status.json beside the run's checkpoints",
    )

    def __post_init__(self) -> None:
        wanted = "another name: for --start, none is no revision"
        check_flag(self.revision != "none", "revision", wanted, self.revision)
        self.interval  # noqa: B018

    @property
    def interval(self) -> tuple[int, float]:
        """--checkpoint-every as (updates, seconds); the one that was not given never comes."""
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


REPO_HELP = help_of(StoreConfig, "repo")
TOKENIZER_HELP = help_of(ModelConfig, "tokenizer")
PRECISION_HELP = (
    "float32: the same figures on every machine; bf16: faster on many; auto: the faster of the two "
    "as measured. The output says when it is bf16"
)
INT8_HELP = f"{PRECISION_HELP}. int8: faster on a CPU, by onnxruntime, and a little less exact"
THREADS_HELP = help_of(TrainConfig, "num_threads")
