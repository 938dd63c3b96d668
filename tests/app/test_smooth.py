"""`--smooth`: columns and a curve of their own beside the areas, which stay as they are."""

import numpy as np
import pytest

from jaxmicro.app.quantify.figures import growth_curve
from jaxmicro.errors import UsageError
from jaxmicro.growth.estimate import Growth

CURVE = Growth(
    np.arange(8), np.array([40.0, 90, 60, np.nan, 160, 210, 190, 260]),
    np.where(np.arange(8) == 3, np.nan, 30.0), pixel_area_um2=0.01,
    time_s=0.6 * np.arange(8),
)  # fmt: skip


def test_the_table_has_the_curve_and_the_same_areas():
    table = CURVE.smooth().to_pandas()
    plain = CURVE.to_pandas()
    np.testing.assert_array_equal(table["area_px"], plain["area_px"])
    assert table["area_px_smooth"].notna().all()  # the missing frame, too
    np.testing.assert_allclose(table["area_um2_smooth"], 0.01 * table["area_px_smooth"])
    assert (table["area_um2_smooth_se"].drop(3) < 0.01 * 30).all()
    assert plain["area_px_smooth"].isna().all()
    assert table["area_px_smooth_se"][3] == table["area_px_smooth_se"][1:7].max()


def test_seconds_or_frames_give_the_same_curve():
    """The walk's variance is per unit of time, and is found from the areas."""
    by_time = CURVE.smooth().smoothed
    by_frame = Growth(CURVE.frame, CURVE.area_px, CURVE.area_px_se).smooth().smoothed
    np.testing.assert_allclose(by_time.area_px, by_frame.area_px, rtol=1e-9)


def test_it_is_drawn_with_its_name(tmp_path):
    found = growth_curve(CURVE.smooth("log"), tmp_path / "growth.svg")
    assert found.is_file()


def test_an_unknown_way_names_the_known_ones():
    with pytest.raises(UsageError, match="use one of none, linear, log"):
        CURVE.smooth("cubic")
