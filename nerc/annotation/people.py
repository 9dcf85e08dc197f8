"""Asks people for labels, through files in a folder.

Round 3 writes round_3.jsonl and round_3.conll: the sentences to label, with the tags that the model
proposes. People answer in one or both of two files, which may be half finished:

round_3.answers.jsonl: "answer" is "accept" (the entities are right, also where there are none) or
"skip"; null where there is no answer yet.
round_3.answers.conll: the sentences that are done; one whose tags are all X is skipped.
"""

import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nerc import files
from nerc.data import tags
from nerc.data.columns import blocks
from nerc.data.pool import Query
from nerc.data.words import Text
from nerc.errors import InputError
from nerc.tables import counted

logger = logging.getLogger(__name__)

SKIPPED = "X"  # the tag of every word of a skipped sentence
_MAX_SHOWN = 20  # faults
Answer = tuple[str, tuple[str, ...], tuple[str, ...] | None]  # location, words, tags if not skipped


class WaitingForAnswers(Exception):
    """People have to answer first; the message says what, where and how to continue."""


def ask(queries: Sequence[Query], folder: Path, number: int, types: frozenset[str]) -> list[Query]:
    """Write the questions of a round unless they are there, and read the answers."""
    if not check_questions(queries, folder, number):
        write_questions(queries, folder, number)
    return read_answers(queries, folder, number, types)


# ------------------------------------------------------------ questions


def check_questions(queries: Sequence[Query], folder: Path, number: int) -> bool:
    """Whether the questions of a round are in the folder; InputError where others are."""
    path = folder / f"round_{number}.jsonl"
    if not path.exists():
        return False
    faults: list[str] = []
    asked = {words for _, words, _ in _read_json(path, faults, unanswered=True)}
    if faults or asked != {query.words for query in queries}:
        raise InputError(
            f"{path}: does not ask what this run asks: it is of another run, or was changed. "
            f"Answers belong in round_{number}.answers.jsonl; give another --oracle folder, or "
            f"move the file away to have it written again"
        )
    return True


def write_questions(queries: Sequence[Query], folder: Path, number: int) -> None:
    """Write the questions of a round into the folder, as JSON lines and as CoNLL."""
    folder.mkdir(parents=True, exist_ok=True)
    lines, blocks = [], []
    for query in queries:
        row = question(query)
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
        separator = "\t" if any(" " in word for word in query.words) else " "
        pairs = zip(query.words, query.proposed or ("O",) * len(query.words), strict=True)
        blocks.append("".join(f"{word}{separator}{tag}\n" for word, tag in pairs))
    files.write_text(folder / f"round_{number}.conll", "\n".join(blocks))
    files.write_text(folder / f"round_{number}.jsonl", "".join(lines))


def question(query: Query) -> dict[str, Any]:
    """A query as a line of JSON: the text, the proposed entities, no answer yet."""
    text, entities = Text.of_words(query.words), []
    for name, first, last in tags.entities(query.proposed or ()):
        start, end = text.spans[first][0], text.spans[last - 1][1]
        covered = text.text[start:end]
        entities.append({"type": name, "text": covered, "start": start, "end": end})
    return {
        "text": text.text,
        "words": query.words,
        "entities": entities,
        "answer": None,
        "origin": query.origin,
        "score": query.score,
    }


# ------------------------------------------------------------ answers


def read_answers(
    queries: Sequence[Query], folder: Path, number: int, types: frozenset[str]
) -> list[Query]:
    """The queries with their answers; raises WaitingForAnswers until all are there.

    Every fault is logged with its location, then InputError counts them: no answer is used before
    all can be. types: those that answers may have; empty: any.
    """
    paths = [folder / f"round_{number}.answers.{kind}" for kind in ("jsonl", "conll")]
    asked = {query.words for query in queries}
    faults: list[str] = []
    answers: dict[tuple[str, ...], tuple] = {}  # of words: the location and the tags
    for path, read in zip(paths, (_read_json, _read_conll), strict=True):
        for location, words, labels in read(path, faults) if os.path.lexists(path) else ():
            other = answers.setdefault(words, (location, labels))
            if words not in asked:
                faults.append(f"{location}: was not asked for in round {number}: {_short(words)}")
            elif other[1] != labels:
                faults.append(f"{location}: has another answer in {other[0]}")
            elif types:
                wrong = sorted(tags.types_of(labels or ()) - types)
                names = ", ".join(tags.ordered(types))
                faults += [f"{location}: the type {name} is not among {names}" for name in wrong]
    if faults:
        for fault in faults[:_MAX_SHOWN]:
            logger.error(fault)
        more = f", the first {_MAX_SHOWN} of them" if len(faults) > _MAX_SHOWN else ""
        raise InputError(
            f"{counted(len(faults), 'fault')}, named above{more}, in the answers of round "
            f"{number}; correct them and give --resume: the other answers stay as they are"
        )
    if missing := [query for query in queries if query.words not in answers]:
        raise WaitingForAnswers(_what_to_do(missing, len(answers), paths, number))
    return [query._replace(tags=answers[query.words][1]) for query in queries]


def _what_to_do(missing: Sequence[Query], done: int, paths: Sequence[Path], number: int) -> str:
    then = "then give the same command with --resume"
    if existing := [path for path in paths if path.exists()]:
        names = " or ".join(path.name for path in existing)
        return (
            f"round {number} waits for answers to {len(missing)} more sentences ({done} are done) "
            f"in {existing[0].parent / names}, the first of them: {_short(missing[0].words)}; "
            f"{then}"
        )
    json_path, conll_path = paths
    return (
        f"round {number} waits for labels of {len(missing)} sentences: copy "
        f"{json_path.with_name(f'round_{number}.jsonl')} to {json_path.name}, correct the "
        f'entities, set each "answer" to "accept" or "skip" (or copy round_{number}.conll to '
        f"{conll_path.name} and correct the tags), {then}"
    )


def _short(words: Sequence[str]) -> str:
    return " ".join(words[:8]) + (" ..." if len(words) > 8 else "")


def _lines(path: Path, faults: list[str]) -> list[str]:
    try:
        return files.read_text(path).split("\n")
    except InputError as error:
        faults.append(str(error))
        return []


def _read_conll(path: Path, faults: list[str]) -> Iterator[Answer]:
    """The answers in a CoNLL file, whose sentences are all done."""
    for _, marked, lines in blocks(enumerate(_lines(path, faults), start=1)):
        block = [line for line in marked if len(line[1]) == 2] + lines  # the others are comments
        if not block:
            continue
        words = tuple(columns[0] for _, columns in block)
        labels = [columns[-1] for _, columns in block]
        wrong = [
            f"{path}:{number}: found {' '.join(columns)!r}, wanted a word and its tag"
            for number, columns in block
            if len(columns) < 2 or not (tags.is_tag(columns[-1]) or columns[-1] == SKIPPED)
        ]
        faults += wrong
        location = f"{path}:{block[0][0]}"
        if set(labels) == {SKIPPED}:
            yield location, words, None
        elif SKIPPED in labels:
            faults.append(
                f"{location}: has {SKIPPED} at some words, wanted it at all words, to skip the "
                f"sentence, or at none"
            )
        elif not wrong:
            yield location, words, tuple(tags.to_iob2(labels))


_ROW = {
    "words": files.Wanted("a list of words", bool, [str]),
    "entities": [{"start": int, "end": int, "type": str, "text?": str}],
    "answer": files.Wanted(
        '"accept", "skip" or null', lambda a: a in (None, "accept", "skip"), str | None
    ),
    "text?": str,
}


def _read_json(path: Path, faults: list[str], *, unanswered: bool = False) -> Iterator[Answer]:
    """The answers in JSON lines; with unanswered, lines without one are given as skipped."""
    for number, line in enumerate(_lines(path, faults), start=1):
        if not line.strip():
            continue
        location = f"{path}:{number}"
        try:
            row = files.parse_json(line, _ROW)
        except InputError as error:
            faults.append(f"{location}: {error}")
            continue
        words, answer = tuple(row["words"]), row["answer"]
        if row.get("text") not in (None, " ".join(words)):
            text = _short(row["text"].split(" "))
            faults.append(f"{location}: its text, {text!r}, is not that of its words")
            continue
        if answer == "skip" or (answer is None and unanswered):
            yield location, words, None
        elif answer == "accept":
            labels, wrong = _to_tags(words, row["entities"])
            faults += [f"{location}: {fault}" for fault in wrong]
            if not wrong:
                yield location, words, labels


def _to_tags(
    words: tuple[str, ...], entities: Sequence[dict[str, Any]]
) -> tuple[tuple[str, ...], list[str]]:
    """The IOB2 tags for entities given by characters, and what is wrong with the entities."""
    text = Text.of_words(words)
    starts = {start: i for i, (start, _) in enumerate(text.spans)}
    ends = {end: i + 1 for i, (_, end) in enumerate(text.spans)}
    labels, faults = ["O"] * len(words), []
    for entity in entities:
        start, end, name = entity["start"], entity["end"], entity["type"]
        which = f"the entity {start} to {end}"
        covered = text.text[start:end]
        if start not in starts or end not in ends or ends[end] <= starts[start]:
            faults.append(f"{which} ({covered!r}) is not one of whole words of {text.text!r}")
        elif not tags.is_tag(f"B-{name}"):
            faults.append(f"{which} has the type {name!r}, wanted a name such as PER")
        elif entity.get("text") not in (None, covered):
            faults.append(f"{which} is {covered!r}, and not {entity['text']!r}")
        elif any(label != "O" for label in labels[starts[start] : ends[end]]):
            faults.append(f"{which} overlaps another")
        else:
            inside = ends[end] - starts[start] - 1
            labels[starts[start] : ends[end]] = [f"B-{name}", *[f"I-{name}"] * inside]
    return tuple(labels), faults
