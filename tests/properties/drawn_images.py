"""Strategies and arrays that the properties of the dictionary's parts share."""

import numpy as np
from hypothesis import strategies as st

seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from([np.float32, np.float64])
sides = st.integers(1, 30)
PLANE = st.tuples(sides, sides)
SHAPES = st.one_of(PLANE, st.tuples(*[st.integers(1, 9)] * 3))
ROUNDING = {np.float32: 1e-5, np.float64: 1e-12}  # of sums of some hundred terms of size 1


def numbers(seed, shape, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)
