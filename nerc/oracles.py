"""Who answers: the labels of the training split, or people, by files in a folder.

For people, round 3 writes round_3.jsonl and round_3.conll: the sentences to label, with what the
model proposes. They leave round_3.answers.jsonl, in which "answer" is "accept" (the entities are
right; none is an answer, too) or "skip" in the place of null, or round_3.answers.conll, with the
sentences that are done, where X as every tag skips a sentence. Both may be half done.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nerc import files, tags
from nerc.config import InputError
from nerc.data import Corpus, Sentence, read_conll
from nerc.queries import Query
from nerc.tags import Entity
from nerc.text import Text

SKIPPED = "X"  # the tag of every word of a sentence that is skipped


class Waiting(Exception):
    """People have to answer first; the message says what, where and how to go on."""


def questions(queries: Sequence[Query], folder: Path, number: int) -> None:
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
        blocks.append("".join(f"{word} {tag}\n" for word, tag in pairs))
    files.write_text(folder / f"round_{number}.jsonl", "".join(lines))
    files.write_text(folder / f"round_{number}.conll", "\n".join(blocks))


def _as_json(text: Text, entity: Entity) -> dict[str, Any]:
    start, end = text.spans[entity.start][0], text.spans[entity.end - 1][1]
    return {"type": entity.type, "text": text.text[start:end], "start": start, "end": end}


def answers(
    queries: Sequence[Query], folder: Path, number: int, types: frozenset[str], say
) -> list[Query]:
    """The queries with what people answered; raises Waiting while there is something to do.

    Every fault is said, with its place, and InputError counts them: no answer is taken before all
    can be. types: those that answers may have; none: any.
    """
    paths = [folder / f"round_{number}.answers.{kind}" for kind in ("jsonl", "conll")]
    there = [path for path in paths if path.exists()]
    asked = {query.words: query for query in queries}
    faults: list[str] = []
    found: dict[tuple[str, ...], tuple[str, ...] | None] = {}
    for path in there:
        read = _of_json if path.suffix == ".jsonl" else _of_conll
        for origin, words, labels in read(path, faults):
            if words not in asked:
                faults.append(f"{origin}: was not asked for: {_short(words)}")
            elif words in found and found[words] != labels:
                faults.append(f"{origin}: has another answer above, or in the other file")
            else:
                found[words] = labels
                wrong = sorted(tags.types_of(labels or ()) - types) if types else []
                faults += [f"{origin}: the type {t} is not among {_names(types)}" for t in wrong]
    if faults:
        for fault in faults:
            say(fault)
        raise InputError(
            f"{len(faults)} fault(s), named above, in the answers of round {number}; mend them "
            f"and give --resume: the other answers stay as they are"
        )
    left = [query for query in queries if query.words not in found]
    if left:
        done = len(queries) - len(left)
        what = f"{len(queries)} sentences" if not done else f"{len(left)} more ({done} are done)"
        raise Waiting(
            f"round {number} waits for labels of {what}: copy {folder / f'round_{number}.jsonl'} "
            f'to {paths[0].name}, mend the entities, set each "answer" to "accept" or "skip" (or '
            f"copy round_{number}.conll to {paths[1].name} and mend the tags), then give the same "
            f"command with --resume"
        )
    return [query._replace(tags=found[query.words]) for query in queries]


def _names(types: frozenset[str]) -> str:
    return ", ".join(tags.ordered(types))


def _short(words: Sequence[str]) -> str:
    return " ".join(words[:8]) + (" ..." if len(words) > 8 else "")


Answer = tuple[str, tuple[str, ...], tuple[str, ...] | None]  # its place, words, tags


def _of_conll(path: Path, faults: list[str]) -> Iterator[Answer]:
    """Answers in a CoNLL file, which is as good as all of it."""
    try:
        corpus: Corpus | list[Sentence] = read_conll(path, cheap=True)
    except InputError as error:
        faults.append(str(error))
        return
    for sentence in corpus:
        origin = f"{path.parent / sentence.origin}"
        if set(sentence.tags) == {SKIPPED}:
            yield origin, sentence.words, None
        elif set(sentence.tags) & {*tags.SPECIAL_TAGS}:
            faults.append(f"{origin}: some words have no label; X is for a whole sentence to skip")
        else:
            yield origin, sentence.words, sentence.tags


def _of_json(path: Path, faults: list[str]) -> Iterator[Answer]:
    """Answers in JSON lines; a line that is not answered is left out."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        faults.append(f"{path}: is not UTF-8: {error}")
        return
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        origin = f"{path}:{number}"
        try:
            row = json.loads(line)
            words, answer = tuple(row["words"]), row["answer"]
            spans = [(e["start"], e["end"], e["type"]) for e in row["entities"]]
        except (ValueError, TypeError, KeyError, RecursionError):
            faults.append(f"{origin}: wanted the object that round_N.jsonl has, with its words, "
                          f"entities and answer")  # fmt: skip
            continue
        if answer not in (None, "accept", "skip"):
            faults.append(f'{origin}: the answer is {answer!r}, wanted "accept", "skip" or null')
        elif answer == "skip":
            yield origin, words, None
        elif answer == "accept":
            labels, own = _labels(words, spans, origin)
            faults += own
            if not own:
                yield origin, words, labels


def _labels(
    words: tuple[str, ...], spans: Sequence[tuple], origin: str
) -> tuple[tuple[str, ...], list[str]]:
    """IOB2 tags of words from spans of characters, and what is wrong with these."""
    text = Text.of_words(words)
    starts = {start: i for i, (start, _) in enumerate(text.spans)}
    ends = {end: i + 1 for i, (_, end) in enumerate(text.spans)}
    labels, faults = ["O"] * len(words), []
    for start, end, name in spans:
        where = f"{origin}: the entity {start!r} to {end!r}"
        whole = all(isinstance(place, int) for place in (start, end))
        if not whole or start not in starts or end not in ends or ends[end] <= starts[start]:
            shown = f" ({text.text[start:end]!r})" if whole else ""
            faults.append(f"{where}{shown} is not one of whole words of {text.text!r}")
        elif not (isinstance(name, str) and tags.is_tag(f"B-{name}")):
            faults.append(f"{where} has the type {name!r}, wanted a name such as PER")
        elif any(label != "O" for label in labels[starts[start] : ends[end]]):
            faults.append(f"{where} overlaps another")
        else:
            inside = range(starts[start] + 1, ends[end])
            labels[starts[start]] = f"B-{name}"
            for i in inside:
                labels[i] = f"I-{name}"
    return tuple(labels), faults
