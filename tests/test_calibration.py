"""Confidences: the model's probability of an entity, and its correction."""

import numpy as np
import pytest

from nerc.data import tags
from nerc.evaluation import evaluator
from nerc.model import calibration

WORD_TAGS = tags.inventory(tags.CONLL_TYPES)[:9]


def rows(*words: dict[str, float]) -> np.ndarray:
    """Log-probabilities of words; tags that are not named share the rest equally."""
    result = []
    for word in words:
        rest = (1 - sum(word.values())) / (len(WORD_TAGS) - len(word))
        result.append([np.log(word.get(tag, rest)) for tag in WORD_TAGS])
    return np.array(result, dtype=np.float32)


def test_confidence_is_the_probability_of_exactly_this_entity():
    row = rows({"B-PER": 0.9}, {"I-PER": 0.8}, {"O": 0.7, "I-PER": 0.2}, {"B-LOC": 0.6})
    found = tags.entities(["B-PER", "I-PER", "O", "B-LOC"])
    got = calibration.confidences(found, row, WORD_TAGS)
    np.testing.assert_allclose(got, [0.9 * 0.8 * (1 - 0.2), 0.6], rtol=1e-5)
    assert len(calibration.confidences([], row, WORD_TAGS)) == 0


def test_confidences_of_all_entities_from_a_word_add_up_to_its_b_tag():
    """If an entity of a type begins at a word, exactly one of the possible ones does."""
    row = np.log(np.random.default_rng(0).dirichlet(np.ones(9), size=6)).astype(np.float32)
    every = [tags.Entity("ORG", 1, end) for end in range(2, 7)]
    total = calibration.confidences(every, row, WORD_TAGS).sum()
    assert total == pytest.approx(np.exp(row[1, WORD_TAGS.index("B-ORG")]), rel=1e-5)


def drawn(slope: float, offset: float, size: int = 40_000) -> tuple[np.ndarray, np.ndarray]:
    """Confidences, and which are right, drawn so that (slope, offset) is the right calibration."""
    generator = np.random.default_rng(0)
    logit = generator.normal(2, 2, size)
    right = generator.random(size) < 1 / (1 + np.exp(-(slope * logit + offset)))
    return 1 / (1 + np.exp(-logit)), right


@pytest.mark.parametrize("truth", [(0.6, -0.7), (1.0, 0.0), (1.5, 1.0)])
def test_fit_recovers_the_true_calibration(truth):
    found = calibration.fit(*drawn(*truth))
    assert found == pytest.approx(truth, abs=0.05)


def test_an_overconfident_model_is_corrected():
    raw, right = drawn(0.6, -0.7)
    half = len(raw) // 2
    learnt = calibration.fit(raw[:half], right[:half])
    better = calibration.calibrated(raw[half:], learnt)
    before = calibration.calibration_error(raw[half:], right[half:])
    assert calibration.calibration_error(better, right[half:]) < 0.02 < 0.1 < before
    assert calibration.calibrated(raw, None) is raw


@pytest.mark.parametrize("right", [[True] * 50, [False] * 50])
def test_always_right_or_always_wrong_is_not_certain(right):
    raw = np.linspace(0.5, 1.0, 50)
    found = calibration.calibrated(raw, calibration.fit(raw, np.array(right)))
    assert np.all((0 < found) & (found < 1)) and np.all((found > 0.5) == right)


def test_one_entity_is_enough_and_without_any_there_is_no_calibration():
    assert all(map(np.isfinite, calibration.fit(np.array([1.0]), np.array([False]))))
    assert calibration.fit(np.array([]), np.array([], dtype=bool)) is None
    assert calibration.reliability(np.array([]), np.array([])) == []
    assert np.isnan(calibration.calibration_error(np.array([]), np.array([])))


def test_calibration_error_by_hand():
    confidence = np.array([0.2, 0.4, 0.9, 0.7])
    right = np.array([False, True, True, True])
    # Two bins: 0.2 and 0.4 with one of two right, 0.7 and 0.9 with both.
    wanted = (2 * abs(0.3 - 0.5) + 2 * abs(0.8 - 1.0)) / 4
    assert calibration.calibration_error(confidence, right, 2) == pytest.approx(wanted)
    sizes = [len(c) for c, _ in calibration.reliability(np.arange(100) / 100, np.ones(100))]
    assert len(sizes) == 15 and set(sizes) == {6, 7}


def test_an_entity_is_right_where_gold_has_the_same_entity():
    gold = [["B-PER", "I-PER", "O"], ["O"]]
    predicted = [["B-PER", "I-PER", "B-LOC"], ["O"]]
    row = rows({"B-PER": 0.9}, {"I-PER": 0.9}, {"B-LOC": 0.5})
    raw, right = calibration.judged(gold, predicted, [row, row[:1]], WORD_TAGS)
    assert right.tolist() == [True, False] and len(raw) == 2
    judged = evaluator.Evaluation(None, predicted, raw, right)
    assert judged.fit() == calibration.fit(raw, right)
