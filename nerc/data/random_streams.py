"""Random streams: every random decision draws from a stream of its own, known by its number."""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What is drawn. The numbers are part of every result: they never change.

    3, 6, 7, 8 and 11 belonged to what was removed.
    """

    EXPERT_DRAW = 0  # which expert sentences --expert uses
    BATCH_ORDER = 1  # the order of the sentences in an epoch
    DROPOUT = 2  # dropout masks of an update, by process
    UNLABELLED_DRAW = 4  # which sentences are read without labels
    STAGE_SEED = 5  # seed of a training stage, by its recorded name
    TIES = 9  # order among equal scores, and Gumbel factors
    RANDOM_QUERY = 10  # sentences queried at random
    FOLDS = 12  # which sentences a model of cross-fitting leaves out
    SPLIT = 13  # which documents convert puts into which split


def generator(seed: int, stream: Stream, *more: int) -> np.random.Generator:
    """A generator for one stream of a seed; more: what it depends on besides, such as the epoch."""
    return np.random.default_rng([seed, stream, *more])


def seed_of(seed: int, stream: Stream, *more: int, dtype: type = np.uint32) -> int:
    """A seed for another generator (torch's, a stage's), derived as in generator()."""
    return int(np.random.SeedSequence([seed, stream, *more]).generate_state(1, dtype)[0])
