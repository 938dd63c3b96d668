"""Figures of a quantify run."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
from matplotlib.colors import ListedColormap

from jaxmicro.app.canvas import (
    COLOURS,
    FONT,
    area_label,
    band,
    new_figure,
    save,
    scale_bar,
    time_axis,
)
from jaxmicro.app.quantify.run import Quantified
from jaxmicro.growth.estimate import Growth

LABEL_COLOURS = ListedColormap(["#FFFFFF", "#B8C4CC", "#D55E00"])  # not visited, back, fore


def strip(run: Quantified, path: pathlib.Path, n_shown: int = 6) -> pathlib.Path:
    """Raw frame, visited pixels and labels, at a few times through the movie."""
    movie = run.movie
    shown = np.unique(np.linspace(0, movie.n_frames - 1, n_shown).round().astype(int))
    height, width = run.pixels.shape
    each = min(2.3, 2.9 * width / height)
    figure = new_figure(each * len(shown) + 0.6, 3 * each * height / width + 1.0)
    axes = figure.subplots(3, len(shown), squeeze=False)
    stack = [movie.frame(int(t)) for t in shown]
    low, high = np.nanpercentile(np.stack(stack), [0.5, 99.5])
    dot = max(1, round(0.008 * max(height, width)))  # visited pixels must be seen at half size
    for column, (t, frame) in enumerate(zip(shown, stack, strict=True)):
        labels = run.labels(int(t))
        seen = np.where(labels > 0, frame, np.nan)
        classes = np.select([labels == 127, labels == 255], [1, 2], 0)
        sparse = (labels > 0).mean() < 0.5
        if sparse:
            seen, classes = _grown(seen, dot), _grown_labels(classes, dot)
        axes[0, column].imshow(frame, cmap="gray", vmin=low, vmax=high)
        axes[1, column].set_facecolor("white")
        axes[1, column].imshow(seen, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        axes[2, column].imshow(classes, cmap=LABEL_COLOURS, vmin=0, vmax=2, interpolation="nearest")
        time = "" if movie.times_s is None else f", {movie.times_s[t]:.3g} s"
        axes[0, column].set_title(f"frame {t}{time}", fontsize=12)
        for row in range(3):
            axes[row, column].set(xticks=[], yticks=[])
    pixel = None if movie.pixel_size_nm is None else movie.pixel_size_nm[1]
    scale_bar(axes[0, -1], run.pixels.shape, pixel)
    for row, text in enumerate(("raw", "visited", "labels")):
        axes[row, 0].set_ylabel(text, fontsize=13)
    axes[2, 0].set_xlabel("orange: foreground", color="#B04A00", fontsize=11)
    return save(figure, path)


def _grown(image: np.ndarray, size: int) -> np.ndarray:
    """Spread visited pixels over small squares so that a sparse sample stays visible."""
    out = image.copy()
    for dy in range(size):
        for dx in range(size):
            moved = np.full_like(image, np.nan)
            moved[dy:, dx:] = image[: image.shape[0] - dy, : image.shape[1] - dx]
            out = np.where(np.isnan(out), moved, out)
    return out


def _grown_labels(labels: np.ndarray, size: int) -> np.ndarray:
    return np.nan_to_num(_grown(np.where(labels > 0, labels, np.nan).astype(float), size))


def histogram(run: Quantified, path: pathlib.Path, n_shown: int = 3) -> pathlib.Path:
    """Greys with the trend removed, and the fitted components, for a few frames."""
    shown = np.unique(np.linspace(0, run.pixels.n_frames - 1, n_shown).round().astype(int))
    figure = new_figure(4.6 * len(shown) + 1.8, 3.9)
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    params = run.fit.params
    for ax, t in zip(axes, shown, strict=True):
        values = _detrended(run, int(t))
        low, high = np.percentile(values, [0.05, 99.95])
        pad = 0.05 * (high - low)
        edges = np.linspace(low - pad, high + pad, 81)
        density = ax.hist(values, edges, density=True, color="#C8C8C8", label="visited pixels")[0]
        grey = np.linspace(edges[0], edges[-1], 400)
        total = np.zeros_like(grey)
        law = None if params.law is None else np.asarray(params.law[t], float)
        for k in range(run.model.n_classes):
            w, m, s = (float(a[t, k]) for a in (params.weights, params.means, params.sds))
            curve = w * run.model.family.density(grey, m, s, law)
            total += curve
            fore = k in run.partition.foreground
            ax.plot(
                grey,
                curve,
                color=COLOURS[k % len(COLOURS)],
                linewidth=2,
                linestyle="-" if fore else "--",
                label=f"class {k}" + (" (fore)" if fore else ""),
            )
        ax.plot(grey, total, color="black", linewidth=1, label="sum")
        ax.set_yscale("log")
        top = max(total.max(), float(np.max(density)))
        ax.set_ylim(max(1e-5 * top, 0.3 / (values.size * (edges[1] - edges[0]))), 2 * top)
        ax.set_xlabel("grey level, trend removed", **FONT)
        ax.set_title(f"frame {t}", fontsize=12)
    axes[0].set_ylabel("density (per grey level)", **FONT)
    figure.legend(*axes[-1].get_legend_handles_labels(), fontsize=10, loc="outside right upper")
    return save(figure, path)


def _detrended(run: Quantified, t: int) -> np.ndarray:
    pixels = run.pixels.at(t)
    trend = np.asarray(run.fit.params.trend[t]) @ np.asarray(run.model.design(pixels))
    return (np.asarray(pixels.values) - trend)[np.asarray(pixels.weight) > 0]


def trend_surface(run: Quantified, path: pathlib.Path, n_shown: int = 3) -> pathlib.Path:
    """The fitted trend over the frame at a few times, on one colour scale."""
    shown = np.unique(np.linspace(0, run.pixels.n_frames - 1, n_shown).round().astype(int))
    surfaces = [
        run.model.trend.surface(np.asarray(run.fit.params.trend[t]), run.pixels.shape)
        for t in shown
    ]
    limit = max(float(np.nanmax(np.abs(surfaces))), 1e-6)
    height, width = run.pixels.shape
    figure = new_figure(3.4 * len(shown) + 1.2, 3.4 * height / width + 0.7)
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    pixel = None if run.movie.pixel_size_nm is None else run.movie.pixel_size_nm[1]
    for ax, t, surface in zip(axes, shown, surfaces, strict=True):
        image = ax.imshow(surface, cmap="PuOr", vmin=-limit, vmax=limit)
        ax.set(xticks=[], yticks=[])
        ax.set_title(f"frame {t}", fontsize=12)
    scale_bar(axes[-1], run.pixels.shape, pixel)
    figure.colorbar(image, ax=axes, shrink=0.85).set_label("trend (grey levels)", **FONT)
    return save(figure, path)


def growth_curve(
    growth: Growth, path: pathlib.Path, truth: np.ndarray | None = None, others: dict | None = None
) -> pathlib.Path:
    """Area against time with bands of two standard errors; truth and other curves on request.

    `truth` is in um2 (or pixels where the pixel size is not known); `others` maps a name to
    another `Growth` of the same movie.
    """
    figure = new_figure(7.2, 4.4)
    ax = figure.subplots()
    curves = {"estimate": growth} if others is None else others
    for i, (name, curve) in enumerate(curves.items()):
        y, se, _ = curve.in_best_units()
        x = curve.frame if curve.time_s is None else curve.time_s
        colour = COLOURS[i % len(COLOURS)]
        band(ax, x, y - 2 * se, y + 2 * se, colour, 0.25)
        ax.plot(x, y, color=colour, marker="o", markersize=3.5, label=f"{name} (band: 2 s.e.)")
    if truth is not None:
        ax.plot(x, truth, color="black", linewidth=1.5, linestyle="--", label="truth")
    time_axis(ax, growth.time_s is not None)
    ax.margins(y=0.1)
    ax.set_ylabel(f"foreground area ({area_label(growth)})", **FONT)
    ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
    ax.grid(alpha=0.3)
    ax.legend(fontsize=10)
    if growth.thickness_um is not None and growth.pixel_area_um2 is not None:
        h = growth.thickness_um

        def to_volume(area: Any) -> Any:
            return area * h

        def to_area(volume: Any) -> Any:
            return volume / h

        right = ax.secondary_yaxis("right", functions=(to_volume, to_area))
        right.set_ylabel("volume (µm$^3$)", **FONT)
    return save(figure, path)


def parameters(run: Quantified, path: pathlib.Path) -> pathlib.Path:
    """Weights, means with sds, and trend coefficients over time."""
    n_panels = 3 if run.model.trend.n_terms else 2
    figure = new_figure(12.5 * n_panels / 3, 3.9)
    axes = figure.subplots(1, n_panels)
    x = np.arange(run.pixels.n_frames) if run.movie.times_s is None else run.movie.times_s
    params = run.fit.params
    marker = "o" if len(x) == 1 else ""  # a line needs two frames
    for k in range(run.model.n_classes):
        colour = COLOURS[k % len(COLOURS)]
        fore = " (fore)" if k in run.partition.foreground else ""
        weights = np.asarray(params.weights[:, k])
        axes[0].plot(x, weights, color=colour, marker=marker, label=f"class {k}{fore}")
        m, s = np.asarray(params.means[:, k]), np.asarray(params.sds[:, k])
        axes[1].plot(x, m, color=colour, marker=marker)
        band(axes[1], x, m - s, m + s, colour, 0.2)
    for j, term in enumerate(run.model.trend.terms):
        colour, slope = COLOURS[j % len(COLOURS)], np.asarray(params.trend[:, j])
        axes[2].plot(x, slope, color=colour, marker=marker, label=term)
    texts = ("class proportion", "class mean and sd (grey levels)", "trend (grey per unit)")
    for ax, text in zip(axes, texts, strict=False):  # without a trend there are two panels
        time_axis(ax, run.movie.times_s is not None)
        ax.set_ylabel(text, **FONT)
        ax.grid(alpha=0.3)
    axes[0].legend(fontsize=9)
    if run.model.trend.n_terms:
        axes[2].legend(fontsize=9, ncols=2)
    return save(figure, path)


def all_figures(run: Quantified, folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Every figure of a run as PNG files; keys are captions."""
    folder.mkdir(exist_ok=True)
    out = {
        "Growth curve: foreground area with bands of two standard errors.": growth_curve(
            run.growth, folder / "growth.png"
        ),
        "Frames through the movie: raw, visited pixels, labels after correction.": strip(
            run, folder / "strip.png"
        ),
        "Grey levels with the trend removed, and the fitted components.": histogram(
            run, folder / "histogram.png"
        ),
    }
    if run.model.trend.n_terms:
        out["The trend over the frame."] = trend_surface(run, folder / "trend.png")
    out["Parameters over time (bands: one class sd)."] = parameters(run, folder / "parameters.png")
    return out
