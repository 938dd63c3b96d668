"""Units of length and time as files spell them, and useless scales."""

import pytest

from jaxmicro.data.read import units


@pytest.mark.parametrize(
    ("unit", "nm"),
    [
        ("nm", 1.0),
        ("um", 1e3),
        ("µm", 1e3),
        ("μm", 1e3),
        ("\\u00B5m", 1e3),
        ("micron", 1e3),
        ("Å", 0.1),
        ("\u212b", 0.1),
        ("A", 0.1),
        ("Angstrom", 0.1),
        ("pm", 1e-3),
        ("mm", 1e6),
        ("m", 1e9),
        ("[n_m]", 1.0),
        (b"nm\0", 1.0),
        ("nm/px", 1.0),
    ],
)
def test_lengths(unit, nm):
    assert units.to_nm(1.0, unit) == pytest.approx(nm, rel=1e-12)


@pytest.mark.parametrize(
    "unit",
    ["1/nm", "nm^-1", "nm**2", "pixel", "", "s", "eV", "9**9**9**9", "__import__('os')", None],
)
def test_not_lengths(unit):
    assert units.to_nm(1.0, unit) is None


def test_times_and_useless_scales():
    assert units.to_s(40, "ms") == pytest.approx(0.04)
    assert units.to_s(2, "min") == pytest.approx(120.0)
    assert units.to_s(1, "m") is None
    assert units.to_nm(0.0, "nm") is None
    assert units.to_nm(float("nan"), "nm") is None
