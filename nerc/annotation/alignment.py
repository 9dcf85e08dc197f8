"""Reads the entities of a language model's reply, and aligns them with the words of the sentence.

The model had to give back the sentence with inline tags, or the entities as JSON. The text of the
reply must be that of the sentence but for case, blanks and quotes. What is not certain is a Misfit:
nothing is guessed.
"""

import difflib
import json
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple

from nerc import files
from nerc.data.tags import Entity, entity_tags
from nerc.data.words import Text
from nerc.errors import InputError


class Fault(StrEnum):
    """Why a sentence gets no labels from a reply; the values are how reports name it."""

    NO_REPLY = "no reply"  # after all tries, or the server refuses the request
    EMPTY = "empty"
    CUT_OFF = "cut off"
    REFUSED = "refused"
    CHANGED = "words changed"
    MISSING = "words missing"
    EXTRA = "words added"
    ORDER = "words in another order"
    UNKNOWN_TYPE = "unknown type"
    NESTED = "entities within entities"
    UNCLOSED = "tags that do not pair"
    NO_WORD = "entity without a word"
    WITHIN_WORD = "entity ends within a word"
    INVALID_JSON = "no valid JSON"
    ABSENT = "entity not in the sentence"
    OCCURRENCE = "occurrence unclear"
    TWO_ANSWERS = "different answers"
    LIKE_TAGS = "sentence has tags in it"


class Misfit(Exception):
    """A reply that cannot be aligned; the text tells the model what was wrong."""

    def __init__(self, fault: Fault, text: str) -> None:
        super().__init__(text)
        self.fault = fault


_THOUGHT = re.compile(r"\A.*</think(?:ing)?>", re.DOTALL)
_TAG = re.compile(r"<(/?)([^<>\s]+)>")
_NAME = re.compile(r"\w[\w.-]*")  # of a type that may be unknown
_REFUSAL = re.compile(
    r"\b(?:sorry|apologi[sz]e|(?:cannot|can['’]t|won['’]t|(?:am|['’]m) (?:not able|unable) to) "
    r"(?:help|assist|do|provide|answer|comply|fulfil|process))\b",
    re.IGNORECASE,
)
# Quotes are alike after blanks are gone; the Penn Treebank writes `` and ''.
_QUOTES = dict.fromkeys("“”„‟«»＂", '"') | dict.fromkeys("‘’‚‛`´′", "'")
_ENTITY = {"text": str, "type": str, "occurrence?": int}


class Plain(NamedTuple):
    """A text without blanks, case and kinds of quotes, and where its characters come from."""

    text: str
    places: list[tuple[int, int]]  # start and end (exclusive) of each character in the original


def plain(text: str) -> Plain:
    characters, places = [], []
    for i, c in enumerate(text):
        if c.isspace():
            continue
        for folded in _QUOTES.get(c, c).casefold():
            if folded == "'" and characters and characters[-1] == "'":
                characters[-1], places[-1] = '"', (places[-1][0], i + 1)
            else:
                characters.append(folded)
                places.append((i, i + 1))
    return Plain("".join(characters), places)


class Target:
    """A sentence that replies are aligned with, and the types that its entities may have."""

    def __init__(self, words: Sequence[str], types: Iterable[str]) -> None:
        self.words = tuple(words)
        self.types = {name.casefold(): name for name in types}
        self.text = Text.of_words(words)

    @cached_property
    def plain(self) -> Plain:
        return plain(self.text.text)

    def check(self, form: str) -> None:
        """Raise Misfit if no reply in this form can be told from the sentence's own text."""
        if form == "inline" and any(m[2].casefold() in self.types for m in self._own_tags()):
            raise Misfit(Fault.LIKE_TAGS, "the sentence itself has such tags")

    def _own_tags(self) -> Iterator[re.Match]:
        return _TAG.finditer(self.text.text)

    def tags(self, reply: str, form: str) -> tuple[str, ...]:
        """IOB2 tags of the words, from a reply in a form, inline or json; Misfit if it has none."""
        if not {"think", "thinking"} & self.types.keys():
            reply = _THOUGHT.sub("", reply)
        if not reply.strip():
            raise Misfit(Fault.EMPTY, "The answer was empty.")
        return (self._inline if form == "inline" else self._json)(reply)

    def type_of(self, name: str) -> str:
        if name.casefold() not in self.types:
            known = ", ".join(self.types.values())
            raise Misfit(Fault.UNKNOWN_TYPE, f"{name} is no type; the types are {known}.")
        return self.types[name.casefold()]

    def _to_tags(self, found: Iterable[Entity]) -> tuple[str, ...]:
        tags = ["O"] * len(self.words)
        end = 0
        for entity in sorted(set(found), key=lambda e: (e.start, e.end)):
            if entity.start < end:
                shown = " ".join(self.words[entity.start : entity.end])
                raise Misfit(Fault.NESTED, f"{shown!r} overlaps another entity.")
            tags[entity.start : entity.end] = entity_tags(entity.type, entity.end - entity.start)
            end = entity.end
        return tuple(tags)

    def _words_of(self, type_: str, start: int, end: int) -> Entity:
        """The entity of the characters from start to end; Misfit if these are no whole words."""
        first = bisect_left(self.text.spans, (start, 0))
        last = bisect_left(self.text.spans, (end, 0))
        is_whole = (
            first < last
            and self.text.spans[first][0] == start
            and self.text.spans[last - 1][1] == end
        )
        if not is_whole:
            shown = self.text.text[start:end]
            raise Misfit(
                Fault.WITHIN_WORD,
                f"{shown!r} begins or ends within a word; words are what blanks separate.",
            )
        return Entity(type_, first, last)

    # ------------------------------------------------------------ inline tags

    def _inline(self, reply: str) -> tuple[str, ...]:
        """The tags of the one text in the reply, a line or all of it, that is the sentence."""
        lines = [line for line in reply.splitlines() if line.strip()]
        candidates = [*lines, *([reply] if len(lines) > 1 else [])]
        answers, misfits = set(), []
        for candidate in candidates:
            try:
                answers.add(self._line(candidate))
            except Misfit as misfit:
                misfits.append((self._likeness(candidate), misfit))
        if len(answers) > 1:
            raise Misfit(Fault.TWO_ANSWERS, "The sentence came back several times, not alike.")
        if answers:
            return answers.pop()
        likeness, misfit = max(misfits, key=lambda pair: pair[0])
        if likeness < 0.5 and _REFUSAL.search(reply):
            raise Misfit(Fault.REFUSED, "The sentence did not come back.")
        raise misfit

    def _likeness(self, text: str) -> float:
        """The share of the sentence's words that a text has."""
        words = Counter(_TAG.sub(" ", text).casefold().split())
        return (words & Counter(self.text.text.casefold().split())).total() / len(self.words)

    def _line(self, line: str) -> tuple[str, ...]:
        own = Counter(match[0] for match in self._own_tags())
        parts, spans = [], []  # of the text between tags; type, start and end in that text
        length, place, opened = 0, 0, []  # the tags that have no end yet, with their places
        for match in _TAG.finditer(line):
            is_type = match[2].casefold() in self.types
            if not is_type and (own[match[0]] or not _NAME.fullmatch(match[2])):
                continue  # it is text
            parts.append(line[place : match.start()])
            length += match.start() - place
            place = match.end()
            type_ = self.type_of(match[2])
            if not match[1]:
                opened.append((type_, length))
            elif not opened or opened[-1][0] != type_:
                raise Misfit(Fault.UNCLOSED, f"{match[0]} ends nothing that begins before it.")
            else:
                spans.append((*opened.pop(), length))
        if opened:
            type_ = opened[0][0]
            raise Misfit(Fault.UNCLOSED, f"<{type_}> has no end, </{type_}>.")
        text = "".join(parts) + line[place:]
        return self._to_tags(self._aligned(text, spans))

    def _aligned(self, text: str, spans: list[tuple[str, int, int]]) -> Iterator[Entity]:
        """Entities by the characters of text, which is the sentence but for case and the like."""
        if text == self.text.text:
            places = None
        else:
            reply = plain(text)
            if reply.text != self.plain.text:
                raise self._difference(text)
            starts = [start for start, _ in reply.places]
            places = starts, self.plain.places
        for type_, start, end in spans:
            if not text[start:end].strip():
                raise Misfit(Fault.NO_WORD, f"<{type_}></{type_}> has no word in it.")
            covered = text[start:end]
            start += len(covered) - len(covered.lstrip())
            end -= len(covered) - len(covered.rstrip())
            if places is not None:
                first, last = (bisect_left(places[0], place) for place in (start, end))
                start, end = places[1][first][0], places[1][last - 1][1]
            yield self._words_of(type_, start, end)

    def _difference(self, text: str) -> Misfit:
        """What differs between the words of a text and those of the sentence."""
        given, wanted = text.split(), self.text.text.split()
        folded = [word.casefold() for word in given], [word.casefold() for word in wanted]
        found, needed = map(Counter, folded)
        if not found - needed and not needed - found:
            fault = Fault.ORDER
        elif not needed - found:
            fault = Fault.EXTRA
        else:
            fault = Fault.CHANGED if found - needed else Fault.MISSING
        matcher = difflib.SequenceMatcher(None, *folded, autojunk=False)
        for kind, a, b, c, d in matcher.get_opcodes():
            if kind != "equal":
                got, want = " ".join(given[a:b][:8]), " ".join(wanted[c:d][:8])
                return Misfit(fault, f"The words differ: {got!r} instead of {want!r}.")
        return Misfit(Fault.CHANGED, "The characters differ.")

    # ------------------------------------------------------------ JSON

    def _json(self, reply: str) -> tuple[str, ...]:
        answers = {json.dumps(value, sort_keys=True): value for value in _objects(reply)}
        if len(answers) > 1:
            raise Misfit(Fault.TWO_ANSWERS, "There were several JSON objects, not alike.")
        if not answers:
            if _REFUSAL.search(reply):
                raise Misfit(Fault.REFUSED, "There was no JSON.")
            raise Misfit(Fault.INVALID_JSON, 'There was no valid JSON object with "entities".')
        try:
            (value,) = answers.values()
            files.check_shape(value, {"entities": [_ENTITY]})
        except InputError as error:
            raise Misfit(Fault.INVALID_JSON, f"The JSON {error}.") from None
        return self._to_tags(map(self._occurrence, value["entities"]))

    def _occurrence(self, entity: dict[str, Any]) -> Entity:
        type_, text, number = self.type_of(entity["type"]), entity["text"], entity.get("occurrence")
        places = self._places(text)
        if number is None and len(places) > 1:
            raise Misfit(
                Fault.OCCURRENCE, f"{text!r} occurs {len(places)} times; say which occurrence."
            )
        number = 1 if number is None else number
        if not 1 <= number <= len(places):
            raise Misfit(
                Fault.OCCURRENCE, f"{text!r} has no occurrence {number}, only {len(places)}."
            )
        return Entity(type_, *places[number - 1])

    def _places(self, text: str) -> list[tuple[int, int]]:
        """First and last (exclusive) word of each place where whole words are this text.

        Case, blanks and quotes may differ only where no place has them as they are.
        """
        wanted = tuple(text.split())
        if not wanted:
            raise Misfit(Fault.NO_WORD, "An entity has no text.")
        size = len(wanted)
        starts = range(len(self.words) - size + 1)
        if exact := [(i, i + size) for i in starts if self.words[i : i + size] == wanted]:
            return exact
        found, whole = plain(text).text, self.plain
        at = [m.start() for m in re.finditer(f"(?={re.escape(found)})", whole.text)]
        if not found or not at:
            raise Misfit(Fault.ABSENT, f"{text!r} is not in the sentence.")
        places, misfit = [], None
        for i in at:
            try:
                span = whole.places[i][0], whole.places[i + len(found) - 1][1]
                places.append(self._words_of("", *span)[1:])
            except Misfit as error:
                misfit = error
        if not places:
            raise misfit
        return places


def _objects(reply: str) -> Iterator[Any]:
    """The JSON objects in a reply that have entities, however they are wrapped."""
    decoder, place = json.JSONDecoder(), 0
    while (place := reply.find("{", place)) >= 0:
        try:
            value, place = decoder.raw_decode(reply, place)
        except (ValueError, RecursionError):
            place += 1
            continue
        if isinstance(value, dict) and "entities" in value:
            yield value
