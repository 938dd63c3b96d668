"""Model files: TOML tables, checked key by key; a mistake is one line with file, line and key."""

from __future__ import annotations

import functools
import importlib.resources
import operator
import pathlib
import tomllib
import types
import typing
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from jaxmicro.errors import UsageError
from jaxmicro.settings import settings_of


class Table(BaseModel):
    """A table of a TOML file: unknown keys, wrong types, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


Schema = TypeVar("Schema", bound=Table)
Record = TypeVar("Record")
Pair = Annotated[list[float], Field(min_length=2, max_length=2)]


def table_of(*records: type, only: Sequence[str] = ()) -> type[Table]:
    """A table with a key for each setting of the records (`jaxmicro.settings`), or for `only`
    those."""
    keys: dict[str, Any] = {}
    for record in records:
        hints = typing.get_type_hints(record)
        for key, field in settings_of(record).items():
            if only and key not in only:
                continue
            limits = dict(field.metadata["limits"])
            choices = limits.pop("choices", None)
            kind = Literal[choices] if choices else _in_a_file(hints[field.name])
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            described = Field(description=field.metadata["allowed"], **limits)
            keys[key] = (Annotated[kind, described], default)
    name = "".join(record.__name__ for record in records)
    return pydantic.create_model(name, __base__=Table, **keys)


def _in_a_file(kind: Any) -> Any:
    """The type that a TOML file has for a field's: lists for tuples."""
    inside = typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        return list[inside[0]] if inside[-1] is Ellipsis else Pair
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return functools.reduce(operator.or_, map(_in_a_file, inside))
    return kind


def record_of(table: Table, record: type[Record], **more: Any) -> Record:
    """The record that a table stands for; `more` are fields that are no settings."""
    given = {
        field.name: getattr(table, key)
        for key, field in settings_of(record).items()
        if hasattr(table, key)
    }
    frozen = {n: tuple(v) if isinstance(v, list) else v for n, v in given.items()}
    return record(**frozen | more)


def library() -> dict[str, pathlib.Path]:
    """The model files that come with jaxmicro, by name: those of the installed package, or of the
    folder `models` beside it in a checkout."""
    package = pathlib.Path(str(importlib.resources.files("jaxmicro")))
    inside = package / "models"
    folder = inside if inside.is_dir() else package.parent / "models"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def command_of(tables: dict[str, Any]) -> str:
    """Which command a model file is for, from its tables."""
    enhance = "dictionary" in tables and "mixture" not in tables
    return "enhance" if enhance else "quantify"


def read_tables(model: str | pathlib.Path) -> tuple[pathlib.Path, str, dict[str, Any]]:
    """Path, text and tables of a model file, or of the known one of that name; see `load_as`."""
    path = pathlib.Path(model)
    known = library()
    if str(path) in known and not path.is_file():
        path = known[str(path)]
    elif not path.suffix and len(path.parts) == 1 and not path.is_file():
        raise UsageError(
            f"model {path} is not known; give a TOML file or one of {', '.join(known)}"
        )
    try:
        text = path.read_text(encoding="utf-8")
        return path, text, tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        raise UsageError(f"model {path}: not valid TOML: {err}") from err
    except (OSError, UnicodeDecodeError) as err:
        raise UsageError(f"model {path}: cannot be read ({err}); give a TOML file") from err


def load_as(model: str | pathlib.Path, schema: type[Schema]) -> Schema:
    """Read and check a model file, or the known one of that name.

    Raises:
      UsageError: the file is missing, is not TOML, or holds an unknown key, a wrong type or an
        impossible value; the message names file, line, key, value and what is allowed.
    """
    return _checked(*read_tables(model), schema)


def parse_as(text: str, schema: type[Schema]) -> Schema:
    """Check the text of a model file; raises as `load_as` does."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        raise UsageError(f"model given as text: not valid TOML: {err}") from err
    return _checked(pathlib.Path("given as text"), text, tables, schema)


def _checked(path: pathlib.Path, text: str, tables: dict[str, Any], schema: type[Schema]) -> Schema:
    try:
        return schema.model_validate(tables)
    except pydantic.ValidationError as err:
        # A misspelt key also leaves its right name missing: the misspelling is what to show.
        first = min(err.errors(), key=lambda e: e["type"] != "extra_forbidden")
        raise UsageError(_sentence(path, text, schema, dict(first))) from err


def _sentence(path: pathlib.Path, text: str, schema: type[Table], error: dict[str, Any]) -> str:
    where = [p for p in error["loc"] if isinstance(p, str)]
    line = _line_of(text, where)
    name = ".".join(where) or "the file"
    at = f"model {path}, line {line}: " if line else f"model {path}: "
    owner = _table(schema, where[:-1])
    if error["type"] == "extra_forbidden":
        return f"{at}{name} is not a known key; allowed are {', '.join(owner.model_fields)}"
    if error["type"] == "missing":
        wanted = owner.model_fields[where[-1]].description or f"a table [{name}]"
        return f"{at}{name} is missing; give {wanted}"
    if error["type"] in ("value_error", "assertion_error"):
        words = str(error["msg"]).removeprefix("Value error, ")
        return f"{at}{name}: {words}" if where else f"{at}{words}"
    field = owner.model_fields.get(where[-1]) if where else None
    allowed = field.description if field is not None else None
    return f"{at}{name} = {error['input']!r} is not allowed; use {allowed or error['msg']}"


def _table(schema: type[Table], where: list[str]) -> type[Table]:
    for name in where:
        field = schema.model_fields.get(name)
        options = [field.annotation, *getattr(field.annotation, "__args__", ())] if field else []
        schema = next((o for o in options if isinstance(o, type) and issubclass(o, Table)), schema)
    return schema


def _line_of(text: str, where: list[str]) -> int | None:
    """Line (from 1) that sets the key, or opens the table it would be in."""
    table, found = "", None
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if stripped.startswith("["):
            table = stripped.strip("[]").strip()
            if table == ".".join(where):
                return number
            if table == ".".join(where[:-1]):
                found = number
        elif where and table == ".".join(where[:-1]):
            key = stripped.partition("=")[0].strip()
            if key == where[-1]:
                return number
    return found
