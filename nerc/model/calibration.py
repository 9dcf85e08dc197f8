"""Confidences: the probability that a predicted entity is right.

Multiplied over an entity, the network's probabilities of tags give the entity's probability, but
networks are overconfident (Guo et al. 2017). The correction is learnt from the validation split,
whose labels tell which predicted entities are right.
"""

from collections.abc import Sequence

import numpy as np

from nerc.data.tags import Entity, entities

_MOST = 1 - 1e-6  # being right on some thousand entities is not certainty
_PRIOR = 1e-3  # weight of the prior, by which the model's own probability is right


def confidences(
    predicted: Sequence[Entity], row: np.ndarray, word_tags: Sequence[str]
) -> np.ndarray:
    """The model's probability of each entity; row: the sentence's log-probabilities (words, tags).

    It is the probability of B- at the first word, I- at the others, and no I- of the same type at
    the word after the entity, as if words were independent of each other.
    """
    column = {tag: i for i, tag in enumerate(word_tags)}
    result = np.empty(len(predicted))
    for i, entity in enumerate(predicted):
        begin, inside = column[f"B-{entity.type}"], column[f"I-{entity.type}"]
        log = float(row[entity.start, begin] + row[entity.start + 1 : entity.end, inside].sum())
        if entity.end < len(row):
            log += float(np.log1p(-min(np.exp(row[entity.end, inside]), _MOST)))
        result[i] = np.exp(log)
    return result


def calibrated(raw: np.ndarray, calibration: Sequence[float] | None) -> np.ndarray:
    """Confidences corrected by calibration, which is [slope, offset], or None for no correction.

    Platt (1999): the corrected logit is a linear function of the model's logit.
    """
    if calibration is None:
        return raw
    slope, offset = calibration
    return _sigmoid(slope * _logit(raw) + offset)


def fit(raw: np.ndarray, right: np.ndarray) -> list[float] | None:
    """The most likely calibration [slope, offset]; right: which entities are right.

    Newton's method with Platt's targets, which keep the result finite where all entities are right,
    or none is. None where there is no entity.
    """
    if not len(raw):
        return None
    x = np.stack([_logit(raw), np.ones(len(raw))], axis=1)  # (entities, 2)
    num_right = int(right.sum())
    target = np.where(right, (num_right + 1) / (num_right + 2), 1 / (len(raw) - num_right + 2))
    start = np.array([1.0, 0.0])

    def cost(weights: np.ndarray) -> float:
        z, change = x @ weights, weights - start
        return float((np.logaddexp(0, z) - target * z).sum() + _PRIOR / 2 * change @ change)

    weights = start
    for _ in range(100):
        p = _sigmoid(x @ weights)
        gradient = x.T @ (p - target) + _PRIOR * (weights - start)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + _PRIOR * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        while cost(weights - step) > cost(weights) and np.abs(step).max() > 1e-9:
            step /= 2
        weights = weights - step
        if np.abs(step).max() <= 1e-9:
            break
    return weights.tolist()


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error over bins of equal mass; nan without any entity.

    It is the mean over entities of the difference between the mean confidence in their bin and the
    share of right entities in it (Naeini et al. 2015; bins as in Nguyen and O'Connor 2015).
    """
    if not len(confidence):
        return float("nan")
    gaps = (len(c) * abs(c.mean() - r.mean()) for c, r in reliability(confidence, right, bins))
    return float(sum(gaps) / len(confidence))


def reliability(
    confidence: np.ndarray, right: np.ndarray, bins: int = 15
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Bins of similar confidence and equal mass: the confidences, and which entities are right."""
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, min(bins, len(order))) if len(order) else []
    return [(confidence[part], right[part].astype(float)) for part in parts]


def judged(
    gold: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[str]],
    log_probabilities: Sequence[np.ndarray],
    word_tags: Sequence[str],
) -> tuple[np.ndarray, np.ndarray]:
    """For all predicted entities: the model's probability, and whether gold has the same entity."""
    raw, right = [], []
    for gold_tags, predicted_tags, row in zip(gold, predicted, log_probabilities, strict=True):
        gold_entities, found = set(entities(gold_tags)), entities(predicted_tags)
        raw.append(confidences(found, row, word_tags))
        right += [entity in gold_entities for entity in found]
    return np.concatenate([*raw, np.empty(0)]), np.array(right, dtype=bool)


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -z))


def _logit(p: np.ndarray) -> np.ndarray:
    p = np.clip(p, 1 - _MOST, _MOST)
    return np.log(p / (1 - p))
