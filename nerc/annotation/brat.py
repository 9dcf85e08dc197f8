"""brat: a folder of texts, NAME.txt, each with its entities, NAME.ann (Stenetorp et al. 2012).

What brat does not keep is written beside them: NAME.json has the words, the sentences and their
names. Without it, a text is cut into words and sentences as any other.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path

from nerc import files
from nerc.annotation.examples import Example, Source, Target, divided
from nerc.data import spans
from nerc.data.spans import Span
from nerc.data.tags import ordered
from nerc.data.words import Text
from nerc.errors import InputError
from nerc.tables import counted

_ENTITY = re.compile(r"(T[^\t ]+)\t(\S+) ([0-9]+ [0-9]+(?:;[0-9]+ [0-9]+)*)\t(.*)")
_OTHERS = {  # by the first character of a line
    **{"R": "relation", "E": "event", "A": "attribute", "M": "attribute"},
    **{"N": "normalization", "#": "note", "*": "equivalence"},
}
_OTHER = re.compile(r"[REAMN#*][^\t ]*\t")
_EVENT = re.compile(r"E\S*\t[^\s:]+:\S")
_PLACE = files.Wanted("[start, end]", lambda place: len(place) == 2, [int])
_SIDE = {"document?": str, "sentences": [{"id?": str, "words": [_PLACE]}]}


def read_brat(source: Source) -> Iterator[Example]:
    """The texts of a folder and of those in it, in the order of their names."""
    if not source.path.is_dir():
        raise InputError(f"{source.path}: is no folder, wanted one of NAME.txt and NAME.ann")
    paths = sorted(source.path.rglob("*.txt"))
    alone = {path.with_suffix(".txt") for path in source.path.rglob("*.ann")} - set(paths)
    for path in sorted(alone):
        source.faults.add(str(path.with_suffix(".ann")), f"there is no {path.name} beside it")
    others: Counter[str] = Counter()
    for path in paths:
        try:
            yield from _document(path, source, others)
        except InputError as error:
            source.faults.add(str(error))
    if others:
        found = ", ".join(counted(number, kind) for kind, number in sorted(others.items()))
        source.notes.append(f"{source.path}: left out {found}")


def _document(path: Path, source: Source, others: Counter[str]) -> list[Example]:
    """The sentences of a text where NAME.json tells them, or the text."""
    text = files.read_text(path, newline="")  # \r\n counts as two characters
    annotations, side = path.with_suffix(".ann"), path.with_suffix(".json")
    name = path.relative_to(source.path).with_suffix("").as_posix()
    example = Example(text=text, spans=(), location=str(path), document=name, answer=None)
    if annotations.exists():
        found, apart = _entities(annotations, text, source, others)
        left_out = (f"entities in several pieces ({', '.join(apart)})",) if apart else ()
        example = replace(example, spans=tuple(found), answer="accept", left_out=left_out)
    if not side.exists():
        return [example]
    kept = files.read_json(side, _SIDE)
    places = [tuple(tuple(word) for word in s["words"]) for s in kept["sentences"] if s["words"]]
    ids = [sentence.get("id") for sentence in kept["sentences"] if sentence["words"]]
    words = tuple(word for sentence in places for word in sentence)
    fault = f"{path}: {side.name} has other words; delete that file"
    try:
        aligned = Text.aligned(text, [text[start:end] for start, end in words])
    except InputError as error:
        raise InputError(f"{fault} ({error})") from None
    if aligned.spans != words:
        raise InputError(fault)
    try:
        checked, changes = spans.check(Text(text, words), example.spans)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    source.notes.extend(f"{path}: {change}" for change in changes)
    example = replace(example, spans=tuple(checked), words=words, document=kept.get("document"))
    return divided(example, [(words[0][0], words[-1][1]) for words in places], ids)


def _entities(
    path: Path, text: str, source: Source, others: Counter[str]
) -> tuple[list[Span], list[str]]:
    """The entities of a file, and the names of those in pieces that words stand between."""
    lines = files.read_text(path).split("\n")
    triggers = {
        line.split("\t")[1].split(":")[1].split()[0] for line in lines if _EVENT.match(line)
    }
    found, apart, lines_of = [], [], {}
    for number, line in enumerate(lines, start=1):
        if _OTHER.match(line):
            others[_OTHERS[line[0]]] += 1
        elif match := _ENTITY.fullmatch(line):
            name, type_, pieces, stated = match.groups()
            if lines_of.setdefault(name, number) != number:
                fault = (
                    f"{name} is there twice, before in line {lines_of[name]}; give one a new name"
                )
                source.faults.add(f"{path}:{number}", fault)
                continue
            places = [tuple(map(int, piece.split())) for piece in pieces.split(";")]
            start, end = places[0][0], places[-1][1]
            gaps = [text[a:b] for (_, a), (b, _) in pairwise(places)]
            if any(gap.strip() for gap in gaps):
                apart.append(name)
            elif name not in triggers:
                # brat divides an entity at each line end within it.
                place = f"{name} in {path.name}:{number}"
                found.append(Span(type_, start, end, stated if not gaps else None, place))
        elif line.strip():
            wanted = "wanted such as T1<tab>PER 0 5<tab>Maria"
            source.faults.add(f"{path}:{number}", f"{line[:60]!r} is no annotation, {wanted}")
    return found, apart


# ------------------------------------------------------------ writing


def write_brat(examples: Iterable[Example], target: Target) -> None:
    """A text for each document, a sentence on each line of it, into the folder of target."""
    types = set()
    for number, (document, group) in enumerate(groupby(examples, lambda e: e.document), start=1):
        name = f"{number:05}"
        if document and re.fullmatch(r"[A-Za-z0-9][\w.-]{0,80}", document, re.ASCII):
            name += f"-{document}"
        sentences = list(group)
        text, lines, kept = "", [], []
        for example in sentences:
            example.line_words()
            start = len(text)
            text += re.sub(r"[\r\n]", " ", example.text) + "\n"
            for span in example.spans:
                a, b = start + span.start, start + span.end
                lines.append(f"T{len(lines) + 1}\t{span.type} {a} {b}\t{text[a:b]}\n")
                types.add(span.type)
            words = [[start + a, start + b] for a, b in example.words]
            kept.append({"id": example.id, "words": words})
        path = target.path / f"{name}.txt"
        path.write_text(text, encoding="utf-8", newline="")
        path.with_suffix(".ann").write_text("".join(lines), encoding="utf-8", newline="")
        side = json.dumps({"document": document, "sentences": kept}, ensure_ascii=False)
        path.with_suffix(".json").write_text(side + "\n", encoding="utf-8")
    config = "\n".join(["[entities]", *ordered(types), "[relations]", "[events]", "[attributes]"])
    (target.path / "annotation.conf").write_text(config + "\n", encoding="utf-8")
