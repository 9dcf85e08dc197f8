"""Reports, against figures worked out by hand and against seqeval."""

import json
import math

import numpy as np
import pytest
from seqeval.metrics import classification_report, f1_score
from seqeval.scheme import IOB2

from nerc.data import tags
from nerc.data.corpus import Corpus, Sentence
from nerc.errors import InputError
from nerc.evaluation import metrics
from nerc.evaluation.metrics import Report

WORD_TAGS = tags.inventory(tags.CONLL_TYPES)[:9]


def report(*pairs: tuple[str, str]) -> Report:
    """The report on pairs of gold and predicted tags, with all tags equally probable."""
    gold = [tuple(g.split()) for g, _ in pairs]
    corpus = Corpus.of(Sentence(("w",) * len(g), g, "toy", 0) for g in gold)
    uniform = [np.full((len(g), 9), -math.log(9), dtype=np.float32) for g in gold]
    return metrics.report(corpus, uniform, [p.split() for _, p in pairs], WORD_TAGS)


def test_half_right():
    # gold PER(0,2) LOC(3,4); predicted PER(0,1) LOC(3,4): one of two is right, either way.
    r = report(("B-PER I-PER O B-LOC", "B-PER O O B-LOC"))
    assert (r.precision, r.recall, r.f1, r.strict_f1, r.accuracy) == (0.5, 0.5, 0.5, 0.5, 0.75)
    assert (r.sentences, r.words, r.entities) == (1, 4, 2)
    assert r.loss == pytest.approx(math.log(9))
    assert (r.types["PER"].f1, r.types["PER"].support) == (0, 1)
    assert (r.types["LOC"].f1, r.types["LOC"].support) == (1, 1)
    assert list(r.types) == ["PER", "ORG", "LOC", "MISC"]


def test_i_after_o_counts_in_default_mode_only():
    r = report(("O B-PER I-PER", "O I-PER I-PER"))
    assert (r.f1, r.strict_f1) == (1, 0)
    assert r.accuracy == pytest.approx(2 / 3)


def test_no_entity_anywhere():
    r = report(("O O", "O O"), ("O", "O"))
    assert (r.precision, r.recall, r.f1, r.strict_f1, r.accuracy) == (0, 0, 0, 0, 1)
    assert (r.entities, r.sentences, r.words) == (0, 2, 3)


def test_sentences_are_not_joined():
    # If they were, the second sentence's I-PER would continue the first's entity: both wrong.
    r = report(("B-PER", "B-PER"), ("B-PER O", "I-PER O"))
    assert r.f1 == 1 and r.entities == 2


def test_precision_and_recall_by_type():
    # PER: 2 predicted, 1 of them right, 1 in gold. ORG: 1 in gold. MISC: 1 predicted.
    r = report(("B-PER O O B-ORG", "B-PER B-PER B-MISC O"))
    assert r.types["PER"] == metrics.Scores(0.5, 1.0, pytest.approx(2 / 3), 1)
    assert r.types["ORG"] == metrics.Scores(0, 0, 0, 1)
    assert r.types["MISC"] == metrics.Scores(0, 0, 0, 0)
    assert r.precision == pytest.approx(1 / 3) and r.recall == 0.5 and r.f1 == pytest.approx(0.4)


def test_the_loss_is_that_of_the_gold_tags():
    corpus = Corpus.of([Sentence(("a", "b"), ("O", "B-PER"), "toy", 0)])
    rows = np.log(np.full((2, 9), 0.05))
    rows[0, 0], rows[1, 1] = math.log(0.6), math.log(0.3)
    r = metrics.report(corpus, [rows.astype(np.float32)], [["O", "O"]], WORD_TAGS)
    assert r.loss == pytest.approx(-(math.log(0.6) + math.log(0.3)) / 2, rel=1e-6)


def test_broken_weights_are_reported():
    corpus = Corpus.of([Sentence(("a",), ("O",), "toy", 0)])
    with pytest.raises(InputError, match="loss on toy .* is nan: its weights are broken"):
        metrics.report(corpus, [np.full((1, 9), np.nan, np.float32)], [["O"]], WORD_TAGS)


def test_an_entity_that_is_not_scored_is_an_error(monkeypatch):
    monkeypatch.setattr(tags, "entities", lambda labels: [])
    with pytest.raises(RuntimeError, match="0 entities in the corpus, but 1 were scored"):
        report(("B-PER", "B-PER"))


def test_scores_of_random_tags_are_those_of_seqeval():
    rng = np.random.default_rng(0)
    gold, predicted = (
        [[WORD_TAGS[i] for i in rng.integers(0, 9, size=12)] for _ in range(40)] for _ in range(2)
    )
    gold = [tags.to_iob2(row) for row in gold]
    pairs = [(" ".join(g), " ".join(p)) for g, p in zip(gold, predicted, strict=True)]
    r = report(*pairs)
    assert r.f1 == pytest.approx(f1_score(gold, predicted))
    assert r.strict_f1 == pytest.approx(f1_score(gold, predicted, mode="strict", scheme=IOB2))
    table = classification_report(gold, predicted, output_dict=True)
    for name, scores in r.types.items():
        assert scores.f1 == pytest.approx(table[name]["f1-score"])
        assert scores.support == table[name]["support"]


def test_a_report_is_written_as_json_whole():
    values = json.loads(json.dumps(report(("B-PER O", "B-PER B-LOC")).to_json()))
    types = values.pop("types")
    scores = {"precision": 0.5, "recall": 1.0, "f1": 2 / 3, "strict_f1": 2 / 3, "accuracy": 0.5}
    sizes = {"sentences": 1, "words": 2, "entities": 1}
    assert values == pytest.approx(scores | sizes | {"loss": math.log(9)})
    assert list(types) == ["PER", "ORG", "LOC", "MISC"]
    assert types["PER"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 1}
