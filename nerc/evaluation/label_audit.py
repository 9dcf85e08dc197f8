"""Audits weak labels: what they look like, and how far expert labels of the same words agree."""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nerc.config import REPAIRS
from nerc.data import labels, sources, tags
from nerc.data.corpus import Corpus
from nerc.evaluation import error_analysis, metrics, plots
from nerc.evaluation.bootstrap import ALL_TYPES
from nerc.tables import Table, share

logger = logging.getLogger(__name__)

MIN_REPEATS = 2  # entities whose words occur less often say nothing about consistency
NUM_SHAPES = 12  # shapes listed
NUM_WRONG = 20  # words, and entities, listed
MIN_AT_POSITION = 20  # positions that fewer sentences have are left out of the plot

ExpertTags = Mapping[tuple[str, ...], tuple[str, ...]]  # by the words of the sentence
# Sentences with expert tags, and their weak tags, where a word without a label has O.
PairedLabels = tuple[Corpus, list[list[str]]]


# ------------------------------------------------------------ without expert labels


def label_statistics(written: Corpus, weak: Corpus) -> Table:
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
    return rows + [[name, n, "" if of is None else share(n, of)] for name, n, of in counts]


def rate_by_shape(weak: Corpus) -> Table:
    """The most frequent word shapes, and the share of their words that is in entities."""
    rates = labels.shape_rates(list(weak))
    counts, inside = _count_words(weak, lambda _, word: labels.word_shape(word))
    rows = [["Word shape", "words", "in entities", "entity-like (kept by --repair form)"]]
    rows.append(["all", counts.total(), share(inside.total(), counts.total()), ""])
    for shape, n in counts.most_common(NUM_SHAPES):
        entity_like = "yes" if labels.is_entity_like(shape, rates) else "no"
        rows.append([shape, n, share(inside[shape], n), entity_like])
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
) -> dict[str, Table]:
    """Agreement by type, slice and repair, kinds of errors, confusions, what is often wrong."""
    by_type = agreement_by_type(paired)
    errors = error_analysis.errors(*paired)
    names = [row[0] for row in by_type[2:]]
    return {
        "agreement by type": by_type,
        "kinds of errors": [["Entities", *errors.kinds], ["", *errors.kinds.values()]],
        "confusions": error_analysis.confusion_table(errors.confusion, names, "gold \\ weak"),
        "agreement by slice": agreement_by_slice(paired, written),
        "agreement by repair": agreement_by_repair(experts, written, types),
        "words most often wrong": wrong_words(paired),
        "entities most often wrong": wrong_entities(errors, paired),
    }


def wrong_words(paired: PairedLabels) -> Table:
    """The words that most often have another type (O: none) than the experts give them."""
    counts, wrong = Counter(), Counter()
    for sentence, guesses in zip(*paired, strict=True):
        counts.update(sentence.words)
        triples = zip(sentence.words, _types(sentence.tags), _types(guesses), strict=True)
        wrong.update(triple for triple in triples if triple[1] != triple[2])
    rows = [["Word", "gold", "weak", "number", "of", "share"]]
    most = sorted(wrong.items(), key=lambda item: (-item[1], item[0]))[:NUM_WRONG]
    return rows + [[*key, n, counts[key[0]], share(n, counts[key[0]])] for key, n in most]


def _types(labels: Sequence[str]) -> list[str]:
    return [label[2:] or "O" for label in labels]


def wrong_entities(errors: error_analysis.Errors, paired: PairedLabels) -> Table:
    """The entities that are most often missed, spurious or otherwise wrong.

    Their share is that of the gold entities of these words and type, or of the weak ones where gold
    has none.
    """
    gold, weak = Counter(), Counter()
    for sentence, pairs in zip(paired[0], errors.pairs, strict=True):
        for pair in pairs:
            gold[error_analysis.entity_text(sentence.words, pair.gold)] += 1
            weak[error_analysis.entity_text(sentence.words, pair.predicted)] += 1
    rows = [["Entity in gold", "weak entity", "error", "number", "of", "share"]]
    for n, kind, *texts in errors.frequent[:NUM_WRONG]:
        of = weak[texts[1]] if kind == "spurious" else gold[texts[0]]
        rows.append([*texts, kind, n, of, share(n, of)])
    return rows


def agreement_by_type(paired: PairedLabels) -> Table:
    """Precision, recall and F1 of the weak labels: of all entities, then of each type."""
    rows = [["Type", "in gold", "precision", "recall", "F1"]]
    gold, predicted = [list(sentence.tags) for sentence in paired[0]], paired[1]
    if not gold:
        return [*rows, [ALL_TYPES, 0, None, None, None]]
    types = tags.ordered(tags.types_of(tag for row in (*gold, *predicted) for tag in row))
    micro, by_type = metrics.entity_scores(gold, predicted, types)
    for name, s in [(ALL_TYPES, micro), *by_type.items()]:
        rows.append([name, s.support, s.precision, s.recall, s.f1])
    return rows


def agreement_by_slice(paired: PairedLabels, written: Corpus) -> Table:
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
        recall_and_f1 = (part.recall, part.f1) if part.support else (None, None)
        rows.append([": ".join(key), part.support, part.precision, *recall_and_f1])
    return rows


def agreement_by_repair(experts: ExpertTags, written: Corpus, types: frozenset[str]) -> Table:
    """Precision, recall and F1 after each repair, on the sentences that it keeps."""
    rows = [["Repair", "entities in gold", "precision", "recall", "F1"]]
    every = [repair for repair in REPAIRS if repair not in ("auto", "none")]
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
        scores = {header[i]: [row[i] for row in rows] for i in range(2, len(header))}
        confusion = error_analysis.errors(*paired).confusion
        images["scores"] = "", plots.bar_plot(scores, names)
        images["confusion"] = "", plots.confusion_plot(confusion, names[1:])
    return images
