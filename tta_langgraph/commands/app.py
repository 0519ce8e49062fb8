"""The commands of `tta`, put together. Importing this brings in nearly everything; `tta_langgraph.cli` does not."""

from __future__ import annotations

import logging

import typer

from tta_langgraph import __version__
from tta_langgraph.commands.ask import ask
from tta_langgraph.commands.demo import demo
from tta_langgraph.commands.recording import record
from tta_langgraph.commands.serve import serve
from tta_langgraph.commands.sleeping import sleep
from tta_langgraph.commands.tracing import fit, replay, report, stats, tune
from tta_langgraph.commands.transfer import export, import_

app = typer.Typer(
    name="tta",
    help="Budget-aware reasoning for LangGraph: how much thinking is this question worth?",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
for command in (demo, ask, serve, record, import_, export, replay, fit, tune, report, stats, sleep):
    app.command(command.__name__.rstrip("_"))(command)


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
