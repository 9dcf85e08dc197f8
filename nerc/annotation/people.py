"""Who answers: the labels of the training split, or people, by files in a folder.

For people, round 3 writes round_3.jsonl and round_3.conll: the sentences to label, with what the
model proposes. They leave round_3.answers.jsonl, in which "answer" is "accept" (the entities are
right; none is an answer, too) or "skip" in the place of null, or round_3.answers.conll, with the
sentences that are done, where X as every tag skips a sentence. Both may be half done.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nerc import files
from nerc.data import tags
from nerc.data.pool import Query
from nerc.data.tags import Entity
from nerc.data.words import DOCSTART, Text, split_columns
from nerc.errors import InputError

logger = logging.getLogger(__name__)

SKIPPED = "X"  # the tag of every word of a sentence that is skipped
_SHOWN = 20  # faults


class WaitingForAnswers(Exception):
    """People have to answer first; the message says what, where and how to go on."""


def check_questions(queries: Sequence[Query], folder: Path, number: int) -> bool:
    """Whether a round's questions are in the folder; InputError where they are another run's."""
    path = folder / f"round_{number}.jsonl"
    if not path.exists():
        return False
    faults: list[str] = []
    there = {words for _, words, _ in _of_json(path, faults, unanswered=True)}
    if faults or there != {query.words for query in queries}:
        raise InputError(
            f"{path}: does not ask what this run asks, so it is of another run, or was changed; "
            f"answers go to round_{number}.answers.jsonl; give another --oracle folder, or move "
            f"the file away to have it written anew"
        )
    return True


def write_questions(queries: Sequence[Query], folder: Path, number: int) -> None:
    """Write what a round asks into the folder, as JSON lines and as CoNLL."""
    folder.mkdir(parents=True, exist_ok=True)
    lines, blocks = [], []
    for query in queries:
        proposed = query.proposed or ("O",) * len(query.words)
        text = Text.of_words(query.words)
        row = {
            "text": text.text,
            "words": query.words,
            "entities": [_as_json(text, entity) for entity in tags.entities(proposed)],
            "answer": None,
            "origin": query.origin,
            "score": query.score,
        }
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
        pairs = zip(query.words, proposed, strict=True)
        between = "\t" if any(" " in word for word in query.words) else " "
        blocks.append("".join(f"{word}{between}{tag}\n" for word, tag in pairs))
    files.write_text(folder / f"round_{number}.conll", "\n".join(blocks))
    files.write_text(folder / f"round_{number}.jsonl", "".join(lines))


def _as_json(text: Text, entity: Entity) -> dict[str, Any]:
    start, end = text.spans[entity.start][0], text.spans[entity.end - 1][1]
    return {"type": entity.type, "text": text.text[start:end], "start": start, "end": end}


def read_answers(
    queries: Sequence[Query],
    folder: Path,
    number: int,
    types: frozenset[str],
) -> list[Query]:
    """The queries with what people answered; raises Waiting while there is something to do.

    Every fault is said, with its place, and InputError counts them: no answer is taken before all
    can be. types: those that answers may have; none: any.
    """
    paths = [folder / f"round_{number}.answers.{kind}" for kind in ("jsonl", "conll")]
    asked = {query.words for query in queries}
    faults: list[str] = []
    found: dict[tuple[str, ...], tuple[str, tuple[str, ...] | None]] = {}
    for path in filter(Path.exists, paths):
        read = _of_json if path.suffix == ".jsonl" else _of_conll
        for location, words, labels in read(path, faults):
            other, before = found.setdefault(words, (location, labels))
            if words not in asked:
                faults.append(f"{location}: was not asked for in round {number}: {_short(words)}")
            elif before != labels:
                faults.append(f"{location}: has another answer in {other}")
            else:
                wrong = sorted(tags.types_of(labels or ()) - types) if types else []
                faults += [f"{location}: the type {t} is not among {_names(types)}" for t in wrong]
    if faults:
        for fault in faults[:_SHOWN]:
            logger.error(fault)
        more = f", the first {_SHOWN} of them" if len(faults) > _SHOWN else ""
        raise InputError(
            f"{len(faults)} fault(s), named above{more}, in the answers of round {number}; mend "
            f"them and give --resume: the other answers stay as they are"
        )
    if left := [query for query in queries if query.words not in found]:
        raise WaitingForAnswers(_what_to_do(left, len(found), paths, number))
    return [query._replace(tags=found[query.words][1]) for query in queries]


def _what_to_do(left: Sequence[Query], done: int, paths: Sequence[Path], number: int) -> str:
    then = "then give the same command with --resume"
    if done or any(map(Path.exists, paths)):
        where = " or ".join(path.name for path in filter(Path.exists, paths))
        return (
            f"round {number} waits for answers to {len(left)} more sentences ({done} are done) in "
            f"{paths[0].parent / where}, the first of them: {_short(left[0].words)}; {then}"
        )
    return (
        f"round {number} waits for labels of {len(left)} sentences: copy "
        f"{paths[0].with_name(f'round_{number}.jsonl')} to {paths[0].name}, mend the entities, set "
        f'each "answer" to "accept" or "skip" (or copy round_{number}.conll to {paths[1].name} and '
        f"mend the tags), {then}"
    )


def _names(types: frozenset[str]) -> str:
    return ", ".join(tags.ordered(types))


def _short(words: Sequence[str]) -> str:
    return " ".join(words[:8]) + (" ..." if len(words) > 8 else "")


Answer = tuple[str, tuple[str, ...], tuple[str, ...] | None]  # its place, words, tags


def _lines(path: Path, faults: list[str]) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        faults.append(f"{path}: is not UTF-8: {error}")
        return []


def _of_conll(path: Path, faults: list[str]) -> Iterator[Answer]:
    """Answers in a CoNLL file: the sentences that are there are done."""
    words: list[str] = []
    labels: list[str] = []
    first = number_of_faults = 0
    for number, line in enumerate([*_lines(path, faults), ""], start=1):
        columns = split_columns(line)
        if columns and columns[0] != DOCSTART:
            if not words:
                first, number_of_faults = number, len(faults)
            tag = columns[-1]
            if len(columns) < 2 or not (tags.is_tag(tag) or tag == SKIPPED):
                faults.append(f"{path}:{number}: found {line!r}, wanted a word and its tag")
            words.append(columns[0])
            labels.append(tag)
        elif words:
            location = f"{path}:{first}"
            if set(labels) == {SKIPPED}:
                yield location, tuple(words), None
            elif SKIPPED in labels:
                faults.append(f"{location}: has {SKIPPED} at some words, wanted it at all, to skip")
            elif len(faults) == number_of_faults:
                yield location, tuple(words), tuple(tags.to_iob2(labels))
            words, labels = [], []


def _of_json(path: Path, faults: list[str], *, unanswered: bool = False) -> Iterator[Answer]:
    """Answers in JSON lines; a line that is not answered is left out, or yielded as skipped."""
    for number, line in enumerate(_lines(path, faults), start=1):
        if not line.strip():
            continue
        location = f"{path}:{number}"
        try:
            row = json.loads(line)
            json.dumps(row, ensure_ascii=False).encode()  # half a surrogate pair is no character
        except (ValueError, RecursionError) as error:
            faults.append(f"{location}: wanted an object of JSON on a line of its own: {error}")
            continue
        if wrong := _wrong(row):
            faults.append(f"{location}: {wrong}")
            continue
        words, answer = tuple(row["words"]), row["answer"]
        if answer == "skip" or (answer is None and unanswered):
            yield location, words, None
        elif answer == "accept":
            labels, own = _labels(words, row["entities"], location)
            faults += own
            if not own:
                yield location, words, labels


def _wrong(row: Any) -> str | None:
    """What is wrong with a line's object, but for its entities' places."""
    if not isinstance(row, dict):
        return f"wanted an object, found {_found(row)}"
    if missing := [key for key in ("words", "entities", "answer") if key not in row]:
        return f"has no {missing[0]!r}"
    words, entities = row["words"], row["entities"]
    if not (isinstance(words, list) and words and all(isinstance(word, str) for word in words)):
        return f"its words are {_found(words)}, wanted a list of words"
    if row.get("text", " ".join(words)) != " ".join(words):
        return f"its text, {_found(row['text'])}, is not that of its words"
    keys = ("start", "end", "type")
    if not isinstance(entities, list) or not all(
        isinstance(e, dict) and all(key in e for key in keys) for e in entities
    ):
        return f"its entities are {_found(entities)}, wanted objects with start, end and type"
    if row["answer"] not in (None, "accept", "skip"):
        return f'its answer is {row["answer"]!r}, wanted "accept", "skip" or null'
    return None


def _found(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]} ..."


def _labels(
    words: tuple[str, ...], entities: Sequence[dict[str, Any]], location: str
) -> tuple[tuple[str, ...], list[str]]:
    """IOB2 tags of words from entities' characters, and what is wrong with these."""
    text = Text.of_words(words)
    starts = {start: i for i, (start, _) in enumerate(text.spans)}
    ends = {end: i + 1 for i, (_, end) in enumerate(text.spans)}
    labels, faults = ["O"] * len(words), []
    for entity in entities:
        start, end, name = entity["start"], entity["end"], entity["type"]
        where = f"{location}: the entity {start!r} to {end!r}"
        whole = all(isinstance(place, int) for place in (start, end))
        if not whole or start not in starts or end not in ends or ends[end] <= starts[start]:
            shown = f" ({text.text[start:end]!r})" if whole else ""
            faults.append(f"{where}{shown} is not one of whole words of {text.text!r}")
        elif not (isinstance(name, str) and tags.is_tag(f"B-{name}")):
            faults.append(f"{where} has the type {name!r}, wanted a name such as PER")
        elif entity.get("text", text.text[start:end]) != text.text[start:end]:
            faults.append(f"{where} is {text.text[start:end]!r}, and not {entity['text']!r}")
        elif any(label != "O" for label in labels[starts[start] : ends[end]]):
            faults.append(f"{where} overlaps another")
        else:
            inside = range(starts[start] + 1, ends[end])
            labels[starts[start]] = f"B-{name}"
            for i in inside:
                labels[i] = f"I-{name}"
    return tuple(labels), faults
