"""How an episode looks on a terminal and in a plain log: one line per thing that happened, nothing redrawn."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from tta_langgraph.budget import Budget, BudgetTracker
from tta_langgraph.evidence import Execution
from tta_langgraph.state import Candidate

LABEL = 10
"""Width of the first column."""
ENDINGS = ("stop", "abstain")
"""Actions whose forecast says nothing new: what is right now stays right, for nothing."""
SHOWN_ROWS = 5
"""Rows of an answer that are shown."""

UNLIMITED = 10_000
"""Columns of a page that is never too narrow."""


class EpisodeView:
    """Prints what happens in an episode as it happens."""

    def __init__(self, console: Console, budget: Budget, *, explain: bool = True) -> None:
        self._console = console
        self._budget = budget
        self._explain = explain
        self._begun = time.monotonic()
        self._seen: set[str] = set()
        self._executed: set[str] = set()

    def __call__(self, kind: str, data: Any) -> None:
        """A watcher for `run_episode`."""
        if kind == "event":
            self._event(data)
            return
        for update in data.values():
            for part in update if isinstance(update, list) else [update]:
                self._candidates([c for c in (part or {}).get("candidates") or () if isinstance(c, Candidate)])

    # -- lines --------------------------------------------------------------------------------------------

    def _event(self, event: Mapping[str, Any]) -> None:
        if event.get("type") == "charge":
            usage, note = event["usage"], event.get("note")
            cached = f", {usage['cached_tokens']} cached" if usage.get("cached_tokens") else ""
            spent = f"{usage.get('prompt_tokens', 0)}+{usage.get('completion_tokens', 0)} tokens{cached}"
            aside = f" ({note})" if note else ""
            self._line(
                "spent", f"{event['source']}: {spent}, {usage.get('seconds', 0):.1f} s{aside}; {self._left(event)}"
            )
        elif event.get("type") == "decision" and self._explain:
            self._decision(event)

    def _left(self, event: Mapping[str, Any]) -> str:
        tokens, seconds = event.get("tokens_left"), event.get("seconds_left")
        parts = [
            f"{tokens:.0f} tokens" if tokens is not None else "",
            f"{seconds:.1f} s" if seconds is not None else "",
        ]
        known = [part for part in parts if part]
        return f"left {', '.join(known)}" if known else "no limit"

    def _candidates(self, candidates: Sequence[Candidate]) -> None:
        """New candidates, equal ones on one line, then what the database said of each distinct query."""
        new = [candidate for candidate in candidates if candidate.id not in self._seen]
        for answer, count in Counter(candidate.answer for candidate in new).items():
            wrote = " ".join((answer or "(no answer in the reply)").split())
            times = f"{count} x " if count > 1 else ""
            self._line(new[0].action, f"{times}[cyan]{escape(wrote)}[/cyan]")
        self._seen.update(candidate.id for candidate in new)
        for candidate in candidates:
            execution = candidate.evidence.execution
            if execution is not None and candidate.answer is not None and candidate.answer not in self._executed:
                self._executed.add(candidate.answer)
                self._line("database", _said(execution))

    def _decision(self, event: Mapping[str, Any]) -> None:
        now = event.get("p_correct")
        offered = [forecast_text(row) for row in event.get("forecasts") or () if row.get("action") not in ENDINGS]
        if offered and now is not None:
            self._line("offered", f"[dim]{escape(' | '.join(offered))}[/dim]")
        self._line("decide", f"[bold]{escape(event['reason'])}[/bold]")

    def _line(self, label: str, text: str) -> None:
        at = f"{time.monotonic() - self._begun:6.1f}s"
        if not self._console.is_terminal:  # a log: one line per thing, however long
            self._console.print(f"  {at}  {label:<{LABEL}} {text}", highlight=False, soft_wrap=True)
            return
        line = Table.grid(padding=0)
        for column in (f"  [dim]{at}[/dim]  ", f"{label:<{LABEL}} "):
            line.add_column(no_wrap=True, width=len(Text.from_markup(column)))
        line.add_column(overflow="fold")
        line.add_row(f"  [dim]{at}[/dim]  ", f"{label:<{LABEL}} ", Text.from_markup(text))
        self._console.print(line, soft_wrap=False)


def _said(execution: Execution) -> str:
    if not execution.ok:
        return f"[red]{escape(execution.error or 'failed')}[/red]"
    rows = f"{execution.n_rows}{'+' if execution.truncated else ''} row{'s' if execution.n_rows != 1 else ''}"
    return f"[green]{rows}[/green] in {execution.seconds * 1000:.0f} ms"


def forecast_text(row: Mapping[str, Any]) -> str:
    """One forecast in a few words: the action, P(correct) after it and gain minus price, or why it is out."""
    action = str(row.get("action"))
    if not row.get("feasible", True):
        return f"{action}: {row.get('why') or 'not feasible'}"
    p = row.get("ahead_p_correct", row.get("p_correct", 0.0))
    return f"{action} -> {p:.2f} ({row.get('utility', 0.0):+.3f})"


def show_answer(console: Console, state: Mapping[str, Any], *, correct: bool | None = None) -> None:
    """The answer's rows and, where it is known, whether they are right."""
    result = state.get("result")
    if not result or result.get("error"):
        console.print(
            "  [yellow]no answer[/yellow]" + (f": {state.get('stop_reason')}" if state.get("stop_reason") else "")
        )
        return
    rows = result["rows"]
    table = Table(box=None, show_header=True, pad_edge=False, padding=(0, 2, 0, 0))
    for column in result["columns"]:
        table.add_column(escape(str(column)), overflow="fold")
    for row in rows[:SHOWN_ROWS]:
        table.add_row(*(escape("NULL" if value is None else str(value)) for value in row))
    verdict = "" if correct is None else "  [green]right[/green]" if correct else "  [red]wrong[/red]"
    more = f", first {SHOWN_ROWS} of {len(rows)} rows" if len(rows) > SHOWN_ROWS else ""
    console.print(f"  [bold]answer[/bold]{more}{verdict}")
    if result["columns"]:
        from rich.padding import Padding

        console.print(Padding(table, (0, 0, 0, 4)))


def spent_text(tracker: BudgetTracker, seconds: float) -> str:
    """What was spent, of what."""
    usage, budget = tracker.usage, tracker.budget
    tokens = f"{usage.tokens} tokens" + (f" of {budget.tokens}" if budget.tokens is not None else "")
    time_used = f"{seconds:.1f} s" + (f" of {budget.seconds:g}" if budget.seconds is not None else "")
    calls = f"{usage.model_calls} model call{'s' if usage.model_calls != 1 else ''}"
    parts = [tokens, time_used, calls, f"{usage.executions} quer{'ies' if usage.executions != 1 else 'y'}"]
    if usage.usd:
        parts.append(f"{usage.usd:.4f} US dollars")
    return ", ".join(parts)


def table_of(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str | None = None) -> Table:
    """A plain table: first column left, the others right."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    return table


def show_table(
    console: Console, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str | None = None
) -> None:
    """Prints a table without losing a figure.

    Off a terminal it is as wide as it needs to be; on one that is too narrow each row becomes a block of lines.
    """
    table = table_of(columns, rows, title=title)
    needed = Measurement.get(console, console.options.update(width=UNLIMITED), table).maximum
    if needed <= console.width or not console.is_terminal:
        page = Console(file=console.file, width=needed) if needed > console.width else console
        page.print(table)
        return
    if title:
        console.print(f"[italic]{escape(title)}[/italic]", highlight=False)
    for row in rows:
        console.print(f"[bold]{_cell(row[0])}[/bold]", highlight=False)
        for name, value in zip(columns[1:], row[1:], strict=True):
            console.print(f"  {escape(name)}: {_cell(value)}", highlight=False)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.3g}" if abs(value) < 10 else f"{value:.0f}"
    return escape(str(value))
