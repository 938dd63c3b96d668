"""report.html: one self-contained page a run, figures inside."""

from __future__ import annotations

import base64
import html
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

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
    kind = "svg+xml" if path.suffix == ".svg" else path.suffix[1:]
    text = html.escape(caption)
    return (
        f'<figure><img alt="{text}" src="data:image/{kind};base64,{data}">'
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
