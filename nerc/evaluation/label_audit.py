"""Audits weak labels: what they look like, and how far expert labels of the same words agree."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple
from typing import Any, NamedTuple

from nerc.config import REPAIRS
from nerc.data import labels, sources, tags
from nerc.data.corpus import Corpus
from nerc.evaluation import error_analysis, metrics
from nerc.tables import Rows

logger = logging.getLogger(__name__)

MIN_REPEATS = 2  # entities whose words occur less often say nothing about consistency
NUM_SHAPES = 12  # shapes listed
MIN_AT_POSITION = 20  # positions that fewer sentences have are left out of the plot

ExpertTags = Mapping[tuple[str, ...], tuple[str, ...]]  # by the words of the sentence


# ------------------------------------------------------------ without expert labels


def label_statistics(written: Corpus, weak: Corpus) -> Rows:
    """Count what weak labels contain; written: the same labels before repair."""
    entities = [(s.words[e.start : e.end], e.type) for s in weak for e in tags.entities(s.tags)]
    counts = Counter(type_ for _, type_ in entities)
    num_inside = sum(len(words) for words, _ in entities)
    num_unlabelled = sum(weak.tag_counts()[tag] for tag in tags.SPECIAL_TAGS)
    invalid = labels.num_invalid_tags(list(written))
    consistent, repeated = consistency(entities)

    def row(name: str, number: int, total: int | None = None) -> list[str]:
        return [name, f"{number:,}", "" if total is None else _percent(number, total)]

    return [
        ["", "number", "share"],
        row("sentences", len(weak)),
        row("words", weak.num_words),
        row("words in entities", num_inside, weak.num_words),
        row("words without a label", num_unlabelled, weak.num_words),
        *(row(f"entities: {type_}", n, counts.total()) for type_, n in counts.most_common()),
        row("inside tags that continue no entity, as written", sum(invalid)),
        row("sentences with such tags, as written", sum(map(bool, invalid)), len(invalid)),
        row("repeated entities with the most frequent type of their words", consistent, repeated),
    ]


def consistency(entities: Iterable[tuple[tuple[str, ...], str]]) -> tuple[int, int]:
    """Of the (words, type) with repeated words: those with their most frequent type, and all."""
    by_words: dict[tuple[str, ...], Counter[str]] = {}
    for words, type_ in entities:
        by_words.setdefault(words, Counter())[type_] += 1
    repeated = [counts for counts in by_words.values() if counts.total() >= MIN_REPEATS]
    return sum(max(c.values()) for c in repeated), sum(c.total() for c in repeated)


def rate_by_shape(weak: Corpus) -> Rows:
    """The most frequent word shapes, and the share of their words that is in entities."""
    rates = labels.shape_rates(list(weak))
    counts, inside = _count_words(weak, lambda _, word: labels.word_shape(word))
    rows = [["Word shape", "words", "in entities", "entity-like (kept by --repair form)"]]
    rows.append(["all", f"{counts.total():,}", _percent(inside.total(), counts.total()), ""])
    for shape, n in counts.most_common(NUM_SHAPES):
        entity_like = "yes" if labels.is_entity_like(shape, rates) else "no"
        rows.append([shape.replace("|", "\\|"), f"{n:,}", _percent(inside[shape], n), entity_like])
    return rows


def entity_rate_by_position(weak: Corpus) -> dict[int, float]:
    """The share of words in entities, by the position of the word in its sentence."""
    counts, inside = _count_words(weak, lambda position, _: position)
    return {p: inside[p] / n for p, n in sorted(counts.items()) if n >= MIN_AT_POSITION}


def _count_words(weak: Corpus, key: Callable[[int, str], Any]) -> tuple[Counter, Counter]:
    """Count all words, and the words in entities, by key(position in the sentence, word)."""
    counts, inside = Counter(), Counter()
    for sentence in weak:
        for position, word in enumerate(sentence.words):
            counts[key(position + 1, word)] += 1
            inside[key(position + 1, word)] += _is_entity_tag(sentence.tags[position])
    return counts, inside


def _is_entity_tag(tag: str) -> bool:
    return tag[1:2] == "-"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


# ------------------------------------------------------------ with expert labels


def read_experts(corpus: str, written: Corpus, amount: str | None, seed: int) -> ExpertTags:
    """Read the expert labels of sentences that have weak labels; amount: how many, None for all."""
    try:
        train = sources.load(corpus, "train")
    except sources.MissingSplit:
        if amount is not None:
            raise
        return {}
    weak = {sentence.words for sentence in written}
    experts: dict[tuple[str, ...], tuple[str, ...]] = {}
    num_changed = 0
    for sentence in train:
        if sentence.words in weak:
            num_changed += experts.get(sentence.words, sentence.tags) != sentence.tags
            experts[sentence.words] = sentence.tags
    if num_changed:
        logger.warning(
            f"{corpus}: {num_changed} expert sentences repeat earlier ones with other tags; the "
            f"last tags count"
        )
    if amount is None:
        return experts
    places = labels.draw(len(experts), amount, seed, "sentences with expert and weak labels")
    return dict(list(experts.items())[i] for i in places)


class PairedLabels(NamedTuple):
    """The sentences that have both kinds of labels."""

    gold: Corpus  # with expert tags
    predicted: list[list[str]]  # their weak tags; a word without a label has O


def pair_labels(experts: ExpertTags, weak: Corpus) -> PairedLabels:
    pairs = [(s._replace(tags=experts[s.words]), s.tags) for s in weak if s.words in experts]
    predicted = [[tag if _is_entity_tag(tag) else "O" for tag in row] for _, row in pairs]
    return PairedLabels(Corpus.of(sentence for sentence, _ in pairs), predicted)


def agreement_tables(
    paired: PairedLabels, experts: ExpertTags, written: Corpus, types: frozenset[str]
) -> list[Rows]:
    """Agreement by type, kinds of errors, confusions, agreement by slice and by repair."""
    by_type = agreement_by_type(paired)
    errors = error_analysis.errors(*paired)
    names = [row[0] for row in by_type[2:]]
    return [
        by_type,
        [["Entities", *errors.kinds], ["", *(f"{n:,}" for n in errors.kinds.values())]],
        error_analysis.confusion_table(errors.confusion, names, "gold \\ weak"),
        agreement_by_slice(paired, written),
        agreement_by_repair(experts, written, types),
    ]


def agreement_by_type(paired: PairedLabels) -> Rows:
    """Precision, recall and F1 of the weak labels: of all entities, then of each type."""
    rows = [["Type", "in gold", "precision", "recall", "F1"]]
    if not len(paired.gold):
        return [*rows, ["all", "0", *["-"] * 3]]
    gold = [list(sentence.tags) for sentence in paired.gold]
    types = tags.ordered(tags.types_of(tag for row in (*gold, *paired.predicted) for tag in row))
    by_type, micro, support = metrics.entity_scores(gold, paired.predicted, types)
    rows.append(["all", f"{support:,}", *(f"{x:.3f}" for x in micro)])
    for name, scores in by_type.items():
        *figures, support = astuple(scores)
        rows.append([name, f"{support:,}", *(f"{x:.3f}" for x in figures)])
    return rows


def agreement_by_slice(paired: PairedLabels, written: Corpus) -> Rows:
    """Precision, recall and F1 by slice of the entities, by valid tags and by source."""
    locations = written.table["location"].to_pylist()
    invalid = dict(zip(locations, labels.num_invalid_tags(list(written)), strict=True))
    families = error_analysis.slice_families() | {
        "inside tags that continue no entity": lambda s, _: (
            "some" if invalid[s.location] else "none"
        ),
        "source": lambda s, _: s.location.rpartition(":")[0],
    }
    rows = [["Slice", "in gold", "precision", "recall", "F1"]]
    for key, part in error_analysis.slices(*paired, families).items():
        recall_and_f1 = (f"{x:.3f}" if part.support else "-" for x in (part.recall, part.f1))
        rows.append([": ".join(key), f"{part.support:,}", f"{part.precision:.3f}", *recall_and_f1])
    return rows


def agreement_by_repair(experts: ExpertTags, written: Corpus, types: frozenset[str]) -> Rows:
    """Precision, recall and F1 after each repair, on the sentences that it keeps."""
    rows = [["Repair", "entities in gold", "precision", "recall", "F1"]]
    every = [repair for repair in REPAIRS if repair != "none"]
    for repairs in ((), *((repair,) for repair in every), every):
        paired = pair_labels(experts, labels.repair(written, repairs, types))
        rows.append([" ".join(repairs) or "none", *agreement_by_type(paired)[1][1:]])
    return rows
