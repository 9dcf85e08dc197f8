"""Keeps every reply of a language model, so that nothing is paid for twice."""

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from filelock import Timeout

from nerc import files
from nerc.errors import InputError
from nerc.store.revisions import acquire
from nerc.tables import counted

logger = logging.getLogger(__name__)


class Reply(NamedTuple):
    """What a server sent for one request."""

    content: str
    finish: str = "stop"  # or length: it was cut off
    refusal: str | None = None
    prompt_tokens: int | None = None  # None: the server did not count
    reply_tokens: int | None = None
    model: str | None = None  # as the server calls it
    estimated: bool = False  # whether the numbers of tokens are

    def with_counts(self, messages: Sequence[Mapping[str, str]]) -> "Reply":
        """The reply with numbers of tokens, estimated where the server did not count them."""
        if None not in (self.prompt_tokens, self.reply_tokens):
            return self
        asked, answered = estimated_tokens(messages), estimated_tokens([{"content": self.content}])
        return self._replace(prompt_tokens=asked, reply_tokens=answered, estimated=True)


BYTES_PER_TOKEN = 4  # about, of English text


def estimated_tokens(messages: Sequence[Mapping[str, str]]) -> int:
    """About how many tokens messages have."""
    return sum(len(m["content"].encode()) // BYTES_PER_TOKEN + 4 for m in messages)


_COUNT = files.Wanted("0 or more", lambda number: number >= 0, int)
_LINE = {
    **{"key": str, "content": str, "finish": str, "refusal?": str, "model?": str},
    **{"prompt_tokens": _COUNT, "reply_tokens": _COUNT, "estimated?": bool},
}
# Of a chat completion, by the reference of OpenAI's API; other servers leave out some fields.
_COMPLETION = {
    "choices": files.Wanted(
        "a list with one choice",
        lambda choices: len(choices) == 1,
        [{"message": {"content?": str, "refusal?": str}, "finish_reason?": str}],
    ),
    "model?": str,
}
_USAGE = {"prompt_tokens": _COUNT, "completion_tokens": _COUNT}


def of_completion(text: str) -> Reply:
    """The reply in a chat completion; InputError where the text is none."""
    value = files.parse_json(text, _COMPLETION)
    (choice,), usage = value["choices"], value.get("usage")
    message = choice["message"]
    try:
        files.check_shape(usage, _USAGE)
    except InputError:  # as if the server had not counted
        usage = {}
    return Reply(
        message.get("content") or "",
        choice.get("finish_reason") or "stop",
        message.get("refusal"),
        usage.get("prompt_tokens"),
        usage.get("completion_tokens"),
        value.get("model"),
    )


def key_of(body: Mapping[str, Any]) -> str:
    """What a request is known by: a hash of model, messages and settings."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


class Replies:
    """The replies in a file, a JSON line for each, by the key of their request.

    Several threads may add replies. A line counts once it ends: what a kill left of a last one is
    removed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._of: dict[str, Reply] = {}
        self._lock = Lock()
        self._file = None

    @contextmanager
    def open(self) -> Iterator["Replies"]:
        """Read the file, and let this command alone add to it; InputError while another does."""
        try:
            lock = acquire(self.path.with_name(f".{self.path.name}.lock"))
        except Timeout:
            raise InputError(
                f"{self.path}: another command is adding replies to it; wait for it, or stop it"
            ) from None
        try:
            self.read()
            with self.path.open("ab") as self._file:
                yield self
        finally:
            self._file = None
            if not self._of and self.path.exists() and not self.path.stat().st_size:
                self.path.unlink()
            lock.release()
            Path(lock.lock_file).unlink(missing_ok=True)

    def read(self) -> None:
        """Read the file, if there is one."""
        if not self.path.exists():
            return
        text = files.read_text(self.path, newline="")
        *lines, rest = text.split("\n")
        if rest:
            os.truncate(self.path, self.path.stat().st_size - len(rest.encode()))
            logger.info(
                f"{self.path}: its last line is incomplete, as after a kill; it was removed"
            )
        for number, line in enumerate(lines, start=1):
            try:
                row = files.parse_json(line, _LINE)
            except InputError as error:
                raise InputError(
                    f"{self.path}:{number}: {error}; wanted what annotate writes there; remove the "
                    f"line to ask again"
                ) from None
            key = row.pop("key")
            self._of[key] = Reply(**{f: row[f] for f in Reply._fields if row.get(f) is not None})

    def __len__(self) -> int:
        return len(self._of)

    def __iter__(self) -> Iterator[Reply]:
        return iter(self._of.values())

    def get(self, key: str) -> Reply | None:
        return self._of.get(key)

    def add(self, key: str, reply: Reply) -> None:
        """Keep a reply; it is in the file before this returns."""
        row = {name: value for name, value in reply._asdict().items() if value not in (None, False)}
        line = json.dumps({"key": key} | row, ensure_ascii=False) + "\n"
        with self._lock:
            self._file.write(line.encode())
            self._file.flush()
            self._of[key] = reply


# ------------------------------------------------------------ batches

MAX_IN_BATCH = 50_000  # requests in a file, by OpenAI's rules


def write_batch(path: Path, bodies: Mapping[str, Mapping[str, Any]]) -> None:
    """Write requests, by their keys, as the input of OpenAI's batch service."""
    rows = (
        {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body}
        for key, body in bodies.items()
    )
    files.write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


_RESULT = {
    "custom_id": str,
    "response?": {"status_code": int, "body": dict},
    "error?": dict,
}


def read_batch(path: Path, replies: Replies) -> None:
    """Add the replies in the output of the batch service; failed requests are counted."""
    failed: list[str] = []
    added = 0
    for number, line in enumerate(files.read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = files.parse_json(line, _RESULT)
            if "body" in row:
                raise InputError("is a request, not a reply")
            response = row.get("response")
            if response is None or response["status_code"] != 200:
                failed.append(f"{path}:{number}")
                continue
            reply = of_completion(json.dumps(response["body"])).with_counts([])
        except InputError as error:
            raise InputError(
                f"{path}:{number}: {error}; wanted the output file of a batch"
            ) from None
        if replies.get(row["custom_id"]) is None:
            replies.add(row["custom_id"], reply)
            added += 1
    logger.info(f"{path}: {counted(added, 'new reply')}")
    if failed:
        logger.warning(
            f"{failed[0]}: the first of {counted(len(failed), 'request')} that failed; the next "
            f"--batch holds them again"
        )
