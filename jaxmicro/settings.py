"""Settings that a model file may give: declared once, as fields of the record that uses them.

`jaxmicro.app.model_file.table_of` makes the table of the file from the record: keys, types,
defaults, and what a value may be.
"""

from __future__ import annotations

import dataclasses
from typing import Any


def setting(
    default: Any = dataclasses.MISSING, allowed: str = "", *, key: str | None = None, **limits: Any
) -> Any:
    """A field of a record that a model file may give.

    Args:
      default: its value where it is left out; without one it must be given.
      allowed: what a value may be, in words: "use ..." in the line that refuses another one.
      key: its name in the file, where that is not the field's own.
      limits: `gt`, `ge`, `lt`, `le`, or `choices`, the texts that are allowed. They are those of a
        file, which may be narrower than what the record itself refuses.
    """
    metadata = {"allowed": allowed, "key": key, "limits": limits}
    return dataclasses.field(default=default, metadata=metadata)


def choice(default: str, choices: tuple[str, ...]) -> Any:
    """A setting that is one of a few texts."""
    *others, last = map(repr, choices)
    words = f"{', '.join(others)} or {last}"
    return setting(default, words if len(choices) <= 4 else f"one of {words}", choices=choices)


def settings_of(record: type) -> dict[str, dataclasses.Field[Any]]:
    """The fields of a record that are settings, by their names in a file."""
    fields = [f for f in dataclasses.fields(record) if "allowed" in f.metadata]
    return {f.metadata["key"] or f.name: f for f in fields}
