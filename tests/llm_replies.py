"""What the stub of a language model replies: expert labels, errors on purpose, faults of form.

All is a pure function of the seed, the sentence, the try and the request's own seed, so a program
that was killed and goes on gets the replies that it would have had.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random
from typing import NamedTuple

from nerc.data.tags import Entity, entities, entity_tags, ordered, types_of

# The share of entities labelled wrongly at which the F1 of the labels is about 0.85. A quarter of
# the errors are missed and a quarter spurious, so 0.15 of what is found and of what is wanted is
# wrong.
GOOD_MODEL_ERRORS = 0.2
_QUOTES = str.maketrans({**dict.fromkeys("“”„«»", '"'), **dict.fromkeys("‘’`", "'")})
_TAGGED = re.compile(r"<([^<>\s/]+)>(.+?)</\1>")

Words = tuple[str, ...]


class Reply(NamedTuple):
    """The message of the assistant, and why it ends."""

    content: str | None
    finish_reason: str = "stop"
    refusal: str | None = None


@dataclass(frozen=True)
class Case:
    """A sentence and the tags that its reply means; random draws what a fault leaves open."""

    words: Words
    tags: Sequence[str]
    types: Sequence[str]
    is_json: bool
    random: Random

    @property
    def entities(self) -> list[Entity]:
        """The meant entities, in a random order."""
        found = list(entities(self.tags))
        return self.random.sample(found, len(found))

    def answer(self, tags: Sequence[str] | None = None) -> str:
        """The reply, or that with other tags."""
        return answer(self.words, self.tags if tags is None else tags, self.is_json)

    def other(self) -> str:
        """A reply in good form that means other entities."""
        tags = list(self.tags)
        if found := self.entities:
            _, start, end = found[0]
            tags[start:end] = ["O"] * (end - start)
        else:
            tags[self.random.randrange(len(tags))] = f"B-{self.types[0]}"
        return self.answer(tags)


def answer(words: Sequence[str], tags: Sequence[str], is_json: bool = False) -> str:
    """A right reply, as JSON or with inline tags."""
    return as_json(listed(words, tags)) if is_json else " ".join(tokens(words, tags))


def tokens(words: Sequence[str], tags: Sequence[str]) -> list[str]:
    """The words, those at the ends of entities with their inline tags."""
    result = list(words)
    for type_, start, end in entities(tags):
        result[start] = f"<{type_}>{result[start]}"
        result[end - 1] += f"</{type_}>"
    return result


def listed(words: Sequence[str], tags: Sequence[str]) -> list[dict]:
    """The entities as the JSON reply lists them."""
    return [entry(words, entity) for entity in entities(tags)]


def entry(words: Sequence[str], entity: Entity) -> dict:
    type_, start, end = entity
    occurrence = exact(words, words[start:end]).index(start) + 1
    return {"text": " ".join(words[start:end]), "type": type_, "occurrence": occurrence}


def as_json(entries: list[dict]) -> str:
    return json.dumps({"entities": entries}, ensure_ascii=False)


def exact(words: Sequence[str], part: Sequence[str]) -> list[int]:
    """Where part begins in words, as whole words in a row."""
    words, part = list(words), list(part)
    return [i for i in range(len(words)) if words[i : i + len(part)] == part]


def folded(text: str) -> str:
    """Text without its blanks, its case and the kind of its quotes."""
    return "".join(text.split()).casefold().translate(_QUOTES).replace("''", '"')


def places(words: Sequence[str], text: str) -> list[int]:
    """Where whole words begin that equal text but for blanks, case and quotes."""
    wanted, found = folded(text), []
    for start in range(len(words)):
        run, end = "", start
        while end < len(words) and len(run) < len(wanted):
            run, end = run + folded(words[end]), end + 1
        if run == wanted:
            found.append(start)
    return found


# Faults of the text: each changes words, and the tags beside them, in place.


def _change(words: list[str], tags: list[str], random: Random) -> None:
    place = random.randrange(len(words))
    words[place] = random.choice(["something", words[place] + words[place][-1]])


def _leave_out(words: list[str], tags: list[str], random: Random) -> None:
    if len(words) > 1:
        place = random.randrange(len(words))
        del words[place], tags[place]


def _add(words: list[str], tags: list[str], random: Random) -> None:
    place = random.randrange(len(words))
    tags.insert(place, tags[place] if tags[place].startswith("I-") else "O")
    words.insert(place, random.choice(["the", "very"]))


def _swap(words: list[str], tags: list[str], random: Random) -> None:
    if len(words) > 1:
        place = random.randrange(len(words) - 1)
        words[place : place + 2] = words[place + 1], words[place]


def _reworded(alter: Callable[[list[str], list[str], Random], None]):
    """The fault that alters the words of the sentence or, in JSON, those of an entity."""

    def plant(case: Case) -> Reply | None:
        if case.is_json:
            entries = listed(case.words, case.tags)
            for found in case.random.sample(entries, len(entries)):
                words = found["text"].split(" ")
                alter(words, ["I-"] * len(words), case.random)
                if not places(case.words, " ".join(words)):
                    found["text"] = " ".join(words)
                    return Reply(as_json(entries))
            return None
        words, tags = list(case.words), list(case.tags)
        alter(words, tags, case.random)
        is_same = folded(" ".join(words)) == folded(" ".join(case.words))
        return None if is_same else Reply(answer(words, tags))

    return plant


# Faults that a client can repair: the sentence is there but for case, blanks and quotes.


def _respelt(case: Case, respell: Callable[[str], str]) -> Reply | None:
    """The reply with each word or, in JSON, each entity spelt otherwise.

    In JSON, an entity must still be told from others, such as "US" from "us".
    """
    if not case.is_json:
        words = [respell(word) for word in case.words]
        is_same = folded(" ".join(words)) == folded(" ".join(case.words))
        content = answer(words, case.tags)
    else:
        entries = listed(case.words, case.tags)
        texts = [respell(found["text"]) for found in entries]
        is_same = all(
            text == found["text"]
            or places(case.words, text) == exact(case.words, found["text"].split(" "))
            for text, found in zip(texts, entries, strict=True)
        )
        content = as_json([e | {"text": t} for e, t in zip(entries, texts, strict=True)])
    return Reply(content) if is_same and content != case.answer() else None


def _case(case: Case) -> Reply | None:
    return _respelt(case, case.random.choice([str.lower, str.upper]))


def _quotes(case: Case) -> Reply | None:
    double = case.random.choice("“”") if case.random.random() < 0.5 else "``"
    return _respelt(case, lambda text: text.replace('"', double).replace("'", "’"))


def _spacing(case: Case) -> Reply | None:
    def join(parts: Sequence[str]) -> str:
        """Parts without blanks before punctuation; two blanks at one other place."""
        gaps = [" " if any(map(str.isalnum, part)) else "" for part in parts[1:]]
        if " " in gaps:
            gaps[case.random.choice([i for i, gap in enumerate(gaps) if gap])] = "  "
        return "".join(map("".join, zip(["", *gaps], parts, strict=True)))

    if case.is_json:
        return _respelt(case, lambda text: join(text.split(" ")))
    content = join(tokens(case.words, case.tags))
    return Reply(content) if content != case.answer() else None


def _prose(case: Case) -> Reply:
    before = f"Here is the answer:\n\n{case.answer()}\n\nLet me know if I can do more!"
    fence = f"```{'json' if case.is_json else ''}\n{case.answer()}\n```"
    return Reply(case.random.choice([before, fence]))


def _thinking(case: Case) -> Reply:
    return Reply(f"<think>\nPerhaps this is it:\n{case.other()}\n</think>\n\n{case.answer()}")


# Faults of the labels' form.


def _unknown_type(case: Case) -> Reply:
    name = "DATE"
    while name.casefold() in map(str.casefold, case.types):
        name += "X"
    tags, place = list(case.tags), case.random.randrange(len(case.words))
    _, start, end = (case.entities or [Entity("", place, place + 1)])[0]
    tags[start:end] = entity_tags(name, end - start)
    return Reply(case.answer(tags))


def _nested(case: Case) -> Reply | None:
    for outer, start, end in case.entities:
        if end - start > 1:
            inner = case.random.choice(case.types)
            if case.is_json:
                within = entry(case.words, Entity(inner, end - 1, end))
                return Reply(as_json([*listed(case.words, case.tags), within]))
            parts = tokens(case.words, case.tags)
            parts[end - 1] = f"<{inner}>{case.words[end - 1]}</{inner}></{outer}>"
            return Reply(" ".join(parts))
    return None


def _unclosed(case: Case) -> Reply | None:
    parts = tokens(case.words, case.tags)
    for type_, _, end in case.entities[:1]:
        parts[end - 1] = parts[end - 1].removesuffix(f"</{type_}>")
        return Reply(" ".join(parts))
    return None


def _within_word(case: Case) -> Reply | None:
    parts, at_start = tokens(case.words, case.tags), case.random.random() < 0.5
    for type_, start, end in case.entities:
        place, opening, closing = start if at_start else end - 1, f"<{type_}>", f"</{type_}>"
        if len(case.words[place]) > 1:
            if at_start:
                rest = parts[place].removeprefix(opening)
                parts[place] = rest[0] + opening + rest[1:]
            else:
                rest = parts[place].removesuffix(closing)
                parts[place] = rest[:-1] + closing + rest[-1]
            return Reply(" ".join(parts))
    return None


def _json(case: Case) -> Reply:
    text = case.answer()
    return Reply(case.random.choice([text[:-1], text[:-2], text[:-1] + ",}"]))


def _absent(case: Case) -> Reply | None:
    added = {"text": "Wonderland", "type": case.types[0], "occurrence": 1}
    is_there = places(case.words, added["text"])
    return None if is_there else Reply(as_json([*listed(case.words, case.tags), added]))


def _occurrence(case: Case) -> Reply | None:
    if not (entries := listed(case.words, case.tags)):
        return None
    found = case.random.choice(entries)
    found["occurrence"] = len(places(case.words, found["text"])) + 1
    return Reply(as_json(entries))


def _refusal(case: Case) -> Reply:
    refused = "I'm sorry, but I can't help with that."
    return case.random.choice([Reply(None, refusal=refused), Reply(refused)])


def _cut_off(case: Case) -> Reply | None:
    text = case.answer()
    return Reply(text[: len(text) // 2], "length") if len(text) > 1 else None


def _two_answers(case: Case) -> Reply:
    return Reply("\n".join(case.random.sample([case.answer(), case.other()], 2)))


class Fault(NamedTuple):
    """plant gives the faulty reply, or None where the fault does not apply to a sentence."""

    plant: Callable[[Case], Reply | None]
    formats: str
    is_recoverable: bool  # without a second try


FAULTS = {
    "changed": Fault(_reworded(_change), "inline json", False),
    "missing": Fault(_reworded(_leave_out), "inline json", False),
    "extra": Fault(_reworded(_add), "inline json", False),
    "order": Fault(_reworded(_swap), "inline json", False),
    "unknown_type": Fault(_unknown_type, "inline json", False),
    "nested": Fault(_nested, "inline json", False),
    "unclosed": Fault(_unclosed, "inline", False),
    "within_word": Fault(_within_word, "inline", False),
    "prose": Fault(_prose, "inline json", True),
    "thinking": Fault(_thinking, "inline json", True),
    "case": Fault(_case, "inline json", True),
    "quotes": Fault(_quotes, "inline json", True),
    "spacing": Fault(_spacing, "inline json", True),
    "json": Fault(_json, "json", False),
    "absent": Fault(_absent, "json", False),
    "occurrence": Fault(_occurrence, "json", False),
    "refusal": Fault(_refusal, "inline json", False),
    "cut_off": Fault(_cut_off, "inline json", False),
    "empty": Fault(lambda case: Reply(""), "inline json", False),
    "two_answers": Fault(_two_answers, "inline json", False),
}


def share(*parts) -> float:
    """A number from 0 (inclusive) to 1 (exclusive) that depends on parts alone."""
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=6).digest()) / 2**48


def pick(rates: Mapping[str, float], number: float) -> str | None:
    """The name that number, from 0 to 1, falls to; each has a part as long as its rate."""
    for name, rate in rates.items():
        if number < rate:
            return name
        number -= rate
    return None


def mislabel(tags: list[str], entity: Entity, types: Sequence[str], random: Random) -> None:
    """Miss an entity, add one elsewhere, or give it another type or end; miss it if none fits."""
    type_, start, end = entity
    kind = random.choice(["missed", "spurious", "type", "boundary"])
    free = [i for i, tag in enumerate(tags) if tag == "O"]
    others = [other for other in types if other != type_]
    if kind == "spurious" and free:
        tags[random.choice(free)] = f"B-{random.choice(types)}"
    elif kind == "type" and others:
        tags[start:end] = entity_tags(random.choice(others), end - start)
    elif kind == "boundary" and end - start > 1 and (end not in free or random.random() < 0.5):
        tags[end - 1] = "O"
    elif kind == "boundary" and end in free:
        tags[end] = f"I-{type_}"
    else:
        tags[start:end] = ["O"] * (end - start)


@dataclass(frozen=True)
class Model:
    """A language model that knows the labels of sentences, from words to IOB2 tags.

    errors is the share of entities that it labels wrongly, varies that whose label differs from
    sample to sample. faults has the rates of FAULTS; again is the share of second tries after a
    fault that have it again.
    """

    sentences: Mapping[Words, Sequence[str]]
    faults: Mapping[str, float] = field(default_factory=dict)
    again: float = 0.0
    errors: float = 0.0
    varies: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        types = ordered(types_of(tag for tags in self.sentences.values() for tag in tags))
        object.__setattr__(self, "types", types)

    def meant(self, words: Words, sample: int | None = None) -> list[str]:
        """The tags that a reply means; sample is None where the temperature is 0."""
        tags = list(self.sentences[words])
        for entity in entities(self.sentences[words]):
            key = self.seed, words, entity.start
            differs = sample is not None and share(*key, sample) < self.varies
            if (share(*key) < self.errors) != differs:
                random = Random(repr((key, sample if differs else None)))
                mislabel(tags, entity, self.types, random)
        return tags

    def reply(self, request: dict) -> tuple[Reply, dict]:
        """The reply to a request, and what the log says of it; KeyError for an unknown sentence."""
        system, message = request["messages"][0]["content"], request["messages"][-1]["content"]
        lines = message.rstrip("\n").split("\n")
        number, seed = min(len(lines), 2), request.get("seed")
        sample = (seed or 0) if request.get("temperature", 1) else None
        kind = "json" if '"entities"' in system else "inline"
        if "yes or no" in system:
            kind, number = "verify", 1
        match = _TAGGED.search(lines[-1]) if kind == "verify" else None
        text = lines[-1] if match is None else lines[-1].replace(match[0], match[2], 1)
        words = tuple(text.split(" "))
        tags = self.meant(words, sample)
        about = {"sentence": text, "kind": kind, "try": number, "seed": seed, "meant": tags}
        if kind == "verify":
            if match is None:
                raise ValueError("no entity is tagged in the last line")
            start = text[: match.start()].count(" ")
            asked = Entity(match[1], start, start + match[2].count(" ") + 1)
            return Reply("yes" if asked in entities(tags) else "no"), about | {"fault": None}
        fault, faulty = self.fault(words, number, seed), None
        if fault is not None and kind in FAULTS[fault].formats:
            random = Random(repr((self.seed, words, seed)))
            faulty = FAULTS[fault].plant(Case(words, tags, self.types, kind == "json", random))
        reply = faulty or Reply(answer(words, tags, kind == "json"))
        return reply, about | {"fault": fault if faulty else None}

    def fault(self, words: Words, number: int, seed: int | None) -> str | None:
        """Which fault a try (1 or 2) of a request has."""
        key = self.seed, words, seed, "fault"
        if number == 2 and share(*key, 2) >= self.again:
            return None
        return pick(self.faults, share(*key))
