"""Generates the built-in corpus: news-like English of any size, always the same for one seed.

A document has a topic, a cast of coined names, and sentences drawn from patterns. The names in
validation and test have stems that never occur in training, so only the context can find them.
The patterns are in synthetic_grammar.txt, the forms of names in synthetic_names.txt.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import count, islice, product
from pathlib import Path
from random import Random
from typing import NamedTuple
from zlib import crc32

from nerc.data import noise
from nerc.data.tags import CONLL_TYPES, entity_tags

# Noise of these kinds alone: llm-spurious, ... llm-missing is older, and also confuses types.
PLANTED = {f"llm-{kind}": kind for kind in noise.SHARES if kind != "missing"}
SPLITS = ("train", "validation", "test", "llm", "llm-missing", *PLANTED)

# How hard the corpus is; TYPICAL_ENDINGS has the largest effect.
AMBIGUOUS = 0.05  # share of prose in which only the rest of the document, if anything, tells a type
PATTERN_SKEW = 1.6  # 1: all patterns equally often; above: a few common ones and many rare ones
TYPICAL_ENDINGS = 0.3  # share of coined words with an ending typical of their kind (-son, -burg)
SHORT_NAMES = 0.8  # share of later mentions that are short: surname alone, firm without its Corp
SHARED_NAMES = 0.35  # share of clubs, firms, ... called after a place or person of the document

# These bring lengths and class balance close to CoNLL-2003's.
TOPICS = "sport sport sport politics politics business business crime disaster culture".split()
TABLE_DOCUMENTS = 0.38  # share of documents that are mostly short lines: results, prices, weather
TABLE_LINES = 0.9  # share of short lines in the body of such a document
TABLE_HEADS = 0.34  # share of these lines that are headings without a name
TABLE_CAST = 4  # such a document has this many times more names
CAPITAL_HEADLINES = 0.8  # the other documents have headlines Like This
DATELINES = 0.85  # share of documents that name place and date under the headline
BYLINES = 0.3  # share of documents with their writer's name on a line of its own
BODY_LENGTHS = (5, 16)  # sentences, uniform

NUMBERS = {
    "digit": range(7),
    "num": range(2, 100),
    "thousands": [f"{i},000" for i in range(2, 100)],
    "year": range(1931, 2000),
    "date": [f"1996-{i:02}-{j:02}" for i in range(1, 13) for j in range(1, 29)],
    "rank": [f"{i}." for i in range(1, 31)],
    "minute": [f"{i}th" for i in range(24, 90) if i % 10 > 3],
    "dom": range(1, 29),
    "age": range(41, 96),
    "score": [f"{i}-{j}" for i in range(1, 6) for j in range(i)],
    "draw": [f"{i}-{i}" for i in range(5)],
    "record": [f"{i}-{j}" for i in range(10, 99) for j in range(10)],
    "set": "6-0 6-1 6-2 6-3 6-4 7-5 7-6 4-6 3-6".split(),
    "price": [f"{i}.{j:02}" for i in range(1, 90) for j in range(0, 100, 25)],
    "time": [f"{i}:{j:02}.{3 * j + i:02}" for i in range(1, 6) for j in range(1, 30)],
    "clock": [f"{i:02}{j}" for i in range(24) for j in ("00", "15", "30", "45")],
}

# --- Words of names ------------------------------------------------------------------------------

COINED = frozenset("GIVEN SURNAME PLACE COUNTRY DEMONYM PEOPLE ACRONYM YEAR".split())
ANY = ("person", "firm", "club", "city")  # what $any may be

# A coined word is a stem (onset, vowel, coda) and an ending; it has at least four letters.
ONSETS = "b br d dr f g gr h k kl kr l m n p pl r s st t th tr v w z".split()
VOWELS = "a e i o u ei".split()
CODAS = (
    "lt nd rk rl rm rv st sk mb lm lv nz lin vas mel tor nik dal cor wen bel ris lan dov".split()
)
NEUTRAL = ["", *"a o en er el in ar is us e an on i ek em as et or".split()]
TYPICAL = {
    "GIVEN": "a o ie us an el".split(),
    "SURNAME": "son ov sen man ini ez ski".split(),
    "PLACE": "burg ville ton grad stad mouth ford".split(),
}
NATIONS = [  # endings of a country, its adjective and the word for its people
    dict(zip(("COUNTRY", "DEMONYM", "PEOPLE"), endings.split(), strict=True))
    for endings in ("ia ian ians", "land ish ish", "o ese ese", "stan i is", "ar ari aris")
]
CONSONANTS = "BCDFGHJKLMNPRSTVZ"  # of acronyms
OWNERS = ("train",) * 6 + ("validation", "test")  # the splits that stems are assigned to

# --- Labels of an LLM ----------------------------------------------------------------------------
# Fitted to the 2,037 training sentences of CoNLL-2003 that Llama-3.1-405B has labelled; their F1
# against gold is PER 0.753, LOC 0.599, ORG 0.316, MISC 0.047. It wrote the tags before the words,
# lost count of the words on the way, and from there on put tags on words at random.

# The share of the training sentences that have such labels, by length: an entry is three lengths.
LLM_COVERAGE = (0.21, 0.21, 0.19, 0.21, 0.19, 0.14, 0.1, 0.05, 0.035, 0.014, 0.004)
LLM_SPURIOUS = 0.33  # spurious entities per word outside names, after it has lost count
LLM_SPURIOUS_TYPES = (10, 18, 20, 52)  # PER, ORG, LOC, MISC: percent
LLM_SPURIOUS_GROWS = 0.27  # probability that a spurious entity gets another word
LLM_ORPHANS = 0.18  # share of entities that begin with I- after it has lost count


class Noise(NamedTuple):
    """The errors of a source of weak labels, apart from confused types."""

    lost_at_start: float  # probability that it has lost count before the first word
    loses_count: float  # probability, at each word outside names, that it loses count there
    misses: float  # share of names that get no label


NOISES = {
    "llm": Noise(lost_at_start=0.23, loses_count=0.07, misses=0.02),
    # The errors of dictionaries and rules: nothing is spurious, and half of the names are missing.
    "llm-missing": Noise(lost_at_start=0.0, loses_count=0.0, misses=0.5),
}
LLM_SWALLOWS = 0.05  # share of names that include the word after them
LLM_CUTS = {"PER": 0.05, "ORG": 0.7, "LOC": 0.1, "MISC": 0.6}  # share of long names cut in two
_READS = {  # the type given to a name that was found: PER, ORG, LOC, MISC in percent
    "person": (96, 1, 1, 2),
    "city country": (1, 4, 94, 1),
    "area venue": (0, 10, 88, 2),
    "demonym people": (4, 16, 71, 9),
    "event treaty work craft": (12, 42, 30, 16),
    "club": (3, 21, 73, 3),
    "firm": (10, 62, 23, 5),
    "body party league bank paper": (3, 75, 15, 7),
}
LLM_READS = {kind: percent for kinds, percent in _READS.items() for kind in kinds.split()}

# --- Reading the tables --------------------------------------------------------------------------

# A pattern: words, $kind for a name, <clause>, and lists of patterns of which one is picked.
Pattern = list["str | list[Pattern]"]
_TOKEN = re.compile(r"[\[\]{}|]|[^\s\[\]{}|]+")


@cache
def read_table(name: str) -> str:
    """The text of a table beside this file (grammar or names), without its comments."""
    text = Path(__file__).with_name(f"synthetic_{name}.txt").read_text(encoding="utf-8")
    return "".join(line for line in text.splitlines(keepends=True) if line[0] != "#")


def _entries(name: str) -> Iterator[tuple[str, str]]:
    """Heads and bodies of a table; an indented line continues the line above."""
    for line in read_table(name).replace("\n    ", " ").split("\n"):
        head, colon, body = line.partition(": ")
        if colon:
            yield head, body


@cache
def _grammar() -> dict[str, list[Pattern]]:
    """The patterns of every rule."""
    rules = {name: [[str(number)] for number in some] for name, some in NUMBERS.items()}
    rules |= {name: [] for name, _ in _entries("grammar")}
    for name, body in _entries("grammar"):
        rules[name] += _parse(iter(_TOKEN.findall(body)), rules)
    return rules


def _parse(tokens: Iterator[str], rules: dict[str, list[Pattern]]) -> list[Pattern]:
    """Read alternatives up to the closing bracket. Rules that they refer to may be filled later."""
    patterns: list[Pattern] = [[]]
    for token in tokens:
        if token in ("]", "}"):
            break
        if token == "|":
            patterns.append([])
        elif token in ("[", "{"):
            optional = [[]] if token == "[" else []
            patterns[-1].append(optional + _parse(tokens, rules))
        elif token[0] == "<" and token != "<clause>":
            patterns[-1].append(rules[token[1:-1]])
        else:
            patterns[-1].append(token)
    return patterns


class _Kind(NamedTuple):
    type: str
    cast: int  # how many names of the kind a document has
    forms: list[tuple[list[str], list[str]]]  # full and short, repeated by weight


@cache
def _kinds() -> dict[str, _Kind]:
    kinds = {}
    for head, body in _entries("names"):
        name, type_, cast = head.split()
        forms = []
        for text in body.split(" | "):
            weight, _, form = text.rpartition("*")
            full, _, short = form.partition(" / ")
            forms += [(full.split(), (short or full).split())] * int(weight or 1)
        kinds[name] = _Kind(type_, int(cast), forms)
    return kinds


def owner(word: str) -> str:
    """The split that may use a coined word, by its first four letters, which are in its stem."""
    return OWNERS[crc32(word[:4].lower().encode()) % len(OWNERS)]


@cache
def _stems_and_acronyms(split: str) -> list[list[str]]:
    """Those of a split, without the ones that begin like a word that is not coined."""
    words = set(re.findall(r"[A-Za-z]+", read_table("grammar") + read_table("names"))) - COINED
    ordinary = {word[:4].lower() for word in words}
    stems = ("".join(parts).capitalize() for parts in product(ONSETS, VOWELS, CODAS))
    acronyms = map("".join, product(CONSONANTS, repeat=3))
    return [
        [word for word in some if owner(word) == split and word[:4].lower() not in ordinary]
        for some in (stems, acronyms)
    ]


# --- Documents -----------------------------------------------------------------------------------

Mention = tuple[int, int, str]  # first word, word after the last, kind
Sentence = tuple[list[str], list[Mention]]
_SMALL = frozenset("a an and as at by for from in of on or over the to 's van der de bin".split())


class _Document:
    """Writes the sentences of one document."""

    def __init__(self, split: str, seed: int, number: int):
        self.random = Random(f"{seed} {split} {number}").random
        self.grammar = _grammar()
        self.stems, self.acronyms = _stems_and_acronyms(split)
        self.topic = self.pick(TOPICS)
        self.is_table = self.random() < TABLE_DOCUMENTS
        self.nations = [self.pick(self.stems) for _ in range(8)]
        factor = TABLE_CAST if self.is_table else 1
        # The names of each kind, full and short; None: not coined yet.
        self.cast = {kind: [None] * factor * cast for kind, (_, cast, _) in _kinds().items()}
        self.known: set[tuple[str, int]] = set()  # kind and place of names that were told in full
        self.to_share: dict[str, list[str]] = {"SURNAME": [], "PLACE": []}
        self.turn = 0  # the place in the cast that the next name comes from

    def pick(self, choices, skew: float = 1.0):
        """Pick one of choices; with a skew above 1, the first ones are the most common."""
        return choices[int(len(choices) * self.random() ** skew)]

    def sentences(self) -> Iterator[Sentence]:
        """Write the document from headline to end."""
        rules = self.grammar
        words, mentions = self.line(self.pick(rules[f"{self.topic}-headline"]), in_short=True)
        case = str.upper if self.random() < CAPITAL_HEADLINES else _in_title_case
        yield [case(word) for word in words], mentions
        if self.random() < DATELINES:
            words, mentions = self.line(rules["dateline"][0])
            yield [word.upper() for word in words], mentions
        if self.random() < BYLINES:
            yield self.line(self.pick(rules["byline"]))
        rows = [self.pick(rules[f"{self.topic}-line"]) for _ in range(2)]
        shortest, longest = BODY_LENGTHS
        for _ in range(shortest + int((longest - shortest + 1) * self.random())):
            if self.is_table and self.random() < TABLE_LINES:
                is_head = self.random() < TABLE_HEADS
                yield self.line(self.pick(rules[f"{self.topic}-head"] if is_head else rows))
            elif self.random() < AMBIGUOUS:
                yield self.line(self.pick(rules["ambiguous"]))
            else:
                yield self.line(self.pick(rules["frame"], PATTERN_SKEW))

    def line(self, pattern: Pattern, *, in_short: bool = False) -> Sentence:
        """Write a sentence by the pattern; in_short: with all names in their short form."""
        self.words: list[str] = []
        self.mentions: list[Mention] = []
        self.in_short = in_short
        if not self.is_table:
            self.turn = int(120 * self.random())
        self.write(pattern)
        first = 1 if self.words[0] == "-" else 0
        self.words[first] = _capitalise(self.words[first])
        return self.words, self.mentions

    def write(self, pattern: Pattern) -> None:
        for node in pattern:
            if isinstance(node, list):
                self.write(self.pick(node))
            elif node == "<clause>":
                self.write(self.pick(self.grammar[self.topic], PATTERN_SKEW))
            elif node[0] == "$" and len(node) > 1:
                self.mention(node[1:])
            else:
                self.words.append(node)

    def mention(self, kind: str) -> None:
        in_short = self.in_short or kind == "any"
        if kind == "any":
            kind = self.pick(ANY)
        names = self.cast[kind]
        self.turn += 1  # prevents "Molen beat Molen"
        i = self.turn % len(names)
        full, short = names[i] = names[i] or self.name(kind, i)
        if in_short or ((kind, i) in self.known and self.random() < SHORT_NAMES):
            words = short
        else:
            words = full
            self.known.add((kind, i))
        start = len(self.words)
        self.words += words
        self.mentions.append((start, len(self.words), kind))

    def name(self, kind: str, i: int) -> list[list[str]]:
        """Coin the i-th name of a kind, full and short."""
        forms = self.pick(_kinds()[kind].forms)
        coined = {part: self.coin(part, kind, i) for part in forms[0] if part in COINED}
        return [[coined.get(part, part) for part in form] for form in forms]

    def coin(self, part: str, kind: str, i: int) -> str:
        """Coin the word for a part, such as SURNAME, of the i-th name of a kind."""
        if part == "YEAR":
            return str(self.pick(NUMBERS["year"]))
        if part == "ACRONYM":
            return self.pick(self.acronyms)
        if part in NATIONS[0]:
            stem = self.nations[i % len(self.nations)]
            return stem + NATIONS[crc32(stem.encode()) // len(OWNERS) % len(NATIONS)][part]
        lends = kind in ("person", "city")
        if not lends and self.to_share[part] and self.random() < SHARED_NAMES:
            return self.to_share[part].pop()
        endings = TYPICAL[part] if self.random() < TYPICAL_ENDINGS else NEUTRAL
        word = self.pick(self.stems) + self.pick(endings)
        if lends and part != "GIVEN":
            self.to_share[part].append(word)
        return word


def _in_title_case(word: str) -> str:
    return word if word in _SMALL else _capitalise(word)


def _capitalise(word: str) -> str:
    return word[0].upper() + word[1:]


# --- The corpus ----------------------------------------------------------------------------------


def generate(split: str, size: int, seed: int = 0) -> Iterator[tuple[list[str], list[str], int]]:
    """Yield words, IOB2 tags and document number of the sentences of a split.

    train, validation and test have exactly size sentences, and a longer corpus begins with the
    shorter one. llm has about one in seven of the first size sentences of train, mostly short ones,
    with weak labels: many are wrong, and some are not valid IOB2. llm-missing has about as many;
    its labels miss half of the names instead (see NOISES). llm-spurious, llm-type and llm-boundary
    have the errors of nerc.data.noise.
    """
    if split not in SPLITS:
        raise ValueError(f"the sample corpus has no split {split!r}, only {', '.join(SPLITS)}")
    if size < 1:
        raise ValueError(f"a sample corpus has at least 1 sentence, not {size}")
    documents = "train" if split.startswith("llm") else split
    endless = (
        (sentence, number)
        for number in count()
        for sentence in _Document(documents, seed, number).sentences()
    )
    sentences = islice(endless, size)
    if split.startswith("llm"):
        return _llm_labelled(sentences, seed, split)
    return ((words, _gold_tags(len(words), mentions), n) for (words, mentions), n in sentences)


def _gold_tags(num_words: int, mentions: list[Mention]) -> list[str]:
    tags = ["O"] * num_words
    for start, end, kind in mentions:
        tags[start:end] = entity_tags(_kinds()[kind].type, end - start)
    return tags


def _llm_labelled(
    sentences: Iterable[tuple[Sentence, int]], seed: int, split: str
) -> Iterator[tuple[list[str], list[str], int]]:
    current, random = None, None
    for i, ((words, mentions), document) in enumerate(sentences):
        if document != current:
            current, random = document, Random(f"{seed} llm {document}")
        if random.random() >= LLM_COVERAGE[min(len(words) // 3, len(LLM_COVERAGE) - 1)]:
            continue
        if split in NOISES:
            labels = _llm_tags(len(words), mentions, NOISES[split], random)
        else:
            right = _gold_tags(len(words), mentions)
            labels = noise.noisy(words, right, PLANTED[split], CONLL_TYPES, [seed, i])
        yield words, labels, document


def _llm_tags(num_words: int, mentions: list[Mention], errors: Noise, random: Random) -> list[str]:
    """Label as the LLM did: it finds nearly every name, confuses types, and adds spurious ones."""
    tags = ["O"] * num_words
    is_lost = random.random() < errors.lost_at_start

    def mark(start: int, end: int, percent: tuple[int, ...]) -> None:
        (type_,) = random.choices(CONLL_TYPES, percent)
        is_orphan = is_lost and random.random() < LLM_ORPHANS
        tags[start:end] = entity_tags(type_, end - start)
        if is_orphan:
            tags[start] = f"I-{type_}"

    position = 0
    for start, end, kind in [*mentions, (num_words, num_words, "")]:
        while position < start:
            is_lost = is_lost or random.random() < errors.loses_count
            first, position = position, position + 1
            if is_lost and random.random() < LLM_SPURIOUS:
                while position < start and random.random() < LLM_SPURIOUS_GROWS:
                    position += 1
                mark(first, position, LLM_SPURIOUS_TYPES)
        position = end
        if kind and random.random() >= errors.misses:
            is_cut = random.random() < LLM_CUTS[_kinds()[kind].type]
            cut = start + int((end - start) * random.random()) if is_cut else start
            if end < num_words and random.random() < LLM_SWALLOWS:
                position = end + 1
            if cut > start:
                mark(start, cut, LLM_READS[kind])
            mark(cut, position, LLM_READS[kind])
    return tags
