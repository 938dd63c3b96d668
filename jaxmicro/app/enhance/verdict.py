"""One sentence on a run: how much sharper, and what of it is not in the slice."""

from __future__ import annotations

from jaxmicro.app.enhance.metrics import Metrics

LEAST = 0.05  # of the resolution before: smaller changes are no change


def verdict(row: Metrics, *, of_slice: bool) -> str | None:
    """The verdict on the first slice, or None where no evidence was asked for.

    Sharpness is that of two halves of the data: noise makes edges of noisy slices look short.
    """
    if row.half_data_before_nm is None:
        return None
    sharper = _sharper(row.half_data_before_nm, row.half_data_after_nm)
    return f"{sharper}; {_origin(row, of_slice)}"


def _sharper(before: float, after: float | None) -> str:
    if after is None:
        return "two halves of the data give results that agree nowhere, so nothing is sharper"
    gain = before - after
    if abs(gain) < LEAST * before:
        return f"less noisy but no sharper (two halves of the data agree down to {after:.3g} nm)"
    word = "sharper" if gain > 0 else "less sharp"
    return (
        f"{word} by {abs(gain):.2g} nm (two halves of the data agree down to {before:.3g} nm "
        f"before, {after:.3g} nm after)"
    )


def _origin(row: Metrics, of_slice: bool) -> str:
    if of_slice:
        return "all structure comes from this slice: the training images did not fit and are unused"
    if row.control_correlation is None:
        return "without its training images a dictionary cannot be told from the slice"
    finest = row.control_agrees_to_nm
    if finest is None:
        return (
            "the training images add nothing: scrambled ones give the same structure, which comes "
            "from this slice"
        )
    return f"structure below {finest:.2g} nm comes from the training images, not from this slice"
