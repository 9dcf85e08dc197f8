"""Every entity is in exactly one pair, of the right kind; slices add up to the whole."""

import random

import pytest

from nerc.data import tags
from nerc.data.corpus import Corpus, Sentence
from nerc.data.tags import Entity
from nerc.evaluation import error_analysis
from nerc.evaluation.metrics import Scores


@pytest.mark.parametrize(
    "gold, predicted, wanted",
    [
        ("B-PER I-PER O", "B-PER I-PER O", ["correct"]),
        ("B-PER I-PER O", "B-ORG I-ORG O", ["wrong type"]),
        ("B-PER I-PER O", "B-PER O O", ["wrong boundary"]),
        ("B-PER I-PER O", "O B-LOC I-LOC", ["wrong boundary"]),
        ("B-PER O O", "O O B-PER", ["missed", "spurious"]),
        ("B-PER I-PER I-PER", "B-PER I-PER B-PER", ["wrong boundary", "spurious"]),
        ("B-PER B-PER B-PER", "B-PER I-PER I-PER", ["wrong boundary", "missed", "missed"]),
        ("O O O", "O O O", []),
    ],
)
def test_kinds_of_errors(gold, predicted, wanted):
    pairs = error_analysis.pairs(tags.entities(gold.split()), tags.entities(predicted.split()))
    assert sorted(pair.kind for pair in pairs) == sorted(wanted)


def test_entities_with_most_words_in_common_are_paired():
    gold = [Entity("PER", 0, 4), Entity("ORG", 4, 6)]
    predicted = [Entity("PER", 1, 5)]
    assert error_analysis.pairs(gold, predicted) == [
        ("wrong boundary", gold[0], predicted[0]),
        ("missed", gold[1], None),
    ]


def sentences(seed: int, num: int) -> tuple[Corpus, list[list[str]]]:
    """Random gold tags, and predicted tags that differ from them in part."""
    draw = random.Random(seed)
    choices = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    rows, predicted = [], []
    for i in range(num):
        labels = tags.to_iob2([draw.choice(choices) for _ in range(draw.randint(1, 9))])
        mixed = [t if draw.random() < 0.7 else draw.choice(choices) for t in labels]
        rows.append(Sentence(tuple(f"w{draw.randint(0, 9)}" for _ in labels), labels, "x", i))
        predicted.append(tags.to_iob2(mixed))
    return Corpus.of(rows), predicted


def test_every_entity_is_in_exactly_one_pair():
    corpus, predicted = sentences(0, 300)
    errors = error_analysis.errors(corpus, predicted)
    for sentence, labels, pairs in zip(corpus, predicted, errors.pairs, strict=True):
        gold, guesses = tags.entities(sentence.tags), tags.entities(labels)
        assert sorted(p.gold for p in pairs if p.gold) == sorted(gold)
        assert sorted(p.predicted for p in pairs if p.predicted) == sorted(guesses)
        assert {p.gold for p in pairs if p.kind == "correct"} == set(gold) & set(guesses)
    assert set(errors.kinds) == set(error_analysis.KINDS) and min(errors.kinds.values()) > 0
    assert sum(errors.confusion.values()) == sum(errors.kinds.values())
    wrong = sum(n for kind, n in errors.kinds.items() if kind != "correct")
    assert sum(count for count, *_ in errors.frequent) == wrong


def test_slices_of_a_family_add_up_to_all_entities():
    corpus, predicted = sentences(1, 200)
    support = sum(len(tags.entities(s.tags)) for s in corpus)
    families = error_analysis.slice_families(corpus.select(range(50)))
    slices = error_analysis.slices(corpus, predicted, families)
    assert {family for family, _ in slices} == set(families)
    assert len(families) == 6
    for family in families:
        assert sum(s.support for (f, _), s in slices.items() if f == family) == support


def test_scores_of_slices_by_hand():
    def corpus(*rows: tuple[str, str]) -> Corpus:
        return Corpus.of(Sentence(tuple(w.split()), tuple(t.split()), "x", 0) for w, t in rows)

    train = corpus(("Zoe ran", "B-PER O"), ("in Rome", "O B-LOC"))
    test = corpus(("in Rome", "O B-LOC"), ("Zoe saw Ann Lee", "B-PER O B-PER I-PER"), ("IN", "O"))
    predicted = [["O", "B-LOC"], ["B-PER", "O", "B-PER", "O"], ["B-LOC"]]
    slices = error_analysis.slices(test, predicted, error_analysis.slice_families(train))
    # In training: Rome and Zoe, both right. Not there: Ann Lee, predicted as Ann, and IN.
    assert slices["entity in training", "yes"] == Scores(1.0, 1.0, 1.0, 2)
    assert slices["entity in training", "no"] == Scores(0.0, 0.0, 0.0, 1)
    assert slices["sentence in training", "yes"] == Scores(1.0, 1.0, 1.0, 1)
    # One word: Rome and Zoe right of four predictions; two words: Ann Lee, missed.
    assert slices["words in the entity", "1"] == Scores(0.5, 1.0, pytest.approx(2 / 3), 2)
    assert slices["words in the entity", "2"].support == 1
    assert slices["letters", "uppercase sentence"] == Scores(0.0, 0.0, 0.0, 0)
    families = error_analysis.slice_families()
    *_, last = error_analysis.slices(corpus(("東京 is", "B-LOC O")), [["B-LOC", "O"]], families)
    assert last == ("letters", "without case") and "entity in training" not in families
