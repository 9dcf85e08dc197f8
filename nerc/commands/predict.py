__doc__ = """\
Find the entities in raw text, CoNLL columns or JSON lines; write JSON lines or CoNLL columns.

echo "Angela Merkel visited Paris." | python -m nerc predict --revision model_primary
python -m nerc predict --revision model_primary --input notes.txt --output notes.jsonl
python -m nerc predict --revision model_primary --input new.conll --format conll --to conll

Each line of raw text, and each {"text": ...} or {"words": [...]} of JSON lines, is tagged as one
text: give it a sentence or a paragraph. With --format paragraphs, for prose whose lines are
wrapped, each sentence is one. In JSON, each gets one line of output, in the same order:

{"text": "in Paris", "entities": [{"type": "LOC", "text": "Paris", "start": 3, "end": 8, ...}]}

start and end count characters from 0, end exclusive; with paragraphs, those of the file. What
cannot be read gets {"error": ...}. An object keeps its other fields, but not entities or error of
its own. train.py makes the revision.
"""

# Modules that take seconds to import are imported where they are used, as in train.py.
import json
import logging
import os
import sys
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Thread
from typing import Any, BinaryIO, TextIO

from nerc import files
from nerc.cli import LogConfig, check_flag, check_given, check_only, option, parse, start_logging
from nerc.config import INT8_HELP, MAX_THREADS, REPO_HELP, THREADS_HELP, TOKENIZER_HELP
from nerc.data import shards, texts
from nerc.data.shards import Part
from nerc.data.texts import Item
from nerc.data.words import DOCSTART, has_unspaced
from nerc.errors import InputError, one_line_errors

logger = logging.getLogger(__name__)

PROGRAM = "python -m nerc predict"


@dataclass(frozen=True)
class PredictConfig:
    __doc__ = "What is tagged, by which revision, and where the output goes."

    revision: str = option("model_primary", "revision that finds the entities")
    repo: str = option("models", REPO_HELP)
    engine: str = option(
        "torch",
        "what computes. torch: PyTorch; onnx: onnxruntime, and --revision is a folder that "
        "python -m nerc export wrote",
        ("torch", "onnx"),
    )
    input: tuple[str, ...] = option(
        (), "files to read, in this order; - is standard input. Default: standard input"
    )
    format: str = option(
        "text",
        "what each line of the input holds. text: a text; json: an object with text or words; "
        "conll: a word and other columns; an empty line separates texts; paragraphs: a part of a "
        "paragraph, which goes on until an empty line and is split into sentences",
        ("text", "json", "conll", "paragraphs"),
    )
    columns: str | None = option(
        None,
        "with --format conll, the column of the words: its number, or its name in the first line. "
        "Default: the first one",
    )
    output: str | None = option(None, "file to write. Default: standard output")
    to: str = option(
        "json",
        "what each line of the output holds. json: an object with type, text, characters, words "
        "and confidence of a text's entities; conll: a word and its tag",
        ("json", "conll"),
    )
    shard: str | None = option(
        None,
        "I/N: answer the I-th of N shares of the input's files, I from 1, and write them to "
        "OUTPUT.I-of-N. Default: all of it",
    )
    join: int = option(
        0, "make --output of the parts that runs with --shard 1/JOIN to JOIN/JOIN have written"
    )
    tokenizer: str | None = option(None, TOKENIZER_HELP)
    strict: bool = option(False, "stop at the first line that cannot be read")
    precision: str = option("float32", INT8_HELP, ("float32", "bf16", "int8", "auto"))
    num_threads: int = option(0, THREADS_HELP)

    def __post_init__(self) -> None:
        threads = self.num_threads
        check_flag(0 <= threads <= MAX_THREADS, "num_threads", f"0 to {MAX_THREADS}", threads)
        if self.format != "conll":
            check_given(self, "left out without --format conll", "columns")
        if self.engine == "onnx":
            ok = self.precision in ("float32", "auto")
            check_flag(ok, "precision", "left out with --engine onnx", self.precision)
            check_given(self, "left out with --engine onnx", "tokenizer")
        is_one = self.columns is None or "," not in self.columns
        check_flag(is_one, "columns", "one column, such as 2 or TOKEN", self.columns)
        check_flag(0 <= self.join <= 9999, "join", "1 to 9999", self.join)
        if self.join:
            check_only(self, "join", "output", wanted="left out with --join")
        if self.shard:
            is_shard = shards.parse(self.shard) is not None
            check_flag(is_shard, "shard", "I/N, such as 1/4, with I from 1 to N", self.shard)
            is_file = bool(self.input) and "-" not in self.input
            check_flag(is_file, "input", "files that every shard reads", "standard input")
        if self.join or self.shard:
            check_flag(bool(self.output), "output", "a file, of which there are parts", self.output)


# Flags that change no answer; the model and the precision stand elsewhere.
OUR_OWN = ("revision", "repo", "output", "shard", "join", "strict", "num_threads")
SHARDS_LOGS = "in the logs of the shards"
OUR_FIELDS = ("text", "entities", "error")  # of an answer, be it of a line that has them, too


def main(argv: list[str]) -> None:
    config, log = parse(argv, PROGRAM, __doc__, PredictConfig, LogConfig)
    start_logging(quiet=log.quiet, prefix=PROGRAM)
    with one_line_errors(PROGRAM):
        run(config)


def run(config: PredictConfig) -> None:
    """Read, predict and write until the input ends or the reader of the output has gone."""
    part = Part(config.output, *shards.parse(config.shard)) if config.shard else None
    check_paths(config, part)
    if config.join:
        check_bad(shards.join(config.output, config.join), SHARDS_LOGS)
        return
    folder = folder_of(config)

    from nerc import distributed, hardware
    from nerc.model.modeling import NERSmallConfig
    from nerc.model.precision import Precision
    from nerc.model.source import check_folder
    from nerc.store import records

    accelerator = distributed.start(uses_every_gpu=False)
    hardware.set_threads(config.num_threads)
    precision, source = config.precision, {}
    if config.engine == "torch":
        asked = Precision(precision, accelerator)
        if asked.decided is None:  # before the weights are read: a part may be there already
            check_folder(folder)
            asked.of(NERSmallConfig.from_pretrained(folder))
        precision = asked.decided
    if part:
        source = source_of(config) | {"precision": precision, "model": records.hashes(folder)}
        if (record := part.read_record()) and record["source"] == source:
            logger.info(f"{part.path}: is there already")
            check_bad(record["num_bad"], SHARDS_LOGS)
            return
        part.record.unlink(missing_ok=True)
    model, tokenizer = load(config, folder, precision)
    model.to(accelerator.device)
    precision = getattr(model, "precision", precision)  # of an export
    if precision != "float32":
        logger.warning(f"computing in {precision}: confidences differ a little between machines")
    if model.config.calibration is None and config.to == "json":
        note = "its confidences are not calibrated, and probably too high"
        logger.warning(f"{config.revision}: {note}")
    if model.config.context == "document" and config.format in ("text", "json"):
        logger.warning(
            f"{config.revision} reads documents, and every text here alone; --format paragraphs, "
            f"or conll with lines {DOCSTART}, gives it documents"
        )
    with distributed.StopSignals(accelerator):
        num_bad = answer(config, model, tokenizer, part, bf16=precision == "bf16")
    if part:
        part.write_record(source, num_bad)
    check_bad(num_bad, "above")


def source_of(config: PredictConfig) -> dict[str, Any]:
    """What the parts of one output have in common, but for the model and the precision."""
    values = {name: value for name, value in vars(config).items() if name not in OUR_OWN}
    status = [(path, os.stat(path)) for path in config.input]
    found = [[path, s.st_size, s.st_mtime_ns] for path, s in status]
    return values | {"input": found, "stretch": shards.STRETCH}


def answer(config: PredictConfig, model, tokenizer, part: Part | None, *, bf16: bool) -> int:
    """Write the answers to all of the input, or to what a part has of it; how many are errors."""
    from nerc.model import encoding, pipeline

    write = write_json if config.to == "json" else write_conll
    by_document = model.config.context == "document"
    encoding_stats: Counter[str] = Counter()
    num_texts = num_bad = num_in_documents = 0
    source = items(config, part, by_document=by_document)
    with (
        output(str(part.path) if part else config.output) as file,
        read_ahead(source, pipeline.STREAM_CHUNK, by_document=by_document) as chunks,
    ):
        about = {"bf16": bf16, "encoding_stats": encoding_stats}
        for answers in pipeline.tag_texts(model, tokenizer, chunks, **about):
            for item, text_tags, entities in answers:
                if item.error is not None:
                    if config.strict:
                        raise InputError(f"{item.location}: {item.error}")
                    num_bad += 1
                    logger.warning(f"{item.location}: {item.error}")
                num_in_documents += item.document > 0
                write(file, item, text_tags, entities)
            num_texts += len(answers)
            file.flush()
            if part:
                part.add(item.stretch, file.buffer.tell())
    for note in encoding.encoding_notes(encoding_stats):
        logger.warning(note)
    has_columns = config.format == "conll" and (num_texts or not part)
    if by_document and has_columns and not num_in_documents:
        logger.warning(f"no line {DOCSTART} began a document, so every text was read alone")
    return num_bad


def check_bad(num_bad: int, place: str) -> None:
    """Raise InputError where inputs were not read; place: where they are named."""
    if num_bad:
        what = "1 input" if num_bad == 1 else f"{num_bad:,} inputs"
        raise InputError(f"{what} could not be read, named {place}; the others are answered")


def folder_of(config: PredictConfig) -> Path:
    """The folder of the revision, or of its export."""
    from nerc.store.revisions import Store

    if config.engine == "onnx":
        return Path(config.revision)
    return Store(config.repo).path(config.revision)


def load(config: PredictConfig, folder: Path, precision: str) -> tuple:
    """The model that computes, and its tokenizer."""
    from nerc.model import onnx_engine
    from nerc.store import model_files

    if config.engine == "onnx":
        return onnx_engine.load(folder)
    model, tokenizer = model_files.load_revision(folder, tokenizer=config.tokenizer)
    return onnx_engine.Tagger.of(model, int8=True) if precision == "int8" else model, tokenizer


def check_paths(config: PredictConfig, part: Part | None) -> None:
    """Raise InputError where the input cannot be read or the output cannot be written."""
    for path in config.input:
        if path != "-" and (part or not (os.path.exists(path) and Path(path).is_fifo())):
            files.check_input(Path(path))
    if config.output is not None:
        files.check_file(part.record if part else Path(config.output), "--output")
        if any(Path(path).resolve() == Path(config.output).resolve() for path in config.input):
            raise InputError(f"--output {config.output}: is an input, too; give another file")


def write_json(file: TextIO, item: Item, _, entities: list[dict[str, Any]]) -> None:
    """Write one JSON object on a line."""
    others = {name: value for name, value in item.fields.items() if name not in OUR_FIELDS}
    for entity in entities:
        entity["start"] += item.offset
        entity["end"] += item.offset
    answer = {"text": item.text, "entities": entities}
    if item.error is not None:
        answer = {"error": f"{item.location}: {item.error}"}
    file.write(json.dumps(others | answer, ensure_ascii=False) + "\n")


def write_conll(file: TextIO, item: Item, text_tags: list[str], _) -> None:
    """Write a word and its tag on each line, and an empty line after the text."""
    for word, tag in zip(item.words, text_tags, strict=True):
        blank = "\t" if " " in word else " "  # words with blanks came from columns with tabs
        file.write(f"{word}{blank}{tag}\n")
    file.write("\n")


# ------------------------------------------------------------ input


def items(
    config: PredictConfig, part: Part | None = None, *, by_document: bool = False
) -> Iterator[Item]:
    """The texts of the input files, or of standard input, one after the other.

    part: only the texts of its stretches. by_document: no stretch ends within a document.
    """
    said: set[str] = set()  # what is said once
    last, num_documents = None, 0  # stretch or file, and number there, of the last document; of all
    for nth, (stretch, found) in enumerate(read_files(config, part, by_document=by_document)):
        for item in found:
            document = item.document
            if document:
                num_documents += (nth, document) != last
                last = nth, document
                document = num_documents
            item = replace(item, document=document, stretch=stretch)
            is_cut = config.format != "conll" and "words" not in item.fields
            if is_cut and has_unspaced(item.text):
                warn_once(
                    said,
                    "characters",
                    f"{item.location}: is in a script without blanks between words, and is cut "
                    f"into characters; the model must have learnt from characters",
                )
            if config.to == "json":
                warn_of_lost_fields(item, said)
            elif DOCSTART in item.words:
                error = f"has the word {DOCSTART}, which begins a document in CoNLL columns"
                item = Item(location=item.location, error=error, stretch=stretch)
            yield item


def read_files(
    config: PredictConfig, part: Part | None, *, by_document: bool
) -> Iterator[tuple[int, Iterator[Item]]]:
    """The number of each stretch, 0 for a pipe, and its texts."""
    number, unit = 0, "line" if config.format in ("text", "json") else "text"
    if by_document and config.format == "conll":
        unit = "document"
    for path in config.input or ("-",):
        # Not sys.stdin: the interpreter cannot end while a thread waits for it.
        place, name = (0, "standard input") if path == "-" else (path, path)
        with open(place, "rb", closefd=path != "-") as file:
            head = texts.Head()
            for stretch in shards.stretches(file, name, unit):
                number += 1
                is_first = stretch.line == 1
                about = head if is_first else replace(head)  # so that all shards know the same
                found = read_stretch(config, file, name, stretch, about)
                if part is None or part.holds(number):
                    yield (0 if stretch.num_lines is None else number), found
                elif is_first and config.format == "conll":
                    deque(found, maxlen=0)


def read_stretch(
    config: PredictConfig, file: BinaryIO, name: str, stretch: shards.Stretch, head: texts.Head
) -> Iterator[Item]:
    """The texts of a stretch; head: of a file of CoNLL columns."""
    lines = stretch.lines(file, name)
    if config.format == "paragraphs":
        yield from texts.of_paragraphs(lines, name, stretch.line, stretch.characters)
    elif config.format == "conll":
        yield from texts.of_conll(texts.rows(lines, name), config.columns, head)
    else:
        read = Item.of if config.format == "text" else texts.of_object
        yield from texts.of_lines(texts.rows(lines, name), read)


def warn_of_lost_fields(item: Item, said: set[str]) -> None:
    """Say it, once for each name, where a field of the input is not in the answer."""
    for name in OUR_FIELDS[1:]:
        if name in item.fields:
            warn_once(
                said,
                name,
                f"{item.location}: has a field {name} of its own, which gives way to the answer's, "
                f"here and in later lines; to keep it, rename it",
            )


def warn_once(said: set[str], what: str, message: str) -> None:
    if what not in said:
        said.add(what)
        logger.warning(message)


@contextmanager
def read_ahead(
    source: Iterator[Item], size: int, *, by_document: bool
) -> Iterator[Iterator[list[Item]]]:
    """Items, which another thread reads, in lists of about size; leaving ends the reading.

    Of a pipe, a list holds the items that have been read by now, so that slow input is answered as
    it comes; of files, it holds the same items in every run, all of one stretch, so that all runs
    compute the same. by_document: no list ends within a document.
    """
    queue: Queue[Item | BaseException | None] = Queue(2 * size)  # None: the end
    closed = Event()

    def read() -> None:
        try:
            for item in source:
                queue.put(item)
                if closed.is_set():
                    return
            queue.put(None)
        except BaseException as error:  # collect() raises it
            queue.put(error)

    def place(item: Item) -> tuple[int, int]:
        return item.stretch, item.document if by_document else 0

    def collect() -> Iterator[list[Item]]:
        chunk: list[Item] = []
        while True:
            item = queue.get()
            if chunk and not (isinstance(item, Item) and place(item) == place(chunk[-1])):
                yield chunk
                chunk = []
            if isinstance(item, Item):
                chunk.append(item)
                has_room = len(chunk) < size
                if has_room and (item.stretch or not queue.empty()) or place(item)[1]:
                    continue
            if chunk:
                yield chunk
                chunk = []
            if isinstance(item, BaseException):
                raise item
            if item is None:
                return

    Thread(target=read, daemon=True).start()
    try:
        yield collect()
    finally:  # the thread may wait for room, and collect() for items
        closed.set()
        with suppress(Empty):  # collect() may take items, too
            while True:
                queue.get_nowait()
        queue.put(None)


@contextmanager
def output(path: str | None) -> Iterator[TextIO]:
    """A file, which appears when it is complete; or standard output, whose reader may go away."""
    if path is not None:
        with files.unfinished(Path(path)) as new, new.open("w", encoding="utf-8") as file:
            yield file
        return
    sys.stdout.reconfigure(encoding="utf-8")
    try:
        yield sys.stdout
    except BrokenPipeError:
        # Like a program that SIGPIPE ended, and at once: a thread may wait for input forever.
        os._exit(141)
