"""Figures of a posterior run: growth bands, ranks of the chains, marginals, predicted greys."""

from __future__ import annotations

import pathlib

import numpy as np
from matplotlib.figure import Figure

from jaxmicro.app.canvas import COLOURS, FONT, band, new_figure, save, time_axis
from jaxmicro.app.posterior.run import BAND, PosteriorRun
from jaxmicro.app.style import SCREEN, Style
from jaxmicro.growth.estimate import Growth

_RANK_BINS = 20


def all_figures(
    run: PosteriorRun, folder: pathlib.Path, style: Style = SCREEN
) -> dict[str, pathlib.Path]:
    """Draw everything into `folder`; returns {caption: file}."""
    folder.mkdir(exist_ok=True)
    out = {
        f"Foreground area: posterior mean and {100 * BAND:.0f} % interval": growth_bands(
            run, folder / "growth.png", style=style
        ),
        "Class means and sds: posterior of each chain": marginals(
            run, folder / "marginals.png", style
        ),
        "Grey values: visited pixels, and what the model predicts for them (90 % interval)": (
            predicted(run, folder / "predicted.png", style)
        ),
    }
    if run.posterior.method == "nuts":
        out["Rank of each chain's draws among all (flat is good)"] = ranks(
            run, folder / "ranks.png", style
        )
    return out


def _area_scale(growth: Growth) -> tuple[float, str]:
    if growth.pixel_area_um2 is None:
        return 1.0, "pixels"
    return growth.pixel_area_um2, "µm$^2$"


def growth_bands(
    run: PosteriorRun,
    path: pathlib.Path,
    truth_px: np.ndarray | None = None,
    style: Style = SCREEN,
) -> pathlib.Path:
    """Area against time: posterior mean, band, and the truth (in pixels) where it is known."""
    figure = new_figure(7.2, 4.4)
    ax = figure.subplots()
    growth = run.growth
    scale, unit = _area_scale(growth)
    x = growth.frame if growth.time_s is None else growth.time_s
    low, high = run.band
    label = f"{100 * BAND:.0f} % interval"
    band(ax, x, scale * low, scale * high, COLOURS[0], 0.3, label)
    ax.plot(x, scale * growth.area_px, color=COLOURS[0], marker="o", markersize=3.5,
            label="posterior mean")  # fmt: skip
    if truth_px is not None:
        ax.plot(x, scale * truth_px, color="black", linestyle="--", linewidth=1.5, label="truth")
    time_axis(ax, growth.time_s is not None)
    ax.set_ylabel(f"foreground area ({unit})", **FONT)
    ax.set_ylim(bottom=0)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=10)
    return save(figure, path, style)


def _shown(run: PosteriorRun) -> tuple[dict[str, np.ndarray], str]:
    """Means and sds (chain, draw, class), of the movie or of one frame, and which that is.

    The frame is the one with the worst r-hat, or the first where there is no r-hat.
    """
    draws = run.posterior["posterior"]
    if "frame" not in draws["means"].dims:
        return {n: draws[n].values for n in ("means", "sds")}, "all frames"
    worst, text = 0, "frame 0"
    if run.diagnostics.table:
        of_means = {n: v[0] for n, v in run.diagnostics.table.items() if n.startswith("means[")}
        worst = int(max(of_means, key=lambda n: of_means[n]).partition("[")[2].split(",")[0])
        text = f"frame {worst} (largest r-hat of a mean)"
    values = {n: draws[n].values[:, :, worst] for n in ("means", "sds")}
    return values, text


def _class_panels(k: int, style: Style, sharey: bool = False) -> tuple[Figure, np.ndarray]:
    """A figure with a panel for the mean and one for the sd of each class, as (2, classes)."""
    if style.narrow:
        figure = new_figure(6.0, 1.9 * k + 0.8)
        return figure, figure.subplots(k, 2, squeeze=False, sharey=sharey).T
    figure = new_figure(2.7 * k + 0.6, 4.8)
    return figure, figure.subplots(2, k, squeeze=False, sharey=sharey)


def marginals(run: PosteriorRun, path: pathlib.Path, style: Style = SCREEN) -> pathlib.Path:
    """Histograms of class means and sds, one line per chain."""
    values, where = _shown(run)
    k = values["means"].shape[-1]
    figure, axes = _class_panels(k, style)
    for row, (name, text) in enumerate((("means", "mean"), ("sds", "sd"))):
        for j in range(k):
            ax = axes[row, j]
            draws = values[name][..., j]
            low, high = np.quantile(draws, [0.0005, 0.9995])
            edges = np.linspace(float(low), float(high), 41)
            for c, chain in enumerate(draws):
                ax.hist(chain, edges, density=True, histtype="step", linewidth=1.4,
                        color=COLOURS[c % len(COLOURS)])  # fmt: skip
            ax.set_yticks([])
            ax.set_xlabel(f"class {j} {text} (grey)", fontsize=11)
    for ax in axes[0] if style.narrow else axes[:, 0]:
        ax.set_ylabel("density", **FONT)
    figure.suptitle(f"{where}; one line per chain", fontsize=12)
    return save(figure, path, style)


def ranks(run: PosteriorRun, path: pathlib.Path, style: Style = SCREEN) -> pathlib.Path:
    """Rank histograms of each chain (Vehtari et al. 2021): chains that agree are flat."""
    values, where = _shown(run)
    k = values["means"].shape[-1]
    figure, axes = _class_panels(k, style, sharey=True)
    for row, (name, text) in enumerate((("means", "mean"), ("sds", "sd"))):
        for j in range(k):
            ax = axes[row, j]
            draws = values[name][..., j]
            rank = np.argsort(np.argsort(draws.ravel())).reshape(draws.shape)
            edges = np.linspace(0, draws.size, _RANK_BINS + 1)
            for c, chain in enumerate(rank):
                share = np.histogram(chain, edges)[0] * _RANK_BINS / chain.size
                ax.step(edges[:-1], share, where="post", color=COLOURS[c % len(COLOURS)],
                        linewidth=1.3)  # fmt: skip
            ax.axhline(1, color="black", linewidth=0.8, linestyle="--")
            ax.set_title(f"class {j} {text}", fontsize=11)
            ax.set_ylim(0, 2)
            ax.set_xticks([0, draws.size])
            if j == k - 1 if style.narrow else row:
                ax.set_xlabel("rank among all draws", fontsize=11)
    for ax in axes[0] if style.narrow else axes[:, 0]:
        ax.set_ylabel("draws, of even share", fontsize=11)
    figure.suptitle(f"{where}; one line per chain", fontsize=12)
    return save(figure, path, style)


def predicted(run: PosteriorRun, path: pathlib.Path, style: Style = SCREEN) -> pathlib.Path:
    """Histogram of the visited pixels under the model's own replications of it."""
    seen = run.posterior["observed_data"]["histogram"]
    new = run.posterior["posterior_predictive"]["histogram"]
    few = np.unique(np.linspace(0, seen.sizes["frame"] - 1, 3).round().astype(int))
    rows, columns = style.panels(len(few))
    figure = new_figure(4.2 * columns + 0.4, (2.6 if style.narrow else 3.4) * rows + 0.4)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    grey = seen["grey"].values
    for ax, t in zip(axes, few, strict=True):
        counts = new.values[:, :, t].reshape(-1, grey.size)
        low, high = np.quantile(counts, [0.05, 0.95], axis=0)
        ax.fill_between(grey, low, high, step="mid", color=COLOURS[1], alpha=0.6, linewidth=0,
                        label="predicted, 90 %")  # fmt: skip
        ax.step(grey, seen.values[t], where="mid", color="black", linewidth=1.2, label="visited")
        ax.set_yscale("symlog", linthresh=5)
        ax.set_ylim(bottom=0)
        ax.set_title(f"frame {t}", fontsize=12)
        ax.set_xlabel("grey level", **FONT)
    for ax in axes if style.narrow else axes[:1]:
        ax.set_ylabel("visited pixels per bin", **FONT)
    axes[-1].legend(fontsize=10)
    return save(figure, path, style)
