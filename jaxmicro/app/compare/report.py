"""The page of a comparison."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

from jaxmicro.app import page
from jaxmicro.app.compare import tables
from jaxmicro.app.compare.run import Compared

SHOWN = (
    *("model", "free_parameters", "score", "score_se", "score_behind", "score_behind_se"),
    *("log_likelihood", "aic", "bic", "icl", "delta", "weight", "result", "check"),
)


def write_report(
    path: pathlib.Path,
    found: Compared,
    notes: Sequence[str],
    figures: Mapping[str, pathlib.Path],
    record: str,
) -> None:
    """Models best first, their criteria over time, the tests with what they were held against."""
    rows = found.overall[list(SHOWN)]
    sections = [("Best first", page.table(list(SHOWN), rows.values.tolist()))]
    tests = tables.tests_table(found.tests)
    if len(tests):
        sections.append(
            ("Tests of nested models", page.table(list(tests.columns), tests.values.tolist()))
        )
    sections += [("", page.figure(file, caption)) for caption, file in figures.items()]
    sections.append(("This run", page.preformatted(record)))
    page.write_page(path, f"Models for {found.movie}", sections, notes)
