__doc__ = """\
Compare the labels that several annotators gave to the same sentences.

python -m nerc agreement anna.conll ben.conll cleo.conll
python -m nerc agreement anna.conll ben.conll --list differences.csv --json agreement.json
python -m nerc agreement export.json --from label-studio

Where a file does not name its annotators, it is one annotator's and named after the annotator.
Sentences are the same if all their words are; one whose tags are all X was skipped.
"""

import csv
import io
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nerc import files
from nerc.cli import option, parse, start_logging
from nerc.config import FORMATS
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
        (),
        "files of two or more annotators, of whom one file may have several",
        positional=True,
    )
    from_: str = option("conll", "format of the files", FORMATS)
    json: str | None = option(None, "write the figures to this file, as JSON")
    list: str | None = option(
        None, "write all sentences that were tagged differently to this file, as CSV"
    )


def read_answers(paths: Sequence[Path], name: str) -> dict[str, OfAnnotator]:
    """Read the answers of each annotator, whom the file names, or is named after."""
    from nerc.annotation.answers import tags_of
    from nerc.annotation.examples import Source, cutter
    from nerc.annotation.exchange import FORMATS

    names = [name_of(path) for path in paths]
    if repeated := [path for path in paths if names.count(name_of(path)) > 1]:
        raise InputError(
            f"{repeated[1]}: another file is named {name_of(repeated[1])}, too, which is taken for "
            f"the annotator's name; rename one of them"
        )
    answers: dict[str, OfAnnotator] = {}
    for path in paths:
        source, changed, num_copies = Source(path), [], 0
        for example in FORMATS[name].read(source):
            if example.proposal or example.answer is None:
                continue
            places = example.words or cutter("rules")(example.text)
            words = tuple(example.text[start:end] for start, end in places)
            try:
                labels = None if example.answer == "skip" else tags_of(example, words)
            except InputError as error:
                source.faults.add(example.location, str(error))
                continue
            given = answers.setdefault(example.annotator or name_of(path), {})
            num_copies += words in given
            if given.get(words, labels) != labels:
                changed.append(example.location)
            given[words] = labels
        source.faults.check()
        for note in source.notes:
            logger.info(note)
        if num_copies:
            logger.info(f"{path}: copies of earlier sentences, which count once: {num_copies:,}")
        if changed:
            logger.warning(
                f"{path}: copies of earlier sentences with other tags, of which the last count: "
                f"{len(changed):,}, the first at {changed[0]}"
            )
    if len(answers) < 2:
        found = f"only {min(answers)}" if answers else "nobody"
        raise InputError(f"found answers of {found}, wanted those of two or more people")
    return answers


def name_of(path: Path) -> str:
    """The annotator after whom a file is named: round_1.answers.anna.conll is anna's."""
    return re.sub(r"^round_[0-9]+\.(?:adjudication\.)*answers\.", "", path.stem)


def run(config: AgreementConfig) -> None:
    """Print how far the annotators agree, and the first sentences that they tagged differently."""
    from nerc.annotation import agreement
    from nerc.evaluation.bootstrap import FEW, NUM_DRAWS

    _check_outputs(config)
    answers = read_answers([Path(name) for name in config.file], config.from_)
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
    flags = (("--json", config.json), ("--list", config.list))
    outputs = [(flag, Path(name)) for flag, name in flags if name is not None]
    for flag, path in outputs:
        files.check_file(path, flag)
    files.check_distinct(config.file, outputs)


def main(argv: list[str]) -> None:
    (config,) = parse(argv, PROGRAM, __doc__, AgreementConfig)
    start_logging()
    with one_line_errors(PROGRAM):
        run(config)
