"""Figures of an enhance run: atoms, before and after, residual, uncertainty, spectra, control."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from jaxmicro.app.canvas import COLOURS, FONT, new_figure, save, scale_bar
from jaxmicro.app.enhance.run import Control, EnhanceRun
from jaxmicro.app.style import SCREEN, Style
from jaxmicro.dictionary.enhance import Dictionary
from jaxmicro.dictionary.matching import spectrum

ATOMS_SHOWN = 144
ZOOM = 96  # pixels of the slice in the magnified field


def all_figures(
    run: EnhanceRun, folder: pathlib.Path, style: Style = SCREEN
) -> dict[str, pathlib.Path]:
    """Every figure that the run has data for, as caption -> file."""
    folder.mkdir(exist_ok=True)
    caption = (
        "Atoms, most used first: those that code the slice, and the paired atoms that rebuild it."
    )
    out = {caption: atoms(run.dictionary, folder / "atoms.png", style)}
    if run.dictionary.trace.size:
        caption = "Held-out objective while learning."
        out[caption] = trace(run.dictionary, folder / "learning.png", style)
    out["Before and after, the marked field magnified, and grey values along the line."] = (
        before_after(run, folder / "before_after.png", style)
    )
    out[
        "Residual: slice minus forward model of the result, in noise standard deviations. It "
        "should look like noise. Beside it: uncertainty, the sd of overlapping estimates."
    ] = residual(run, folder / "residual.png", style)
    out["Spectra: the slice, the noise estimated from it, the residual, the result."] = spectra(
        run, folder / "spectra.png", style
    )
    if run.first.control is not None:
        out["The same field with a dictionary of scrambled images, which hold no structure."] = (
            control(run.first.control, run, folder / "control.png", style)
        )
    return out


def _bare(ax: Axes) -> None:
    ax.set(xticks=[], yticks=[])


def atoms(dictionary: Dictionary, path: pathlib.Path, style: Style = SCREEN) -> pathlib.Path:
    """Mosaic of the most used atoms of the first pass."""
    stage = dictionary.stages[0]
    order = np.argsort(-dictionary.usage)[:ATOMS_SHOWN]
    seen = stage.coding @ np.linalg.inv(stage.whitener)
    pairs = [("codes the slice", seen, stage.size)]
    if dictionary.variant == "coupled":
        pairs.append(("rebuilds", stage.paired_atoms, stage.size * stage.upscale))
    figure = new_figure(5.4 * len(pairs), 5.8)
    for ax, (title, values, size) in zip(
        figure.subplots(1, len(pairs), squeeze=False)[0], pairs, strict=True
    ):
        side = int(np.ceil(np.sqrt(len(order))))
        gap = max(1, size // 8)
        mosaic = np.full((side * (size + gap) + gap,) * 2, np.nan)
        for i, j in enumerate(order):
            tile = values[j].reshape(size, size)
            tile = tile / max(float(np.abs(tile).max()), 1e-12)
            y, x = (gap + v * (size + gap) for v in divmod(i, side))
            mosaic[y : y + size, x : x + size] = tile
        ax.set_facecolor("#E69F00")
        ax.imshow(mosaic, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
        pixel = dictionary.pixel_size_nm * stage.size / size
        ax.set_title(f"{title}\n({size} x {size} pixels of {pixel:.3g} nm)", fontsize=13)
        _bare(ax)
    return save(figure, path, style)


def trace(dictionary: Dictionary, path: pathlib.Path, style: Style = SCREEN) -> pathlib.Path:
    figure = new_figure(6.0, 3.8)
    ax = figure.subplots()
    ax.plot(dictionary.trace[:, 1], dictionary.trace[:, 2], "o-", color=COLOURS[0], linewidth=2)
    ax.set_xlabel("time spent learning (s)", **FONT)
    ax.set_ylabel("held-out objective per patch", **FONT)
    ax.grid(alpha=0.3)
    return save(figure, path, style)


def _zoom_field(values: np.ndarray, size: int) -> tuple[int, int]:
    """Corner of the liveliest field of `size` pixels."""
    size = min(size, *values.shape)
    best, corner = -1.0, (0, 0)
    for y in np.linspace(0, values.shape[0] - size, 9).astype(int):
        for x in np.linspace(0, values.shape[1] - size, 9).astype(int):
            part = values[y : y + size, x : x + size]
            score = float(np.std(part)) if np.isfinite(part).all() else -0.5
            if score > best:
                best, corner = score, (int(y), int(x))
    return corner


def before_after(run: EnhanceRun, path: pathlib.Path, style: Style = SCREEN) -> pathlib.Path:
    """Slice, result and reference: whole, a field of them magnified, and a line through it."""
    before, after = run.first.before.values, run.first.after.values
    n, pixel = run.dictionary.upscale, run.dictionary.pixel_size_nm
    coarse = np.where(np.isfinite(after[::n, ::n]), before, np.nan)
    low, high = np.nanpercentile(coarse, [0.5, 99.5])
    size = min(ZOOM, *before.shape)
    y, x = _zoom_field(coarse, size)
    columns = [("slice", before, 1), ("enhanced", after, n)]
    if run.first.reference is not None:
        columns.append(("reference", run.first.reference, n))
    each = 4.4
    figure = new_figure(each * len(columns), each * 2 + 3.4)
    axes = figure.subplots(3, len(columns), squeeze=False, height_ratios=[1, 1, 0.75])
    row = y + size // 2
    for column, (title, values, scale) in enumerate(columns):
        top, middle = axes[0, column], axes[1, column]
        top.imshow(values, cmap="gray", vmin=low, vmax=high)
        top.set_title(title, fontsize=14)
        box = np.array([x, x + size, x + size, x, x]) * scale - 0.5
        side = np.array([y, y, y + size, y + size, y]) * scale - 0.5
        top.plot(box, side, color=COLOURS[1], linewidth=2)
        part = values[y * scale : (y + size) * scale, x * scale : (x + size) * scale]
        middle.imshow(part, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        middle.axhline((row - y + 0.5) * scale - 0.5, color=COLOURS[1], linewidth=1.5)
        for ax, shown in ((top, values), (middle, part)):
            _bare(ax)
            if column == 0:
                scale_bar(ax, shown.shape, pixel / scale)
    for ax in axes[2]:
        ax.remove()
    lines = [
        (title, values[int((row + 0.5) * scale), x * scale : (x + size) * scale], scale)
        for title, values, scale in columns
    ]
    _profiles(figure.add_subplot(axes[2, 0].get_gridspec()[2, :]), lines, pixel)
    return save(figure, path, style)


def _profiles(ax: Axes, lines: Sequence[tuple[str, np.ndarray, int]], pixel_nm: float) -> None:
    """Grey values along one line of each image; the number is pixels per pixel of the slice."""
    for (title, line, scale), colour in zip(
        lines, (COLOURS[7], COLOURS[5], COLOURS[0]), strict=False
    ):
        place = (np.arange(len(line)) + 0.5) * pixel_nm / scale / 1000
        style = ":" if title == "slice" else "-"
        ax.plot(place, line, style, color=colour, linewidth=2, label=title)
    ax.set_xlabel("along the line (µm)", **FONT)
    ax.set_ylabel("grey value", **FONT)
    above = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "borderaxespad": 0.1}
    ax.legend(fontsize=11, ncols=len(lines), frameon=False, **above)
    ax.grid(alpha=0.3)


def residual(run: EnhanceRun, path: pathlib.Path, style: Style = SCREEN) -> pathlib.Path:
    result, n = run.first.after, run.dictionary.upscale
    rows, columns = style.panels(2)
    figure = new_figure(5.5 * columns, (4.4 if style.narrow else 5.0) * rows)
    left, right = figure.subplots(rows, columns, squeeze=False).ravel()
    shown = left.imshow(
        result.residual / result.noise.sd, cmap="RdBu_r", vmin=-4, vmax=4, interpolation="nearest"
    )
    left.set_title("residual", fontsize=14)
    figure.colorbar(shown, ax=left, label="noise standard deviations", shrink=0.85)
    top = float(np.nanpercentile(result.uncertainty, 99.5))
    other = right.imshow(result.uncertainty, cmap="cividis", vmin=0, vmax=top)
    right.set_title("uncertainty", fontsize=14)
    figure.colorbar(other, ax=right, label="grey value", shrink=0.85)
    for ax, scale, values in ((left, 1, result.residual), (right, n, result.uncertainty)):
        _bare(ax)
        ax.set_facecolor("#BBBBBB")
        scale_bar(ax, values.shape, run.dictionary.pixel_size_nm / scale)
    return save(figure, path, style)


def spectra(run: EnhanceRun, path: pathlib.Path, style: Style = SCREEN) -> pathlib.Path:
    before, result = run.first.before.values.astype(float), run.first.after
    pixel, fine = run.dictionary.pixel_size_nm, run.dictionary.result_pixel_nm
    figure = new_figure(7.2, 4.6)
    ax = figure.subplots()
    noise = np.fft.fftshift(result.noise.power((64, 64)))[32, 33:]
    lines = [
        ("slice", spectrum(_filled(before)), pixel, COLOURS[7], ":"),
        ("result", spectrum(_filled(result.values)), fine, COLOURS[5], "-"),
        ("residual", spectrum(np.nan_to_num(result.residual)), pixel, COLOURS[0], "-"),
        ("noise estimate", (np.arange(1, 32) / 64, noise), pixel, COLOURS[2], "--"),
    ]
    for label, (frequency, power), size, colour, dashes in lines:
        scale = (size / pixel) ** 2  # power per pixel of the slice
        ax.semilogy(
            frequency / size * 1000, power * scale, dashes, color=colour, linewidth=2, label=label
        )
    ax.set_xlabel("spatial frequency (cycles per µm)", **FONT)
    ax.set_ylabel("power (grey² per slice pixel)", **FONT)
    floor = float(np.median(noise)) * 1e-4
    ax.set_ylim(bottom=max(floor, ax.get_ylim()[0]))
    ax.legend(fontsize=11)
    ax.grid(alpha=0.3)
    return save(figure, path, style)


def _filled(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, np.nanmean(values))


def control(
    control: Control, run: EnhanceRun, path: pathlib.Path, style: Style = SCREEN
) -> pathlib.Path:
    n, pixel = run.dictionary.upscale, run.dictionary.pixel_size_nm
    box = tuple(slice(s.start * n, s.stop * n) for s in control.field)
    panels = [
        ("slice", run.first.before.values[control.field], 1),
        ("its dictionary", run.first.after.values[box], n),
        ("scrambled control", control.enhanced.values, n),
    ]
    low, high = np.nanpercentile(panels[0][1], [0.5, 99.5])
    figure = new_figure(12.6, 4.7)
    for ax, (title, values, scale) in zip(figure.subplots(1, 3), panels, strict=True):
        ax.imshow(values, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        ax.set_title(title, fontsize=14)
        scale_bar(ax, values.shape, pixel / scale)
        _bare(ax)
    return save(figure, path, style)
