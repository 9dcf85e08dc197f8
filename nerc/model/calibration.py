"""How sure a model is of an entity, as a probability that keeps its word.

The network gives each word probabilities of its tags. Multiplied over an entity they say how
probable it is, but networks are surer than they are right (Guo et al. 2017). What such a number is
worth is learnt from the validation split, whose labels say which of the entities found are right.
"""

from collections.abc import Sequence

import numpy as np

from nerc.data.tags import Entity, entities

_MOST = 1 - 1e-6  # what is right every time on some thousand entities is not certain
_PRIOR = 1e-3  # weight of where the calibration starts from: the model's own probability


def confidences(found: Sequence[Entity], row: np.ndarray, word_tags: Sequence[str]) -> np.ndarray:
    """The model's probability of each entity found in a sentence with log-probabilities row.

    That is: of B- at its first word, I- at the others, and no I- of its type at the word after it,
    the words taken as independent of one another. row is (words, tags), float32.
    """
    column = {tag: i for i, tag in enumerate(word_tags)}
    result = []
    for entity in found:
        begin, inside = column[f"B-{entity.type}"], column[f"I-{entity.type}"]
        log = float(row[entity.start, begin] + row[entity.start + 1 : entity.end, inside].sum())
        if entity.end < len(row):
            log += float(np.log1p(-min(np.exp(row[entity.end, inside]), _MOST)))
        result.append(np.exp(log))
    return np.array(result)


def calibrated(raw: np.ndarray, calibration: Sequence[float] | None) -> np.ndarray:
    """Confidences as calibration [slope, offset] corrects them; None leaves them as they are.

    Platt (1999): the logit of the right probability is a line in the logit of the model's.
    """
    if calibration is None:
        return raw
    slope, offset = calibration
    return _sigmoid(slope * _logit(raw) + offset)


def fit(raw: np.ndarray, right: np.ndarray) -> list[float] | None:
    """The calibration [slope, offset] under which the entities that are right are most likely.

    Newton's method with Platt's targets, which keep it finite where all of them are right, or none;
    None where there is no entity to learn from.
    """
    if not len(raw):
        return None
    x = np.stack([_logit(raw), np.ones(len(raw))], axis=1)  # (entities, 2)
    num_right = int(right.sum())
    target = np.where(right, (num_right + 1) / (num_right + 2), 1 / (len(raw) - num_right + 2))
    start = np.array([1.0, 0.0])

    def cost(weights: np.ndarray) -> float:
        z, moved = x @ weights, weights - start
        return float((np.logaddexp(0, z) - target * z).sum() + _PRIOR / 2 * moved @ moved)

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
    """Expected calibration error over bins of equal mass.

    The mean over entities of how far their bin's mean confidence is from the share of its entities
    that are right (Naeini et al. 2015, with the bins of Nguyen and O'Connor 2015); nan without any.
    """
    if not len(confidence):
        return float("nan")
    gaps = [len(c) * abs(c.mean() - r.mean()) for c, r in reliability(confidence, right, bins)]
    return float(sum(gaps) / len(confidence))


def reliability(
    confidence: np.ndarray, right: np.ndarray, bins: int = 15
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Bins of like confidence and equal mass: of each, the confidences, and which are right."""
    if not len(confidence):
        return []
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    return [(confidence[part], right[part].astype(float)) for part in parts]


def judged(
    gold: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[str]],
    log_probabilities: Sequence[np.ndarray],
    word_tags: Sequence[str],
) -> tuple[np.ndarray, np.ndarray]:
    """Of all predicted entities: the model's probability, and whether gold has the very same."""
    raw, right = [], []
    for labels, guesses, row in zip(gold, predicted, log_probabilities, strict=True):
        there, found = set(entities(labels)), entities(guesses)
        raw.append(confidences(found, row, word_tags))
        right += [entity in there for entity in found]
    return np.concatenate([*raw, np.empty(0)]), np.array(right, dtype=bool)


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -z))


def _logit(p: np.ndarray) -> np.ndarray:
    p = np.clip(p, 1 - _MOST, _MOST)
    return np.log(p / (1 - p))
