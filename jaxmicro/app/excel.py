"""Tables as .xlsx (Office Open XML, ECMA-376): numbers stay numbers whatever a locale's comma is.

A workbook of plain cells is five small XML files in a ZIP; nothing else is needed to write one.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

Rows = Sequence[Sequence[Any]]

_HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_LINKS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_KIND = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_WIDEST = 60  # characters of a column
_FIRST_DAY = (1980, 1, 1, 0, 0, 0)  # the same table gives the same file


def write_workbook(path: Path, sheets: Mapping[str, Rows]) -> None:
    """Sheets by name, each a header and rows; None and NaN are empty cells, never 0."""
    parts = {
        "[Content_Types].xml": _types(len(sheets)),
        "_rels/.rels": _relations([("officeDocument", "xl/workbook.xml")]),
        "xl/workbook.xml": _workbook(list(sheets)),
        "xl/_rels/workbook.xml.rels": _relations(
            [("worksheet", f"worksheets/sheet{i}.xml") for i in range(1, len(sheets) + 1)]
        ),
    }
    for i, rows in enumerate(sheets.values(), 1):
        parts[f"xl/worksheets/sheet{i}.xml"] = _sheet(rows)
    with zipfile.ZipFile(path, "w") as file:
        for name, text in parts.items():
            entry = zipfile.ZipInfo(name, _FIRST_DAY)
            file.writestr(entry, _HEAD + text, zipfile.ZIP_DEFLATED)


def _types(n_sheets: int) -> str:
    sheets = "".join(
        f'<Override PartName="/xl/worksheets/sheet{i}.xml" ContentType="{_KIND}.worksheet+xml"/>'
        for i in range(1, n_sheets + 1)
    )
    return (
        f'<Types xmlns="{_PACKAGE}/content-types">'
        '<Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Default Extension="xml" ContentType="application/xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{_KIND}.sheet.main+xml"/>'
        f"{sheets}</Types>"
    )


def _relations(targets: Sequence[tuple[str, str]]) -> str:
    links = "".join(
        f'<Relationship Id="rId{i}" Type="{_LINKS}/{kind}" Target="{target}"/>'
        for i, (kind, target) in enumerate(targets, 1)
    )
    return f'<Relationships xmlns="{_PACKAGE}/relationships">{links}</Relationships>'


def _workbook(names: Sequence[str]) -> str:
    sheets = "".join(
        f'<sheet name={quoteattr(name)} sheetId="{i}" r:id="rId{i}"/>'
        for i, name in enumerate(names, 1)
    )
    return f'<workbook xmlns="{_MAIN}" xmlns:r="{_LINKS}"><sheets>{sheets}</sheets></workbook>'


def _sheet(rows: Rows) -> str:
    """Cells, with the header row kept in view."""
    view = (
        '<sheetViews><sheetView workbookViewId="0"><pane ySplit="1" topLeftCell="A2" '
        'activePane="bottomLeft" state="frozen"/></sheetView></sheetViews>'
    )
    body = "".join(f'<row r="{r}">{"".join(_cells(r, row))}</row>' for r, row in enumerate(rows, 1))
    return (
        f'<worksheet xmlns="{_MAIN}">{view}<cols>{_widths(rows)}</cols>'
        f"<sheetData>{body}</sheetData></worksheet>"
    )


def _widths(rows: Rows) -> str:
    longest = [max(len(str(row[c])) for row in rows) for c in range(len(rows[0]))]
    return "".join(
        f'<col min="{c}" max="{c}" width="{min(n, _WIDEST) + 2}" customWidth="1"/>'
        for c, n in enumerate(longest, 1)
    )


def _cells(row_number: int, row: Sequence[Any]) -> Iterator[str]:
    for column, value in enumerate(row):
        place = f"{_letters(column)}{row_number}"
        if isinstance(value, str):
            yield f'<c r="{place}" t="inlineStr"><is><t>{escape(value)}</t></is></c>'
        elif value is not None and math.isfinite(value):
            number = int(value) if float(value).is_integer() else float(value)
            yield f'<c r="{place}"><v>{number!r}</v></c>'


def _letters(column: int) -> str:
    """A, B, ..., Z, AA, ... of column 0, 1, ..."""
    head, last = divmod(column, 26)
    return (_letters(head - 1) if head else "") + chr(ord("A") + last)
