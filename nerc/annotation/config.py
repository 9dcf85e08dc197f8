"""The settings of weak labels that a model writes."""

import json
import math
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from nerc.cli import Effect, check_flag, check_given, option
from nerc.config import Amount, check_columns
from nerc.errors import InputError

MAX_CONCURRENCY = 1024


@dataclass(frozen=True)
class LlmConfig:
    __doc__ = "Which language model labels, what it is asked, and what that may cost."

    model: str | None = option(None, "name of the model, as its server knows it")
    base_url: str | None = option(
        None,
        "address of a server that speaks the protocol of OpenAI (vLLM, Ollama, llama.cpp, ...), "
        "such as http://localhost:8000/v1. Default: OpenAI's. Where the server wants a key, set "
        "the environment variable OPENAI_API_KEY",
        effect=Effect.NONE,
    )
    format: str = option(
        "inline",
        "how the model answers: the sentence with tags in it (<PER>Ada</PER> wrote), or JSON with "
        "text, type and occurrence of each entity",
        ("inline", "json"),
    )
    examples: int | None = option(
        None,
        "how many expert sentences of train.txt are shown with each sentence: those that share "
        "the rarest words with it. Default: 8, or none where there is no train.txt",
    )
    definitions: str | None = option(
        None,
        "file with a line TYPE: definition for each type; none shows the names of the types "
        "alone. Default: built-in ones for PER, ORG, LOC and MISC, none for other types",
        effect=Effect.PLACE,
    )
    prompt: str | None = option(
        None,
        "file with the words of the questions; start from nerc/annotation/prompt.md",
        effect=Effect.PLACE,
    )
    samples: int = option(
        1,
        "how many answers to get for each sentence. With several, a word gets the share of each "
        "tag among them as its probability",
    )
    verify: bool = option(
        False,
        "with several --samples, ask once more about each entity that not all of them have; the "
        "answer counts like that of one more sample",
    )
    temperature: str | None = option(
        None,
        "temperature of the model, or server: what the server sets. Default: 0 for a single "
        "answer, 0.7 for one of several",
    )
    max_reply_tokens: int | None = option(
        None,
        "how many tokens an answer may have; models that think before they answer need more. "
        "Default: 256, and one for each byte of the sentence",
    )
    extra: str | None = option(
        None,
        "further fields of each request, as JSON, such as "
        '\'{"chat_template_kwargs": {"enable_thinking": false}}\'',
    )
    token_price: tuple[float, ...] = option(
        (),
        "price of a million tokens of questions, and of a million tokens of answers, in any "
        "currency",
        effect=Effect.NONE,
    )
    max_cost: float | None = option(
        None,
        "stop before all the replies that are kept for these labels have cost more than this; "
        "needs --token-price",
        effect=Effect.NONE,
    )
    concurrency: int = option(16, "how many requests are under way at once", effect=Effect.NONE)
    timeout: float = option(
        120.0, "seconds after which a request without an answer is sent again", effect=Effect.NONE
    )

    def __post_init__(self) -> None:
        def check(flag: str, ok: bool, wanted: str) -> None:
            value = getattr(self, flag)
            check_flag(
                ok, flag, wanted, " ".join(map(str, value)) if flag == "token_price" else value
            )

        check(
            "base_url",
            re.match("https?://[^/]", self.base_url or "http://a") is not None,
            "an address such as http://localhost:8000/v1",
        )
        check("examples", self.examples is None or 0 <= self.examples <= 1000, "0 to 1000")
        check("samples", 1 <= self.samples <= 100, "1 to 100")
        if self.verify and self.samples == 1:
            raise InputError("--verify needs --samples 2 or more")
        check("temperature", _is_temperature(self.temperature), "0 to 2, or server")
        tokens = self.max_reply_tokens
        check("max_reply_tokens", tokens is None or 1 <= tokens < 10**7, "1 or more")
        prices = self.token_price
        check(
            "token_price",
            len(prices) in (0, 2) and all(0 <= p < math.inf for p in prices),
            "two prices, of a million tokens of questions and of answers",
        )
        if self.max_cost is not None and not prices:
            raise InputError("--max-cost needs --token-price")
        check("max_cost", 0 <= (self.max_cost or 0) < math.inf, "0 or more")
        check("concurrency", 1 <= self.concurrency <= MAX_CONCURRENCY, f"1 to {MAX_CONCURRENCY}")
        check("timeout", 0 < self.timeout < 86400, "a number of seconds, above 0 and below 86400")
        self.extra_fields  # noqa: B018

    @property
    def extra_fields(self) -> dict[str, Any]:
        """The fields of --extra."""
        reserved = ["model", "messages", "max_tokens", "temperature", "seed", "stream", "n"]
        wanted = f"a JSON object without {', '.join(reserved)}"
        try:
            fields = json.loads(self.extra or "{}")
        except ValueError:
            fields = None
        ok = isinstance(fields, dict) and not {*reserved} & fields.keys()
        check_flag(ok, "extra", wanted, self.extra)
        return fields

    def temperature_of(self, *, sample: bool) -> float | None:
        """Of one of several samples, or of a single answer; None: what the server sets."""
        if self.temperature is None:
            return 0.7 if sample else 0.0
        return None if self.temperature == "server" else float(self.temperature)


def without_secrets(url: str) -> str:
    """An address without user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _is_temperature(text: str | None) -> bool:
    if text in (None, "server"):
        return True
    return re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) is not None and float(text) <= 2


@dataclass(frozen=True)
class AnnotateConfig:
    __doc__ = "Which sentences get labels, and where these are written."

    corpus: str | None = option(None, "folder with unlabelled.txt or train.txt; labels go there")
    split: str = option(
        "unlabelled",
        "which words to label: those of unlabelled.txt or of train.txt, whose labels are not shown",
        ("unlabelled", "train"),
    )
    sentences: str | None = option(
        None, "how many of them to label, drawn by --seed: a number or a share (10%%). Default: all"
    )
    expert: str | None = option(
        None,
        "how many expert sentences of train.txt may be examples: a number or a share, drawn by "
        "--seed as train.py draws them. Default: all",
    )
    seed: int = option(0, "seed of both draws")
    columns: str | None = option(
        None, "the columns of the word and of the tag in train.txt, as in train.py"
    )
    types: tuple[str, ...] = option(
        (), "types of entities. Default: those in train.txt, or of --definitions"
    )
    name: str | None = option(None, "write llm.NAME.txt instead of llm.txt: one file per source")
    overwrite: bool = option(False, "replace labels that other settings, or others, wrote")
    labeller: str = option(
        "llm",
        "who labels: llm, a language model on a server; gliner, a GLiNER model on this machine, "
        "whose scores become probabilities (--model: its folder or its name on the Hub)",
        ("llm", "gliner"),
    )
    dry_run: bool = option(
        False, "ask nothing: show the first question, and how many tokens and how much money"
    )
    choose: int | None = option(
        None,
        "write no labels: ask for this many expert sentences in several ways (numbers of examples, "
        "formats, definitions), and show the F1 and the cost of each",
    )
    batch: str | None = option(
        None,
        "send nothing: write the requests that lack a reply to this file, for OpenAI's batch "
        "service; a second one holds the second tries",
    )
    batch_replies: tuple[str, ...] = option(
        (),
        "output files of the batch service, whose replies are kept; without --batch, the server is "
        "then asked for what they lack",
    )

    def __post_init__(self) -> None:
        check_flag(self.corpus is not None, "corpus", "a folder", self.corpus)
        for flag in ("sentences", "expert"):
            if (text := getattr(self, flag)) is not None:
                Amount.parse(text, flag)
        check_flag(0 <= self.seed < 2**32, "seed", "at least 0 and below 2^32", self.seed)
        check_columns(self.columns)
        ok = self.name is None or re.fullmatch(r"[A-Za-z0-9_-]{1,80}", self.name) is not None
        check_flag(ok, "name", "letters, digits, - and _", self.name)
        check_flag(self.choose is None or self.choose >= 2, "choose", "2 or more", self.choose)
        exclusive = [f for f in ("dry_run", "choose", "batch") if getattr(self, f)]
        if len(exclusive) > 1:
            check_given(self, f"left out with --{exclusive[0].replace('_', '-')}", *exclusive[1:])
        if self.labeller != "llm":
            wanted = f"left out with --labeller {self.labeller}"
            flags = ("dry_run", "choose", "batch", "batch_replies", "expert")
            check_given(self, wanted, *(f for f in flags if getattr(self, f)))
