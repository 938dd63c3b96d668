"""What all figures share. Colours are Okabe and Ito's, safe for colour-blind readers."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxmicro.growth.estimate import Growth

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
DPI = 110
FONT: dict[str, Any] = {"size": 12}


def new_figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: pathlib.Path) -> pathlib.Path:
    figure.savefig(path, dpi=DPI)
    return path


def scale_bar(ax: Axes, shape: Sequence[int], pixel_size_nm: float | None) -> None:
    """A bar of a round length near a quarter of the width, in the image's lower right corner."""
    if pixel_size_nm is None:
        return
    width_nm = shape[1] * pixel_size_nm
    power = 10 ** np.floor(np.log10(width_nm / 4))
    length = float(max(m * power for m in (1, 2, 5) if m * power <= width_nm / 3))
    text = f"{length / 1000:g} µm" if length >= 1000 else f"{length:g} nm"
    end = shape[1] * 0.95
    start = end - length / pixel_size_nm
    y = shape[0] * 0.93
    for colour, thick in (("black", 6), ("white", 3)):
        ax.plot([start, end], [y, y], color=colour, linewidth=thick, solid_capstyle="butt")
    ax.text(
        (start + end) / 2,
        y - shape[0] * 0.03,
        text,
        ha="center",
        va="bottom",
        fontsize=10,
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1},
    )


def band(
    ax: Any, x: Any, low: Any, high: Any, colour: str, alpha: float, label: str | None = None
) -> None:
    """A band from `low` to `high`; a bar where there is one frame, as a band has no width there."""
    ax.fill_between(x, low, high, color=colour, alpha=alpha, linewidth=0, label=label)
    if len(x) == 1:
        ax.vlines(x, low, high, color=colour, linewidth=2)


def time_axis(ax: Axes, timed: bool) -> None:
    """Names the x axis; frames are whole numbers."""
    ax.set_xlabel("time (s)" if timed else "frame", **FONT)
    if not timed:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def area_label(growth: Growth) -> str:
    """The unit of a growth curve's areas, as axes show it."""
    return growth.in_best_units()[2].replace("um2", "µm$^2$")
