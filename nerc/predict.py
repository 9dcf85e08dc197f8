"""Find the entities of text: raw text, CoNLL columns or JSON lines in, JSON lines or CoNLL out.

echo "Angela Merkel visited Paris." | python -m nerc.predict --revision model_primary
python -m nerc.predict --revision model_primary --input notes.txt --output notes.jsonl
python -m nerc.predict --revision model_primary --input new.conll --format conll --to conll

A line of raw text, or a {"text": ...} or {"words": [...]} of JSON lines, is read at once: give it a
sentence or a paragraph. What comes out stands in the order of what went in, a line for a line.
"""

# What takes seconds to import is imported where it is used, as in train.py.
import json
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

from nerc.config import InputError, Interrupted, PredictConfig, one_line_errors, parse
from nerc.text import DOCSTART, Text, columns

PROGRAM = "python -m nerc.predict"

END = object()  # of the input
NOT_UTF8 = "is not UTF-8"


@dataclass(frozen=True)
class Item:
    """A text, where it stood and what else its line said; or what is wrong with it."""

    origin: str
    text: Text = Text()
    error: str | None = None
    more: dict[str, Any] = field(default_factory=dict)


def main(argv: list[str]) -> None:
    (config,) = parse(argv, PROGRAM, __doc__, PredictConfig)
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
    from nerc import files, revisions

    for path in config.input:
        if path != "-" and (not Path(path).exists() or Path(path).is_dir()):
            raise InputError(f"--input {path}: no such file, or a folder")
    if config.output is not None:
        files.check_file(Path(config.output), "--output")
    folder = revisions.Store(config.repo).path(config.revision, note)

    from nerc import encoding, launch, machine, pipeline

    accelerator = launch.start()
    if accelerator.num_processes > 1:
        raise InputError(f"is one process; launch it with {PROGRAM}, and split the input")
    machine.set_threads(config.num_threads)
    bf16 = machine.choose_precision(config.precision, accelerator.device) == "bf16"
    model, tokenizer = revisions.load_revision(folder, tokenizer=config.tokenizer, say=note)
    model.to(accelerator.device)
    if model.config.calibration is None and config.to == "json":
        note(f"{config.revision}: its confidences are not calibrated, and likely too high")
    write = write_json if config.to == "json" else write_conll
    waiting: deque[list[Item]] = deque()
    odd: Counter[str] = Counter()
    num_bad = 0
    with output(config.output) as file, Chunks(items(config), pipeline.STREAM_CHUNK) as chunks:

        def texts() -> Iterator[list[Text]]:
            for chunk in chunks:
                waiting.append(chunk)
                yield [item.text for item in chunk]

        for answers in pipeline.find(model, tokenizer, texts(), bf16=bf16, odd=odd):
            for item, (labels, found) in zip(waiting.popleft(), answers, strict=True):
                if item.error is not None:
                    if config.strict:
                        raise InputError(f"{item.origin}: {item.error}")
                    num_bad += 1
                    note(f"{item.origin}: {item.error}; left out")
                write(file, item, labels, found)
            file.flush()
    for remark in encoding.remarks(odd):
        note(remark)
    if num_bad:
        raise InputError(f"{num_bad} lines could not be read, and were left out")


def note(text: str) -> None:
    """What is not an answer goes where errors go."""
    sys.stderr.write(f"{PROGRAM}: {text}\n")


def write_json(file: TextIO, item: Item, _, found: list[dict[str, Any]]) -> None:
    """One JSON object on a line."""
    answer = item.more | {"text": item.text.text, "entities": found}
    if item.error is not None:
        answer = {"error": f"{item.origin}: {item.error}"}
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
    for origin, line in rows:
        if line is None:
            yield Item(origin, error=NOT_UTF8)
        else:
            yield Item(origin, Text.of(line))


def of_json(rows: Iterable[tuple[str, str | None]]) -> Iterator[Item]:
    """Each line is an object with text or words."""
    for origin, line in rows:
        if line is None:
            yield Item(origin, error=NOT_UTF8)
            continue
        try:
            value = json.loads(line)
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            yield Item(origin, error="has half a surrogate pair, which is no character")
            continue
        except (ValueError, RecursionError) as error:
            yield Item(origin, error=f"is no JSON: {error}")
            continue
        more = value if isinstance(value, dict) else {}
        text, given = more.pop("text", None), more.get("words")
        if isinstance(text, str) and given is None:
            yield Item(origin, Text.of(text), more=more)
        elif text is None and is_words(given):
            yield Item(origin, Text.of_words(given), more=more)
        else:
            yield Item(
                origin,
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

    for origin, line in rows:
        words = columns(line)[:1] if line is not None else ["?"]
        if words and words != [DOCSTART]:
            first = first if found else origin
            bad = bad or (origin if line is None else "")
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


if __name__ == "__main__":
    main(sys.argv[1:])
