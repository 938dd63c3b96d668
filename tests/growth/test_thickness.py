"""A thickness with an error: volumes take it on, areas do not."""

import copy
import dataclasses

import numpy as np
import pytest

from jaxmicro.app.options import thickness_asked
from jaxmicro.errors import UsageError
from jaxmicro.growth.estimate import Growth
from jaxmicro.growth.thickness import Thickness

CURVE = Growth(
    np.arange(3), np.array([0.0, 400.0, 900.0]), np.array([4.0, 20.0, 30.0]),
    region_px=np.full(3, 4000.0), pixel_area_um2=0.01, thickness_um=0.5,
)  # fmt: skip


def _with(se):
    return dataclasses.replace(CURVE, thickness_um=Thickness(0.5, se))


def test_errors_add_in_quadrature_and_areas_keep_theirs():
    thick = _with(0.05)
    np.testing.assert_allclose(thick.volume_um3, CURVE.volume_um3)
    np.testing.assert_allclose(
        thick.volume_um3_se, [0.02, np.hypot(0.1, 0.2), np.hypot(0.15, 0.45)]
    )
    np.testing.assert_allclose(thick.area_um2_se, CURVE.area_um2_se)


def test_intervals_are_those_of_a_product():
    """An area of 900 +- 30 pixels times .5 +- .05 um, drawn; both are near enough to normal."""
    rng = np.random.default_rng(7)
    drawn = rng.normal(9.0, 0.3, 200_000) * rng.normal(0.5, 0.05, 200_000)
    table = _with(0.05).to_pandas()
    for level, share in ((80, (10, 90)), (95, (2.5, 97.5))):
        ends = [table[f"volume_um3_{end}{level}"][2] for end in ("lo", "hi")]
        # the product of two normal numbers is skewed by a few per cent of its spread
        np.testing.assert_allclose(ends, np.percentile(drawn, share), atol=0.06)
    assert set(table["thickness_se_um"]) == {0.05}
    assert (table["volume_um3_lo95"] >= 0).all()


def test_without_an_error_nothing_changes():
    for name, ends in CURVE.intervals.items():
        np.testing.assert_array_equal(_with(0.0).intervals[name], ends)
    np.testing.assert_array_equal(_with(0.0).volume_um3_se, CURVE.volume_um3_se)
    assert CURVE.to_pandas()["thickness_se_um"].isna().all()


def test_copies_keep_the_error():
    assert copy.deepcopy(Thickness(0.5, 0.1)).se == 0.1


@pytest.mark.parametrize(
    ("text", "um", "se"),
    [
        ("0.5 um", 0.5, None),
        ("0.5 +- 0.05 um", 0.5, 0.05),
        ("500 nm ± 0.02 um", 0.5, 0.02),
        ("500 +/- 50 nm", 0.5, 0.05),
        ("0.5um+-50nm", 0.5, 0.05),
    ],
)
def test_what_a_user_may_write(text, um, se):
    found = thickness_asked(text)
    assert float(found) == pytest.approx(um)
    assert getattr(found, "se", None) == (None if se is None else pytest.approx(se))


@pytest.mark.parametrize("text", ["0.5 +- um", "+- 0.1 um", "0.5 +- 0.1", "0.5 +- 0.1 +- 0.1 um"])
def test_what_is_no_thickness(text):
    with pytest.raises(UsageError, match="--thickness"):
        thickness_asked(text)


@pytest.mark.parametrize("given", [(0.0,), (-1.0,), (0.5, -0.1), (np.nan,), (0.5, np.inf)])
def test_numbers_that_are_no_thickness(given):
    with pytest.raises(UsageError, match="is not allowed; use micrometres above 0"):
        Thickness(*given)
