"""`jaxmicro models`."""

from __future__ import annotations

from rich.table import Table

from jaxmicro.app.cli.common import console, reported


@reported
def models() -> None:
    """List the model files that come with jaxmicro: --model takes their names."""
    from jaxmicro.app.model_file import command_of, library, read_tables

    table = Table(box=None, pad_edge=False)
    for header in ("model", "for", "description"):
        table.add_column(header, overflow="fold", no_wrap=header != "description")
    known = library()
    for name, path in known.items():
        tables = read_tables(path)[2]
        table.add_row(name, command_of(tables), str(tables.get("description", "")))
    console().print(table)
    console().print(f"the files: {next(iter(known.values())).parent}")
