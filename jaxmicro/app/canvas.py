"""What all figures share. Colours are Okabe and Ito's, safe for colour-blind readers."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

from jaxmicro.app.palette import COLOURS as COLOURS
from jaxmicro.app.style import SCREEN, Style
from jaxmicro.growth.estimate import Growth

DPI, PRINT_DPI = 110, 300
FONT: dict[str, Any] = {"size": 12}
# On paper: sizes of text in points for what is 12 on a screen, with the limits of both ends, and
# how much finer lines are.
_PAPER_TEXT, _SMALLEST, _LARGEST, _PAPER_LINES = 7.5, 6.0, 8.0, 0.6
_TALLEST_MM = 235.0  # of a page of 247 mm, the caption below
_EMBED = {"svg.fonttype": "none", "svg.hashsalt": "jaxmicro", "pdf.fonttype": 42}
_NO_DATE = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


def new_figure(width: float, height: float) -> Figure:
    """A figure of so many inches on a screen; `save` fits it to a page."""
    figure = Figure(figsize=(width, height), layout="compressed")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: pathlib.Path, style: Style = SCREEN) -> pathlib.Path:
    """Write the figure as `style` asks, with the suffix of its format.

    Text stays text: letters in a svg, embedded TrueType fonts in a pdf. Returns what a web page
    can show: the file, or beside a pdf the png of the same name.
    """
    if style.width_mm is not None:
        _fit(figure, style.width_mm)
    dpi = DPI if style.width_mm is None else PRINT_DPI
    shown = "png" if style.suffix == "pdf" else style.suffix
    with matplotlib.rc_context(_EMBED):
        for suffix in {style.suffix, shown}:
            target = path.with_suffix(f".{suffix}")
            figure.savefig(target, dpi=dpi, metadata=_NO_DATE[suffix])
    return path.with_suffix(f".{shown}")


def _fit(figure: Figure, width_mm: float) -> None:
    """Bring a figure to the width of a page: its text and lines to print sizes, not in proportion.

    Panels shrink more than text does, so the page is a little higher in proportion.
    """
    width, height = figure.get_size_inches()
    scale = width_mm / 25.4 / width
    figure.set_size_inches(width * scale, min(height * scale + 0.15, _TALLEST_MM / 25.4))
    figure.set_layout_engine("compressed", w_pad=0.03, h_pad=0.03)
    for text in figure.findobj(Text):
        size = float(text.get_fontsize()) * _PAPER_TEXT / FONT["size"]
        text.set_fontsize(min(max(size, _SMALLEST), _LARGEST))
    for line in figure.findobj(Line2D):
        line.set_linewidth(line.get_linewidth() * _PAPER_LINES)
        line.set_markersize(line.get_markersize() * _PAPER_LINES)
    for patch in figure.findobj(Patch):
        patch.set_linewidth(patch.get_linewidth() * _PAPER_LINES)
    for ax in figure.axes:
        for one in (ax, *ax.child_axes):
            one.tick_params(which="both", labelsize=_SMALLEST, width=0.5, length=2)
            for spine in one.spines.values():
                spine.set_linewidth(0.5)


def image_aspect(pixel_size_nm: tuple[float, float] | None) -> float:
    """Height over width of a pixel, for images in their true proportions."""
    return 1.0 if pixel_size_nm is None else pixel_size_nm[0] / pixel_size_nm[1]


def scale_bar(ax: Axes, shape: Sequence[int], pixel_size_nm: float | None) -> None:
    """A bar of a round length near a quarter of the width, in the image's lower right corner.

    It stands on a white ground with its length, so that it is seen on any image.
    """
    if pixel_size_nm is None:
        return
    width_nm = shape[1] * pixel_size_nm
    length = round_length(width_nm / 3)
    text = f"{length / 1000:g} µm" if length >= 1000 else f"{length:g} nm"
    bar = AnchoredSizeBar(
        ax.transData,
        length / pixel_size_nm,
        text,
        "lower right",
        size_vertical=0.012 * shape[0],
        label_top=True,
        color="black",
        fill_bar=True,
        pad=0.25,
        sep=2,
        borderpad=0.3,
        fontproperties=FontProperties(size=10),
    )
    bar.patch.set(facecolor="white", alpha=0.85, edgecolor="none")
    ax.add_artist(bar)


def round_length(most: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is not above `most`."""
    power = 10.0 ** np.floor(np.log10(most))
    return float(max(m * power for m in (1, 2, 5) if m * power <= most * (1 + 1e-9)))


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
