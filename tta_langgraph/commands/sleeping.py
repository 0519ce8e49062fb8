"""`tta sleep`: think about a database while nobody waits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tta_langgraph.budget import Budget
from tta_langgraph.commands.models import MODEL_HELP, ready_model


def sleep(
    db: Annotated[str, typer.Argument(help="SQLAlchemy URL, or the path of a SQLite or DuckDB file. Only read.")],
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "embedded",
    questions: Annotated[int, typer.Option(help="Questions to anticipate.")] = 10,
    samples: Annotated[int, typer.Option(help="Samples per question; their results must agree.")] = 4,
    tokens: Annotated[int | None, typer.Option(help="Most tokens to spend in all.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Most seconds to spend in all.")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for the notes, by schema; by default the user's cache folder.")
    ] = None,
) -> None:
    """Anticipate questions about a database, with join paths, values and checked SQL, once per schema."""
    from tta_langgraph.models.weights import cache_dir
    from tta_langgraph.sql import Database
    from tta_langgraph.traces.sleep import sleep as run

    console = Console(stderr=True, soft_wrap=True)
    budget = None if tokens is None and seconds is None else Budget(tokens=tokens, seconds=seconds)
    folder = cache or cache_dir() / "sleep"
    with Database(db) as database:
        notes = run(
            database,
            ready_model(model, console),
            questions=questions,
            samples=samples,
            budget=budget,
            cache=folder,
        )
    out = Console(soft_wrap=True)
    out.print(notes.text(), highlight=False, markup=False)
    for solved in notes.solved:
        out.print(f"{solved.question}\n  {solved.sql}", highlight=False, markup=False)
    kept = f"{len(notes.solved)} of {notes.asked} anticipated questions kept"
    console.print(f"{kept}, {notes.spent.tokens:,} tokens; notes in {folder}", highlight=False, markup=False)
