"""Scores of predictions on labelled sentences: loss, accuracy, precision, recall and F1."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from seqeval.metrics import accuracy_score, f1_score
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support
from seqeval.scheme import IOB2

from nerc.data import tags
from nerc.data.corpus import Corpus
from nerc.errors import InputError


@dataclass(frozen=True)
class Scores:
    """Scores of some entities, such as those of one type; support: how many are in gold."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Report:
    """Scores as fractions. Entities are counted as in conlleval, which is seqeval's default mode;
    strict_f1 is from seqeval's strict IOB2 mode, where an I- that continues nothing is no entity.
    """

    loss: float  # mean negative log-likelihood of a word, in nats
    accuracy: float  # of words
    precision: float
    recall: float
    f1: float
    strict_f1: float
    sentences: int
    words: int
    entities: int
    types: dict[str, Scores]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def report(
    corpus: Corpus,
    log_probabilities: Sequence[np.ndarray],
    predicted: list[list[str]],
    word_tags: Sequence[str],
) -> Report:
    """Score predicted tags, and log-probabilities (words, tags), against the tags of corpus.

    Raises RuntimeError unless every entity of the corpus is scored exactly once.
    """
    gold = [list(sentence.tags) for sentence in corpus]
    ids = {tag: i for i, tag in enumerate(word_tags)}
    likelihood = 0.0
    for labels, guesses, row in zip(gold, predicted, log_probabilities, strict=True):
        if not len(labels) == len(guesses) == len(row):
            raise RuntimeError("words and predictions differ in number")
        likelihood += row[np.arange(len(row)), [ids[tag] for tag in labels]].sum(dtype=np.float64)
    if not math.isfinite(likelihood):
        raise InputError(
            f"the model's loss on {corpus[0].location} and the sentences after it is "
            f"{-likelihood}: its weights are broken; lower --lr or set --clip to train them again"
        )
    micro, by_type = entity_scores(gold, predicted, tags.ordered(tags.types_of(word_tags)))
    in_file = sum(len(tags.entities(labels)) for labels in gold)
    if micro.support != in_file:
        raise RuntimeError(f"{in_file} entities in the corpus, but {micro.support} were scored")
    return Report(
        loss=float(-likelihood / corpus.num_words),
        accuracy=float(accuracy_score(gold, predicted)),
        precision=micro.precision,
        recall=micro.recall,
        f1=micro.f1,
        strict_f1=_strict_f1(gold, predicted),
        sentences=len(corpus),
        words=corpus.num_words,
        entities=in_file,
        types=by_type,
    )


def _strict_f1(gold: list[list[str]], predicted: list[list[str]]) -> float:
    """F1 in seqeval's strict mode, which takes A and A- for the same type: it sees numbers."""
    types = sorted(tags.types_of(tag for row in (*gold, *predicted) for tag in row))
    coded = {f"{prefix}-{t}": f"{prefix}-{i}" for i, t in enumerate(types) for prefix in "BI"}
    rows = ([[coded.get(tag, tag) for tag in row] for row in side] for side in (gold, predicted))
    return float(f1_score(*rows, mode="strict", scheme=IOB2, zero_division=0))


def entity_scores(
    gold: list[list[str]], predicted: list[list[str]], types: Sequence[str]
) -> tuple[Scores, dict[str, Scores]]:
    """seqeval's scores of all entities together (micro average), and of each of types."""

    def scores(p: float, r: float, f: float, support: int) -> Scores:
        return Scores(float(p), float(r), float(f), int(support))

    # seqeval leaves out a type that occurs on neither side, and sorts the others by name.
    present = sorted(tags.types_of(tag for row in (*gold, *predicted) for tag in row))
    columns = precision_recall_fscore_support(gold, predicted, average=None, zero_division=0)
    found = dict(zip(present, map(scores, *columns), strict=True))
    micro = precision_recall_fscore_support(gold, predicted, average="micro", zero_division=0)
    return scores(*micro), {name: found.get(name, Scores(0.0, 0.0, 0.0, 0)) for name in types}
