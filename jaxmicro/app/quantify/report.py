"""The page and the terminal's words of a quantify run."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxmicro.app import output, page
from jaxmicro.app.quantify import files
from jaxmicro.app.quantify.run import Quantified
from jaxmicro.data.read import sha256
from jaxmicro.growth.analyse import result_names
from jaxmicro.growth.columns import CONSTANT_COLUMNS
from jaxmicro.growth.estimate import Growth
from jaxmicro.spacetime.soft_correction import SoftCorrection


def summary_rows(run: Quantified) -> list[tuple[str, str]]:
    """What was done and found, as label and text."""
    movie, pixels = run.movie, run.pixels
    visited = float(np.mean(np.asarray(pixels.n_pixels)))
    size = (
        "pixel size not known"
        if movie.pixel_size_nm is None
        else " x ".join(f"{p:.4g}" for p in dict.fromkeys(movie.pixel_size_nm)) + " nm/pixel"
    )
    ended: dict[str, int] = {}
    for name in result_names(run.fit):
        ended[name] = ended.get(name, 0) + 1
    mixture, drawn = run.variant.mixture, run.analysis.plan.sampling.rate is not None
    shared = ", ".join(mixture.share) or "nothing"
    return [
        ("movie", f"{movie.name}: {pixels.n_frames} frames of {pixels.shape[0]} x "
                  f"{pixels.shape[1]}, {size}"),
        ("visited", f"{visited:.0f} pixels a frame "
                    f"({100 * visited / float(np.mean(np.asarray(pixels.n_domain))):.3g} %), "
                    f"{pixels.pattern if drawn else 'all that the movie has'}"),
        ("model", f"{mixture.classes} {mixture.family} classes, trend {mixture.trend or 'none'}, "
                  f"shared over the movie: {shared}"),
        ("fit", ", ".join(f"{n} {name}" for name, n in ended.items())
         + f"; {int(np.max(np.asarray(run.fit.steps)))} steps, {run.fit.optimum_text}"),
        ("foreground", f"class {', '.join(map(str, run.partition.foreground))} of "
                       f"0 to {mixture.classes - 1}: {run.partition.reason}"),
        ("correction", _correction_text(run)),
        ("check", _check_text(run)),
    ]  # fmt: skip


def _check_text(run: Quantified) -> str:
    """How many frames are well described, and what was seen in the others."""
    words, counts = np.unique(run.check.words, return_counts=True)
    told = ", ".join(f"{n} {word}" for word, n in zip(words.tolist(), counts, strict=True))
    return f"of {run.check.words.size} frames: {told}" + (
        "" if run.check.ok.all() else "; see the notes"
    )


def _correction_text(run: Quantified) -> str:
    c, found = run.variant.correction, run.analysis.corrected
    if c is None or found is None:
        return "none"
    when = "past and present" if c.causal else "past, present and future"
    changed = float(np.sum(np.asarray(found.n_changed)))
    share = changed / max(1.0, float(np.sum(np.asarray(run.pixels.n_pixels))))
    if isinstance(found, SoftCorrection):
        name, radius, threshold = "soft vote", found.radius, found.threshold
    else:
        assert c.radius is not None
        assert c.threshold is not None
        name, radius, threshold = "vote", c.radius, c.threshold
    return (
        f"{name} of {when} neighbours within {radius:.3g} ({c.metric.upper()}), threshold "
        f"{threshold:.2g}: {100 * share:.2g} % of the visited pixels changed"
    )


def growth_rows(growth: Growth) -> tuple[list[str], list[list[Any]]]:
    """The table of the page: what is known and differs from frame to frame."""
    frame = growth.to_pandas().drop(columns=list(CONSTANT_COLUMNS))
    keep = [c for c in frame.columns if c == "result" or frame[c].notna().any()]
    same = [c for c in ("region_px", "visited_px") if frame[c].nunique() == 1]
    same += ["source_frame"] if (frame["source_frame"] == frame["frame"]).all() else []
    best = "area_px" if growth.area_um2 is None else "area_um2"
    ends = [c for c in growth.intervals if c not in (f"{best}_lo95", f"{best}_hi95")]
    shown = [c for c in keep if c not in (*same, *ends)]
    return shown, frame[shown].values.tolist()


def write_report(
    path: pathlib.Path,
    run: Quantified,
    figures: Mapping[str, pathlib.Path],
    record: str,
) -> None:
    """The page of a quantify run."""
    header, rows = growth_rows(run.growth)
    page.write_page(
        path,
        f"Growth in {run.movie.name}",
        [
            ("", page.table(("", ""), summary_rows(run))),
            ("Figures", "\n".join(page.figure(p, caption) for caption, p in figures.items())),
            ("Growth, frame by frame", page.table(header, rows)),
            ("Model", page.preformatted(run.variant.to_toml())),
            ("This run", page.preformatted(record)),
        ],
        run.notes,
    )


def write_folder(out: pathlib.Path, run: Quantified, force: bool) -> pathlib.Path:
    """Files, figures, run.json and page of a run made in Python, whole or not at all."""
    output.check_target(out, force)
    with output.new_folder(out, force) as folder:
        figures = files.write(folder, run)
        seed = run.analysis.plan.sampling.seed
        inputs = {run.movie.source: sha256(run.movie.source)} if run.movie.source else {}
        record = output.run_record(["jaxmicro.quantify"], seed=seed, inputs=inputs, seconds={})
        output.write_json(folder / output.RECORD, record)
        text = (folder / output.RECORD).read_text(encoding="utf-8")
        write_report(folder / "report.html", run, figures, text)
    return out
