"""Mixes expert and weak labels into what a run learns from, and repairs weak labels.

Weak labels are in llm.txt, those of further sources in llm.NAME.txt. Their tags may be invalid
sequences and of types that no expert uses. They are read as they were written, and repaired before
they become the IOB2 tags of a Corpus.
"""

import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import compress
from typing import NamedTuple

import numpy as np

from nerc.config import Amount, DataConfig
from nerc.data import conll, tags
from nerc.data.corpus import Corpus, Sentence
from nerc.data.random_streams import Stream, generator
from nerc.data.sources import Sources
from nerc.errors import InputError

logger = logging.getLogger(__name__)

_PRIOR_WORDS = 5  # the average rate counts as much as this many words of each shape
# --repair auto takes a share to be larger than another one if it is this many times as large, and
# this many standard errors larger. Llama's labels of CoNLL-2003 have a ratio of 2.8 between the
# shares that it compares; labels whose errors are random have 0.9 to 1.2.
_RATIO = 1.5
_STANDARD_ERRORS = 3


@dataclass(frozen=True)
class MixedCorpus:
    """What a run learns from: expert sentences, then weakly labelled ones, then unlabelled ones."""

    corpus: Corpus
    num_expert: int
    num_weak: int

    def places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Places of the expert, the weakly labelled and the unlabelled sentences."""
        first_weak, first_unlabelled = self.num_expert, self.num_expert + self.num_weak
        ends = [0, first_weak, first_unlabelled, len(self.corpus)]
        return tuple(np.arange(a, b) for a, b in zip(ends, ends[1:], strict=False))


class AcquiredLabels(NamedTuple):
    """What active learning uses instead of the training split and a draw from it."""

    expert: Corpus
    text: Corpus  # of all sentences, whoever labelled them


def mix(
    sources: Sources, config: DataConfig, seed: int, acquired: AcquiredLabels | None = None
) -> MixedCorpus:
    """The sentences that a run of config, which is resolved, learns from.

    The seed draws the sentences of --expert and --unlabelled. Only --combine concat keeps the weak
    labels of a sentence that has expert labels, too.
    """
    if config.data == "llm":
        written = sources.weak
        weak = repair(written, config.repair)
        _check_enough_weak(config, len(written), len(weak), len(weak))
        return MixedCorpus(weak, 0, len(weak))
    expert, text = acquired or 2 * (sources.train,)
    if acquired is None and config.expert_amount is not None:
        expert = _draw_expert(expert, config.expert_amount, seed)
    if config.data == "gold":
        return MixedCorpus(expert, len(expert), 0)
    written = sources.weak
    # The types of a drawn sample are those that occur in it, not those of the whole split.
    known_types = expert.types if acquired else tags.types_of(expert.tag_counts())
    repaired = repair(written, config.repair, known_types)
    if new := sorted(repaired.entity_types() - known_types):
        note = (
            f"types that occur only in the weak labels are learnt, too ({', '.join(new)}); "
            f"--repair inventory leaves their entities unlabelled"
        )
        repaired = replace(repaired, notes=(*repaired.notes, note))
    weak = repaired if config.combine == "concat" else _without_expert_sentences(repaired, expert)
    # In active learning, the experts label every weakly labelled sentence in the end.
    num_left = max(len(weak), acquired is not None)
    _check_enough_weak(config, len(written), len(repaired), num_left)
    parts = [expert, weak]
    if config.unlabelled:
        parts.append(_draw_unlabelled(sources, text, parts, config.unlabelled, seed))
    return MixedCorpus(Corpus.joined(parts), len(expert), len(weak))


def _draw_expert(expert: Corpus, amount: str, seed: int) -> Corpus:
    drawn = expert.select(draw(len(expert), amount, seed, "expert sentences"))
    if len(drawn) == len(expert):
        return drawn
    note = f"{len(drawn)} of {len(expert)} expert sentences are used; --expert 100% uses all"
    return replace(drawn, notes=(*drawn.notes, note))


def _without_expert_sentences(weak: Corpus, expert: Corpus) -> Corpus:
    expert_words = {sentence.words for sentence in expert}
    kept = weak.select([i for i, s in enumerate(weak) if s.words not in expert_words])
    note = (
        f"{len(expert)} expert sentences and {len(kept)} others with weak labels; "
        f"{len(weak) - len(kept)} weakly labelled sentences have expert labels, too, which count"
    )
    return replace(kept, notes=(*kept.notes, note))


def _check_enough_weak(
    config: DataConfig, num_written: int, num_repaired: int, num_left: int
) -> None:
    """Raise InputError if no weakly labelled sentence is left where one is needed."""
    if num_left or config.combine == "concat":
        return
    reasons = (
        (num_written - num_repaired, "left out by --repair well-formed; leave it out"),
        (num_repaired - num_left, "with expert labels, too; use only these: --data gold"),
    )
    why = " and ".join(f"{number} {reason}" for number, reason in reasons if number)
    raise InputError(
        f"--corpus {config.corpus}: no weakly labelled sentence is left to learn from, of "
        f"{num_written}: {why}"
    )


def _draw_unlabelled(
    sources: Sources, text: Corpus, labelled: Sequence[Corpus], most: int, seed: int
) -> Corpus:
    """At most so many sentences that have no labels in this run, each once."""
    texts = [sources.unlabelled, text] if sources.unlabelled is not None else [text]
    known = {sentence.words for corpus in labelled for sentence in corpus}
    new = {s.words: s for corpus in texts for s in corpus if s.words not in known}
    chosen = generator(seed, Stream.UNLABELLED_DRAW).permutation(len(new))[:most]
    sentences = list(new.values())
    note = f"{len(chosen)} of {len(new)} other sentences are read without their labels"
    return Corpus.of((sentences[i]._replace(tags=None) for i in chosen), (note,))


def num_drawn(total: int, amount: str, what: str) -> int:
    """How many an amount (240, 12%) of total sentences is, of --expert."""
    number = Amount.parse(amount, "expert").num_sentences(total)
    if number > total:
        raise InputError(f"--expert {amount}: there are only {total} {what}; ask for no more")
    return number


def draw(total: int, amount: str, seed: int, what: str) -> np.ndarray:
    """Places of an amount of total sentences, in their order."""
    number = num_drawn(total, amount, what)
    return np.sort(generator(seed, Stream.EXPERT_DRAW).permutation(total)[:number])


def soft_targets(corpus: Corpus, inventory: Sequence[str]) -> np.ndarray | None:
    """Probabilities (words, labels), float32, if the weak labels have any; else None.

    A word whose tag was changed by a repair has its new tag, with the sum of its probabilities.
    """
    if not corpus.soft:
        return None
    ids = {tag: i for i, tag in enumerate(inventory)}
    targets = np.zeros((corpus.num_words, len(inventory)), dtype=np.float32)
    word = 0
    for sentence in corpus:
        of_words = corpus.soft.get(sentence.location) or [None] * len(sentence.words)
        for tag, soft in zip(sentence.tags or of_words, of_words, strict=True):
            if soft is not None and tag == max(soft, key=soft.get):
                for soft_tag, probability in soft.items():
                    if soft_tag in ids:
                        targets[word, ids[soft_tag]] = probability
            elif tag is not None and tag not in tags.SPECIAL_TAGS:
                targets[word, ids[tag]] = sum(soft.values()) if soft else 1.0
            word += 1
    return targets


# ------------------------------------------------------------ repair


def repair(
    written: Corpus, repairs: Sequence[str], known_types: frozenset[str] = frozenset()
) -> Corpus:
    """The corpus in IOB2 after the repairs, each with a note that counts what it changed.

    well-formed leaves out sentences whose tags no scheme allows: a writer who lost count of the
    words has the rest of the sentence wrong, too. inventory removes the labels of entities whose
    type is not among known_types. form drops entities in which no word has a likely shape. auto is
    what choose_repairs() chooses.
    """
    repairs = choose_repairs(written) if "auto" in repairs else repairs
    sentences, notes = list(written), list(written.notes)
    if "well-formed" in repairs:
        invalid = num_invalid_tags(sentences)
        kept = [s for s, number in zip(sentences, invalid, strict=True) if not number]
        notes.append(
            f"repair well-formed: {len(sentences) - len(kept)} of {len(sentences)} weakly labelled "
            f"sentences have I- tags that continue no entity, and are left out"
        )
        sentences = kept
    sentences = [s._replace(tags=tuple(tags.to_iob2(s.tags))) for s in sentences]
    num_entities = sum(len(tags.entities(s.tags)) for s in sentences)
    if "inventory" in repairs:
        sentences, count = _relabel(sentences, lambda _, type_: type_ not in known_types, "X")
        notes.append(
            f"repair inventory: {count} of {num_entities} weakly labelled entities have a type "
            f"that no expert label has; they are left unlabelled"
        )
    if "form" in repairs:
        rates = shape_rates(sentences)

        def has_unlikely_shape(words: Sequence[str], _: str) -> bool:
            return not any(is_entity_like(word_shape(word), rates) for word in words)

        sentences, count = _relabel(sentences, has_unlikely_shape, "O")
        notes.append(
            f"repair form: {count} of {num_entities} weakly labelled entities have no word of a "
            f"form that is common in entities; they are dropped"
        )
    types = known_types if "inventory" in repairs else written.entity_types()
    return Corpus(Corpus.of(sentences).table, tuple(notes), types, written.soft)


def choose_repairs(written: Corpus) -> tuple[str, ...]:
    """The repairs of --repair auto, chosen by the weak labels alone; logs the reason.

    A tagger averages out errors that fall on words at random, so that repairs cost more than they
    give, and learns errors that repeat with their words. An entity is odd if the shapes of all its
    words are in entities less often than words are on average. form is chosen if odd entities
    repeat: their words are in odd entities in more of their other places than other words are.
    well-formed is chosen, too, if odd entities are more frequent in the sentences that it leaves
    out: there, tags are misplaced, while a mere I- for B- does no harm.
    """
    sentences = [s._replace(tags=tuple(tags.to_iob2(s.tags))) for s in written]
    rates = shape_rates(sentences)
    is_usual = cache(lambda word: rates.get(word_shape(word), 0) >= rates[None])
    places, odd_places = Counter(), Counter()  # by word, of those with letters and unusual shapes
    num_entities, num_odd = Counter(), Counter()  # by whether the sentence has invalid tags
    for sentence, num_invalid in zip(sentences, num_invalid_tags(list(written)), strict=True):
        unusual = [not is_usual(word) and any(map(str.isalpha, word)) for word in sentence.words]
        places.update(compress(sentence.words, unusual))
        for entity in tags.entities(sentence.tags):
            place = slice(entity.start, entity.end)
            is_odd = not any(map(is_usual, sentence.words[place]))
            num_entities[num_invalid > 0] += 1
            num_odd[num_invalid > 0] += is_odd
            if is_odd:
                odd_places.update(compress(sentence.words[place], unusual[place]))
    of_odd, of_others = _odd_in_other_places(places, odd_places)
    of_invalid, of_valid = (Share(num_odd[is_], num_entities[is_]) for is_ in (True, False))
    chosen = ("none",)
    if of_odd.exceeds(of_others):
        chosen = ("well-formed", "form") if of_invalid.exceeds(of_valid) else ("form",)
    logger.info(
        f"repair auto chooses {' '.join(chosen)}: entities without a usual word shape are "
        f"{of_invalid} of those in sentences with invalid tags, {of_valid} in others; their words "
        f"are in such entities in {of_odd} of their other places, other words in {of_others}"
    )
    return chosen


def _odd_in_other_places(places: Counter, odd: Counter) -> tuple["Share", "Share"]:
    """How many of a word's other places are odd: the mean over odd places, and over the others."""
    repeated = [(n, odd[word]) for word, n in places.items() if n > 1]
    num_odd = sum(k for _, k in repeated)
    of_odd = Share(sum(k * (k - 1) / (n - 1) for n, k in repeated), num_odd)
    num_others = sum(n for n, _ in repeated) - num_odd
    return of_odd, Share(sum((n - k) * k / (n - 1) for n, k in repeated), num_others)


class Share(NamedTuple):
    """A share of some cases; part need not be a whole number."""

    part: float
    cases: int

    def __str__(self) -> str:
        return f"{100 * self.part / self.cases:.0f} %" if self.cases else "none"

    def exceeds(self, other: "Share") -> bool:
        """Whether it is larger than the other by _RATIO, and by the z-test of two proportions.

        No if the test has fewer than 5 expected cases of a kind (Cochran 1954).
        """
        pooled = (self.part + other.part) / max(1, self.cases + other.cases)
        if min(pooled, 1 - pooled) * min(self.cases, other.cases) < 5:
            return False
        first, second = self.part / self.cases, other.part / other.cases
        error = math.sqrt(pooled * (1 - pooled) * (1 / self.cases + 1 / other.cases))
        return first > _RATIO * second and first - second > _STANDARD_ERRORS * error


def num_invalid_tags(sentences: Sequence[Sentence]) -> list[int]:
    """For each sentence, how many of its tags continue an entity that is not there.

    In IOB1 an I- tag may begin an entity; all tags of a source together show whether it is IOB1.
    """
    sources = [sentence.location.rpartition(":")[0] for sentence in sentences]
    num_begins = Counter()
    for source, sentence in zip(sources, sentences, strict=True):
        num_begins[source] += conll.num_plain_begins(sentence.tags)
    return [
        tags.num_invalid_inside(sentence.tags) if num_begins[source] else 0
        for source, sentence in zip(sources, sentences, strict=True)
    ]


def _relabel(
    sentences: Sequence[Sentence], is_wrong: Callable[[Sequence[str], str], bool], tag: str
) -> tuple[list[Sentence], int]:
    """Give the words of wrong entities this tag, and count these; is_wrong sees words and type."""
    relabelled, count = [], 0
    for sentence in sentences:
        labels = list(sentence.tags)
        for type_, start, end in tags.entities(sentence.tags):
            if is_wrong(sentence.words[start:end], type_):
                labels[start:end] = [tag] * (end - start)
                count += 1
        relabelled.append(sentence._replace(tags=tuple(labels)))
    return relabelled, count


def word_shape(word: str) -> str:
    """Letters as X (capital), x (small) or a (neither), digits as d; each run only once."""
    shape = "".join(
        "X" if c.isupper() else "x" if c.islower() else "d" if c.isdigit() else "a"
        if c.isalpha() else c
        for c in word
    )  # fmt: skip
    return re.sub(r"(.)\1+", r"\1", shape)


def shape_rates(sentences: Sequence[Sentence]) -> dict[str | None, float]:
    """Share of the words of each shape that are in entities; under None, of all words.

    The rates of rare shapes are drawn towards that of all words.
    """
    number, inside = Counter(), Counter()
    for sentence in sentences:
        for word, tag in zip(sentence.words, sentence.tags, strict=True):
            if tag not in tags.SPECIAL_TAGS:
                number[word_shape(word)] += 1
                inside[word_shape(word)] += tag != "O"
    overall = sum(inside.values()) / max(1, sum(number.values()))
    rates = {
        shape: (inside[shape] + _PRIOR_WORDS * overall) / (n + _PRIOR_WORDS)
        for shape, n in number.items()
    }
    return rates | {None: overall}


def is_entity_like(shape: str, rates: dict[str | None, float]) -> bool:
    """Whether words of this shape are in entities at least half as often as all words."""
    return rates.get(shape, rates[None]) >= rates[None] / 2
