"""`tta ask`: one question about any database, by any model, under a budget."""

from __future__ import annotations

import json
from contextlib import ExitStack
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from tta_langgraph.budget import Budget
from tta_langgraph.commands.arguments import price
from tta_langgraph.commands.models import MODEL_HELP, POLICY_HELP, name_of, ready_model
from tta_langgraph.commands.render import EpisodeView, show_answer, spent_text
from tta_langgraph.commands.running import Episode, rows_of, run_episode
from tta_langgraph.decision import Policy
from tta_langgraph.errors import BudgetError

if TYPE_CHECKING:
    from tta_langgraph.traces.store import TraceStore


class Exit(IntEnum):
    """Exit codes of `tta ask`."""

    ANSWERED = 0
    FAILED = 1
    NO_ANSWER = 3
    OUT_OF_BUDGET = 4
    INTERRUPTED = 130


def ask(
    question: Annotated[str, typer.Argument(help="The question, in any language the model reads.")],
    db: Annotated[str, typer.Option("--db", help="SQLAlchemy URL, or the path of a SQLite or DuckDB file. Only read.")],
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "embedded",
    tokens: Annotated[int | None, typer.Option(help="Most tokens, prompt and completion together.")] = 4_000,
    seconds: Annotated[float | None, typer.Option(help="Most seconds.")] = 60.0,
    usd: Annotated[float | None, typer.Option(help="Most US dollars; the model must have a known price.")] = None,
    calls: Annotated[int | None, typer.Option(help="Most model calls.")] = None,
    reserve: Annotated[int, typer.Option(help="Tokens held back for a final answer.")] = 0,
    policy: Annotated[Path | None, typer.Option(help=POLICY_HELP)] = None,
    opening: Annotated[
        int | None, typer.Option(help="Answers that the first request draws; what the policy says if not given.", min=1)
    ] = None,
    per_token: Annotated[float | None, typer.Option(help="Price of a token, in right answers.", callback=price)] = None,
    per_second: Annotated[
        float | None, typer.Option(help="Price of a second, in right answers.", callback=price)
    ] = None,
    store: Annotated[str | None, typer.Option(help="Trace store to add the episode to: file or URL.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
    explain: Annotated[bool, typer.Option(help="Show every step and decision on standard error.")] = False,
) -> None:
    """Ask a question about a database under a budget.

    Exit codes: 0 answered; 1 failed; 3 no answer; 4 the budget ran out (the best answer so far is printed);
    130 interrupted (likewise).
    """
    out, log = Console(soft_wrap=True), Console(stderr=True, soft_wrap=True)
    if not question.strip():
        raise typer.BadParameter("the question is empty", param_hint="QUESTION")
    try:
        limits = Budget(tokens=tokens, seconds=seconds, usd=usd, model_calls=calls, reserve=reserve)
    except BudgetError as error:
        raise typer.BadParameter(str(error)) from error
    from tta_langgraph.graphs import create_text_to_sql_graph
    from tta_langgraph.sql import Database
    from tta_langgraph.traces.store import TraceStore

    with ExitStack() as opened:
        database = opened.enter_context(Database(db))
        given = Policy.load(policy) if policy else None
        chat = ready_model(model, log)
        chosen = priced(given or Policy.for_model(name_of(chat)), per_token, per_second)
        # before anything is spent: what is wrong with the store is known now
        traces = opened.enter_context(TraceStore(store)) if store is not None else None
        graph = create_text_to_sql_graph(chat, database, policy=chosen, opening=opening).compile()
        watch = EpisodeView(log, limits) if explain else None
        episode = run_episode(graph, question, limits, watch)
        if as_json:
            out.print_json(json.dumps({**as_dict(episode), "policy": chosen.name}, default=str))
        else:
            _print(out, log, episode, chosen)
        if traces is not None:  # last: a disk that is full by now takes no answer away
            _save(traces, episode, chosen, chat)
    raise typer.Exit(exit_code(episode))


def exit_code(episode: Episode) -> Exit:
    """What the shell is told."""
    if episode.interrupted:
        return Exit.INTERRUPTED
    if episode.answer is None:
        return Exit.NO_ANSWER
    return Exit.OUT_OF_BUDGET if episode.exhausted else Exit.ANSWERED


def as_dict(episode: Episode) -> dict[str, Any]:
    """The episode for machines."""
    columns, rows = rows_of(episode.state)
    tracker = episode.tracker
    best = episode.best
    return {
        "question": episode.question,
        "sql": episode.answer,
        "columns": columns,
        "rows": rows,
        "error": (episode.state.get("result") or {}).get("error"),
        "p_correct": episode.decisions[-1].p_correct if episode.decisions else None,
        "stop_reason": episode.stop_reason,
        "spent": {**tracker.usage.to_dict(), "wall_seconds": round(episode.seconds, 3)},
        "limits": tracker.budget.limits,
        "candidates": len(episode.state.get("candidates") or ()),
        "model": best.model if best else None,
        "decisions": [
            {"action": decision.action, "n": decision.n, "reason": decision.reason} for decision in episode.decisions
        ],
    }


def priced(policy: Policy, per_token: float | None, per_second: float | None) -> Policy:
    """The policy with prices from the command line."""
    if per_token is not None:
        policy = policy.with_utility(per_token=per_token)
    return policy if per_second is None else policy.with_utility(per_second=per_second)


def _print(out: Console, log: Console, episode: Episode, policy: Policy) -> None:
    if episode.answer is not None:
        out.print(episode.answer, highlight=False, markup=False)
        show_answer(out, episode.state)
    else:
        log.print(f"no answer ({episode.stop_reason or 'nothing was proposed'})")
    spent = spent_text(episode.tracker, episode.seconds)
    log.print(f"spent {spent}; ended: {episode.stop_reason}; policy {policy.name}", highlight=False)


def _save(store: TraceStore, episode: Episode, policy: Policy, model: Any) -> None:
    from tta_langgraph.traces.manifest import manifest_for
    from tta_langgraph.traces.model import Trace

    manifest = manifest_for(model)
    trace = Trace.of(episode.state, strategy=policy.name, seconds=episode.seconds, manifest_id=manifest.id)
    store.add(trace, manifest)
