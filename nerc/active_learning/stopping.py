"""The rule that ends active learning before the last round."""

from collections.abc import Sequence

MIN_GAIN = 0.002  # of validation F1, which PATIENCE rounds together must bring
PATIENCE = 3


def has_plateaued(scores: Sequence[float | None]) -> bool:
    """Whether the last PATIENCE rounds have not raised F1 by MIN_GAIN; None: not evaluated."""
    known = [score for score in scores if score is not None]
    best = max(known[:-PATIENCE], default=None)
    return best is not None and max(known[-PATIENCE:]) < best + MIN_GAIN
