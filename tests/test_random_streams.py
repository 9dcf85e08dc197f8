"""The numbers of the random streams are part of every result."""

import numpy as np
import pytest

from nerc.data.random_streams import Stream, generator, seed_of


def test_the_numbers_of_the_streams_never_change():
    assert {stream.name: int(stream) for stream in Stream} == {
        "EXPERT_DRAW": 0,
        "BATCH_ORDER": 1,
        "DROPOUT": 2,
        "UNLABELLED_DRAW": 4,
        "STAGE_SEED": 5,
        "TIES": 9,
        "RANDOM_QUERY": 10,
        "FOLDS": 12,
        "SPLIT": 13,
    }


@pytest.mark.parametrize("more", [(), (3,), (3, 1)])
def test_a_stream_is_numpys_generator_of_seed_number_and_more(more):
    wanted = np.random.default_rng([7, 4, *more]).permutation(50)
    assert generator(7, Stream.UNLABELLED_DRAW, *more).permutation(50).tolist() == wanted.tolist()
    sequence = np.random.SeedSequence([7, 2, *more])
    assert seed_of(7, Stream.DROPOUT, *more) == sequence.generate_state(1)[0]
    wide = seed_of(7, Stream.DROPOUT, *more, dtype=np.uint64)
    assert wide == sequence.generate_state(1, np.uint64)[0]
