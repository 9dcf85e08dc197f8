"""Audits weak labels: what they look like, and how far expert labels of the same words agree."""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from nerc.config import REPAIRS
from nerc.data import labels, sources, tags
from nerc.data.corpus import Corpus
from nerc.evaluation import error_analysis, metrics, plots
from nerc.evaluation.bootstrap import ALL_TYPES
from nerc.tables import Rows

logger = logging.getLogger(__name__)

MIN_REPEATS = 2  # entities whose words occur less often say nothing about consistency
NUM_SHAPES = 12  # shapes listed
MIN_AT_POSITION = 20  # positions that fewer sentences have are left out of the plot

ExpertTags = Mapping[tuple[str, ...], tuple[str, ...]]  # by the words of the sentence
# Sentences with expert tags, and their weak tags, where a word without a label has O.
PairedLabels = tuple[Corpus, list[list[str]]]


# ------------------------------------------------------------ without expert labels


def label_statistics(written: Corpus, weak: Corpus) -> Rows:
    """Count what weak labels contain; written: the same labels before repair."""
    types, by_words, num_inside = Counter(), defaultdict(Counter), 0
    for sentence in weak:
        for entity in tags.entities(sentence.tags):
            words = sentence.words[entity.start : entity.end]
            types[entity.type] += 1
            by_words[words][entity.type] += 1
            num_inside += len(words)
    repeated = [counts for counts in by_words.values() if counts.total() >= MIN_REPEATS]
    consistent, total = sum(max(c.values()) for c in repeated), sum(c.total() for c in repeated)
    num_unlabelled = sum(weak.tag_counts()[tag] for tag in tags.SPECIAL_TAGS)
    invalid = labels.num_invalid_tags(list(written))
    counts = [
        ("sentences", len(weak), None),
        ("words", weak.num_words, None),
        ("words in entities", num_inside, weak.num_words),
        ("words without a label", num_unlabelled, weak.num_words),
        *((f"entities: {type_}", n, types.total()) for type_, n in types.most_common()),
        ("inside tags that continue no entity, as written", sum(invalid), None),
        ("sentences with such tags, as written", sum(map(bool, invalid)), len(invalid)),
        ("repeated entities with the most frequent type of their words", consistent, total),
    ]
    rows = [["", "number", "share"]]
    return rows + [[n, f"{i:,}", "" if of is None else _percent(i, of)] for n, i, of in counts]


def rate_by_shape(weak: Corpus) -> Rows:
    """The most frequent word shapes, and the share of their words that is in entities."""
    rates = labels.shape_rates(list(weak))
    counts, inside = _count_words(weak, lambda _, word: labels.word_shape(word))
    rows = [["Word shape", "words", "in entities", "entity-like (kept by --repair form)"]]
    rows.append(["all", f"{counts.total():,}", _percent(inside.total(), counts.total()), ""])
    for shape, n in counts.most_common(NUM_SHAPES):
        entity_like = "yes" if labels.is_entity_like(shape, rates) else "no"
        rows.append([shape, f"{n:,}", _percent(inside[shape], n), entity_like])
    return rows


def _count_words(weak: Corpus, key: Callable[[int, str], Any]) -> tuple[Counter, Counter]:
    """Count all words, and the words in entities, by key(position in the sentence, word)."""
    counts, inside = Counter(), Counter()
    for sentence in weak:
        keys = [key(position, word) for position, word in enumerate(sentence.words, 1)]
        counts.update(keys)
        inside.update(k for k, t in zip(keys, sentence.tags, strict=True) if _is_entity_tag(t))
    return counts, inside


def _is_entity_tag(tag: str) -> bool:
    return tag[1:2] == "-"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


# ------------------------------------------------------------ with expert labels


def read_experts(
    corpus: str, columns: str | None, written: Corpus, amount: str | None, seed: int
) -> ExpertTags:
    """Read the expert labels of sentences that have weak labels; amount: how many, None for all."""
    try:
        train = sources.load(corpus, "train", columns)
    except sources.MissingSplit:
        if amount is not None:
            raise
        return {}
    weak = {sentence.words for sentence in written}
    experts, num_changed = {}, 0
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


def pair_labels(experts: ExpertTags, weak: Corpus) -> PairedLabels:
    """The sentences that have both kinds of labels."""
    both = [sentence for sentence in weak if sentence.words in experts]
    gold = Corpus.of(sentence._replace(tags=experts[sentence.words]) for sentence in both)
    return gold, [[t if _is_entity_tag(t) else "O" for t in sentence.tags] for sentence in both]


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
    gold, predicted = [list(sentence.tags) for sentence in paired[0]], paired[1]
    if not gold:
        return [*rows, [ALL_TYPES, "0", *["-"] * 3]]
    types = tags.ordered(tags.types_of(tag for row in (*gold, *predicted) for tag in row))
    micro, by_type = metrics.entity_scores(gold, predicted, types)
    for name, s in [(ALL_TYPES, micro), *by_type.items()]:
        figures = (f"{x:.3f}" for x in (s.precision, s.recall, s.f1))
        rows.append([name, f"{s.support:,}", *figures])
    return rows


def agreement_by_slice(paired: PairedLabels, written: Corpus) -> Rows:
    """Precision, recall and F1 by slice of the entities, by valid tags and by source."""
    counts = labels.num_invalid_tags(list(written))
    invalid = {s.location for s, count in zip(written, counts, strict=True) if count}
    families = error_analysis.slice_families() | {
        "inside tags that continue no entity": lambda s, _: (
            "some" if s.location in invalid else "none"
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


def audit_plots(weak: Corpus, paired: PairedLabels) -> plots.Plots:
    """Plot weak labels by position and, if experts labelled some of them too, the agreement."""
    counts, inside = _count_words(weak, lambda position, _: position)
    rates = {p: inside[p] / n for p, n in sorted(counts.items()) if n >= MIN_AT_POSITION}
    x, y = "position in the sentence", "share of words in entities"
    images = {"places": ("", plots.line_plot(rates, x, y))}
    if len(paired[0]):
        header, *rows = agreement_by_type(paired)
        names = [row[0] for row in rows]
        scores = {header[i]: [float(row[i]) for row in rows] for i in range(2, len(header))}
        confusion = error_analysis.errors(*paired).confusion
        images["scores"] = "", plots.bar_plot(scores, names)
        images["confusion"] = "", plots.confusion_plot(confusion, names[1:])
    return images
