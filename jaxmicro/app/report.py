"""report.html: one self-contained page per run, figures inside."""

from __future__ import annotations

import base64
import html
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxmicro.app.quantify import Quantified

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem;
       color: #1a1a1a; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .7rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; } figure { margin: 1rem 0; } figcaption { color: #555; }
pre { background: #f4f4f4; padding: .8rem; overflow-x: auto; font-size: .85rem; }
.note { background: #fff4e0; border-left: 4px solid #e69f00; padding: .4rem .8rem; }
"""


def write_page(
    path: pathlib.Path,
    title: str,
    sections: Sequence[tuple[str, str]],
    notes: Sequence[str] = (),
) -> None:
    """A page of (heading, HTML) sections, with notes to the reader at the top."""
    parts = [f"<h1>{html.escape(title)}</h1>"]
    parts += [f'<p class="note">{html.escape(n)}</p>' for n in notes]
    for heading, body in sections:
        parts.append(f"<h2>{html.escape(heading)}</h2>\n{body}" if heading else body)
    text = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )
    path.write_text(text, encoding="utf-8")


def figure(path: pathlib.Path, caption: str) -> str:
    """An image as HTML with its bytes inside."""
    data = base64.b64encode(path.read_bytes()).decode()
    text = html.escape(caption)
    return (
        f'<figure><img alt="{text}" src="data:image/png;base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    def cells(row: Sequence[Any], tag: str) -> str:
        return "".join(f"<{tag}>{html.escape(number(c))}</{tag}>" for c in row)

    body = "\n".join(f"<tr>{cells(r, 'td')}</tr>" for r in rows)
    return f"<table><tr>{cells(header, 'th')}</tr>\n{body}</table>"


def number(value: Any) -> str:
    """Four significant digits; what is not known is a dash."""
    if value is None:
        return "-"
    if isinstance(value, float | np.floating):
        return "-" if np.isnan(value) else f"{value:.4g}"
    return str(value)


def preformatted(text: str) -> str:
    return f"<pre>{html.escape(text)}</pre>"


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
    for name in run.results:
        ended[name] = ended.get(name, 0) + 1
    mixture = run.variant.mixture
    shared = ", ".join(mixture.share) or "nothing"
    return [
        ("movie", f"{movie.name}: {pixels.n_frames} frames of {pixels.shape[0]} x "
                  f"{pixels.shape[1]}, {size}"),
        ("visited", f"{visited:.0f} pixels a frame "
                    f"({100 * visited / float(np.mean(np.asarray(pixels.n_domain))):.3g} %), "
                    f"{pixels.pattern if run.rate else 'all that the movie has'}"),
        ("model", f"{mixture.classes} {mixture.family} classes, trend {mixture.trend or 'none'}, "
                  f"shared over the movie: {shared}"),
        ("fit", ", ".join(f"{n} {name}" for name, n in ended.items())
         + f"; {int(np.max(np.asarray(run.fit.steps)))} steps, {run.fit.optimum_text}"),
        ("foreground", f"class {', '.join(map(str, run.partition.foreground))} of "
                       f"0 to {mixture.classes - 1}: {run.partition.reason}"),
        ("correction", _correction_text(run)),
    ]  # fmt: skip


def _correction_text(run: Quantified) -> str:
    c = run.variant.correction
    if c is None or run.changed is None:
        return "none"
    when = "past and present" if c.causal else "past, present and future"
    share = run.changed.sum() / max(1.0, float(np.sum(np.asarray(run.pixels.n_pixels))))
    return (
        f"vote of {when} neighbours within {c.radius} ({c.metric.upper()}), threshold "
        f"{c.threshold:g}: {100 * share:.2g} % of the visited pixels changed"
    )


def growth_rows(run: Quantified) -> tuple[list[str], list[list[Any]]]:
    frame = run.growth.to_pandas()
    keep = [c for c in frame.columns if c == "result" or frame[c].notna().any()]
    return keep, frame[keep].values.tolist()


def write_report(
    path: pathlib.Path,
    run: Quantified,
    figures: Mapping[str, pathlib.Path],
    record: str,
) -> None:
    """The page of a quantify run."""
    header, rows = growth_rows(run)
    write_page(
        path,
        f"Growth in {run.movie.name}",
        [
            ("", table(("", ""), summary_rows(run))),
            ("Figures", "\n".join(figure(p, caption) for caption, p in figures.items())),
            ("Growth, frame by frame", table(header, rows)),
            ("Model", preformatted(run.variant.to_toml())),
            ("This run", preformatted(record)),
        ],
        run.notes,
    )
