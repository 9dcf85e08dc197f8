"""The JSON of annotation tools: Label Studio, Prodigy, doccano, and nerc's own lines.

A reader yields an example for each answer of a person, and counts faults instead of raising them. A
writer gives the JSON value of one example: an answered one, or a question with a proposal.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any

from nerc import files
from nerc.annotation.examples import Example, Source, Target
from nerc.data.spans import Span
from nerc.data.words import Text
from nerc.errors import InputError
from nerc.tables import counted

Row = dict[str, Any]


def _rows(source: Source) -> Iterator[tuple[str, Row]]:
    """The location and the object of each line that is not empty, or of each member of a list."""
    path = source.path
    text = files.read_text(path)
    if text.lstrip()[:1] == "[":
        for number, row in enumerate(files.read_json(path, [dict]), start=1):
            yield f"{path}: object {number}", row
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield f"{path}:{number}", files.parse_json(line, dict)
            except InputError as error:
                source.faults.add(f"{path}:{number}", str(error))


def _reader(of_row: Callable[[Row, str], list[Example]], shape: Any) -> Callable:
    """A reader of the examples of each row, which must have a shape."""

    def read(source: Source) -> Iterator[Example]:
        for location, row in _rows(source):
            try:
                files.check_shape(row, shape)
                examples = of_row(row, location)
                if not source.partly and any(e.asked is not None for e in examples):
                    raise InputError(
                        "has labels for some words alone (asked), which active_learn.py reads"
                    )
            except InputError as error:
                source.faults.add(location, str(error))
                continue
            yield from examples

    return read


def _writer(to_row: Callable[[Example, Sequence[str]], Row]) -> Callable:
    """A writer of a line of JSON for each example."""

    def write(examples: Iterable[Example], target: Target) -> None:
        with target.path.open("w", encoding="utf-8") as file:
            for example in examples:
                file.write(json.dumps(to_row(example, target.types), ensure_ascii=False) + "\n")

    return write


def _text(value: Any) -> str | None:
    """An identifier as text."""
    return None if value in (None, "") else str(value)


def _about(example: Example) -> Row:
    """Where the sentence is from, for the fields that tools keep."""
    about = {"sent_id": example.id, "document": example.document}
    if example.answer is None:
        about |= {"origin": example.location, "score": example.score}
    return {name: value for name, value in about.items() if value is not None}


# ------------------------------------------------------------ nerc's own lines

_ANSWER = files.Wanted('"accept", "skip" or null', lambda a: a in (None, "accept", "skip"), object)
_JSONL = {
    "text?": str,
    "words?": [str],
    "entities": [{"type?": str, "label?": str, "text?": str, "start?": int, "end?": int}],
    "answer?": _ANSWER,
    "asked?": [{"start": int, "end": int}],
}


def _of_own(row: Row, location: str) -> list[Example]:
    words = row.get("words")
    if (text := row.get("text")) is None:
        if words is None:
            raise InputError("has neither text nor words")
        text = " ".join(words)
    places = None if words is None else Text.aligned(text, words).spans
    if (asked := row.get("asked")) is not None:
        if places is None:
            raise InputError("has asked without words")
        runs = [(run["start"], run["end"]) for run in asked]
        starts = enumerate(start for start, _ in places)
        asked = tuple(i for i, start in starts if any(a <= start < b for a, b in runs))
    return [
        Example(
            text=text,
            spans=tuple(_own_spans(text, row["entities"])),
            location=location,
            words=places,
            asked=asked,
            document=_text(row.get("document")),
            id=_text(row.get("sent_id")),
            annotator=_text(row.get("annotator")),
            answer=row.get("answer") if "answer" in row else "accept",
        )
    ]


def _own_spans(text: str, entities: Sequence[Row]) -> Iterator[Span]:
    """Spans by characters or, as language models give them, by their text in the text's order."""
    after: dict[str, int] = {}  # where to look for the next mention of the same words
    for number, entity in enumerate(entities):
        type_ = entity.get("type", entity.get("label"))
        stated, start, end = (entity.get(name) for name in ("text", "start", "end"))
        if type_ is None:
            raise InputError(f"entities[{number}] has no type")
        if start is None and end is None and stated:
            match = re.compile(_as_written(stated)).search(text, after.get(stated, 0))
            if match is None:
                again = " once more" if stated in after else ""
                raise InputError(f"the entity {stated!r} is not in the text{again}")
            (start, end), after[stated] = match.span(), match.end()
            stated = match[0]
        if start is None or end is None:
            raise InputError(f"entities[{number}] has no text, or start without end")
        yield Span(type_, start, end, stated)


def _as_written(words: str) -> str:
    """A pattern for words that are not parts of longer ones, with any white space between."""
    pattern = r"\s+".join(map(re.escape, words.split()))
    before = r"(?<!\w)" if words[:1].isalnum() else ""
    return before + pattern + (r"(?!\w)" if words[-1:].isalnum() else "")


def to_own(example: Example, types: Sequence[str] = ()) -> Row:
    entities = [
        {"type": s.type, "text": s.text, "start": s.start, "end": s.end} for s in example.spans
    ]
    row = {"text": example.text, "words": example.word_texts, "entities": entities}
    row |= {"answer": example.answer} | _about(example)
    if example.asked is not None:
        runs = example.asked_places()
        row["asked"] = [{"text": example.text[a:b], "start": a, "end": b} for a, b in runs]
    return row | ({"types": list(types)} if types else {})


# ------------------------------------------------------------ Label Studio

_REGION = {"value?": dict, "type?": str}
_ANNOTATION = {"result": [_REGION], "was_cancelled?": bool}
_TASK = {
    "data?": {"text?": str, "words?": [str]},
    "annotations?": [_ANNOTATION],
    "predictions?": [dict | int],  # exports have their numbers alone
    "drafts?": [dict | int],
}
_ENTITIES = ("labels", "hypertextlabels")  # types of results
_LABELS = "label"  # the name of the control in the labelling interface that nerc writes


def _of_task(row: Row, location: str) -> list[Example]:
    """An example for each person's annotation of a task; a task without any is not answered."""
    data = row.get("data", row)
    task = ""  # which one, in front of a place in it
    if "id" in row:  # by which people find it
        task, location = f"task {row['id']}, ", f"{location} (task {row['id']})"
    text = data.get("text")
    if not isinstance(text, str):
        names = ", ".join(name for name, value in data.items() if isinstance(value, str))
        raise InputError(f"has no text in data.text (text fields: {names or 'none'}); rename it")
    words = data.get("words")
    about = {
        "text": text,
        "words": None if words is None else Text.aligned(text, words).spans,
        "document": _text(data.get("document")),
        "id": _text(data.get("sent_id", row.get("id"))),
    }
    if "data" not in row:  # the export JSON_MIN
        regions = [region for value in row.values() for region in _small_regions(value)]
        labelled = tuple(_region_spans(regions, f"{task}label"))
        is_open = "annotation_id" in row and row["annotation_id"] is None
        about |= {"annotator": _text(row.get("annotator")), "answer": None if is_open else "accept"}
        return [Example(**about, spans=labelled, location=location)]
    examples = []
    for kind in ("annotations", "predictions"):
        for number, annotation in enumerate(row.get(kind) or []):
            if isinstance(annotation, int):
                continue
            place = f"{kind}[{number}]"
            files.check_shape(annotation, _ANNOTATION)
            regions, left_out = _entity_regions(annotation["result"])
            examples.append(
                Example(
                    **about,
                    left_out=left_out,
                    spans=tuple(_region_spans(regions, task + place)),
                    location=f"{location}, {place}",
                    annotator=_user(annotation.get("completed_by")),
                    answer="skip" if annotation.get("was_cancelled") else "accept",
                    proposal=kind == "predictions",
                )
            )
    examples = examples or [Example(**about, spans=(), location=location, answer=None)]
    if drafts := row.get("drafts"):
        left_out = (*examples[0].left_out, counted(len(drafts), "draft"))
        examples[0] = replace(examples[0], left_out=left_out)
    return examples


def _entity_regions(results: Sequence[Row]) -> tuple[list[Row], tuple[str, ...]]:
    """The values of an annotation's entities, and what else it has."""
    # A comment or choice about an entity repeats its characters, with another type.
    regions = [
        result
        for result in results
        if "start" in (result.get("value") or {}) and result.get("type", "labels") in _ENTITIES
    ]
    others, notes = len(results) - len(regions), sum("meta" in region for region in regions)
    numbers = (("other result", others), ("note", notes))
    left_out = tuple(counted(number, noun) for noun, number in numbers if number)
    return [region["value"] for region in regions], left_out


def _small_regions(value: Any) -> list[Row]:
    """The regions in a field of JSON_MIN, if it holds some."""
    is_list = isinstance(value, list) and all(isinstance(r, dict) for r in value)
    return [region for region in value if "start" in region] if is_list else []


def _region_spans(regions: Sequence[Row], place: str) -> Iterator[Span]:
    for region in regions:
        labels = region.get("labels", region.get("hypertextlabels"))
        start, end = region.get("start"), region.get("end")
        is_plain = type(start) is type(end) is int and "startOffset" not in region  # no bool
        is_labelled = isinstance(labels, list) and all(isinstance(label, str) for label in labels)
        if not is_plain or not labels or not is_labelled:
            raise InputError(
                f"{place}: a region has start {start!r}, end {end!r} and labels {labels!r}, wanted "
                f"characters of a Text and labels that are text"
            )
        for label in labels:
            stated = region.get("text")
            yield Span(label, start, end, stated if isinstance(stated, str) else None)


def _user(value: Any) -> str | None:
    """Who made an annotation: exports give a number, or an object with the address."""
    if isinstance(value, Mapping):
        value = value.get("email") or value.get("username") or value.get("id")
    return _text(value)


def to_task(example: Example, types: Sequence[str] = ()) -> Row:
    """A task with an annotation or, where the example is not answered, a prediction."""
    result = []
    for number, span in enumerate(example.spans):
        value = {"start": span.start, "end": span.end, "text": span.text, "labels": [span.type]}
        place = {"from_name": _LABELS, "to_name": "text", "type": "labels"}
        result.append({"id": f"entity-{number}", **place, "value": value})
    data = {"text": example.text, "words": example.word_texts, **_about(example)}
    if example.answer is not None:
        annotation = {"result": result, "was_cancelled": example.answer == "skip"}
        return {"data": data, "annotations": [annotation]}
    # A task without a score vanishes from lists that are sorted by it.
    prediction = {"model_version": "nerc", "score": example.score or 0.0, "result": result}
    return {"data": data, "predictions": [prediction]}


def label_config(types: Sequence[str]) -> str:
    """The labelling interface of a Label Studio project, whose tasks to_task() makes."""
    labels = "".join(f'    <Label value="{escape(type_)}"/>\n' for type_ in types)
    return (
        f'<View>\n  <Labels name="{_LABELS}" toName="text">\n{labels}  </Labels>\n'
        f'  <Text name="text" value="$text" granularity="word"/>\n</View>\n'
    )


# ------------------------------------------------------------ Prodigy

_PRODIGY = {
    "text": str,
    "tokens?": [{"text": str, "start": int, "end": int}],
    "spans?": [{"start": int, "end": int, "label": str, "token_start?": int, "token_end?": int}],
    "answer?": files.Wanted(
        '"accept", "reject" or "ignore"', lambda a: a in ("accept", "reject", "ignore"), str
    ),
    "meta?": dict,
}


def _of_prodigy(row: Row, location: str) -> list[Example]:
    """A rejected example has wrong spans, and nobody said which are right: it counts as skipped."""
    if row.get("_view_id") == "ner":
        raise InputError(
            "answers a question about one entity (ner.teach), wanted all entities of the text, as "
            "ner.manual and ner.correct ask for"
        )
    text, meta = row["text"], row.get("meta") or {}
    answer = {"accept": "accept", None: None}.get(row.get("answer"), "skip")
    if answer is None and "spans" in row and "origin" not in meta:  # of a file that nobody is asked
        answer = "accept"
    tokens = row.get("tokens")
    if tokens is not None:
        if wrong := [t for t in tokens if text[t["start"] : t["end"]] != t["text"]]:
            raise InputError(f"the token {wrong[0]['text']!r} is not where its start and end say")
        for number, span in enumerate(row.get("spans") or ()):
            _check_tokens(span, tokens, f"spans[{number}]")
        # Prodigy gives blanks that are more than one as tokens of their own.
        tokens = tuple((t["start"], t["end"]) for t in tokens if t["text"].strip())
        Text.aligned(text, [text[start:end] for start, end in tokens])
    return [
        Example(
            text=text,
            spans=tuple(Span(s["label"], s["start"], s["end"]) for s in row.get("spans") or ()),
            location=location,
            words=tokens,
            document=_text(meta.get("document")),
            id=_text(meta.get("sent_id", row.get("id"))),
            annotator=_text(row.get("_annotator_id", row.get("_session_id"))),
            answer=answer,
        )
    ]


def _check_tokens(span: Row, tokens: Sequence[Row], place: str) -> None:
    """Raise InputError where the tokens of a span begin or end elsewhere than its characters."""
    for side in ("start", "end"):
        number = span.get(f"token_{side}")
        if number is None:
            continue
        token = tokens[number] if 0 <= number < len(tokens) else {side: None}
        if token[side] != span[side]:
            raise InputError(
                f"{place} has {side} {span[side]} and token_{side} {number}, a token whose {side} "
                f"is {token[side]}; correct one of them (token_end is the last token's number)"
            )


def to_prodigy(example: Example, types: Sequence[str] = ()) -> Row:
    """A row, which has an answer where the example has one; of tokens, the last one is counted."""
    starts = {start: i for i, (start, _) in enumerate(example.words)}
    ends = {end: i for i, (_, end) in enumerate(example.words)}
    after = [start for start, _ in example.words[1:]] + [len(example.text)]
    tokens = [
        {"text": example.text[a:b], "start": a, "end": b, "id": i, "ws": after[i] > b}
        for i, (a, b) in enumerate(example.words)
    ]
    marked = [
        {
            **{"start": s.start, "end": s.end, "label": s.type},
            **{"token_start": starts[s.start], "token_end": ends[s.end]},
        }
        for s in example.spans
    ]
    row = {"text": example.text, "tokens": tokens, "spans": marked, "meta": _about(example)}
    answer = {"accept": "accept", "skip": "ignore"}.get(example.answer)
    return row | ({"answer": answer} if answer else {})


# ------------------------------------------------------------ doccano

_TRIPLE = files.Wanted(
    "[start, end, type]",
    lambda t: len(t) == 3 and all(type(n) is int for n in t[:2]) and isinstance(t[2], str),
    list,
)
_DOCCANO = {
    "text?": str,
    "data?": str,
    "label?": [_TRIPLE],
    "labels?": [_TRIPLE],
    "entities?": [{"label": str, "start_offset": int, "end_offset": int}],
    "words?": [str],
}


def _of_doccano(row: Row, location: str) -> list[Example]:
    """The three shapes of its versions: label, labels, entities with offsets."""
    text = row.get("text", row.get("data"))
    shapes = [name for name in ("label", "labels", "entities") if row.get(name) is not None]
    if text is None or len(shapes) != 1:
        found = ", ".join(f"{k} (null)" if value is None else k for k, value in row.items())
        raise InputError(f"has {found}, wanted text and one of label, labels and entities")
    triples = row[shapes[0]]
    if shapes == ["entities"]:
        triples = [(e["start_offset"], e["end_offset"], e["label"]) for e in triples]
    words = row.get("words")
    return [
        Example(
            text=text,
            spans=tuple(Span(label, start, end) for start, end, label in triples),
            location=location,
            words=None if words is None else Text.aligned(text, words).spans,
            document=_text(row.get("document")),
            id=_text(row.get("sent_id", row.get("id"))),
            annotator=_text(row.get("username")),
            # doccano numbers what it exports: without a number, this is the question itself.
            answer=None if "origin" in row and "id" not in row else "accept",
            left_out=("its relations",) if row.get("relations") else (),
        )
    ]


def to_doccano(example: Example, types: Sequence[str] = ()) -> Row:
    label = [[s.start, s.end, s.type] for s in example.spans]
    return {"text": example.text, "label": label, "words": example.word_texts, **_about(example)}


def doccano_labels(types: Sequence[str]) -> str:
    """The file of label types that a doccano project imports."""
    keys = [{"text": t, "suffixKey": str(i)} for i, t in enumerate(types[:9], start=1)]
    return json.dumps([*keys, *({"text": t} for t in types[9:])], ensure_ascii=False, indent=2)


# ------------------------------------------------------------ readers and writers of files

read_own = _reader(_of_own, _JSONL)
read_label_studio = _reader(_of_task, _TASK)
read_prodigy = _reader(_of_prodigy, _PRODIGY)
read_doccano = _reader(_of_doccano, _DOCCANO)
write_own = _writer(to_own)
write_prodigy = _writer(to_prodigy)
write_doccano = _writer(to_doccano)


def write_label_studio(examples: Iterable[Example], target: Target) -> None:
    """One list of tasks."""
    with target.path.open("w", encoding="utf-8") as file:
        for number, example in enumerate(examples):
            task = json.dumps(to_task(example, target.types), ensure_ascii=False)
            file.write(("[\n" if number == 0 else ",\n") + task)
        file.write("\n]\n")
