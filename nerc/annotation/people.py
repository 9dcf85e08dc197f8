"""Asks people for labels, through files in a folder.

Round 3 writes its sentences, with the tags that a model or a weak label proposes, to round_3.jsonl
and round_3.conll, or to what another tool imports. People answer in round_3.answers.jsonl and the
like, of which each person may have one (round_3.answers.ANNA.jsonl); they may be half finished.
Where people disagree, the sentences are asked again: round_3.adjudication.jsonl.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from nerc import files
from nerc.annotation import agreement, tools
from nerc.annotation.answers import Answer, Collected, Words
from nerc.annotation.examples import Example, Source, Target, with_asked
from nerc.annotation.exchange import FORMATS
from nerc.data import spans, tags
from nerc.data.pool import Query
from nerc.data.tags import NOT_ASKED
from nerc.data.words import Text
from nerc.errors import Faults, InputError
from nerc.tables import counted

logger = logging.getLogger(__name__)

_MAX_SHOWN = 20  # faults
# What a tool wants to know of the types before it can be used.
SETTINGS = {
    "label-studio": ("label_config.xml", tools.label_config),
    "prodigy": ("labels.txt", "\n".join),
    "doccano": ("label_types.json", tools.doccano_labels),
}


class WaitingForAnswers(Exception):
    """People have to answer first; the message says what, where and how to continue."""


@dataclass(frozen=True)
class Folder:
    """Where people are asked, and how their answers count."""

    path: Path
    formats: Sequence[str]  # names of FORMATS with different suffixes
    types: frozenset[str] = frozenset()  # that answers may have; empty: any
    annotators: int = 1  # who must answer each sentence
    majority: bool = False  # whether a majority decides where they differ

    def ask(self, queries: Sequence[Query], number: int) -> list[Query]:
        """The queries of a round with their answers; raises WaitingForAnswers until all are there.

        Writes the questions unless they are there. Every fault is logged with its location, then
        InputError counts them: no answer is used before all can be.
        """
        return self._ask(queries, f"round_{number}")

    def check(self, queries: Sequence[Query], number: int) -> None:
        """Log what the answers that are there lack; InputError where they have faults."""
        try:
            self.ask(queries, number)
        except WaitingForAnswers as waiting:
            logger.info(str(waiting))
        else:
            logger.info(f"round {number}: all {len(queries)} sentences are answered, without fault")

    def _ask(self, queries: Sequence[Query], stem: str) -> list[Query]:
        asked = Round(self, stem, queries)
        if not asked.is_asked():
            asked.write()
        given = asked.read()
        counts = [sum(query.words in of_one for of_one in given.values()) for query in queries]
        if missing := [q for q, n in zip(queries, counts, strict=True) if n < self.annotators]:
            raise WaitingForAnswers(asked.what_to_do(missing))
        answers = {name: {w: a.tags for w, a in of.items()} for name, of in given.items()}
        if len(answers) > 1:
            log_agreement(answers)
        decided = self._decide(answers)
        given = agreement.by_sentence(answers)
        first = {words: next(iter(of.values()), None) for words, of in given}
        differing = [q._replace(proposed=first[q.words]) for q in queries if q.words not in decided]
        if differing:
            answered = replace(self, annotators=1)._ask(differing, f"{stem}.adjudication")
            decided |= {query.words: query.tags for query in answered}
        return [query._replace(tags=decided[query.words]) for query in queries]

    def _decide(self, answers: agreement.Answers) -> dict[Words, tuple[str, ...] | None]:
        """The tags of each sentence that all, or most, agree on; None: all skipped it."""
        decided = agreement.majority(answers)[0] if self.majority else {}
        for words, given in agreement.by_sentence(answers):
            if len(set(given.values())) <= 1:
                decided[words] = next(iter(given.values()), None)
        return decided


@dataclass(frozen=True)
class Round:
    """The files of one round of questions, and of the answers."""

    folder: Folder
    stem: str  # with which their names begin
    queries: Sequence[Query]

    # ------------------------------------------------------------ questions

    @property
    def is_partial(self) -> bool:
        """Whether only some words of a sentence are asked."""
        return any(query.asked is not None for query in self.queries)

    def path(self, name: str, kind: str = "") -> Path:
        """The file of a format with the questions or, with the kind .answers, the answers."""
        return self.folder.path / f"{self.stem}{kind}{FORMATS[name].suffix}"

    def is_asked(self) -> bool:
        """Whether the questions are in the folder; InputError where others are."""
        name = self.folder.formats[0]
        path = self.path(name)
        if not path.exists():
            return False
        source = Source(path, partly=self.is_partial)
        try:
            asked = {(e.word_texts, e.asked) for e in FORMATS[name].read(source)}
            wanted = {(e.word_texts, e.asked) for e in map(_question, self.queries)}
            is_same = not source.faults.number and asked == wanted
        except InputError:
            is_same = False
        if not is_same:
            raise InputError(
                f"{path}: does not ask what this run asks: it is of another run, or was changed. "
                f"Answers belong in {self.path(name, '.answers').name}; give another --oracle "
                f"folder, or move the file away to have it written again"
            )
        return True

    def write(self) -> None:
        """Write the questions, the most doubtful first; what is_asked() looks for comes last."""
        doubtful = sorted(self.queries, key=lambda q: 1 if q.confidence is None else q.confidence)
        write_questions(self.folder, self.stem, doubtful)

    # ------------------------------------------------------------ answers

    def answer_files(self) -> Iterator[tuple[Path, str, str]]:
        """The files of answers with their formats and the names of the annotators, if in theirs."""
        for name in self.folder.formats:
            head, tail = f"{self.stem}.answers", FORMATS[name].suffix
            for path in sorted(self.folder.path.glob(f"{head}*{tail}")):
                annotator = path.name.removeprefix(head).removesuffix(tail)
                if not annotator or (annotator[0] == "." and len(annotator) > 1):
                    yield path, name, annotator[1:]

    def _warn_of_others(self) -> None:
        """Log what looks like answers and is not read."""
        known = {path for path, *_ in self.answer_files()}
        for path in sorted(self.folder.path.glob(f"{self.stem}.answer*")):
            if path not in known:
                wanted = " or ".join(self.path(n, ".answers").name for n in self.folder.formats)
                logger.warning(f"{path}: is not read; answers belong in {wanted}")

    def read(self) -> dict[str, dict[Words, Answer]]:
        """The answers that are there, by annotator."""
        faults, collected = Faults(_MAX_SHOWN), Collected()
        by_text = {Text.of_words(query.words).text: query.words for query in self.queries}
        asked = {query.words for query in self.queries}

        def find(example: Example) -> Words | None:
            words = example.word_texts or by_text.get(example.text)
            return words if words in asked else None

        self._warn_of_others()
        for path, name, annotator in self.answer_files():
            source = Source(path, partly=self.is_partial, faults=faults)
            collected.read(source, name, annotator, find)
        self._keep_asked(collected, faults)
        if types := self.folder.types:
            names = ", ".join(tags.ordered(types))
            for location, labels in chain(*(of.values() for of in collected.of.values())):
                for wrong in sorted(tags.types_of(labels or ()) - types):
                    faults.add(location, f"the type {wrong} is not among {names}")
        if faults.number:
            for fault in faults.shown:
                logger.error(fault)
            more = f", the first {_MAX_SHOWN} of them" if faults.number > _MAX_SHOWN else ""
            raise InputError(
                f"{counted(faults.number, 'fault')}, named above{more}, in the answers of "
                f"{self.name}; correct them and give --resume: the other answers stay as they are"
            )
        return collected.of

    def _keep_asked(self, collected: Collected, faults: Faults) -> None:
        """Leave the tags of the words that are asked, and of entities; name words without one."""
        asked = {query.words: query.asked for query in self.queries if query.asked is not None}
        for answers in collected.of.values() if self.is_partial else ():
            for words, (location, labels) in answers.items():
                wanted = asked.get(words, range(len(words)))
                missing = [i for i in wanted if labels is not None and labels[i] == NOT_ASKED]
                if missing:
                    fault = f"has no label of the word {words[missing[0]]!r}, which is asked for"
                    faults.add(location, fault)
                elif labels is not None:
                    answers[words] = Answer(location, with_asked(labels, wanted))

    @property
    def name(self) -> str:
        """What messages call it: round 3, or the adjudication of round 3."""
        number, _, adjudication = self.stem.removeprefix("round_").partition(".")
        return f"the adjudication of round {number}" if adjudication else f"round {number}"

    def what_to_do(self, missing: Sequence[Query]) -> str:
        """How to answer, or go on answering, what is missing."""
        then = "then give the same command with --resume"
        if existing := [path for path, *_ in self.answer_files()]:
            names = " or ".join(path.name for path in existing)
            done = len(self.queries) - len(missing)
            each = f" by {self.folder.annotators} people" if self.folder.annotators > 1 else ""
            return (
                f"{self.name} waits for answers{each} to {counted(len(missing), 'more sentence')} "
                f"({done} are done) in {existing[0].parent / names}, the first of them: "
                f"{_short(missing[0].words)}; {then}"
            )
        ways = ", or ".join(self._way(name) for name in self.folder.formats)
        number = counted(len(missing), "sentence")
        return f"{self.name} waits for labels of {number}: {ways}, {then}"

    def _way(self, name: str) -> str:
        """How to answer in a format."""
        kind = ".answers.NAME" if self.folder.annotators > 1 else ".answers"
        asked, answers = self.path(name), self.path(name, kind).name
        words, others = (' among the words in "asked"', " but X") if self.is_partial else ("", "")
        if name == "jsonl":
            return (
                f'copy {asked} to {answers}, correct the entities{words}, set each "answer" to '
                f'"accept" or "skip"'
            )
        if name == "conll":
            return f"copy {asked.name} to {answers} and correct the tags{others}"
        return f"import {asked} ({SETTINGS[name][0]} has the types), export to {answers}"


def write_questions(folder: Folder, stem: str, queries: Sequence[Query]) -> None:
    """Write queries in each format of a folder, the first format last, with the tools' settings."""
    types = tuple(tags.ordered(folder.types))
    folder.path.mkdir(parents=True, exist_ok=True)
    examples = [_question(query) for query in queries]
    for name in reversed(folder.formats):
        if name in SETTINGS:
            file, text_of = SETTINGS[name]
            files.write_text(folder.path / file, text_of(types))
        with files.unfinished(folder.path / f"{stem}{FORMATS[name].suffix}") as new:
            FORMATS[name].write(examples, Target(new, types=types))


def log_agreement(answers: agreement.Answers) -> None:
    """Log how far the annotators agree, a line for each pair."""
    found = agreement.agreement(answers)
    for pair in found.pairs:
        score = "no entity"
        if pair.f1:
            f1 = pair.f1[agreement.ALL]
            score = f"F1 {f1.value:.3f} (95 % interval {f1.low:.3f} to {f1.high:.3f})"
        one, two = (name or "without a name" for name in pair.names)
        logger.info(f"{one} and {two} both answered {pair.sentences} sentences: {score}")
    alpha = "undefined" if found.alpha is None else f"{found.alpha:.3f}"
    differing = len(agreement.disagreements(answers))
    logger.info(
        f"{counted(differing, 'sentence')} with different answers; Krippendorff's alpha of the "
        f"tags of {found.words:,} words: {alpha}"
    )


def _question(query: Query) -> Example:
    """A query as an example that nobody answered."""
    text = Text.of_words(query.words)
    proposed = query.proposed or ("O",) * len(query.words)
    labels = with_asked(proposed, query.asked)
    asked = tuple(i for i, tag in enumerate(labels) if tag != NOT_ASKED)
    return Example(
        text=text.text,
        spans=tuple(spans.of_tags(text, proposed)),
        location=query.origin,
        words=text.spans,
        answer=None,
        score=query.confidence,
        asked=asked if len(asked) < len(labels) else None,
    )


def _short(words: Sequence[str]) -> str:
    return " ".join(words[:8]) + (" ..." if len(words) > 8 else "")
