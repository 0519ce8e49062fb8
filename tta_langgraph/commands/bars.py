"""Progress bars of the long commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def bar(console: Console, what: str, total: int) -> Iterator[Callable[..., None]]:
    """A progress bar with an ETA; in a plain log, nothing but the end."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as shown:
        task = shown.add_task(what, total=total, note="")

        def advance(done: int, note: str, all_of: int | None = None) -> None:
            shown.update(task, completed=done, note=note, total=total if all_of is None else all_of)

        yield advance
