"""Figures of a study: bands of growth curves as the paper's figure 4, bias and width by rate."""

from __future__ import annotations

import pathlib

import numpy as np
from matplotlib.axes import Axes

from jaxmicro.app.canvas import COLOURS, FONT, band, new_figure, save, time_axis
from jaxmicro.app.study.run import PlanStudy, Study
from jaxmicro.app.style import SCREEN, Style
from jaxmicro.growth.study import RateStudy

UNITS = {
    "um3": "volume (µm$^3$)",
    "um2": "foreground area (µm$^2$)",
    "px": "foreground area (pixels)",
}


def bands(study: Study, plan: PlanStudy, path: pathlib.Path, style: Style = SCREEN) -> pathlib.Path:
    """Growth curves of a plan: the 10th to 90th percentile of the replicates of each rate."""
    rows, columns = style.panels(len(plan.rates))
    figure = new_figure(4.0 * columns + 0.8, 3.6 * rows + 0.6)
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for ax, rate, colour in zip(axes, plan.rates, _colours(len(plan.rates)), strict=True):
        _curves(ax, study, plan, rate, colour)
        ax.set_title(f"{100 * rate.rate:g} % of the pixels, {rate.n_replicates} replicates",
                     fontsize=12)  # fmt: skip
        time_axis(ax, study.movie.times_s is not None)
        ax.grid(alpha=0.3)
        ax.margins(x=0.02)
    for ax in axes if style.narrow else axes[:1]:
        ax.set_ylabel(UNITS[study.unit], **FONT)
    low = min(0.0, axes[0].get_ylim()[0])
    axes[0].set_ylim(bottom=low)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2 if style.narrow else 4,
                  fontsize=10, frameon=False)  # fmt: skip
    return save(figure, path, style)


def _curves(ax: Axes, study: Study, plan: PlanStudy, rate: RateStudy, colour: str) -> None:
    movie, found = study.movie, rate.curves()
    x = np.arange(movie.n_frames) if movie.times_s is None else movie.times_s
    marker = "o" if len(x) == 1 else ""  # a line needs two frames
    y = {name: curve * study.factor for name, curve in found.items()}
    band(ax, x, y["p10"], y["p90"], colour, 0.35, "10th to 90th percentile")
    ax.plot(x, y["p50"], color=colour, marker=marker, linewidth=2, label="median")
    ax.plot(x, plan.reference * study.factor, color="black", marker=marker, linewidth=1,
            label="all pixels")  # fmt: skip
    if study.truth is not None:
        ax.plot(x, study.truth * study.factor, color="black", marker="x" if marker else "",
                linestyle="--", linewidth=1.2, label="truth")  # fmt: skip


def by_rate(study: Study, path: pathlib.Path, style: Style = SCREEN) -> pathlib.Path:
    """Bias and width of every plan against the rate, in percent of the mean area."""
    rows, columns = style.panels(2)
    figure = new_figure(4.6 * columns + 0.6, 3.4 * rows + 0.8)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for plan, colour in zip(study.plans, _colours(len(study.plans)), strict=True):
        found = [study.summary(plan, rate) for rate in plan.rates]
        true = [study.against_truth(rate) for rate in plan.rates]
        order = np.argsort([f.rate for f in found])
        x = np.array([100 * f.rate for f in found])[order]
        for ax, name in zip(axes, ("bias_percent", "width_percent"), strict=True):
            y = np.array([getattr(f, name) for f in found])[order]
            ax.plot(x, y, color=colour, marker="o", label=plan.name)
        if study.truth is not None:
            y = np.array([t.bias_percent for t in true if t is not None])[order]
            axes[0].plot(x, y, color=colour, marker="o", linestyle="--", fillstyle="none")
    against = "all pixels" + ("" if study.truth is None else " (dashed: the truth)")
    axes[0].axhline(0, color="black", linewidth=0.8)
    axes[0].set_ylabel("bias (%)", **FONT)
    axes[0].set_title(f"against {against}", fontsize=12)
    axes[1].set_ylabel("width (%)", **FONT)
    axes[1].set_title("10th to 90th percentile", fontsize=12)
    widest = max(study.summary(plan, r).width_percent for plan in study.plans for r in plan.rates)
    axes[1].set_ylim(0, 1.1 * widest if widest > 0 else 1)  # NaN is not above 0
    for ax in axes:
        _rate_axis(ax, sorted({100 * r.rate for r in study.plans[0].rates}))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center",
                  ncols=2 if style.narrow else 4, fontsize=10, frameon=False)  # fmt: skip
    return save(figure, path, style)


def _rate_axis(ax: Axes, percents: list[float]) -> None:
    ax.set_xscale("log")
    ax.set_xticks(percents, [f"{p:g}" for p in percents])
    ax.minorticks_off()
    ax.set_xlabel("visited pixels (%)", **FONT)
    ax.grid(alpha=0.3)


def _colours(n: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(n)]


def all_figures(
    study: Study, folder: pathlib.Path, style: Style = SCREEN
) -> dict[str, pathlib.Path]:
    """Draw everything into `folder`; returns {caption: file}."""
    folder.mkdir(exist_ok=True)
    drawn = {
        f"Plan {plan.name}: growth curves of the replicates, and of all pixels.": bands(
            study, plan, folder / f"bands_{plan.name}.png", style
        )
        for plan in study.plans
    }
    caption = "Bias and width against the rate, in percent of the mean area."
    drawn[caption] = by_rate(study, folder / "by_rate.png", style)
    return drawn
