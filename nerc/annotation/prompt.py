"""What a language model is asked: a prompt in a file, the types with definitions, and examples."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nerc import files
from nerc.data.corpus import Corpus, Sentence
from nerc.data.tags import CONLL_TYPES, entities, entity_tags, is_type, ordered
from nerc.errors import InputError

Message = dict[str, str]

_HERE = Path(__file__).parent
PROMPT = _HERE / "prompt.md"
DEFINITIONS = _HERE / "definitions.txt"
# What each section needs filled in.
_SECTIONS = {
    "task": {"types"},
    "inline": set(),
    "json": set(),
    "again": {"problem", "sentence"},
    "verify": {"types"},
    "question": {"entity", "type", "sentence"},
}


@dataclass(frozen=True)
class Prompt:
    """The messages that ask for the entities of a sentence, inline or as json."""

    sections: Mapping[str, str]
    definitions: Mapping[str, str]  # of the types, in their order; "": none
    form: str

    @classmethod
    def read(cls, path: Path, definitions: Mapping[str, str], form: str) -> "Prompt":
        """The prompt in a file; InputError where it lacks a section or what that needs."""
        parts = re.split(r"^## +(\w+) *$", files.read_text(path), flags=re.MULTILINE)
        sections = dict(zip(parts[1::2], map(str.strip, parts[2::2]), strict=True))
        for name, needed in _SECTIONS.items():
            if not sections.get(name):
                raise InputError(f"{path}: has no section '## {name}'; {PROMPT} has all of them")
            if lacking := [key for key in sorted(needed) if f"{{{key}}}" not in sections[name]]:
                raise InputError(f"{path}: the section {name} lacks {{{lacking[0]}}}")
        for name in ("again", "question"):  # as the last line of every question does
            if not sections[name].endswith("\n{sentence}"):
                raise InputError(
                    f"{path}: the last line of the section {name} must be {{sentence}}"
                )
        if form == "inline" and (odd := [t for t in definitions if re.search("[<>]", t)]):
            raise InputError(f"the type {odd[0]} cannot stand in inline tags; give --format json")
        if unknown := sections.keys() - _SECTIONS.keys():
            known = ", ".join(_SECTIONS)
            raise InputError(f"{path}: the section {min(unknown)} has no use; sections are {known}")
        return cls(sections, definitions, form)

    def system(self, *sections: str) -> Message:
        types = "\n".join(f"- {t}: {d}" if d else f"- {t}" for t, d in self.definitions.items())
        text = "\n\n".join(self.sections[name] for name in sections)
        return {"role": "system", "content": _filled(text, types=types, type=self._first_type)}

    @property
    def _first_type(self) -> str:
        return next(iter(self.definitions))

    def ask(self, words: Sequence[str], examples: Sequence[Sentence]) -> list[Message]:
        """The question for a sentence after examples, which experts labelled."""
        messages = [self.system("task", self.form)]
        for example in examples:
            messages.append(_user(" ".join(example.words)))
            messages.append({"role": "assistant", "content": self.answer(example)})
        return [*messages, _user(" ".join(words))]

    def answer(self, example: Sentence) -> str:
        """The reply that is right for an example, in the form that is asked for."""
        return (inline if self.form == "inline" else as_json)(example.words, example.tags)

    def ask_again(
        self, messages: Sequence[Message], reply: str, problem: str, words: Sequence[str]
    ) -> list[Message]:
        """The messages after a reply that cannot be used."""
        text = _filled(self.sections["again"], problem=problem, sentence=" ".join(words))
        if not reply.strip():  # servers may refuse an empty message, or two questions in a row
            return [*messages[:-1], _user(text)]
        return [*messages, {"role": "assistant", "content": reply}, _user(text)]

    def verify(self, words: Sequence[str], type_: str, start: int, end: int) -> list[Message]:
        """The question whether words start to end (exclusive) are an entity of a type."""
        tags = ["O"] * len(words)
        tags[start:end] = entity_tags(type_, end - start)
        entity = " ".join(words[start:end])
        text = _filled(
            self.sections["question"], entity=entity, type=type_, sentence=inline(words, tags)
        )
        return [self.system("verify"), _user(text)]


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _filled(text: str, **values: str) -> str:
    """The text with the values of names in braces; other braces stay as they are."""
    pattern = "|".join(re.escape(f"{{{name}}}") for name in values)
    return re.sub(pattern, lambda match: values[match[0][1:-1]], text)


def inline(words: Sequence[str], tags: Sequence[str]) -> str:
    """The sentence with inline tags around its entities."""
    words = list(words)
    for type_, start, end in entities(tags):
        words[start] = f"<{type_}>{words[start]}"
        words[end - 1] += f"</{type_}>"
    return " ".join(words)


def as_json(words: Sequence[str], tags: Sequence[str]) -> str:
    """The entities of a sentence as JSON, each with its occurrence among equal words."""
    rows = []
    for type_, start, end in entities(tags):
        size = end - start
        earlier = sum(words[i : i + size] == words[start:end] for i in range(start))
        text = " ".join(words[start:end])
        rows.append({"text": text, "type": type_, "occurrence": earlier + 1})
    return json.dumps({"entities": rows}, ensure_ascii=False)


# ------------------------------------------------------------ types


def read_definitions(path: str | None, types: Sequence[str]) -> dict[str, str]:
    """What the types mean: {type: definition}, in the order of the types.

    path: a file with a line `TYPE: definition` for each type, from which the types come where none
    are given; none: names alone. Default: the definitions of CoNLL-2003's types, if all are these.
    """
    if not types and path in (None, "none"):
        raise InputError(
            "the types of entities are not known: give --types, or --definitions, as no expert "
            "sentence has any"
        )
    if wrong := [name for name in types if not is_type(name)]:
        raise InputError(
            f"the type {wrong[0]!r} cannot be written to weak labels; rename it, in files with "
            f"convert --map"
        )
    if path == "none" or (path is None and not {*types} <= {*CONLL_TYPES}):
        return dict.fromkeys(types, "")
    file, found = Path(path or DEFINITIONS), {}
    for number, line in enumerate(files.read_text(file).splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, definition = (part.strip() for part in line.partition(":"))
        if not is_type(name) or not definition or name in found:
            raise InputError(
                f"{file}:{number}: found {line.strip()[:60]!r}, wanted TYPE: definition, and each "
                f"type once"
            )
        found[name] = definition
    if lacking := [name for name in types if name not in found]:
        raise InputError(f"{file}: has no definition of the type {lacking[0]}; add a line")
    return {name: found[name] for name in types or ordered(found)}


# ------------------------------------------------------------ examples


class Examples:
    """Expert sentences, of which those are shown that share rare words with a sentence.

    Nearness is BM25 (Robertson and Zaragoza 2009, equation 3.15) over words in lower case.
    """

    K1, B = 1.2, 0.75  # the usual values

    def __init__(self, corpus: Corpus) -> None:
        sentences = {(sentence.words, sentence.tags): sentence for sentence in corpus}
        self.sentences = list(sentences.values())
        self._copies: dict[tuple[str, ...], list[int]] = {}
        for i, sentence in enumerate(self.sentences):
            self._copies.setdefault(sentence.words, []).append(i)
        counts = [Counter(map(str.lower, sentence.words)) for sentence in self.sentences]
        lengths = np.array([count.total() for count in counts], dtype=np.float64)
        norms = self.K1 * (
            1 - self.B + self.B * lengths / max(1.0, lengths.sum() / max(1, len(lengths)))
        )
        places: dict[str, list[int]] = {}
        numbers: dict[str, list[int]] = {}
        for i, count in enumerate(counts):
            for word, number in count.items():
                places.setdefault(word, []).append(i)
                numbers.setdefault(word, []).append(number)
        self._weights: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for word, of_word in places.items():
            at, number = np.array(of_word), np.array(numbers[word])
            rarity = np.log1p((len(counts) - len(at) + 0.5) / (len(at) + 0.5))
            self._weights[word] = at, rarity * number * (self.K1 + 1) / (number + norms[at])

    def nearest(self, words: Sequence[str], number: int) -> list[Sentence]:
        """So many sentences, the nearest last; none has the same words."""
        if not number or not self.sentences:
            return []
        scores = np.zeros(len(self.sentences))
        for word in dict.fromkeys(
            map(str.lower, words)
        ):  # in one order: sums of floats depend on it
            if word in self._weights:
                at, weights = self._weights[word]
                scores[at] += weights
        scores[self._copies.get(tuple(words), [])] = -1
        least = np.partition(scores, -number)[-number] if number < len(scores) else 0
        top = np.flatnonzero(scores >= max(least, 0))
        # Where scores are equal, the earlier sentence is nearer.
        top = top[np.lexsort((top, -scores[top]))][:number]
        return [self.sentences[i] for i in top[::-1]]
