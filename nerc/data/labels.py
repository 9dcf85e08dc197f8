"""Whose labels: the experts' and cheap ones, what is mended in these, and what a run learns from.

Cheap labels stand in llm.txt, those of further sources in llm.NAME.txt. They may be no valid
sequence, and of types that no expert knows; they are read as they were written, and repaired before
they become the IOB2 tags of a Corpus.
"""

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from nerc.config import Amount, DataConfig
from nerc.data import conll, tags
from nerc.data.corpus import Corpus, Sentence
from nerc.data.sources import InputError, MissingSplit, load, load_as_written

_PRIOR_WORDS = 5  # words that a form is taken to have been seen in, beside those that were counted


@dataclass(frozen=True)
class MixedCorpus:
    """What a run learns from: expert sentences, then cheap ones, then those without labels."""

    corpus: Corpus
    expert: int  # how many sentences of each kind
    cheap: int
    # Cheap tags of the words of the expert sentences, "X" where there are none.
    cheap_too: list[str] | None = None

    def places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Places of the expert, the cheap and the unlabelled sentences."""
        ends = [0, self.expert, self.expert + self.cheap, len(self.corpus)]
        return tuple(np.arange(a, b) for a, b in zip(ends, ends[1:], strict=False))


class AcquiredLabels(NamedTuple):
    """What active learning has in the place of the training split and a draw from it."""

    expert: Corpus
    text: Corpus  # of all sentences, whoever labelled them


def training_corpus(
    config: DataConfig, seed: int, bought: AcquiredLabels | None = None
) -> MixedCorpus:
    """The sentences to learn from; config is resolved; --expert and --unlabelled are drawn by seed.

    But for --combine concat, a sentence of the experts' draw has no second copy with the cheap
    label.
    """
    if config.data == "llm":
        written = load_as_written(config.corpus)
        cheap = repair(written, config.repair)
        _check_enough_weak(config, len(written), len(cheap), len(cheap))
        return MixedCorpus(cheap, 0, len(cheap))
    expert, text = bought or 2 * (load(config.corpus, "train"),)
    if not bought and config.expert_amount is not None:
        expert = _draw_expert(expert, config.expert_amount, seed)
    if config.data == "gold":
        return MixedCorpus(expert, len(expert), 0)
    written = load_as_written(config.corpus)
    # A draw does not know the types of all that it was drawn from.
    known_types = expert.types if bought else tags.types_of(expert.tag_counts())
    cheap = everything = repair(written, config.repair, known_types)
    if new := sorted(cheap.entity_types() - known_types):
        note = (
            f"entities of types that no expert's label has are learnt from cheap labels, too "
            f"({', '.join(new)}); --repair inventory leaves them unlabelled"
        )
        cheap = replace(cheap, notes=(*cheap.notes, note))
    if config.combine != "concat":
        own = {sentence.words for sentence in expert}
        kept = cheap.select([i for i, s in enumerate(cheap) if s.words not in own])
        note = (
            f"{len(expert)} expert sentences and {len(kept)} others with cheap labels; "
            f"{len(cheap) - len(kept)} of the experts' have cheap labels, too: the experts' count"
        )
        cheap = replace(kept, notes=(*kept.notes, note))
    # Whoever goes on buying has bought every cheap label in the end.
    left = max(len(cheap), bought is not None)
    _check_enough_weak(config, len(written), len(everything), left)
    by_words = {sentence.words: sentence.tags for sentence in everything}
    if config.combine == "corrector" and not any(s.words in by_words for s in expert):
        raise InputError(
            "--combine corrector learns from sentences with both labels, and none of the drawn "
            "expert sentences has a cheap label; draw more by --expert, or leave --combine out"
        )
    nothing = ("X",) * max(len(sentence.words) for sentence in expert)
    too = [t for s in expert for t in by_words.get(s.words, nothing[: len(s.words)])]
    parts = [expert, cheap]
    if config.unlabelled:
        parts.append(_draw_unlabelled(config, seed, text, known=parts))
    return MixedCorpus(Corpus.joined(parts), len(expert), len(cheap), too)


def _draw_expert(expert: Corpus, amount: str, seed: int) -> Corpus:
    places = draw(len(expert), amount, seed, "expert sentences")
    found = expert.select(places)
    if len(found) == len(expert):
        return found
    note = f"{len(found)} of {len(expert)} expert sentences are used; --expert 100% uses all"
    return replace(found, notes=(*found.notes, note))


def _check_enough_weak(config: DataConfig, written: int, repaired_: int, left: int) -> None:
    """Raise InputError where too few sentences are left of those with cheap labels."""
    least = {"concat": 0, "replace": 0, "filter": 3}.get(config.combine, 1)
    if left >= least:
        return
    why = [
        f"{number} {what}"
        for number, what in (
            (written - repaired_, "left out by --repair well-formed; leave it out"),
            (repaired_ - left, "with an expert's label, too; use the experts alone: --data gold"),
        )
        if number
    ]
    raise InputError(
        f"--corpus {config.corpus}: {left} sentences with cheap labels are left to learn from, "
        f"wanted {least} or more: of {written}, {', and '.join(why) or 'all are used'}"
    )


def _draw_unlabelled(
    config: DataConfig, seed: int, text: Corpus, known: Sequence[Corpus]
) -> Corpus:
    """At most config.unlabelled sentences of which nothing else is known, each once."""
    texts = [text]
    with suppress(MissingSplit):
        texts.insert(0, load(config.corpus, "unlabelled"))
    old = {sentence.words for corpus in known for sentence in corpus}
    new = {s.words: s for each in texts for s in each if s.words not in old}
    chosen = np.random.default_rng([seed, 4]).permutation(len(new))[: config.unlabelled]
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
    return np.sort(np.random.default_rng([seed, 0]).permutation(total)[:number])


def soft_targets(corpus: Corpus, inventory: Sequence[str]) -> np.ndarray | None:
    """Probabilities (words, labels), float32, where the cheap labels have any; else None.

    A word whose tag was mended has that tag, by the weight of its probabilities together.
    """
    if not corpus.soft:
        return None
    ids = {tag: i for i, tag in enumerate(inventory)}
    found = np.zeros((corpus.num_words, len(inventory)), dtype=np.float32)
    word = 0
    for sentence in corpus:
        of_words = corpus.soft.get(sentence.location) or [None] * len(sentence.words)
        for tag, soft in zip(sentence.tags or of_words, of_words, strict=True):
            if soft is not None and tag == max(soft, key=soft.get):
                for each, probability in soft.items():
                    if each in ids:
                        found[word, ids[each]] = probability
            elif tag is not None and tag not in tags.SPECIAL_TAGS:
                found[word, ids[tag]] = sum(soft.values()) if soft else 1.0
            word += 1
    return found


# ------------------------------------------------------------ repair


def repair(
    written: Corpus, repairs: Sequence[str], known_types: frozenset[str] = frozenset()
) -> Corpus:
    """The corpus in IOB2, mended by repairs, with a note that counts what each of them changed.

    well-formed leaves out sentences whose tags no scheme allows: who loses count, writing tags,
    goes on wrongly. inventory takes the labels from entities whose type is not among known_types.
    form drops entities in which no word has a likely form.
    """
    sentences, notes = list(written), list(written.notes)
    if "well-formed" in repairs:
        ill = num_invalid_tags(sentences)
        kept = [s for s, orphans in zip(sentences, ill, strict=True) if not orphans]
        notes.append(
            f"repair well-formed: {len(sentences) - len(kept)} of {len(sentences)} sentences with "
            f"cheap labels have tags that go on with nothing, and are left out"
        )
        sentences = kept
    sentences = [s._replace(tags=tuple(tags.to_iob2(s.tags))) for s in sentences]
    num_entities = sum(len(tags.entities(s.tags)) for s in sentences)
    if "inventory" in repairs:
        changed = _relabel(sentences, lambda _, entity: entity.type not in known_types, "X")
        notes.append(
            f"repair inventory: {changed.count} of {num_entities} entities with cheap labels are "
            f"of types that no expert's label has, and have no label"
        )
        sentences = changed.sentences
    if "form" in repairs:
        rates = shape_rates(sentences)
        changed = _relabel(
            sentences,
            lambda words, entity: (
                not any(
                    is_entity_like(word_shape(word), rates)
                    for word in words[entity.start : entity.end]
                )
            ),
            "O",
        )
        notes.append(
            f"repair form: {changed.count} of {num_entities} entities with cheap labels have no "
            f"word of a form that entities often have, and count as none"
        )
        sentences = changed.sentences
    types = known_types if "inventory" in repairs else written.entity_types()
    return Corpus(Corpus.of(sentences).table, tuple(notes), types, written.soft)


def num_invalid_tags(sentences: Sequence[Sentence]) -> list[int]:
    """Of each sentence, how many of its tags go on with an entity that is not there.

    In IOB1, I- begins entities; whether a source is in IOB1 shows in all of its tags.
    """
    sources = [sentence.location.rpartition(":")[0] for sentence in sentences]
    begins = Counter()
    for source, sentence in zip(sources, sentences, strict=True):
        begins[source] += conll.num_plain_begins(sentence.tags)
    return [
        tags.num_invalid_inside(sentence.tags) if begins[source] else 0
        for source, sentence in zip(sources, sentences, strict=True)
    ]


@dataclass(frozen=True)
class _Relabelled:
    sentences: list[Sentence]
    count: int


def _relabel(sentences: Sequence[Sentence], is_wrong, tag: str) -> _Relabelled:
    """Sentences in which the words of wrong entities have tag."""
    found, count = [], 0
    for sentence in sentences:
        labels = list(sentence.tags)
        for entity in tags.entities(sentence.tags):
            if is_wrong(sentence.words, entity):
                labels[entity.start : entity.end] = [tag] * (entity.end - entity.start)
                count += 1
        found.append(sentence._replace(tags=tuple(labels)))
    return _Relabelled(found, count)


def word_shape(word: str) -> str:
    """Its letters as X (capital), x (small) or a (neither), digits as d, each run once."""
    shape = "".join(
        "X" if c.isupper() else "x" if c.islower() else "d" if c.isdigit() else "a"
        if c.isalpha() else c
        for c in word
    )  # fmt: skip
    return re.sub(r"(.)\1+", r"\1", shape)


def shape_rates(sentences: Sequence[Sentence]) -> dict[str | None, float]:
    """Share of the words of each form that are in entities; under None, of all words.

    Forms seen seldom are taken to be like all.
    """
    number, inside = Counter(), Counter()
    for sentence in sentences:
        for word, tag in zip(sentence.words, sentence.tags, strict=True):
            if tag not in tags.SPECIAL_TAGS:
                number[word_shape(word)] += 1
                inside[word_shape(word)] += tag != "O"
    overall = sum(inside.values()) / max(1, sum(number.values()))
    rates = {
        f: (inside[f] + _PRIOR_WORDS * overall) / (n + _PRIOR_WORDS) for f, n in number.items()
    }
    return rates | {None: overall}


def is_entity_like(of_word: str, rates: dict[str | None, float]) -> bool:
    """Whether words of this form are in entities at least half as often as any word."""
    return rates.get(of_word, rates[None]) >= rates[None] / 2
