"""`tta serve`: a vLLM server with the flags that budgets need, and why."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console


def serve(
    model: Annotated[str, typer.Argument(help="A model folder, a hub name, or a name of the packaged weights.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
    dry_run: Annotated[bool, typer.Option(help="Print the command and the reasons, and start nothing.")] = False,
) -> None:
    """Start a vLLM server for budgeted agents, saying what was chosen and why."""
    from tta_langgraph.models.serve import plan_server, run_server

    console = Console(soft_wrap=True)
    plan = plan_server(model, host=host, port=port)
    console.print(plan.explain(), highlight=False, markup=False)
    if dry_run:
        return
    with run_server(plan) as server:
        console.print(f"\nready: {plan.base_url} (Ctrl-C stops it)", highlight=False)
        try:
            server.wait()
        except KeyboardInterrupt:
            console.print("stopping")
