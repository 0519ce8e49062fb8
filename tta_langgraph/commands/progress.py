"""A progress bar for the one long wait of a first run: fetching the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from tta_langgraph.models.weights import Progress as WeightsProgress
from tta_langgraph.models.weights import WeightsEvent


@contextmanager
def weights_progress(console: Console) -> Iterator[WeightsProgress]:
    """Shows download and verification; in a plain log, a line per tenth."""
    if console.is_terminal:
        bar = Progress(
            TextColumn("  {task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=console
        )
        with bar:
            task = bar.add_task("model", total=None, visible=False)

            def live(event: WeightsEvent) -> None:
                if event.stage == "licence":
                    console.print(f"  {event.title}: {event.note}", highlight=False)
                else:
                    visible = event.stage in ("download", "verify") and event.done != event.total
                    bar.update(
                        task,
                        description=f"{event.stage} {event.title}",
                        completed=event.done,
                        total=event.total,
                        visible=visible,
                    )

            yield live
        return
    shown = -1

    def plain(event: WeightsEvent) -> None:
        nonlocal shown
        if event.stage == "licence":
            console.print(f"  {event.title}: {event.note}", highlight=False)
        elif event.stage == "download" and event.total:
            tenth = 10 * event.done // event.total
            if tenth != shown:
                shown = tenth
                console.print(f"  download {event.title}: {tenth * 10}%", highlight=False)

    yield plain
