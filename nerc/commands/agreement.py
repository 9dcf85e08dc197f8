__doc__ = """\
Compare the labels that several annotators gave to the same sentences.

python -m nerc agreement anna.conll ben.conll cleo.conll
python -m nerc agreement anna.conll ben.conll --list differences.csv --json agreement.json

Each file is one annotator's and named after the annotator. Sentences are the same if all their
words are; one whose tags are all X was skipped.
"""

import csv
import io
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nerc import files
from nerc.cli import option, parse, start_logging
from nerc.errors import InputError, one_line_errors, visible
from nerc.tables import counted, markdown

logger = logging.getLogger(__name__)

PROGRAM = "python -m nerc agreement"
NUM_SHOWN = 20  # disagreements printed

OfAnnotator = dict[tuple[str, ...], tuple[str, ...] | None]  # tags by words; None: skipped


@dataclass(frozen=True)
class AgreementConfig:
    __doc__ = "Whose labels to compare, and where to write what is found."

    file: tuple[str, ...] = option(
        (), "the CoNLL files of two or more annotators, one each", positional=True
    )
    json: str | None = option(None, "write the figures to this file, as JSON")
    list: str | None = option(
        None, "write all sentences that were tagged differently to this file, as CSV"
    )

    def __post_init__(self) -> None:
        if len(self.file) < 2:
            raise InputError(f"FILE: found one, {self.file[0]}, wanted those of two or more people")


def read_answers(paths: Sequence[Path]) -> dict[str, OfAnnotator]:
    """Read the answers of each annotator; the name is the file's without its last suffix."""
    answers: dict[str, OfAnnotator] = {}
    for path in paths:
        if path.stem in answers:
            raise InputError(
                f"{path}: another file is named {path.stem}, too, which is taken for the "
                f"annotator's name; rename one of them"
            )
        answers[path.stem] = _read_file(path)
    return answers


def _read_file(path: Path) -> OfAnnotator:
    from nerc.annotation.people import SKIPPED
    from nerc.data.conll import read_conll
    from nerc.data.tags import SPECIAL_TAGS, to_iob2

    corpus = read_conll(path, weak=True)  # weak labels may be X
    for note in corpus.notes:
        logger.info(note)
    if corpus.soft:
        raise InputError(
            f"{path.with_name(next(iter(corpus.soft)))}: has probabilities, wanted one tag a word"
        )
    answers, changed = {}, []
    for words, written, name_and_line, _ in corpus:
        location = path.with_name(name_and_line)
        if special := [tag for tag in written if tag in SPECIAL_TAGS]:
            if special != [SKIPPED] * len(words):
                raise InputError(
                    f"{location}: has {special[0]} at some words, wanted {SKIPPED} at all words, "
                    f"to skip the sentence, or at none"
                )
        labels = None if special else tuple(to_iob2(written))
        if answers.get(words, labels) != labels:
            changed.append(location)
        answers[words] = labels
    if num_copies := len(corpus) - len(answers):
        logger.info(f"{path}: copies of earlier sentences, which count once: {num_copies:,}")
    if changed:
        logger.warning(
            f"{path}: copies of earlier sentences with other tags, of which the last count: "
            f"{len(changed):,}, the first in line {changed[0].name.rpartition(':')[2]}"
        )
    return answers


def run(config: AgreementConfig) -> None:
    """Print how far the annotators agree, and the first sentences that they tagged differently."""
    from nerc.annotation import agreement
    from nerc.evaluation.bootstrap import FEW, NUM_DRAWS

    _check_outputs(config)
    answers = read_answers([Path(name) for name in config.file])
    figures, differing = agreement.agreement(answers), agreement.disagreements(answers)
    people, pairs = map(markdown, agreement.tables(figures))
    alpha = "-" if figures.alpha is None else f"{figures.alpha:.3f}"
    print(
        f"\n{people}\n\nF1 of entities, on the sentences that both answered, with intervals from "
        f"{NUM_DRAWS:,} bootstrap resamples\nof these sentences (too narrow with fewer than {FEW}):"
        f"\n\n{pairs}\n\nKrippendorff's alpha of the tags of the {figures.words:,} words that at "
        f"least two people tagged: {alpha}"
    )
    shown = f"; the first {NUM_SHOWN}" if len(differing) > NUM_SHOWN else ""
    print(f"\n{counted(len(differing), 'sentence')} with different tags{shown}")
    for words, of_names in differing[:NUM_SHOWN]:
        print(f"\n{visible(' '.join(words))}")
        for name, labels in of_names.items():
            print(visible(f"    {name}: {agreement.entities_text(words, labels)}"))
    if not figures.words:
        logger.warning("no sentence was answered in two files: all its words must be the same")
    if config.json:
        files.write_json(Path(config.json), figures.to_json())
        print(f"\nthe figures are in {visible(config.json)}")
    if config.list:
        text = io.StringIO()
        rows = agreement.disagreement_rows(differing, list(answers))
        csv.writer(text, lineterminator="\n").writerows(rows)
        files.write_text(Path(config.list), text.getvalue())
        print(f"\nall sentences with different tags are in {visible(config.list)}")


def _check_outputs(config: AgreementConfig) -> None:
    """Raise InputError unless the files to be written can be, and replace none that is read."""
    taken = {os.path.realpath(name) for name in config.file}
    for flag, name in (("--json", config.json), ("--list", config.list)):
        if name is not None:
            files.check_file(Path(name), flag)
            if (place := os.path.realpath(name)) in taken:
                raise InputError(f"{flag} {name}: has another use in this command; name another")
            taken.add(place)


def main(argv: list[str]) -> None:
    (config,) = parse(argv, PROGRAM, __doc__, AgreementConfig)
    start_logging()
    with one_line_errors(PROGRAM):
        run(config)
