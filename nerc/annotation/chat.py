"""Asks a server that speaks OpenAI's protocol: retries, costs, and a limit of what may be spent.

The key comes from the environment and is written nowhere.
"""

import email.utils
import logging
import os
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from threading import Condition, Event, Lock
from typing import Any
from urllib.parse import urlsplit

import httpx2

from nerc.annotation.config import LlmConfig, without_secrets
from nerc.annotation.prompt import Message
from nerc.annotation.replies import Replies, Reply, key_of, of_completion
from nerc.errors import InputError

logger = logging.getLogger(__name__)

KEY = "OPENAI_API_KEY"
MOST_TRIES = 8  # of a request, some 60 seconds unless the server asks for more
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds between tries, doubled each time
LONGEST_ASKED = 600.0  # seconds that a server may ask to wait
MOST_FAILURES = 10  # requests in a row without a reply, after which the server counts as dead
TOKENS_PER_MESSAGE = 16  # at most, besides those of its text


class NoReply(Exception):
    """A request that gets no reply; the text says why."""


class NotAsked(Exception):
    """A request waits for a batch, or could cost more than --max-cost leaves."""


class Stopped(Exception):
    """The command was interrupted while a request waited."""


@dataclass
class Budget:
    """Counts tokens and what they cost, and reserves the most that a request can cost."""

    prices: tuple[float, ...]  # of a million tokens of questions, and of answers; (): not known
    limit: float | None = None
    prompt_tokens: int = 0
    reply_tokens: int = 0
    num_estimated: int = 0  # replies whose tokens the server did not count
    _reserved: float = 0.0
    _changed: Condition = field(default_factory=Condition)

    def cost_of(self, prompt_tokens: float, reply_tokens: float) -> float:
        of_prompt, of_reply = self.prices or (0.0, 0.0)
        return (prompt_tokens * of_prompt + reply_tokens * of_reply) / 1e6

    @property
    def cost(self) -> float | None:
        """What all replies cost; None without prices."""
        return self.cost_of(self.prompt_tokens, self.reply_tokens) if self.prices else None

    def reserve(self, body: dict[str, Any]) -> float:
        """Set aside the most that a request can cost; NotAsked where that is too much."""
        if self.limit is None:
            return 0.0
        # A token never has less than a byte.
        texts = [message["content"].encode() for message in body["messages"]]
        num_bytes = sum(len(text) + TOKENS_PER_MESSAGE for text in texts)
        most = self.cost_of(num_bytes, body["max_tokens"])
        with self._changed:
            while self.cost + self._reserved + most > self.limit:
                if not self._reserved:
                    raise NotAsked
                self._changed.wait()  # for requests that cost less than they might have
            self._reserved += most
        return most

    def settle(self, reserved: float, reply: Reply | None) -> None:
        """Count a reply, and release what was set aside for it."""
        with self._changed:
            self._reserved -= reserved
            if self._reserved < 1e-12:
                self._reserved = 0.0
            if reply is not None:
                self.count(reply)
            self._changed.notify_all()

    def count(self, reply: Reply) -> None:
        self.prompt_tokens += reply.prompt_tokens
        self.reply_tokens += reply.reply_tokens
        self.num_estimated += reply.estimated


class Client:
    """Sends requests, each until it has a reply, which is kept; several threads may ask."""

    def __init__(self, config: LlmConfig, replies: Replies, budget: Budget) -> None:
        self.config, self.replies, self.budget = config, replies, budget
        self.retries: Counter[str] = Counter()  # by what went wrong
        self.num_asked = 0
        self.used = (0, 0)  # tokens of all questions and answers, whoever asked first
        # Where requests are collected for a batch instead of being sent, by their keys.
        self.pending: dict[str, dict[str, Any]] | None = None
        self.stop = Event()
        self._failures, self._lock = 0, Lock()
        self._openai = import_openai()
        key = os.environ.get(KEY, "")
        self._secrets = [s for s in (key, urlsplit(config.base_url or "").password) if s]
        self._client = self._connection(key)

    def _connection(self, key: str) -> Any:
        try:
            return self._openai.OpenAI(
                api_key=key or "none",
                base_url=self.config.base_url,
                max_retries=0,  # ours can be interrupted, and are counted
                timeout=self.config.timeout,
            )
        except (ValueError, self._openai.OpenAIError) as error:  # such as a wrong port
            url = without_secrets(self.config.base_url or "")
            raise InputError(f"--base-url {url}: {self._redacted(error)}") from None

    def connect(self) -> None:
        """Make ready to ask, again after close()."""
        if self._client.is_closed():
            self._client = self._connection(os.environ.get(KEY, ""))

    def close(self) -> None:
        self._client.close()

    def check_key(self) -> None:
        if self.is_openai and not os.environ.get(KEY):
            raise InputError(
                f"OpenAI wants a key: set the environment variable {KEY}, or give --base-url for "
                f"another server"
            )

    @property
    def is_openai(self) -> bool:
        return self._client.base_url.host == "api.openai.com"

    @property
    def address(self) -> str:
        """Where the server is, without what may be secret."""
        return self._redacted(without_secrets(self.config.base_url or str(self._client.base_url)))

    # ------------------------------------------------------------ requests

    def body(self, messages: Sequence[Message], text: str, sample: int | None) -> dict[str, Any]:
        """A request; text: of the sentence; sample: which of several this is."""
        limit = self.config.max_reply_tokens or 256 + len(text.encode())
        fields = {"model": self.config.model, "messages": list(messages), "max_tokens": limit}
        temperature = self.config.temperature_of(sample=sample is not None)
        if temperature is not None:
            fields["temperature"] = temperature
        if sample is not None:
            fields["seed"] = sample
        return fields | self.config.extra_fields

    def sent(self, body: dict[str, Any]) -> dict[str, Any]:
        """A request as this server wants it, which has no influence on its key."""
        if not self.is_openai:
            return body
        # Its newer models refuse max_tokens, and other servers may not know the successor.
        rest = {name: value for name, value in body.items() if name != "max_tokens"}
        return rest | {"max_completion_tokens": body["max_tokens"]}

    def ask(self, body: dict[str, Any]) -> Reply:
        """The reply to a request, a kept one if there is one.

        NoReply where the server gives none; NotAsked; Stopped; InputError where no request can
        succeed.
        """
        reply = self._ask(body)
        with self._lock:
            asked, answered = self.used
            self.used = asked + reply.prompt_tokens, answered + reply.reply_tokens
        return reply

    def _ask(self, body: dict[str, Any]) -> Reply:
        key = key_of(body)
        kept = self.replies.get(key)
        if kept is not None:
            return kept
        if self.pending is not None:
            self.pending[key] = body
            raise NotAsked
        reserved, reply = self.budget.reserve(body), None
        try:
            reply = self._send(body).with_counts(body["messages"])
            self.replies.add(key, reply)
        finally:
            self.budget.settle(reserved, reply)
        return reply

    def _send(self, body: dict[str, Any]) -> Reply:
        for attempt in range(MOST_TRIES):
            if self.stop.is_set():
                raise Stopped
            try:
                reply = self._send_once(body)
            except _Retry as problem:
                with self._lock:
                    is_first = not self.retries and not self.num_asked
                    self.retries[problem.kind] += 1
                if is_first:
                    logger.warning(f"{problem}; trying again, up to {MOST_TRIES - 1} times")
                if attempt + 1 == MOST_TRIES:
                    raise self._failed(str(problem)) from None
                wait = min(LONGEST_WAIT, FIRST_WAIT * 2**attempt) * (0.75 + random.random() / 4)
                if self.stop.wait(wait if problem.wait is None else problem.wait):
                    raise Stopped from None
            else:
                with self._lock:
                    self._failures, self.num_asked = 0, self.num_asked + 1
                return reply

    def _send_once(self, body: dict[str, Any]) -> Reply:
        """One try; _Retry where another one may help."""
        openai = self._openai
        try:
            # Much cheaper than chat.completions.create, which checks and converts every field.
            how = {"body": self.sent(body), "cast_to": httpx2.Response}
            response = self._client.post("/chat/completions", **how)
            return of_completion(response.text)
        except openai.APITimeoutError:
            raise _Retry(
                "no answer in time", f"no answer within {self.config.timeout:g} seconds"
            ) from None
        except openai.APIConnectionError as error:
            cause = self._redacted(error.__cause__ or error)
            raise _Retry("a lost connection", f"{self.address}: {cause}") from None
        except openai.APIStatusError as error:
            self._check_status(error)
        except InputError as error:  # another try would hardly help
            text = f"the reply {error}, wanted that of a chat completion; is the address right?"
            raise self._failed(f"{self.address}: {text}") from None

    def _check_status(self, error: Any) -> None:
        """Raise what a status of 400 or more means."""
        status, text = error.status_code, self._redacted(error.message)
        if status in (401, 403, 404):
            advice = f"check {KEY}" if status != 404 else "check --base-url and --model"
            raise InputError(f"{self.address}: {text}; {advice}")
        if status == 429 and error.code == "insufficient_quota":
            raise InputError(f"{self.address}: {text}; replies so far are kept")
        if status not in (408, 409, 429) and status < 500:
            raise self._failed(text)
        wait = seconds_to_wait(error.response.headers)
        if wait is not None and wait > LONGEST_ASKED:
            raise InputError(
                f"{self.address}: asks to wait for {wait:,.0f} seconds ({text}); give the same "
                f"command later: replies are kept"
            )
        raise _Retry(f"status {status}", f"{self.address}: {text}", wait)

    def _failed(self, text: str) -> Exception:
        """What to raise for a request that gets no reply; InputError if that is true of all."""
        with self._lock:
            self._failures += 1
            if self._failures < MOST_FAILURES:
                return NoReply(text)
        return InputError(
            f"requests for {MOST_FAILURES} texts in a row failed: {text}; replies so far are kept, "
            f"and not asked for again"
        )

    def _redacted(self, error: Any) -> str:
        """The text of an error, which may be anything that a server sends, without secrets."""
        text = " ".join(str(error).split())
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text if len(text) <= 300 else f"{text[:297]}..."


class _Retry(Exception):
    """A try that failed; another may succeed."""

    def __init__(self, kind: str, text: str, wait: float | None = None) -> None:
        super().__init__(text)
        self.kind, self.wait = kind, wait


def seconds_to_wait(headers: Any) -> float | None:
    """How long a server asks to wait, in the header Retry-After: seconds, or a date."""
    text = headers.get("retry-after")
    if text is None:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def import_openai() -> Any:
    """The library openai."""
    try:
        return import_module("openai")
    except ImportError as error:
        raise InputError(
            f"a language model is asked with the library openai; pip install openai ({error})"
        ) from None
