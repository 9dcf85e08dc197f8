"""Rules that end active learning before the last round."""

from collections import Counter

STABLE = 0.99  # mean kappa of PATIENCE comparisons, from which predictions count as stable
MIN_GAIN = 0.002  # of validation F1, that PATIENCE rounds have to bring
PATIENCE = 3


def stopping(
    watched: list[list[list[str]]], scores: list[float | None]
) -> dict[str, tuple[bool, str]]:
    """Of each rule whether it would end the run, and why: --stop.

    watched: tags that the models of successive rounds find in the same sentences; scores: their F1
    on validation.
    """
    kappas = [kappa(*pair) for pair in zip(watched, watched[1:], strict=False)][-PATIENCE:]
    mean = sum(kappas) / max(1, len(kappas))
    known = [score for score in scores if score is not None]
    best = max(known[:-PATIENCE], default=None)
    flat = best is not None and max(known[-PATIENCE:]) < best + MIN_GAIN
    return {
        "kappa": (
            len(kappas) == PATIENCE and mean >= STABLE,
            f"predictions are stable (kappa {mean:.3f} between rounds)",
        ),
        "plateau": (flat, f"{PATIENCE} rounds have not brought {MIN_GAIN} of validation F1"),
    }


def kappa(one: list[list[str]], two: list[list[str]]) -> float:
    """Cohen's kappa of two taggings of the same sentences, over words that either calls an entity.

    Bloodgood & Vijay-Shanker 2009; over all words, agreement on O would hide the rest.
    """
    pairs = [
        pair
        for a, b in zip(one, two, strict=True)
        for pair in zip(a, b, strict=True)
        if set(pair) != {"O"}
    ]
    if not pairs:
        return 1.0
    number = len(pairs)
    agreed = sum(a == b for a, b in pairs) / number
    first, second = (Counter(column) for column in zip(*pairs, strict=True))
    by_chance = sum(first[tag] * second[tag] for tag in first) / number**2
    return 1.0 if by_chance == 1 else (agreed - by_chance) / (1 - by_chance)
