"""Compares weak labels with expert labels of the same sentences."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple

from nerc.config import REPAIRS
from nerc.data import labels, sources, tags
from nerc.data.corpus import Corpus
from nerc.evaluation import error_analysis, metrics

logger = logging.getLogger(__name__)

MIN_REPEATS = 2  # times that the same words must be labelled before their labels are compared


# ------------------------------------------------------------ without expert labels


def label_statistics(written, cheap) -> list[list[str]]:
    """What can be said of cheap labels alone."""

    sentences = list(cheap)
    found = [tags.entities(s.tags) for s in sentences]
    counts = Counter(entity.type for own in found for entity in own)
    inside = sum(e.end - e.start for own in found for e in own)
    orphans = labels.num_invalid_tags(list(written))
    unlabelled = sum(t in tags.SPECIAL_TAGS for s in sentences for t in s.tags)
    agreed, repeated = consistency(sentences, found)
    num_words = cheap.num_words
    rows = [["", "number", "share"]]
    rows.append(["sentences", f"{len(sentences):,}", ""])
    rows.append(["words", f"{num_words:,}", ""])
    rows.append(["words in entities", f"{inside:,}", _percent(inside, num_words)])
    rows.append(["words without a label", f"{unlabelled:,}", _percent(unlabelled, num_words)])
    rows += [
        [f"entities: {type_}", f"{n:,}", _percent(n, counts.total())]
        for type_, n in counts.most_common()
    ]
    ill = sum(map(bool, orphans))
    rows.append(["tags that go on with nothing, as written", f"{sum(orphans):,}", ""])
    rows.append(["sentences with such tags, as written", f"{ill:,}", _percent(ill, len(orphans))])
    rows.append(
        [
            "entities whose words are labelled alike everywhere, of those found several times",
            f"{agreed:,}",
            _percent(agreed, repeated),
        ]
    )
    return rows


def consistency(sentences: Sequence, found: Sequence[Sequence]) -> tuple[int, int]:
    """Of the entities whose words are one several times: those of their most frequent type, all."""
    by_words: dict[tuple, Counter[str]] = {}
    for sentence, own in zip(sentences, found, strict=True):
        for e in own:
            by_words.setdefault(sentence.words[e.start : e.end], Counter())[e.type] += 1
    several = [counts for counts in by_words.values() if counts.total() >= MIN_REPEATS]
    return sum(max(c.values()) for c in several), sum(c.total() for c in several)


def rate_by_shape(cheap, num: int = 12) -> list[list[str]]:
    """The most frequent forms of words, and how often words of them are in entities."""

    rates = labels.shape_rates(list(cheap))
    counts, inside = Counter(), Counter()
    for sentence in cheap:
        for word, tag in zip(sentence.words, sentence.tags, strict=True):
            counts[labels.word_shape(word)] += 1
            inside[labels.word_shape(word)] += tag[1:2] == "-"
    rows = [["Form of word", "words", "in entities", "likely (--repair form keeps it)"]]
    rows.append(["all", f"{counts.total():,}", _percent(inside.total(), counts.total()), ""])
    for form, n in counts.most_common(num):
        likely = "yes" if labels.is_entity_like(form, rates) else "no"
        rows.append([form.replace("|", "\\|"), f"{n:,}", _percent(inside[form], n), likely])
    return rows


# ------------------------------------------------------------ with expert labels


def experts(
    corpus: str, written: Corpus, amount: str | None, seed: int
) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Expert tags, by words, of the sentences that have cheap labels; --expert of them."""

    try:
        expert = sources.load(corpus, "train")
    except sources.MissingSplit:
        if amount is not None:
            raise
        return {}
    cheap = {sentence.words for sentence in written}
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    changed = 0
    for sentence in expert:
        if sentence.words in cheap:
            changed += found.get(sentence.words, sentence.tags) != sentence.tags
            found[sentence.words] = sentence.tags
    if changed:
        logger.warning(
            f"{corpus}: {changed} expert sentences are repeated with other tags; the last count"
        )
    if amount is None:
        return found
    what = "sentences with an expert's and a cheap label"
    chosen = labels.draw(len(found), amount, seed, what)
    return dict(list(found.items())[i] for i in chosen)


def pair_labels(expert, cheap) -> tuple[list, list[list[str]]]:
    """Cheap sentences with the expert's tags, and with their own; unlabelled words are O."""
    pairs = [(s._replace(tags=expert[s.words]), s.tags) for s in cheap if s.words in expert]
    own = [[tag if tag[1:2] == "-" else "O" for tag in tags_] for _, tags_ in pairs]
    return [gold for gold, _ in pairs], own


def scores_by_type(gold: Sequence, own: Sequence[Sequence[str]]) -> list[list[str]]:
    """Precision, recall and F1 of all entities and of each type, as conlleval counts them."""

    rows = [["Type", "in gold", "precision", "recall", "F1"]]
    if not gold:
        return [*rows, ["all", "0", *["-"] * 3]]
    truth = [list(s.tags) for s in gold]
    types = tags.ordered(tags.types_of(tag for row in (*truth, *own) for tag in row))
    scores, micro, support = metrics.entity_scores(truth, list(own), types)
    rows.append(["all", f"{support:,}", *(f"{x:.3f}" for x in micro)])
    for name, (precision, recall, f1, number) in ((n, astuple(s)) for n, s in scores.items()):
        rows.append([name, f"{number:,}", *(f"{x:.3f}" for x in (precision, recall, f1))])
    return rows


def error_kinds(found) -> list[list[str]]:
    """How many entities are wrong in which way."""
    return [["Entities", *found.kinds], ["", *(f"{n:,}" for n in found.kinds.values())]]


def agreement_by_slice(gold, own, written) -> list[list[str]]:
    """Precision, recall and F1 by length, place, letters, source, and by what schemes allow."""

    rows = [["Entities by", "in gold", "precision", "recall", "F1"]]
    for part in error_analysis.slices(gold, own, None):
        figures = [f"{x:.3f}" for x in (part.precision, part.recall, part.f1)]
        if not part.support:
            figures[1:] = "-", "-"
        rows.append([f"{part.family}: {part.name}", f"{part.support:,}", *figures])
    orphans = dict(
        zip((s.location for s in written), labels.num_invalid_tags(list(written)), strict=True)
    )
    families = {
        "tags that go on with nothing": lambda s: "some" if orphans[s.location] else "none",
        "source": lambda s: s.location.rpartition(":")[0],
    }
    sentences = list(gold)
    for family, part_of in families.items():
        names = [part_of(sentence) for sentence in sentences]
        for name in sorted(set(names)):
            which = [i for i, each in enumerate(names) if each == name]
            scores = scores_by_type([sentences[i] for i in which], [own[i] for i in which])
            rows.append([f"{family}: {name}", *scores[1][1:]])
    return rows


def by_repair(expert, written, types: frozenset[str]) -> list[list[str]]:
    """F1 of what each repair leaves of the same sentences, where experts labelled it."""

    rows = [["Repair", "entities in gold", "precision", "recall", "F1"]]
    every = [r for r in REPAIRS if r != "none"]
    for repairs in ((), *((r,) for r in every), every):
        left = pair_labels(expert, labels.repair(written, repairs, types))
        rows.append([" ".join(repairs) or "none", *scores_by_type(*left)[1][1:]])
    return rows


def entity_rate_by_position(cheap, least: int = 20) -> tuple[dict[int, float], str, str]:
    """Share of words in entities by their place in the sentence, and what the axes are."""
    number: Counter[int] = Counter()
    inside: Counter[int] = Counter()
    for sentence in cheap:
        for place, tag in enumerate(sentence.tags, start=1):
            number[place] += 1
            inside[place] += tag[1:2] == "-"
    shares = {place: inside[place] / n for place, n in sorted(number.items()) if n >= least}
    return shares, "place in the sentence", "share of words in entities"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"
