"""Converts whole files: which examples count, their types and words, and where they are written."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from nerc import files
from nerc.annotation.answers import Answer, tags_of
from nerc.annotation.examples import Cut, Example, Source, Target, split
from nerc.annotation.exchange import FORMATS, read_text
from nerc.config import TEXT
from nerc.data import spans
from nerc.data.random_streams import Stream, generator
from nerc.data.tags import ordered
from nerc.data.words import Text
from nerc.errors import InputError
from nerc.tables import counted

logger = logging.getLogger(__name__)

SPLITS = ("train", "valid", "test")
_MOST_POINTS = 10  # of percent, that a share of sentences may miss


def read(source: Source, name: str, annotator: str | None = None) -> list[Example]:
    """The examples of a file that people, or the only ones, answered; notes count the others.

    annotator: whose answers to take. InputError for all faults of the file, and where several
    people answered the same text and none of them is chosen.
    """
    examples = list((read_text if name == TEXT else FORMATS[name].read)(source))
    source.faults.check()
    for example in examples:
        if example.left_out:
            source.notes.append(f"{example.location}: left out {', '.join(example.left_out)}")
    if any(not e.proposal and e.answer is not None for e in examples):
        examples = _without(examples, lambda e: e.proposal, "model's proposal", source)
    elif any(example.proposal for example in examples):
        source.notes.append(f"{source.path}: nobody answered; its entities are a model's proposals")
    names = sorted({e.annotator for e in examples if e.annotator is not None})
    if annotator is not None:
        if annotator not in names:
            found = ", ".join(names) or "nobody"
            raise InputError(f"--annotator {annotator}: {source.path} names {found}")
        examples = _without(examples, lambda e: e.annotator != annotator, "other answer", source)
    examples = _without(examples, lambda e: e.answer is None, "unanswered text", source)
    examples = _without(examples, lambda e: e.answer == "skip", "skipped text", source)
    _check_twice(examples, source)
    if annotator is None and len(names) > 1:
        by_text = Counter(text for text, _ in {(e.text, e.annotator) for e in examples})
        if several := sum(number > 1 for number in by_text.values()):
            raise InputError(
                f"{source.path}: several people ({', '.join(names)}) answered {several:,} of its "
                f"texts; give --annotator NAME, or see python -m nerc agreement"
            )
    return examples


def _check_twice(examples: Sequence[Example], source: Source) -> None:
    """Refuse a person's second answer to a task; note texts that occur again with other entities.

    In a corpus, a text may well occur twice.
    """
    tasks = Counter(
        (e.location.partition(", annotations[")[0], e.annotator)
        for e in examples
        if ", annotations[" in e.location
    )
    if twice := [task for (task, _), number in tasks.items() if number > 1]:
        raise InputError(f"{twice[0]}: was answered twice by the same person; delete one answer")
    first: dict[str, tuple] = {}
    differing = [e for e in examples if first.setdefault(e.text, e.spans) != e.spans]
    if differing and len({e.annotator for e in examples}) == 1:
        texts = counted(len(differing), "text")
        source.notes.append(
            f"{differing[0].location}: the first of {texts} that occur before with other entities; "
            f"all are kept"
        )


def _without(
    examples: list[Example], is_left_out: Callable[[Example], bool], what: str, source: Source
) -> list[Example]:
    """The other examples; a note counts those that are left out."""
    kept = [example for example in examples if not is_left_out(example)]
    if number := len(examples) - len(kept):
        source.notes.append(f"{source.path}: left out {counted(number, what)}")
    return kept


def renamed(examples: list[Example], types: Mapping[str, str], source: Source) -> list[Example]:
    """The examples with entity types renamed; blanks within a type become _, which a note says."""
    found = Counter(span.type for example in examples for span in example.spans)
    if absent := sorted(set(types) - set(found)):
        raise InputError(
            f"--map: no entity of {source.path} has the type {' or '.join(absent)}, wanted one of "
            f"{', '.join(sorted(found)) or 'none'}"
        )
    names = {name: types.get(name, "_".join(name.split())) for name in found}
    for name, new in sorted(names.items()):
        if new != name and name not in types:
            if new in found:
                raise InputError(f"{source.path}: has types {name!r} and {new!r}; give --map")
            source.notes.append(f"{source.path}: the type {name!r} is written {new}")
        elif new != name:
            done = "left out" if new == "O" else f"renamed {new}"
            source.notes.append(f"{source.path}: entities of type {name} {done}: {found[name]:,}")
    return [
        replace(
            example,
            spans=tuple(
                span._replace(type=names[span.type])
                for span in example.spans
                if types.get(span.type) != "O"
            ),
        )
        for example in examples
    ]


def sentences_of(
    examples: Iterable[Example], cut: Cut, source: Source
) -> tuple[list[Example], list[str]]:
    """The sentences of examples, with words, and what was changed to fit entities to words."""
    sentences, changes = [], []
    num_cut = num_empty = 0
    for example in examples:
        num_cut += example.words is None
        before = len(sentences)
        try:
            for sentence, changed in split(example, cut):
                sentences.append(sentence)
                changes += [f"{example.location}: {change}" for change in changed]
        except InputError as error:
            source.faults.add(example.location, str(error))
        num_empty += len(sentences) == before
    source.faults.check()
    if num_empty:
        source.notes.append(f"{source.path}: left out {counted(num_empty, 'text')} without a word")
    if not sentences:
        said = "; ".join([*source.notes, "no sentence is left"])
        raise InputError(said if source.notes else f"{source.path}: no sentence in it")
    if num_cut:
        texts = counted(num_cut, "text")
        source.notes.append(f"{source.path}: cut {texts} into words and sentences")
    return sentences, changes


def corrected(
    sentences: Sequence[Example], answers: Sequence[Example], source: Source
) -> tuple[list[Example], list[str]]:
    """The sentences with the entities that answers give to those with the same words; the changes.

    source: the file of the answers. InputError where two answers differ, or where one is about no
    sentence.
    """
    by_text = {sentence.text: sentence.word_texts for sentence in sentences}
    words = set(by_text.values())
    given: dict[tuple[str, ...], Answer] = {}
    for answer in answers:
        own = answer.word_texts or by_text.get(answer.text)
        if own not in words:
            fault = f"no sentence has exactly these words: {answer.text[:60]}"
            source.faults.add(answer.location, fault)
            continue
        try:
            found = Answer(answer.location, tags_of(answer, own))
        except InputError as error:
            source.faults.add(answer.location, str(error))
            continue
        if (other := given.setdefault(own, found)).tags != found.tags:
            source.faults.add(answer.location, f"has another answer in {other.location}")
    source.faults.check()
    result, changes = [], []
    for sentence in sentences:
        if (answer := given.get(sentence.word_texts)) is not None:
            new = tuple(spans.of_tags(Text(sentence.text, sentence.words), answer.tags))
            if new != sentence.spans:
                before, after = (_entities_text(part) for part in (sentence.spans, new))
                changes.append(f"{sentence.location}: {before} corrected to {after}")
            sentence = replace(sentence, spans=new)
        result.append(sentence)
    source.notes.append(
        f"{source.path}: {counted(len(given), 'answer')}, which change "
        f"{counted(len(changes), 'sentence')}"
    )
    return result, changes


def _entities_text(entities: Iterable[spans.Span]) -> str:
    return ", ".join(f"{entity.type} {entity.text!r}" for entity in entities) or "no entity"


def divide(
    sentences: Sequence[Example], shares: Sequence[int], seed: int
) -> dict[str, list[Example]]:
    """Divide documents, or the sentences of a single one, at random; shares in percent."""
    documents: dict[str | int, list[Example]] = {}
    is_single = len({sentence.document for sentence in sentences}) == 1
    for number, sentence in enumerate(sentences):
        name = number if is_single or sentence.document is None else sentence.document
        documents.setdefault(name, []).append(sentence)
    wanted = {name: share for name, share in zip(SPLITS, shares, strict=True) if share}
    if len(documents) < len(wanted):
        what = counted(len(documents), "sentence" if is_single else "document")
        raise InputError(f"--split: {what} cannot be divided into {len(wanted)} parts")
    order = generator(seed, Stream.SPLIT).permutation(len(documents))
    # Each part gets one document; each further one goes where the share is missed most.
    sizes = dict.fromkeys(wanted, 1)
    for _ in range(len(documents) - len(wanted)):
        sizes[min(wanted, key=lambda name: sizes[name] / wanted[name])] += 1
    drawn, parts, end = list(documents.values()), {}, 0
    for name, size in sizes.items():
        begin, end = end, end + size
        places = sorted(order[begin:end])
        parts[name] = [sentence for place in places for sentence in drawn[place]]
    for name, part in parts.items():
        share = 100 * len(part) / len(sentences)
        if abs(share - wanted[name]) > _MOST_POINTS:
            logger.warning(
                f"--split: {name} has {share:.0f} % of the sentences, not {wanted[name]} %, as "
                f"documents stay whole"
            )
    return parts


def check_target(path: Path, name: str, shares: Sequence[int]) -> None:
    """Raise InputError unless a file, or the folder of --split, can be written at path."""
    check = files.check_folder if shares or not FORMATS[name].suffix else files.check_file
    check(path, "OUTPUT")
    if not FORMATS[name].suffix:
        folders = [path / split for split in SPLITS] if shares else [path]
        if used := [folder for folder in folders if folder.is_dir() and any(folder.iterdir())]:
            raise InputError(f"OUTPUT {used[0]}: is not empty; give a new folder")
    for part, share in zip(SPLITS, shares, strict=False):
        old = part_path(path, part, name)
        if not share and old.exists():
            raise InputError(f"{old}: is there, and --split gives it nothing; remove it")


def write(parts: Mapping[str, Sequence[Example]], path: Path, name: str, scheme: str) -> list[str]:
    """Write the part "" to path, or those with names into it; a line for each says what it is.

    All parts get their names together, when the last one is written.
    """
    inventory = tuple(ordered({s.type for part in parts.values() for e in part for s in e.spans}))
    unfinished = files.unfinished if FORMATS[name].suffix else files.unfinished_folder
    is_new = "" not in parts and not path.exists()
    if is_new:
        path.mkdir()
    told = []
    try:
        with ExitStack() as stack:
            for part, sentences in parts.items():
                target = part_path(path, part, name)
                new = stack.enter_context(unfinished(target))
                FORMATS[name].write(sentences, Target(new, scheme, inventory=inventory))
                told.append(f"{target}: {_summary(sentences)}")
    except BaseException:
        if is_new and not any(path.iterdir()):
            path.rmdir()
        raise
    return told


def part_path(path: Path, part: str, name: str) -> Path:
    """Where a part of --split is written; "" is the whole."""
    suffix = ".txt" if name == "conll" else FORMATS[name].suffix
    return path / f"{part}{suffix}" if part else path


def _summary(sentences: Sequence[Example]) -> str:
    types = Counter(span.type for sentence in sentences for span in sentence.spans)
    num_words = sum(len(sentence.words) for sentence in sentences)
    num_documents = sum(1 for _ in groupby(sentence.document for sentence in sentences))
    sizes = {"sentence": len(sentences), "word": num_words, "document": num_documents}
    sizes = ", ".join(counted(number, noun) for noun, number in sizes.items())
    kinds = ", ".join(f"{name} {types[name]:,}" for name in ordered(types)) or "no entity"
    return f"{sizes}; {kinds}"
