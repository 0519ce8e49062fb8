"""`tta record`: fills a trace store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from tta_langgraph.commands.arguments import price, share
from tta_langgraph.commands.bars import bar
from tta_langgraph.commands.models import MODEL_HELP, ready_model

GIVEN_UP, INTERRUPTED = 3, 130
"""Exit codes."""


def record(
    questions: Annotated[Path, typer.Argument(help="JSON lines with id, db_id, question, gold_sql.")],
    databases: Annotated[str, typer.Argument(help="Folder of {db_id}.sqlite, or a SQLAlchemy URL with {db_id} in it.")],
    store: Annotated[str, typer.Option(help="Trace store: a file or a SQLAlchemy URL.")] = "traces.sqlite",
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "embedded",
    judge: Annotated[str | None, typer.Option(help="The judge; the model itself if not given.")] = None,
    recording: Annotated[str, typer.Option(help="Name of the recording; a store holds any number.")] = "",
    samples: Annotated[int, typer.Option(help="Samples per question.", min=0)] = 8,
    temperature: Annotated[float, typer.Option(help="Of the samples.", callback=price)] = 0.8,
    rounds: Annotated[int, typer.Option(help="Rounds of reflection with execution feedback.", min=0)] = 3,
    limit: Annotated[int | None, typer.Option(help="Most questions, spread over the databases.", min=1)] = None,
    concurrency: Annotated[
        int, typer.Option(help="Questions at a time; more of them keep a batching server busy.", min=1)
    ] = 1,
    latency: Annotated[
        Path | None, typer.Option(help="Give attempts the latency they would have had on this idle engine.")
    ] = None,
    executor: Annotated[str, typer.Option(help="local, or ray.")] = "local",
    workers: Annotated[int | None, typer.Option(help="Ray workers.", min=1)] = None,
    test_share: Annotated[float, typer.Option(help="Share of databases kept for testing.", callback=share)] = 0.4,
    fresh: Annotated[bool, typer.Option(help="Record again what is there.")] = False,
    export: Annotated[
        Path | None, typer.Option(help="Write the pools, without questions' texts, to this file.")
    ] = None,
) -> None:
    """Run a grid of strategies over questions and store what happened. Resumable: run it again to go on.

    Exit codes: 0 all recorded; 1 failed; 3 some questions were given up; 130 interrupted (what was recorded is stored).
    """
    from tta_langgraph.latency import LatencyModel
    from tta_langgraph.models.resolve import resolve_model
    from tta_langgraph.traces.export import check_export, export_store
    from tta_langgraph.traces.grid import Chain, Grid
    from tta_langgraph.traces.questions import balanced, chosen, load_questions, split_by_database
    from tta_langgraph.traces.record import Progress as Recorded
    from tta_langgraph.traces.record import record as run
    from tta_langgraph.traces.store import TraceStore

    if executor not in ("local", "ray"):
        raise typer.BadParameter("use local or ray", param_hint="--executor")
    if export is not None:
        check_export(export)
    console = Console(stderr=True, soft_wrap=True)
    idle = None if latency is None else LatencyModel.read(latency)
    with TraceStore(store) as traces:
        sides = traces.sides(recording)
    listed = split_by_database(load_questions(questions), test=test_share, known=sides)
    listed = balanced(listed) if limit is None else balanced(chosen(listed, n=limit))
    chains = (Chain(feedback="execution", rounds=rounds),) if rounds else ()
    grid = Grid(
        samples=samples, temperature=temperature, chains=(*chains, Chain(feedback="none"), Chain(feedback="judge"))
    )
    # On Ray each worker makes its own model, so the function is passed on, not its result.
    answering: Any = (lambda: resolve_model(model)) if executor == "ray" else ready_model(model, console)
    judging: Any = None if judge is None else ready_model(judge, console)
    try:
        with bar(console, "recording", len(listed)) as advance:

            def report(at: Recorded) -> None:
                spent = f"{at.spent.tokens:,} tokens, {at.per_hour:.0f} an hour, {at.failed} failed"
                advance(at.skipped + at.done + at.failed, spent)

            done = run(
                listed,
                databases,
                answering,
                grid,
                store,
                recording=recording,
                judge=judging,
                executor="ray" if executor == "ray" else "local",
                concurrency=concurrency,
                workers=workers,
                resume=not fresh,
                progress=report,
                latency=idle,
            )
    except KeyboardInterrupt:
        with TraceStore(store) as traces:
            kept = len(traces.recorded(recording) & {question.id for question in listed})
        again = "the same command without --fresh goes on" if fresh else "the same command goes on"
        console.print(
            f"interrupted: {kept} of {len(listed)} questions stored in {store}; {again}", highlight=False, markup=False
        )
        raise typer.Exit(INTERRUPTED) from None
    console.print(
        f"{done.recorded} recorded, {done.skipped} there already, {len(done.failures)} failed; "
        f"{done.spent.tokens:,} tokens in {done.seconds:.0f} s; store {store}",
        highlight=False,
        markup=False,
    )
    for question, why in done.failures[:5]:
        console.print(f"  {question}: {why}", highlight=False, markup=False)
    if export is not None:
        with TraceStore(store) as traces:
            written = export_store(traces, export, recording=recording)
        console.print(f"{written} pools written to {export}", highlight=False)
    if done.failures:
        raise typer.Exit(GIVEN_UP)
