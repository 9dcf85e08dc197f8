"""Reads what people answered, in any format: the tags of each sentence, by annotator."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from nerc.annotation.examples import Example, Source, with_asked
from nerc.annotation.exchange import FORMATS
from nerc.data import spans
from nerc.data.words import Text
from nerc.errors import InputError

logger = logging.getLogger(__name__)

Words = tuple[str, ...]
FindWords = Callable[[Example], Words | None]


class Answer(NamedTuple):
    """One person's answer about a sentence."""

    location: str
    tags: tuple[str, ...] | None  # IOB2; None: skipped


@dataclass
class Collected:
    """Answers by annotator and words; "" is an annotator whose name nobody gave."""

    of: dict[str, dict[Words, Answer]] = field(default_factory=dict)

    def read(self, source: Source, name: str, annotator: str, find_words: FindWords) -> None:
        """Add the answers of a file in the format of that name; faults go to source.faults.

        annotator: who answered, unless the file names several people. find_words: the words of an
        example, as the asker has them; None: the example was not asked for. Proposals, and what
        nobody answered yet, are not answers.
        """
        try:
            examples = list(FORMATS[name].read(source))
            if len({e.annotator for e in examples if e.annotator}) > 1:
                annotator = ""
            for example in examples:
                if example.left_out:
                    logger.info(f"{example.location}: left out {', '.join(example.left_out)}")
                if example.proposal or example.answer is None:
                    continue
                words = find_words(example)
                if words is None:
                    shown = example.text if len(example.text) <= 60 else f"{example.text[:56]} ..."
                    source.faults.add(example.location, f"was not asked for: {shown}")
                else:
                    self._add(example, words, annotator or example.annotator or "", source)
        except InputError as error:
            source.faults.add(str(error))

    def _add(self, example: Example, words: Words, annotator: str, source: Source) -> None:
        try:
            labels = None if example.answer == "skip" else tags_of(example, words)
        except InputError as error:
            source.faults.add(example.location, str(error))
            return
        given = self.of.setdefault(annotator, {})
        other = given.setdefault(words, Answer(example.location, labels))
        if other.tags != labels:
            by = f" by {annotator}" if annotator else ""
            source.faults.add(example.location, f"has another answer{by} in {other.location}")


def tags_of(example: Example, words: Words) -> tuple[str, ...]:
    """The tags of the words; InputError where entities do not fit them: people can correct that."""
    text = Text(example.text, example.words or ())
    if example.words is None:
        text = Text.aligned(example.text, words)
    checked, changes = spans.check(text, example.spans)
    for change in changes:
        logger.info(f"{example.location}: {change}")
    labels, changes = spans.fit(text, checked)
    if changes:
        raise InputError(changes[0].problem)
    return with_asked(labels, example.asked)
