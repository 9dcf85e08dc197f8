"""How far several annotators agree: F1 of each pair, alpha, disagreements, the majority's entities.

A sentence that an annotator skipped counts as one that this annotator never saw.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, combinations
from typing import Any, NamedTuple

from nerc.data import tags
from nerc.data.corpus import Corpus, Sentence
from nerc.evaluation import bootstrap
from nerc.evaluation.bootstrap import ALL, ByType
from nerc.tables import Rows

Words = tuple[str, ...]
Tags = tuple[str, ...]  # IOB2, one for each word
# By annotator, then by sentence; None: skipped.
Answers = Mapping[str, Mapping[Words, Tags | None]]


class Labelled(NamedTuple):
    """A sentence with the tags of each annotator who did not skip it."""

    words: Words
    tags: dict[str, Tags]


@dataclass(frozen=True)
class Annotator:
    """Numbers of sentences, and of the entities in those that are not skipped."""

    answered: int
    skipped: int
    alone: int  # of the answered: those that nobody else answered
    entities: int


@dataclass(frozen=True)
class Pair:
    """The F1 of two annotators on the sentences that both answered; {} where neither has an entity.

    Types that neither used are left out.
    """

    names: tuple[str, str]
    sentences: int
    f1: ByType


@dataclass(frozen=True)
class Agreement:
    annotators: dict[str, Annotator]
    pairs: tuple[Pair, ...]
    words: int  # that at least two annotators tagged
    alpha: float | None  # Krippendorff's, of the tags of these words; None: undefined

    def to_json(self) -> dict[str, Any]:
        """All figures; F1 is null where neither annotator of a pair has an entity."""
        pairs = []
        for pair in self.pairs:
            shown = {t: {"f1": i.value, "low": i.low, "high": i.high} for t, i in pair.f1.items()}
            row = {"annotators": pair.names, "sentences": pair.sentences}
            none = {"f1": None, "low": None, "high": None}
            pairs.append(row | shown.pop(ALL, none) | {"types": shown})
        return asdict(self) | {"pairs": pairs}


def by_sentence(answers: Answers) -> list[Labelled]:
    """All sentences, in the order of the first annotator, then of the next, with all their tags."""
    found: dict[Words, dict[str, Tags]] = {}
    for name, of_annotator in answers.items():
        for words, labels in of_annotator.items():
            given = found.setdefault(words, {})
            if labels is not None:
                given[name] = labels
    return [Labelled(*item) for item in found.items()]


# ------------------------------------------------------------ figures


def agreement(answers: Answers) -> Agreement:
    """Compute how far the annotators agree.

    F1 is of entities with the same words and type, with a bootstrap interval over sentences; it is
    the same whichever of the two is taken for gold. F1 is the usual measure for entities because it
    needs no number of "non-entities" (Hripcsak and Rothschild 2005, "Agreement, the F-measure, and
    reliability in information retrieval").

    Alpha is of full IOB2 tags rather than of types: they are what the annotators decided, and two
    who split a row of words into entities differently do not agree. No one of the two is the
    standard.
    """
    sentences = by_sentence(answers)
    annotators = {}
    for name, of_annotator in answers.items():
        given = [labels for labels in of_annotator.values() if labels is not None]
        alone = sum(list(sentence.tags) == [name] for sentence in sentences)
        num_entities = sum(len(tags.entities(labels)) for labels in given)
        skipped = len(of_annotator) - len(given)
        annotators[name] = Annotator(len(given), skipped, alone, num_entities)
    pairs = tuple(_pair(names, sentences) for names in combinations(answers, 2))
    of_words = (unit for s in sentences for unit in zip(*s.tags.values(), strict=True))
    units = [[tag for tag in unit if tag != tags.NOT_ASKED] for unit in of_words]
    num_words = sum(len(unit) > 1 for unit in units)
    return Agreement(annotators, pairs, num_words, krippendorff_alpha(units))


def _pair(names: tuple[str, str], sentences: Sequence[Labelled]) -> Pair:
    one, two = names
    shared = [sentence for sentence in sentences if set(names) <= sentence.tags.keys()]
    first, second = ([sentence.tags[name] for sentence in shared] for name in names)
    types = tags.ordered(tags.types_of(chain(*first, *second)))
    if not types:
        return Pair(names, len(shared), {})
    # As one document, so that sentences are resampled: that of a sentence is not known.
    gold = Corpus.of(Sentence(s.words, s.tags[one], "", 0) for s in shared)
    counts = bootstrap.count_entities(gold, second, types)
    draws = bootstrap.bootstrap_draws(len(shared))
    return Pair(names, len(shared), bootstrap.intervals(counts, types, draws))


def krippendorff_alpha(units: Iterable[Sequence[str]]) -> float | None:
    """Krippendorff's alpha for nominal values; units: the values that each unit was given.

    Units with fewer than two values count for nothing. None where alpha is undefined: all values
    are the same, or there are none (Krippendorff 2011, "Computing Krippendorff's
    Alpha-Reliability", section C).
    """
    totals: Counter[str] = Counter()
    differing = 0.0  # sum of the coincidences of different values
    for values in units:
        if len(values) > 1:
            counts = Counter(values)
            totals.update(counts)
            differing += (len(values) ** 2 - _sum_of_squares(counts)) / (len(values) - 1)
    expected = totals.total() ** 2 - _sum_of_squares(totals)
    return 1 - (totals.total() - 1) * differing / expected if expected else None


def _sum_of_squares(counts: Counter[str]) -> int:
    return sum(n * n for n in counts.values())


def tables(figures: Agreement) -> list[Rows]:
    """A table of the annotators, and one of the pairs, whose last columns are F1 by type."""
    people = [["Annotator", "sentences", "that nobody else answered", "skipped", "entities"]]
    for name, a in figures.annotators.items():
        numbers = (a.answered, a.alone, a.skipped, a.entities)
        people.append([name, *(f"{n:,}" for n in numbers)])
    types = tags.ordered({t for pair in figures.pairs for t in pair.f1 if t is not ALL})
    rows = [["Annotators", "sentences", "F1", "95 % interval", *(f"{t} F1" for t in types)]]
    for pair in figures.pairs:
        interval = f"{pair.f1[ALL].low:.3f} to {pair.f1[ALL].high:.3f}" if pair.f1 else "-"
        f1 = [f"{pair.f1[t].value:.3f}" if t in pair.f1 else "-" for t in (ALL, *types)]
        rows.append([", ".join(pair.names), f"{pair.sentences:,}", f1[0], interval, *f1[1:]])
    return [people, rows]


# ------------------------------------------------------------ sentences


def disagreements(answers: Answers) -> list[Labelled]:
    """The sentences that at least two annotators tagged differently, in by_sentence()'s order."""
    return [sentence for sentence in by_sentence(answers) if len(set(sentence.tags.values())) > 1]


def disagreement_rows(sentences: Sequence[Labelled], names: Sequence[str]) -> Rows:
    """A row for each sentence, with a column for each name; empty where there is no answer."""
    rows = [["sentence", *names]]
    for words, of_names in sentences:
        cells = (entities_text(words, of_names[n]) if n in of_names else "" for n in names)
        rows.append([" ".join(words), *cells])
    return rows


def entities_text(words: Words, labels: Tags) -> str:
    """Entities as `PER Ada Lovelace [0, 2]`: type, words, their numbers from 0, exclusive end."""
    found = tags.entities(labels)
    texts = (f"{t} {' '.join(words[start:end])} [{start}, {end}]" for t, start, end in found)
    return "; ".join(texts) or "no entity"


def majority(answers: Answers) -> tuple[dict[Words, Tags | None], list[Labelled]]:
    """The tags that a majority decides, as if one annotator's answers, and the undecided sentences.

    An entity (type, first and last word) is kept if more than half of those who tagged the sentence
    have it. A sentence is undecided where at least half have an entity on the same words, and no
    entity there is kept: they differ in its type or its bounds. None: all skipped the sentence.
    """
    decided: dict[Words, Tags | None] = {}
    undecided = []
    for sentence in by_sentence(answers):
        given = [tags.entities(labels) for labels in sentence.tags.values()]
        votes = Counter(entity for of_one in given for entity in of_one)
        # Entities that are kept cannot overlap: more than half have each of two, so that somebody
        # has both, and the entities of one annotator never overlap.
        kept = [entity for entity, n in votes.items() if 2 * n > len(given)]
        others = [e for e in votes if not any(_overlap(e, other) for other in kept)]
        marked = [sum(any(_overlap(e, o) for o in of_one) for of_one in given) for e in others]
        if any(2 * n >= len(given) for n in marked):
            undecided.append(sentence)
            continue
        of_words = zip(*sentence.tags.values(), strict=True)
        row = [tags.NOT_ASKED if {*unit} == {tags.NOT_ASKED} else "O" for unit in of_words]
        for type_, start, end in kept:
            row[start:end] = tags.entity_tags(type_, end - start)
        decided[sentence.words] = tuple(row) if given else None
    return decided, undecided


def _overlap(one: tags.Entity, other: tags.Entity) -> bool:
    return one.start < other.end and other.start < one.end
