"""What a comparison leaves: comparison.csv, tests.csv and its figures."""

from __future__ import annotations

import pathlib

from jaxmicro.app.compare import tables
from jaxmicro.app.compare.run import Compared
from jaxmicro.app.style import Style


def write(folder: pathlib.Path, found: Compared, style: Style) -> dict[str, pathlib.Path]:
    """Write the tables (tests.csv where there were tests) and figures; figures by caption."""
    from jaxmicro.app.compare import figures  # matplotlib takes a second to import

    found.table.to_csv(folder / "comparison.csv", index=False, float_format="%.10g")
    if found.tests:
        tests = tables.tests_table(found.tests)
        tests.to_csv(folder / "tests.csv", index=False, float_format="%.6g")
    drawn = folder / "figures"
    drawn.mkdir()
    return figures.draw(drawn, found, style)
