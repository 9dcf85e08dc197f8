"""What a run is told of the machine."""

import pytest

from nerc.hardware import busy_warning


@pytest.mark.parametrize(
    "load, num_cores, num_threads, warns",
    [(6.5, 2, 2, True), (2.0, 2, 2, True), (1.5, 2, 2, False), (6.5, 2, 1, False)],
)
def test_a_busy_machine_is_told(load, num_cores, num_threads, warns):
    text = busy_warning(load, num_cores, num_threads)
    assert (text is not None) == warns
    if text:
        assert f"load {load} on 2 cores" in text and "--num-threads 1" in text
