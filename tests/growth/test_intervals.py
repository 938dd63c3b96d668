"""Intervals of areas: they cover what they say, stay in the region, and follow the errors."""

import numpy as np
import pytest

from jaxmicro.growth.estimate import Growth
from jaxmicro.growth.intervals import area_interval


def test_far_from_the_ends_they_are_normal():
    lo, hi = area_interval(np.array([5000.0]), np.array([50.0]), np.array([10_000.0]), 95)
    np.testing.assert_allclose([lo[0], hi[0]], [5000 - 98, 5000 + 98], atol=0.5)


@pytest.mark.parametrize("level", [80, 95])
def test_small_counts_are_covered(level):
    """A count of 4 in 400 visited of 40 000 pixels, drawn 4000 times."""
    rng = np.random.default_rng(4)
    count = rng.binomial(400, 0.01, 4000).astype(float)
    share = count / 400
    se = np.sqrt((count + 0.5) / 401 * (1 - share) / 399) * 40_000
    lo, hi = area_interval(share * 40_000, se, np.full(4000, 40_000.0), level)
    # counts are whole numbers: coverage jumps by several per cent from one to the next
    assert np.mean((lo <= 400) & (hi >= 400)) == pytest.approx(level / 100, abs=0.06)
    assert (lo >= 0).all()


def test_impossible_moments_and_unknown_numbers():
    area = np.array([-3.0, 0.0, np.nan, 100.0, 50.0])
    se = np.array([5.0, 0.0, np.nan, 0.0, 200.0])
    lo, hi = area_interval(area, se, np.full(5, 100.0), 80)
    np.testing.assert_allclose(lo, [0, 0, np.nan, 100, 0], atol=1e-9)
    np.testing.assert_allclose(hi, [5 * 1.28155 - 3, 0, np.nan, 100, 100], rtol=1e-4)


def test_differences_of_areas_may_be_negative_and_are_normal():
    growth = Growth(np.arange(3), np.array([50.0, 40.0, 90.0]), np.array([3.0, 4.0, 5.0]))
    growth = growth.minus_first()
    table = growth.to_pandas()
    np.testing.assert_allclose(table["area_px_lo95"][1], -10 - 1.95996 * 5, rtol=1e-5)
    assert table["area_px_hi80"][0] == 0


def test_units_of_the_columns():
    growth = Growth(
        np.arange(2), np.array([400.0, 900.0]), np.array([20.0, 30.0]),
        region_px=np.full(2, 4000.0), pixel_area_um2=0.01, thickness_um=0.5,
    )  # fmt: skip
    table = growth.to_pandas()
    np.testing.assert_allclose(table["area_um2_lo80"], 0.01 * table["area_px_lo80"])
    np.testing.assert_allclose(table["volume_um3_hi95"], 0.005 * table["area_px_hi95"])
    assert (table["area_px_lo95"] < table["area_px_lo80"]).all()
