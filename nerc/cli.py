"""Dataclass fields as command-line flags: option() declares one, parse() reads them all."""

import argparse
import errno
import logging
import os
import sys
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from enum import Enum
from io import TextIOWrapper
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any, NoReturn, get_args, get_origin

from nerc.errors import InputError, discard, fail, rank, say, visible
from nerc.recipes import RECIPES


class Effect(Enum):
    """What a flag changes: the one statement that resuming and comparing runs rely on."""

    RESULT = "what is learnt"
    PLACE = "where something lies, whose content is what counts"
    MACHINE = "what the machine decides where the flag leaves it open; run.json holds the decision"
    SEED = "which of several equal runs it is"
    EXTENT = "how far a run goes; more of it continues a finished one"
    NONE = "no result"


def option(
    default: Any,
    help: str,
    choices: Sequence[str] | None = None,
    *,
    effect: Effect = Effect.RESULT,
    by_recipe: bool = False,
    positional: bool = False,
) -> Any:
    """A dataclass field that is a command-line flag, or an argument without one (positional).

    by_recipe: the recipe has its default.
    """
    about = {"help": help, "choices": choices, "effect": effect, "by_recipe": by_recipe}
    return field(default=default, metadata=about | {"positional": positional})


def help_of(config: type, flag: str) -> str:
    """The help text of a flag, for another config that has the same one."""
    return config.__dataclass_fields__[flag].metadata["help"]


def flags_with(effects: Container[Effect], *configs: type) -> set[str]:
    """The names of the fields of configs whose effect is one of effects."""
    every = (f for config in configs for f in fields(config))
    return {f.name for f in every if f.metadata["effect"] in effects}


def check_flag(ok: bool, flag: str, wanted: str, found: Any) -> None:
    """Raise InputError that says what a flag must be, unless its value is ok."""
    if not ok:
        raise InputError(f"--{flag.replace('_', '-')} must be {wanted}, not {found!r}")


def check_given(
    config: Any, wanted: str, *flags: str, test: Callable[[Any], bool] = lambda _: False
) -> None:
    """check_flag for those of flags that were given; without a test, none may be given."""
    for flag in flags:
        value = getattr(config, flag)
        found = " ".join(value) if isinstance(value, tuple) else value
        check_flag(value in (None, ()) or test(value), flag, wanted, found)


def check_only(config: Any, *flags: str, wanted: str) -> None:
    """check_flag that only these flags differ from their defaults."""
    for f in fields(config):
        value = getattr(config, f.name)
        found = " ".join(map(str, value)) if isinstance(value, tuple) else value
        check_flag(f.name in flags or value == f.default, f.name, wanted, found)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        if rank():  # every process has the same command line
            raise SystemExit(2)
        fail(self.prog, f"{message}; see {self.prog} --help")

    def print_help(self, file=None) -> None:
        if not rank():
            super().print_help(file)


def parse(argv: Sequence[str], program: str, description: str, *configs: type) -> tuple:
    """One instance of each config from the command line; ends with one line on bad input.

    Flags accept - and _; field names must be unique among the configs. What --help tells of a
    command and its configs is assigned to their __doc__: python -OO drops docstrings.
    """
    _open_standard_streams()
    parser = _Parser(program, description=description, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    for config in configs:
        group = parser.add_argument_group(config.__doc__.splitlines()[0].rstrip("."))
        for f in fields(config):
            _add_flag(group, f)
    try:
        os.getcwd()
    except FileNotFoundError:  # without one, torch would end the process
        fail(program, "the current folder has been removed; change to another one")
    known, unknown = parser.parse_known_args([_with_hyphens(argument) for argument in argv])
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{_our_flag(unknown, parser)}")
    values = {n: tuple(v) if isinstance(v, list) else v for n, v in vars(known).items()}
    for f in (f for config in configs for f in fields(config)):
        flag, value = _flag(f), values[f.name]
        for text in value if isinstance(value, tuple) else [value]:
            if text == "":
                parser.error(f"{flag} is empty")
            if isinstance(text, str) and not _is_text(text):
                encoding = sys.getfilesystemencoding()
                parser.error(f"{flag} {text}: is no text in {encoding}, the encoding of names here")
    try:
        return tuple(c(**{f.name: values[f.name] for f in fields(c)}) for c in configs)
    except InputError as error:
        parser.error(str(error))


def _open_standard_streams() -> None:
    """Make each standard stream an open one that can tell any text.

    Where one is closed, the next file to be opened would get its number, and what is written to the
    stream. So its number leads nowhere, and writing to standard output or reading is an error.
    """
    for number, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest free number
    sys.stdout = sys.stdout or open(1, "w", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # what replaces it takes any text
            stream.reconfigure(errors="backslashreplace")


def _is_text(value: str) -> bool:
    """Whether a command line's value is free of zeros and of bytes that are no characters."""
    return "\0" not in value and not any("\ud800" <= c <= "\udfff" for c in value)


@dataclass(frozen=True)
class LogConfig:
    __doc__ = "What is printed."

    quiet: bool = option(False, "print only results, warnings and errors", effect=Effect.NONE)


class _Formatter(logging.Formatter):
    """Messages hold text from files, which must not reach a terminal as it is."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(visible, super().format(record).split("\n")))


class _Console(logging.Handler):
    """Prints messages, on the main process alone.

    A stream that holds nothing but messages ends no run when it is closed or its reader has gone:
    hours of work would be lost.
    """

    def __init__(self, prefix: str, *, alone: bool) -> None:
        super().__init__()
        self.prefix = prefix and f"{prefix}: "
        self.forgiven = (errno.EPIPE, errno.EBADF) if alone else ()
        self.setFormatter(_Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        if rank():
            return
        text = f"{self.prefix}{self.format(record)}\n"
        if self.prefix:
            say(text)
            return
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError as error:
            if error.errno not in self.forgiven:
                raise
            discard(sys.stdout)


class _LogFile(logging.FileHandler):
    """A log file whose errors, a full disk above all, end the run as other files' do."""

    def handleError(self, record: logging.LogRecord) -> None:
        raise  # logging calls this while it handles the error


def start_logging(*, quiet: bool = False, prefix: str = "", alone: bool = False) -> None:
    """Print what the package logs: to standard output or, with a prefix, to standard error.

    quiet: warnings and errors alone. alone: the command prints nothing else to standard output. The
    messages are also kept for log_to().
    """
    logger = logging.getLogger("nerc")
    for handler in [*logger.handlers]:
        logger.removeHandler(handler)
    console = _Console(prefix, alone=alone)
    console.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.addHandler(console)
    logger.addHandler(MemoryHandler(sys.maxsize, flushLevel=sys.maxsize, flushOnClose=False))
    logger.setLevel(logging.INFO)


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Append to a file all messages since start_logging, or since the last log_to, with times."""
    logger = logging.getLogger("nerc")
    file = _LogFile(path, encoding="utf-8")
    file.setFormatter(_Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    memory = [handler for handler in logger.handlers if isinstance(handler, MemoryHandler)]
    for handler in memory:
        handler.setTarget(file)
        handler.flush()
        handler.setTarget(None)
        logger.removeHandler(handler)
    logger.addHandler(file)
    try:
        yield
    finally:
        logger.removeHandler(file)
        file.close()
        for handler in memory:
            logger.addHandler(handler)


# Flags of transformers' example scripts, and ours for the same thing.
_OUR_FLAGS = {
    "--learning-rate": "--lr",
    "--output-dir": "--repo and --revision",
    "--model-name-or-path": "--encoder",
    "--tokenizer-name": "--encoder, which brings its tokenizer",
    "--dataset-name": "--corpus",
    "--train-file": "--corpus with a folder that holds train.txt, valid.txt and test.txt",
    "--num-train-epochs": "--epochs",
    "--per-device-train-batch-size": "--batch-size, of all processes together",
    "--train-batch-size": "--batch-size, of all processes together",
    "--per-device-eval-batch-size": "none: evaluation picks its batches",
    "--gradient-accumulation-steps": "--micro-batch-words, which leaves the update as it is",
    "--max-seq-length": "none: longer sentences are read in overlapping windows",
    "--optim": "--optimizer",
    "--lr-scheduler-type": "--schedule",
    "--warmup-ratio": "--warmup",
    "--warmup-steps": "--warmup, a share of the updates",
    "--max-grad-norm": "--clip",
    "--bf16": "--precision bf16",
    "--fp16": "--precision bf16",
    "--save-steps": "--checkpoint-every",
    "--resume-from-checkpoint": "--resume",
    "--overwrite-output-dir": "--overwrite",
    "--push-to-hub": "--push",
    "--hub-model-id": "--repo",
}


def _our_flag(unknown: Sequence[str], parser: argparse.ArgumentParser) -> str:
    """What to type instead of the first unknown argument, where it is one of transformers'."""
    ours = _OUR_FLAGS.get(unknown[0].partition("=")[0], "")
    flag = ours.partition(" ")[0].rstrip(",:")
    is_flag_here = flag == "none" or flag in parser.format_help()
    return f"; nerc's flag is {ours}" if ours and is_flag_here else ""


def _with_hyphens(argument: str) -> str:
    """--batch_size=8 -> --batch-size=8."""
    flag, equals, value = argument.partition("=")
    return flag.replace("_", "-") + equals + value if argument.startswith("--") else argument


def _flag(f: Any) -> str:
    """What the command line calls a field."""
    if f.metadata["positional"]:
        return f.name.upper()
    return "--" + f.name.rstrip("_").replace("_", "-")  # Python reserves from: it is from_


def _add_flag(group: argparse._ArgumentGroup, f: Any) -> None:
    help_text, choices = f.metadata["help"], f.metadata["choices"]
    if f.metadata["by_recipe"]:
        help_text += f" ({', '.join(f'{recipe} {v[f.name]}' for recipe, v in RECIPES.items())})"
    elif f.default not in (None, (), "") and f.type is not bool:
        help_text += f" (default: {f.default})"
    about = {"dest": f.name, "help": help_text}
    if f.type is bool:
        about |= {"action": "store_true"}
    elif get_origin(f.type) is tuple:
        about |= {"nargs": "+", "action": "extend", "default": [], "choices": choices}
        about |= {"type": get_args(f.type)[0]}
        about |= {"metavar": f.name.upper()}
    else:
        kind = f.type if isinstance(f.type, type) else get_args(f.type)[0]
        about |= {"type": kind, "default": f.default, "choices": choices}
        about |= {"metavar": None if choices else f.name.upper()}
    if f.metadata["positional"]:
        group.add_argument(about.pop("dest"), **about)
    else:
        group.add_argument(_flag(f), **about)
