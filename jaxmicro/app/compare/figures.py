"""Figures of a comparison: criteria over time, and what each test was held against."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
from scipy import stats

from jaxmicro.app.canvas import COLOURS, FONT, new_figure, save, time_axis
from jaxmicro.app.compare import tables
from jaxmicro.app.compare.run import Compared
from jaxmicro.app.style import Style
from jaxmicro.growth.pair_tests import PairTest

LINES = 6  # models in the figures over time
PANELS = 12  # tests that are drawn, those of the best model first
SCORES = "Score of each model behind the best, with two standard errors"
TIME = "BIC of the best models above the least of each frame"
REFERENCE = (
    "Each recommended test: the statistic (line) and its distribution if the smaller model is true"
)


def draw(folder: pathlib.Path, found: Compared, style: Style) -> dict[str, pathlib.Path]:
    """Every figure by its caption."""
    suffix, out = f".{style.suffix}", {}
    if found.overall["score_behind"].notna().sum() > 1:
        out[SCORES] = scores(found, folder / f"scores{suffix}", style)
    if found.table["frame"].nunique() > 2:
        out[TIME] = over_time(found, folder / f"over_time{suffix}", style)
    if any(t.recommended for t in found.tests):
        out[REFERENCE] = references(found, folder / f"tests{suffix}", style)
    return out


def scores(found: Compared, path: pathlib.Path, style: Style) -> pathlib.Path:
    """Differences of scores with their errors, best model on top."""
    rows = found.overall[found.overall["score_behind"].notna()].head(30)
    figure = new_figure(8.0, 1.2 + 0.3 * len(rows))
    ax = figure.add_subplot()
    at = np.arange(len(rows))
    colour = [COLOURS[0] if r == "yes" else COLOURS[1] for r in rows["ranked"]]
    ax.errorbar(
        -rows["score_behind"], at, xerr=2 * rows["score_behind_se"].fillna(0), fmt="none",
        ecolor="0.6", elinewidth=1.5,
    )  # fmt: skip
    ax.scatter(-rows["score_behind"], at, c=colour, s=28, zorder=3)
    ax.axvline(0, color="0.8", linewidth=1, zorder=0)
    ax.set_yticks(at, rows["model"])
    ax.invert_yaxis()
    ax.set_xlabel("score less that of the best (nats per pixel)", **FONT)
    ax.margins(y=0.5 / len(rows))
    return save(figure, path, style)


def over_time(found: Compared, path: pathlib.Path, style: Style) -> pathlib.Path:
    """BIC above the least, frame by frame."""
    names = found.overall["model"].head(LINES).tolist()
    rows = found.table[found.table["frame"] != tables.ALL]
    figure = new_figure(9.0, 4.2)
    ax = figure.add_subplot()
    for name, colour in zip(names, _colours(len(names)), strict=True):
        mine = rows[rows["model"] == name]
        ax.plot(mine["frame"].astype(int), mine["delta"], color=colour, label=name, marker=".")
    ax.set_ylabel("BIC above the least", **FONT)
    ax.set_yscale("symlog", linthresh=10)
    time_axis(ax, False)
    ax.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    return save(figure, path, style)


def _colours(n: int) -> list[Any]:
    return [COLOURS[i % len(COLOURS)] for i in range(n)]


def references(found: Compared, path: pathlib.Path, style: Style) -> pathlib.Path:
    """A panel a test: histogram or density under the null hypothesis, and what was seen."""
    shown = [t for t in found.tests if t.recommended]
    shown.sort(key=lambda t: found.best not in (t.null, t.alternative))
    shown = shown[:PANELS]
    columns = 1 if style.narrow else min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure = new_figure(4.2 * columns, 2.6 * rows)
    for i, test in enumerate(shown):
        _panel(figure.add_subplot(rows, columns, i + 1), test)
    return save(figure, path, style)


def _panel(ax: Any, test: PairTest) -> None:
    if test.reference is None:
        grid = np.linspace(1e-3, stats.chi2.ppf(0.999, test.degrees), 200)
        ax.plot(grid, stats.chi2.pdf(grid, test.degrees), color=COLOURS[0])
        top = grid[-1]
    else:
        known = test.reference[np.isfinite(test.reference)]
        bins = int(np.clip(known.size**0.5, 8, 40))  # of few samples, few bars
        ax.hist(known, bins=bins, density=True, color=COLOURS[0], alpha=0.6)
        top = float(known.max()) if known.size else 1.0
    far = test.statistic > 3 * top
    ax.axvline(min(test.statistic, 3 * top), color=COLOURS[1], linewidth=2,
               linestyle=":" if far else "-")  # fmt: skip
    beyond = f"{test.statistic:.4g}" + (" (beyond the axis)" if far else "")
    ax.set_title(
        f"{test.null}\nagainst {test.alternative}\n{test.method}: {beyond}, p = {test.p_value:.2g}",
        fontsize=8,
    )
    ax.set_xlim(right=1.06 * max(top, min(test.statistic, 3 * top)))
    ax.set_xlabel("statistic", fontsize=8)
    ax.set_yticks([])
    ax.tick_params(labelsize=8)
