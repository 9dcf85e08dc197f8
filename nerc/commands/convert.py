__doc__ = """\
Convert annotated text between nerc's files and those of other tools.

python -m nerc convert export.json train.txt --from label-studio
python -m nerc convert export.json data --from label-studio --split 80 10 10
python -m nerc convert train.txt tasks.json --to label-studio
python -m nerc convert labels.jsonl llm.txt --from jsonl --map PERSON=PER
python -m nerc convert corpus data --from brat --split 80 10 10
python -m nerc convert USER/NAME:train train.txt --from hub
python -m nerc convert notes.txt unlabelled.txt --from text

The programs that learn read conll, the default of both --from and --to. Entities that are given by
characters are checked against their text. Where one does not fit the words, or overlaps another, a
line says where and what was done. A text without words is cut into words and sentences.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nerc import files
from nerc.cli import check_flag, check_given, option, parse, start_logging
from nerc.config import FORMATS, TEXT, check_columns, check_map
from nerc.data.tags import SCHEMES
from nerc.errors import one_line_errors, visible

logger = logging.getLogger(__name__)

PROGRAM = "python -m nerc convert"
_MAX_SHOWN = 20  # changes
WITH_TAGS = ("conll", "conllu", "universal-ner", "csv", "hub")


@dataclass(frozen=True)
class ConvertConfig:
    __doc__ = "What is read, and what is written."

    input: str = option("", "file or folder to read", positional=True)
    output: str = option("", "file to write; a folder with --split or for brat", positional=True)
    from_: str = option(
        "conll",
        "format of the input; text is prose without entities, whose paragraphs a blank line ends",
        (*FORMATS, TEXT),
    )
    to: str = option("conll", "format of the output", FORMATS)
    columns: str | None = option(
        None, "in conll or csv, the columns of the word and of the tag, as in train.py"
    )
    words: str = option(
        "rules",
        "how texts without words are cut into them: by the rules that predict has (rules), at "
        "blanks alone, or as spaCy cuts a language (spacy:de)",
    )
    scheme: str = option("iob2", "how an output with tags marks entities", SCHEMES)
    map: tuple[str, ...] = option(
        (), "rename entity types, as THEIRS=OURS; THEIRS=O: leave out entities of this type"
    )
    annotator: str | None = option(
        None, "whose annotations to take, where several people annotated the same text"
    )
    split: tuple[str, ...] = option(
        (),
        "divide the documents (or the sentences of a single document) at random into train, valid "
        "and test: three shares in percent, such as 80 10 10",
    )
    seed: int = option(0, "seed of that division")
    corrections: str | None = option(
        None,
        "file of answers, such as to the questions of suspects: they replace the entities of the "
        "sentences with the same words",
    )
    corrections_from: str | None = option(None, "format of that file. Default: jsonl", FORMATS)
    list: str | None = option(
        None, "write everything that was changed or left out to this file, one a line"
    )

    def __post_init__(self) -> None:
        check_columns(self.columns)
        ok = self.columns is None or self.from_ in ("conll", "csv")
        check_flag(ok, "columns", "an input that has columns, conll or csv", self.from_)
        ok = self.scheme == "iob2" or self.to in WITH_TAGS
        check_flag(ok, "scheme", f"an output that has tags ({', '.join(WITH_TAGS)})", self.to)
        ok = re.fullmatch("rules|blanks|spacy:[a-z]{2,3}", self.words) is not None
        check_flag(ok, "words", "rules, blanks or spacy:LANGUAGE", self.words)
        check_map(self.map)
        shares = [int(share) for share in self.split if share.isdecimal()]
        ok = not self.split or (len(shares) == len(self.split) == 3 and sum(shares) == 100)
        check_flag(ok, "split", "three shares whose sum is 100", " ".join(self.split))
        check_flag(0 <= self.seed < 2**32, "seed", "at least 0 and below 2^32", self.seed)
        if self.corrections is None:
            check_given(self, "left out without --corrections", "corrections_from")

    @property
    def shares(self) -> Sequence[int]:
        """The shares of --split in percent."""
        return [int(share) for share in self.split]


def main(argv: list[str]) -> None:
    (config,) = parse(argv, PROGRAM, __doc__, ConvertConfig)
    start_logging()
    with one_line_errors(PROGRAM):
        run(config)


def run(config: ConvertConfig) -> None:
    """Read everything, check it, and write it; where anything is wrong, nothing is written."""
    from nerc.annotation import convert
    from nerc.annotation.examples import Source, cutter

    target = Path(config.output)
    convert.check_target(target, config.to, config.shares)
    if config.list:
        files.check_file(Path(config.list), "--list")
    outputs = [("OUTPUT", target)]
    if config.split:
        places = (convert.part_path(target, part, config.to) for part in convert.SPLITS)
        outputs += [("OUTPUT", place) for place in places]
    outputs += [("--list", Path(config.list))] if config.list else []
    files.check_distinct(filter(None, (config.input, config.corrections)), outputs)
    source = Source(Path(config.input), config.columns)
    examples = convert.read(source, config.from_, config.annotator)
    types = dict(pair.split("=") for pair in config.map)
    examples = convert.renamed(examples, types, source)
    sentences, changes = convert.sentences_of(examples, cutter(config.words), source)
    notes = source.notes
    if config.corrections:
        given = Source(Path(config.corrections))
        answers = convert.read(given, config.corrections_from or "jsonl")
        found = {span.type for answer in answers for span in answer.spans}
        answers = convert.renamed(answers, {t: n for t, n in types.items() if t in found}, given)
        sentences, corrections = convert.corrected(sentences, answers, given)
        notes, changes = [*notes, *given.notes], [*changes, *corrections]
    for note in notes:
        logger.info(note)
    parts = {"": sentences}
    if config.split:
        parts = convert.divide(sentences, config.shares, config.seed)
    told = convert.write(parts, target, config.to, config.scheme)
    if config.list is not None:
        lines = "".join(f"{visible(line)}\n" for line in (*notes, *changes))
        files.write_text(Path(config.list), lines)
    report(changes, config.list)
    for line in told:
        logger.info(line)


def report(changes: list[str], path: str | None) -> None:
    """Print what was changed, or its beginning and number."""
    for change in changes[:_MAX_SHOWN]:
        logger.warning(change)
    if len(changes) > _MAX_SHOWN:
        where = f"are in {path}" if path else "can be had with --list FILE"
        logger.warning(f"{len(changes):,} changes, of which {_MAX_SHOWN} are shown; all {where}")
