"""Converts whole files: which examples count, their types and words, and where they are written."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nerc import files
from nerc.annotation.answers import Collected
from nerc.annotation.examples import Cut, Example, Source, Target, split
from nerc.annotation.exchange import FORMATS
from nerc.data import spans
from nerc.data.random_streams import Stream, generator
from nerc.data.tags import ordered
from nerc.data.words import Text
from nerc.errors import InputError
from nerc.tables import counted

SPLITS = ("train", "valid", "test")


def read(source: Source, name: str, annotator: str | None = None) -> list[Example]:
    """The examples of a file that people, or the only ones, answered; notes count the others.

    annotator: whose answers to take. InputError for all faults of the file, and where several
    people answered the same text and none of them is chosen.
    """
    examples = list(FORMATS[name].read(source))
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
    if annotator is None and len(names) > 1:
        by_text = Counter(text for text, _ in {(e.text, e.annotator) for e in examples})
        if several := sum(number > 1 for number in by_text.values()):
            raise InputError(
                f"{source.path}: several people ({', '.join(names)}) answered {several:,} of its "
                f"texts; give --annotator NAME, or see python -m nerc agreement"
            )
    return examples


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
    if absent := set(types) - set(found):
        raise InputError(
            f"--map: no entity of {source.path} is a {min(absent)}, only {', '.join(sorted(found))}"
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
    num_cut = 0
    for example in examples:
        num_cut += example.words is None
        try:
            for sentence, changed in split(example, cut):
                sentences.append(sentence)
                changes += [f"{example.location}: {change}" for change in changed]
        except InputError as error:
            source.faults.add(example.location, str(error))
    source.faults.check()
    if not sentences:
        raise InputError(f"{source.path}: no sentence in it")
    if num_cut:
        texts = counted(num_cut, "text")
        source.notes.append(f"{source.path}: cut {texts} into words and sentences")
    return sentences, changes


def corrected(
    sentences: Sequence[Example], source: Source, name: str, notes: list[str]
) -> list[Example]:
    """The sentences with the entities that people gave to those with the same words.

    source, in the format of that name, has the answers. InputError where two answers differ, or
    where an answer is about no sentence.
    """
    words = {sentence.word_texts for sentence in sentences}
    collected = Collected()

    def find(answer: Example) -> tuple[str, ...] | None:
        own = answer.word_texts or tuple(answer.text.split(" "))
        return own if own in words else None

    collected.read(source, name, "people", find)
    source.faults.check()
    answers = collected.of.get("people", {})
    result, num_changed = [], 0
    for sentence in sentences:
        answer = answers.get(sentence.word_texts)
        if answer is not None and answer.tags is not None:
            given = tuple(spans.of_tags(Text(sentence.text, sentence.words), answer.tags))
            num_changed += given != sentence.spans
            sentence = replace(sentence, spans=given)
        result.append(sentence)
    skipped = sum(answer.tags is None for answer in answers.values())
    given = counted(len(answers), "answer")
    notes.append(
        f"{source.path}: {given}, of which {skipped:,} skip the sentence; they change "
        f"{counted(num_changed, 'sentence')}"
    )
    return result


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
    return parts


def check_target(path: Path, name: str, *, is_split: bool) -> None:
    """Raise InputError unless a file, or a folder, of a format can be written at path."""
    check = files.check_folder if is_split or not FORMATS[name].suffix else files.check_file
    check(path, "OUTPUT")
    if not FORMATS[name].suffix:
        folders = [path / split for split in SPLITS] if is_split else [path]
        if used := [folder for folder in folders if folder.is_dir() and any(folder.iterdir())]:
            raise InputError(f"OUTPUT {used[0]}: is not empty; give a new folder")


def write(
    parts: Mapping[str, Sequence[Example]], path: Path, name: str, scheme: str
) -> Iterator[str]:
    """Write the part "" to path, or those with names into it; a line for each says what it is."""
    inventory = tuple(ordered({s.type for part in parts.values() for e in part for s in e.spans}))
    for part, sentences in parts.items():
        target = path
        if part:
            path.mkdir(exist_ok=True)
            suffix = ".txt" if name == "conll" else FORMATS[name].suffix
            target = path / f"{part}{suffix}"
        unfinished = files.unfinished if FORMATS[name].suffix else files.unfinished_folder
        with unfinished(target) as new:
            FORMATS[name].write(sentences, Target(new, scheme, inventory=inventory))
        types = Counter(span.type for sentence in sentences for span in sentence.spans)
        sizes = (
            counted(len(sentences), "sentence"),
            counted(sum(len(sentence.words) for sentence in sentences), "word"),
        )
        documents = counted(len({sentence.document for sentence in sentences}), "document")
        kinds = ", ".join(f"{name} {types[name]:,}" for name in ordered(types)) or "no entity"
        yield f"{target}: {', '.join(sizes)}, {documents}; {kinds}"
