"""The `tta` command."""

from __future__ import annotations

import logging
import os
import sys

import typer
from rich.console import Console

from tta_langgraph import __version__
from tta_langgraph.commands.ask import ask
from tta_langgraph.commands.demo import demo
from tta_langgraph.commands.recording import record
from tta_langgraph.commands.serve import serve
from tta_langgraph.commands.sleeping import sleep
from tta_langgraph.commands.tracing import fit, replay, report, stats, tune
from tta_langgraph.errors import TTAError

app = typer.Typer(
    name="tta",
    help="Budget-aware reasoning for LangGraph: how much thinking is this question worth?",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
for command in (demo, ask, serve, record, replay, fit, tune, report, stats, sleep):
    app.command()(command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tta-langgraph {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Log what the library does."),
) -> None:
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, format="%(name)s: %(message)s")


def main() -> None:
    """Runs the command; every expected failure is one line on standard error, and exit code 1."""
    try:
        app()
    except TTAError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted")
        sys.exit(130)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        _fail(f"{error.strerror or error}{where}. Check that the path exists and is writable")
    except Exception as error:
        _fail(f"{type(error).__name__}: {error}. This is a bug: TTA_DEBUG=1 shows where")


def _fail(message: str) -> None:
    Console(stderr=True, soft_wrap=True).print(f"[red]error:[/red] {message}", highlight=False)
    if os.environ.get("TTA_DEBUG"):
        raise
    sys.exit(1)


if __name__ == "__main__":
    main()
