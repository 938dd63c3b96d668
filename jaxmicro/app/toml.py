"""Tables as TOML, the way every command writes its model.toml."""

from __future__ import annotations

from typing import Any

import tomli_w


def text(tables: dict[str, Any]) -> str:
    """A TOML file of the tables; keys whose value is None are left out, as in any file."""
    return tomli_w.dumps(_known(tables))


def _known(table: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _known(value) if isinstance(value, dict) else value
        for key, value in table.items()
        if value is not None
    }
