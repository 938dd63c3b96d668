"""The command line: options in, one call, words out. The only package that prints.

A command is one function in one module here, registered below.
"""

from __future__ import annotations

import os
import pathlib
import sys
from typing import Annotated

import typer

import jaxmicro
from jaxmicro.app.cli import compare, enhance, models, plan, posterior, quantify, scenes, study

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Quantities with honest error bars from microscopy that saw too few counts.",
)
phantom_app = typer.Typer(no_args_is_help=True, help="Write a scene whose truth is known.")

app.command()(quantify.quantify)
app.command()(compare.compare)
app.command()(enhance.enhance)
app.command()(posterior.posterior)
app.command()(study.study)
app.command()(plan.plan)
app.command()(models.models)
app.command()(scenes.info)
app.command()(scenes.demo)
phantom_app.command()(scenes.operando)
phantom_app.command(name="stem-txm")(enhance.stem_txm)
app.add_typer(phantom_app, name="phantom")


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"jaxmicro {jaxmicro.__version__}")
        raise typer.Exit


LISTED = ("--train", "--apply", "--rates")


def listed(arguments: list[str], options: tuple[str, ...] = LISTED) -> list[str]:
    """`--train a b` as `--train a --train b`, so that the shell's globs work with these options."""
    out: list[str] = []
    current = None
    for word in arguments:
        if word.startswith("--"):
            current = word if word in options else None
            if current is None:
                out.append(word)
        elif current is not None:
            out += [current, word]
        else:
            out.append(word)
    return out


def main() -> None:
    """Entry point of the `jaxmicro` command."""
    # Compilation is most of a short run: keep compiled programs from run to run.
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache / "jaxmicro"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
    app(listed(sys.argv[1:]), prog_name="jaxmicro")


__all__ = ["app", "main"]
