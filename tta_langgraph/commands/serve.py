"""`tta serve`: a vLLM server with the flags that budgets need, and why."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console


def serve(
    model: Annotated[str, typer.Argument(help="A model folder, a hub name, or a name of the packaged weights.")],
    vllm_args: Annotated[
        list[str] | None, typer.Argument(metavar="[-- ARGS]", help="After a `--`: vLLM's own arguments, which win.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", "--served-name", help="What clients call the model; MODEL by default.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
    max_model_len: Annotated[int | None, typer.Option(help="Window in tokens, prompt plus completion.")] = None,
    tool_parser: Annotated[
        str | None, typer.Option(help="Form of the model's tool calls, such as `hermes`; without it none are made.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option(help="Print the command and the reasons; start nothing and fetch nothing.")
    ] = False,
) -> None:
    """Start a vLLM server for budgeted agents, saying what was chosen and why."""
    from tta_langgraph.models.serve import plan_server, run_server

    console = Console(soft_wrap=True)
    plan = plan_server(
        model,
        name=name,
        host=host,
        port=port,
        max_model_len=max_model_len,
        tool_parser=tool_parser,
        extra_args=vllm_args or (),
        fetch=not dry_run,
    )
    console.print(plan.explain(), highlight=False, markup=False)
    if dry_run:
        return
    for sign in ("SIGTERM", "SIGHUP"):  # their default ends this process at once, and the server would go on
        number = getattr(signal, sign, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # `nohup` ignores one: so be it
            signal.signal(number, _end)
    with run_server(plan) as server:
        console.print(f"\nready: {plan.base_url} (Ctrl-C stops it)", highlight=False)
        try:
            server.wait()
        except KeyboardInterrupt:
            console.print("stopping")


def _end(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt the stopping
    raise SystemExit(128 + number)
