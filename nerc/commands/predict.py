"""Find the entities of text: raw text, CoNLL columns or JSON lines in, JSON lines or CoNLL out.

echo "Angela Merkel visited Paris." | python -m nerc predict --revision model_primary
python -m nerc predict --revision model_primary --input notes.txt --output notes.jsonl
python -m nerc predict --revision model_primary --input new.conll --format conll --to conll

Each line of raw text, and each {"text": ...} or {"words": [...]} of JSON lines, is tagged as one
text: give it a sentence or a paragraph. The output has one line for each, in the same order.
"""

# What takes seconds to import is imported where it is used, as in train.py.
import json
import logging
import os
import signal
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any, TextIO

from nerc import files
from nerc.cli import LogConfig, check_flag, option, parse, start_logging
from nerc.config import MAX_THREADS, PRECISION_HELP, REPO_HELP, THREADS_HELP, TOKENIZER_HELP
from nerc.data.words import DOCSTART, Text, split_columns
from nerc.errors import InputError, Interrupted, one_line_errors

logger = logging.getLogger(__name__)

PROGRAM = "python -m nerc predict"


@dataclass(frozen=True)
class PredictConfig:
    """What is tagged, by which revision, and where the entities go."""

    revision: str = option("model_primary", "revision that finds the entities")
    repo: str = option("models", REPO_HELP)
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
    tokenizer: str | None = option(None, TOKENIZER_HELP)
    strict: bool = option(False, "end at the first line that cannot be read, and write no more")
    precision: str = option(
        "float32",
        PRECISION_HELP,
        ("float32", "bf16", "auto"),
    )
    num_threads: int = option(0, THREADS_HELP)

    def __post_init__(self) -> None:
        threads = self.num_threads
        check_flag(0 <= threads <= MAX_THREADS, "num_threads", f"0 to {MAX_THREADS}", threads)


END = object()  # of the input
NOT_UTF8 = "is not UTF-8"


@dataclass(frozen=True)
class Item:
    """A text, where it stood and what else its line said; or what is wrong with it."""

    location: str
    text: Text = Text()
    error: str | None = None
    more: dict[str, Any] = field(default_factory=dict)


def main(argv: list[str]) -> None:
    config, log = parse(argv, PROGRAM, __doc__, PredictConfig, LogConfig)
    start_logging(quiet=log.quiet, prefix=PROGRAM)
    with one_line_errors(PROGRAM), ended_by_sigterm():
        run(config)


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end it as Ctrl-C does: in order."""

    def stop(number: int, _) -> None:
        raise Interrupted(number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run(config: PredictConfig) -> None:
    """Read, predict and write until the input ends or nobody reads on."""
    from nerc import distributed, hardware
    from nerc.model import encoding, pipeline
    from nerc.store import model_files, revisions

    for path in config.input:
        if path != "-" and (not Path(path).exists() or Path(path).is_dir()):
            raise InputError(f"--input {path}: no such file, or a folder")
    if config.output is not None:
        files.check_file(Path(config.output), "--output")
    folder = revisions.Store(config.repo).path(config.revision)

    accelerator = distributed.start(uses_every_gpu=False)
    if accelerator.num_processes > 1:
        raise InputError(f"is one process; launch it with {PROGRAM}, and split the input")
    hardware.set_threads(config.num_threads)
    bf16 = hardware.choose_precision(config.precision, accelerator.device) == "bf16"
    model, tokenizer = model_files.load_revision(folder, tokenizer=config.tokenizer)
    model.to(accelerator.device)
    if model.config.calibration is None and config.to == "json":
        logger.warning(
            f"{config.revision}: its confidences are not calibrated, and likely too high"
        )
    write = write_json if config.to == "json" else write_conll
    waiting: deque[list[Item]] = deque()
    encoding_stats: Counter[str] = Counter()
    num_bad = 0
    with output(config.output) as file, Chunks(items(config), pipeline.STREAM_CHUNK) as chunks:

        def texts() -> Iterator[list[Text]]:
            for chunk in chunks:
                waiting.append(chunk)
                yield [item.text for item in chunk]

        for answers in pipeline.tag_texts(
            model, tokenizer, texts(), bf16=bf16, encoding_stats=encoding_stats
        ):
            for item, (labels, found) in zip(waiting.popleft(), answers, strict=True):
                if item.error is not None:
                    if config.strict:
                        raise InputError(f"{item.location}: {item.error}")
                    num_bad += 1
                    logger.warning(f"{item.location}: {item.error}; left out")
                write(file, item, labels, found)
            file.flush()
    for note in encoding.encoding_notes(encoding_stats):
        logger.warning(note)
    if num_bad:
        raise InputError(f"{num_bad} lines could not be read, and were left out")


def write_json(file: TextIO, item: Item, _, found: list[dict[str, Any]]) -> None:
    """One JSON object on a line."""
    answer = item.more | {"text": item.text.text, "entities": found}
    if item.error is not None:
        answer = {"error": f"{item.location}: {item.error}"}
    file.write(json.dumps(answer, ensure_ascii=False) + "\n")


def write_conll(file: TextIO, item: Item, labels: list[str], _) -> None:
    """A word and its tag on a line, an empty line after each text."""
    rows = zip(item.text.words, labels, strict=True)
    for word, label in rows:
        blank = "\t" if " " in word else " "  # words with blanks came from columns with tabs
        file.write(f"{word}{blank}{label}\n")
    file.write("\n")


# ------------------------------------------------------------ input


def items(config: PredictConfig) -> Iterator[Item]:
    """What stands in the files, or in standard input, one after the other."""
    read = {"text": of_text, "json": of_json, "conll": of_conll}[config.format]
    for path in config.input or ("-",):
        if path == "-":
            # A file of our own: the interpreter cannot end while a thread waits for sys.stdin.
            with open(0, "rb", closefd=False) as file:
                yield from read(lines(file, "standard input"))
            continue
        with open(path, "rb") as file:
            yield from read(lines(file, path))


def lines(file, name: str) -> Iterator[tuple[str, str | None]]:
    """Where each line stands, and the line; None where it is not UTF-8."""
    for number, line in enumerate(file, start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            yield f"{name}:{number}", text.removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            yield f"{name}:{number}", None


def of_text(rows: Iterable[tuple[str, str | None]]) -> Iterator[Item]:
    """Each line is a text."""
    for location, line in rows:
        if line is None:
            yield Item(location, error=NOT_UTF8)
        else:
            yield Item(location, Text.of(line))


def of_json(rows: Iterable[tuple[str, str | None]]) -> Iterator[Item]:
    """Each line is an object with text or words."""
    for location, line in rows:
        if line is None:
            yield Item(location, error=NOT_UTF8)
            continue
        try:
            value = json.loads(line)
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            yield Item(location, error="has half a surrogate pair, which is no character")
            continue
        except (ValueError, RecursionError) as error:
            yield Item(location, error=f"is no JSON: {error}")
            continue
        more = value if isinstance(value, dict) else {}
        text, given = more.pop("text", None), more.get("words")
        if isinstance(text, str) and given is None:
            yield Item(location, Text.of(text), more=more)
        elif text is None and is_words(given):
            yield Item(location, Text.of_words(given), more=more)
        else:
            yield Item(
                location,
                error='wanted {"text": "..."} or {"words": ["...", ...]}, words without blanks',
            )


def is_words(value: Any) -> bool:
    """Whether value is a list of words, none of them empty or with white space in it."""
    return isinstance(value, list) and all(isinstance(w, str) and w.split() == [w] for w in value)


def of_conll(rows: Iterable[tuple[str, str | None]]) -> Iterator[Item]:
    """Words in the first column, what else stands there is not read; empty lines part texts."""
    found: list[str] = []
    first = bad = ""

    def sentence() -> Iterator[Item]:
        if bad:  # a sentence that lacks a word is another sentence
            yield Item(bad, error=f"{NOT_UTF8}, and so its sentence, from {first} on, is not read")
        elif found:
            yield Item(first, Text.of_words(found))

    for location, line in rows:
        words = split_columns(line)[:1] if line is not None else ["?"]
        if words and words != [DOCSTART]:
            first = first if found else location
            bad = bad or (location if line is None else "")
            found += words
        else:
            yield from sentence()
            found, bad = [], ""
    yield from sentence()


class Chunks:
    """Items in lists of up to size: as many as have come, so that slow input is answered as it
    comes. A context: who leaves it wants no more."""

    def __init__(self, source: Iterator[Item], size: int) -> None:
        self.source, self.size = source, size
        self.queue: Queue = Queue(2 * size)
        self.closed = False
        Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for item in self.source:
                self.queue.put(item)
                if self.closed:
                    return
            self.queue.put(END)
        except BaseException as error:  # told where the items are waited for
            self.queue.put(error)

    def __iter__(self) -> Iterator[list[Item]]:
        item = None
        while item is not END and not isinstance(item, BaseException):
            chunk, item = [], self.queue.get()
            while isinstance(item, Item):
                chunk.append(item)
                if len(chunk) == self.size or self.queue.empty():
                    break
                item = self.queue.get()
            if chunk:
                yield chunk
        if isinstance(item, BaseException):
            raise item

    def __enter__(self) -> "Chunks":
        return self

    def __exit__(self, *_) -> None:
        """Let whoever waits for items stop."""
        self.closed = True
        with suppress(Empty):  # others may take items, too
            while True:
                self.queue.get_nowait()
        self.queue.put(END)


@contextmanager
def output(path: str | None) -> Iterator[TextIO]:
    """Standard output, ended quietly if nobody reads on; or a file that is whole or not there."""
    if path is not None:
        from nerc.files import unfinished

        with unfinished(Path(path)) as temporary, temporary.open("w", encoding="utf-8") as file:
            yield file
        return
    sys.stdout.reconfigure(encoding="utf-8")
    try:
        yield sys.stdout
    except BrokenPipeError:
        # As a program that SIGPIPE ended, and at once: threads wait for input that may never come.
        os._exit(141)
