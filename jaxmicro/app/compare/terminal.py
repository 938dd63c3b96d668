"""The words and the table of a comparison, in 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import numpy as np
import pandas as pd

from jaxmicro.app.compare.run import Compared
from jaxmicro.growth.pair_tests import PairTest

WIDTH = 79
NAME = 27  # columns of a model's name; longer ones go on in the next line
MOST = 20  # rows; the others are in comparison.csv
HEADER = f"{'model':<{NAME}} {'free':>5} {'score':>8} {'s.e.':>7} {'BIC':>9} {'weight':>6}  check"
SURE = 0.05


def lines(found: Compared) -> Iterator[str]:
    """The table, best model first, and what the tests say of it."""
    rows = found.overall
    yield ""
    yield HEADER
    for number, row in rows.head(MOST).iterrows():
        yield from _row(row, number == 0)
    if len(rows) > MOST:
        yield f"and {len(rows) - MOST} more in comparison.csv"
    yield ""
    yield from textwrap.wrap(
        "score: nats per pixel behind the best, predicting pixels left out, with the standard "
        "error of the difference; BIC: above the least. Rows are in the order of the score less "
        "what parameters must be worth.",
        WIDTH,
    )
    yield from _verdict(found)


def _row(row: pd.Series, first: bool) -> Iterator[str]:
    name, *rest = textwrap.wrap(row["model"], NAME, break_long_words=True) or [""]
    behind, error = row["score_behind"], row["score_behind_se"]
    # the best model by score need not be the first: a larger one may predict a little better
    score = "-" if np.isnan(behind) else f"{-behind:+.4f}"
    if first and not np.isnan(behind):
        score = f"{row['score']:.3f}"
    se = "-" if np.isnan(error) or first else f"{error:.4f}"
    delta = "-" if np.isnan(row["delta"]) else f"{row['delta']:.1f}"
    weight = "-" if np.isnan(row["weight"]) else f"{row['weight']:.3f}"
    text = f"{name:<{NAME}} {row['free_parameters']:>5} {score:>8} {se:>7} {delta:>9} {weight:>6}  "
    check = textwrap.wrap(row["check"], WIDTH - len(text)) or [""]
    yield text + check[0]
    for i in range(max(len(rest), len(check) - 1)):
        more = rest[i] if i < len(rest) else ""
        yield f"{more:<{NAME}}{'':>{len(text) - NAME}}{check[i + 1] if i + 1 < len(check) else ''}"


def _verdict(found: Compared) -> Iterator[str]:
    if found.best is None:
        yield "no model reached its optimum: nothing is recommended"
        return
    yield f"recommended: {found.best}"
    told = [t for t in found.tests if t.recommended and found.best in (t.null, t.alternative)]
    for test in told:
        yield from textwrap.wrap(_sentence(test, found.best), WIDTH, subsequent_indent="  ")


def _sentence(test: PairTest, best: str) -> str:
    p = f"p = {test.p_value:.2g}, {test.method}"
    if test.alternative == best:
        what = "is needed beyond" if test.p_value <= SURE else "is not shown to be needed beyond"
        return f"{best} {what} {test.null} ({p})"
    what = "adds to it" if test.p_value <= SURE else "adds nothing that is seen"
    return f"{test.alternative} {what} ({p})"
