"""Figures of a quantify run."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from jaxmicro.app import palette
from jaxmicro.app.canvas import (
    COLOURS,
    FONT,
    area_label,
    band,
    image_aspect,
    new_figure,
    save,
    scale_bar,
    time_axis,
)
from jaxmicro.app.quantify.run import Quantified
from jaxmicro.app.style import SCREEN, Style
from jaxmicro.growth.estimate import Growth

LABEL_COLOURS = ListedColormap([palette.NOT_VISITED, palette.BACKGROUND, palette.FOREGROUND])


def strip(run: Quantified, path: pathlib.Path, style: Style = SCREEN) -> pathlib.Path:
    """Raw frame, visited pixels and labels, at a few times through the movie."""
    movie = run.movie
    n_shown = 3 if style.narrow else 6
    shown = np.unique(np.linspace(0, movie.n_frames - 1, n_shown).round().astype(int))
    height, width = run.pixels.shape
    aspect = image_aspect(movie.pixel_size_nm)
    each = min(2.3, 2.9 * width / (height * aspect))
    figure = new_figure(each * len(shown) + 0.6, 3 * each * aspect * height / width + 1.0)
    axes = figure.subplots(3, len(shown), squeeze=False)
    stack = [movie.frame(int(t)) for t in shown]
    low, high = np.nanpercentile(np.stack(stack), [0.5, 99.5])
    grey = {"cmap": "gray", "vmin": low, "vmax": high, "aspect": aspect}
    dot = max(1, round(0.008 * max(height, width)))  # visited pixels must be seen at half size
    for column, (t, frame) in enumerate(zip(shown, stack, strict=True)):
        labels = run.labels(int(t))
        seen = np.where(labels > 0, frame, np.nan)
        classes = np.select([labels == 127, labels == 255], [1, 2], 0)
        sparse = (labels > 0).mean() < 0.5
        if sparse:
            seen, classes = _grown(seen, dot), _grown_labels(classes, dot)
        raw, visited, marks = axes[:, column]
        raw.imshow(frame, **grey)
        visited.set_facecolor(palette.NO_VALUE)
        visited.imshow(seen, interpolation="nearest", **grey)
        marks.imshow(
            classes, cmap=LABEL_COLOURS, vmin=0, vmax=2, interpolation="nearest", aspect=aspect
        )
        raw.set_title(_when(run, int(t), "\n"), fontsize=12)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    pixel = None if movie.pixel_size_nm is None else movie.pixel_size_nm[1]
    scale_bar(axes[0, -1], run.pixels.shape, pixel)
    for row, text in enumerate(("raw", "visited", "labels")):
        axes[row, 0].set_ylabel(text, fontsize=13)
    _colour_key(figure, bool((run.labels(0) > 0).all()), 2 if style.narrow else 4)
    return save(figure, path, style)


def _colour_key(figure: Figure, all_visited: bool, ncols: int) -> None:
    """What the colours of the strip's second and third row mean."""
    meanings = [(palette.BACKGROUND, "background"), (palette.FOREGROUND, "foreground")]
    if not all_visited:
        meanings.append((palette.NOT_VISITED, "not visited"))
        meanings.append((palette.NO_VALUE, "not visited, beside greys"))
    keys = [Patch(facecolor=c, edgecolor="#666666", label=text) for c, text in meanings]
    figure.legend(handles=keys, loc="outside lower center", ncols=ncols, fontsize=10, frameon=False,
                  handlelength=1.0, handletextpad=0.4, columnspacing=0.9)  # fmt: skip


def _when(run: Quantified, t: int, between: str = ", ") -> str:
    """Frame and time, for a title."""
    times = run.movie.times_s
    return f"frame {t}" if times is None else f"frame {t}{between}{times[t]:.4g} s"


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


def histogram(run: Quantified, path: pathlib.Path, style: Style = SCREEN) -> pathlib.Path:
    """Greys with the trend removed, and the fitted components, for a few frames."""
    shown = _few(run)
    rows, columns = style.panels(len(shown))
    aside = 0.0 if style.narrow else 1.8
    figure = new_figure(4.6 * columns + aside, (2.6 if style.narrow else 3.4) * rows + 0.5)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
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
        ax.set_title(_when(run, int(t)), fontsize=12)
    for ax in axes if style.narrow else axes[:1]:
        ax.set_ylabel("density (per grey level)", **FONT)
    place = "outside upper center" if style.narrow else "outside right upper"
    handles = axes[-1].get_legend_handles_labels()
    ncols = 3 if style.narrow else 1
    figure.legend(*handles, fontsize=10, loc=place, ncols=ncols, frameon=False)
    return save(figure, path, style)


def _few(run: Quantified, n_shown: int = 3) -> np.ndarray:
    """A few frames through the movie."""
    return np.unique(np.linspace(0, run.pixels.n_frames - 1, n_shown).round().astype(int))


def _detrended(run: Quantified, t: int) -> np.ndarray:
    pixels = run.pixels.at(t)
    trend = np.asarray(run.fit.params.trend[t]) @ np.asarray(run.model.design(pixels))
    return (np.asarray(pixels.values) - trend)[np.asarray(pixels.weight) > 0]


def trend_surface(run: Quantified, path: pathlib.Path, style: Style = SCREEN) -> pathlib.Path:
    """The fitted trend over the frame at a few times, on one colour scale."""
    shown = _few(run)
    surfaces = [
        run.model.trend.surface(np.asarray(run.fit.params.trend[t]), run.pixels.shape)
        for t in shown
    ]
    limit = max(float(np.nanmax(np.abs(surfaces))), 1e-6)
    height, width = run.pixels.shape
    aspect = image_aspect(run.movie.pixel_size_nm)
    figure = new_figure(3.4 * len(shown) + 1.2, 3.4 * aspect * height / width + 0.7)
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    pixel = None if run.movie.pixel_size_nm is None else run.movie.pixel_size_nm[1]
    for ax, t, surface in zip(axes, shown, surfaces, strict=True):
        image = ax.imshow(surface, cmap="PuOr", vmin=-limit, vmax=limit, aspect=aspect)
        ax.set(xticks=[], yticks=[])
        ax.set_title(_when(run, int(t)), fontsize=12)
    scale_bar(axes[-1], run.pixels.shape, pixel)
    figure.colorbar(image, ax=axes, shrink=0.85).set_label("trend (grey levels)", **FONT)
    return save(figure, path, style)


def growth_curve(
    growth: Growth,
    path: pathlib.Path,
    truth: np.ndarray | None = None,
    others: dict | None = None,
    style: Style = SCREEN,
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
        _smooth_curve(ax, curve, x, COLOURS[(i + len(curves)) % len(COLOURS)])
    if truth is not None:
        ax.plot(x, truth, color="black", linewidth=1.5, linestyle="--", label="truth")
    if not any(np.isfinite(curve.area_px).any() for curve in curves.values()):
        note = "no frame has an area that may be used"
        ax.text(0.5, 0.5, note, transform=ax.transAxes, ha="center", va="center", **FONT)
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
    return save(figure, path, style)


def _smooth_curve(ax: Axes, curve: Growth, x: np.ndarray, colour: str) -> None:
    """The curve over time with its own band, where there is one."""
    if curve.smoothed is None:
        return
    pixel = curve.pixel_area_um2 or 1.0
    y, se = curve.smoothed.area_px * pixel, curve.smoothed.area_px_se * pixel
    band(ax, x, y - 2 * se, y + 2 * se, colour, 0.35)
    label = f"smoothed over time, {curve.smoothed.way} (band: 2 s.e.)"
    ax.plot(x, y, color=colour, linewidth=1.5, label=label)


def parameters(run: Quantified, path: pathlib.Path, style: Style = SCREEN) -> pathlib.Path:
    """Weights, means with sds, and trend coefficients over time."""
    n_panels = 3 if run.model.trend.n_terms else 2
    rows, columns = style.panels(n_panels)
    figure = new_figure(4.2 * columns, (2.5 if style.narrow else 3.4) * rows + 0.5)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
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
    return save(figure, path, style)


def all_figures(
    run: Quantified, folder: pathlib.Path, style: Style = SCREEN
) -> dict[str, pathlib.Path]:
    """Draw everything into `folder`; returns {caption: file}."""
    folder.mkdir(exist_ok=True)
    drawn = [
        ("Growth curve: foreground area with bands of two standard errors.",
         growth_curve(run.growth, folder / "growth.png", style=style)),
        ("Frames through the movie: raw, visited pixels, labels after correction.",
         strip(run, folder / "strip.png", style)),
        ("Grey levels with the trend removed, and the fitted components.",
         histogram(run, folder / "histogram.png", style)),
    ]  # fmt: skip
    if run.model.trend.n_terms:
        drawn.append(("The trend over the frame.", trend_surface(run, folder / "trend.png", style)))
    caption = "Parameters over time (bands: one class sd)."
    drawn.append((caption, parameters(run, folder / "parameters.png", style)))
    return dict(drawn)
