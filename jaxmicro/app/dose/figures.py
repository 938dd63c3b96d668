"""The figure of a dose plan: error against the share of pixels, for each pattern."""

from __future__ import annotations

import pathlib

from matplotlib.ticker import FuncFormatter, LogLocator

from jaxmicro.app.canvas import COLOURS, FONT, new_figure, save
from jaxmicro.app.dose.run import Planned
from jaxmicro.app.style import SCREEN, Style

MARKERS = ("o", "s", "^")
UNITS = {"um2": "µm$^2$", "um3": "µm$^3$", "px": "pixels"}


def error_by_rate(planned: Planned, path: pathlib.Path, style: Style = SCREEN) -> pathlib.Path:
    figure = new_figure(7.0, 4.6)
    ax = figure.subplots()
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    for dose, colour, marker in zip(planned.doses, COLOURS, MARKERS, strict=False):
        x = [100 * t.rate for t in dose.trials]
        y = [t.expected * planned.factor for t in dose.trials]
        ax.plot(x, y, color=colour, marker=marker, label=dose.pattern)
    target = planned.target_px * planned.factor
    ax.axhline(target, color="black", linestyle="--", linewidth=1, label="target")
    best = planned.best
    if best is not None and best.check is not None:
        ax.plot(100 * best.rate, best.check.mean_error * planned.factor, color="black", marker="x",
                markersize=9, markeredgewidth=2, linestyle="none",
                label=f"difference from all pixels, {best.check.replicates} samples")  # fmt: skip
    ax.set_xscale("log")
    ax.set_yscale("log")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(plain)
        axis.set_minor_formatter("")
    ax.set_xlabel("share of the pixels (%)", **FONT)
    ax.set_ylabel(f"standard error ({UNITS[planned.unit]})", **FONT)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=10)
    return save(figure, path, style)
