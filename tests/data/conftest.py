"""A movie of random pixels, shared by the tests that write it in one format or another."""

import numpy as np
import pytest


@pytest.fixture
def frames(rng):
    return rng.integers(0, 255, (6, 10, 14), dtype=np.uint8)


@pytest.fixture
def same():
    """Assert that a movie has exactly these frames, in whatever order they are read."""

    def check(movie, frames):
        assert movie.shape == frames.shape
        assert movie.images.dtype == frames.dtype
        for t in (5, 0, 3, 4, 1, 2):  # out of order: nothing depends on reading forward
            np.testing.assert_array_equal(np.asarray(movie.images[t]), frames[t])

    return check
