"""Journal entries that are written while nobody waits for them: what became of a call that was cancelled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

_log = logging.getLogger(__name__)
_notes: set[asyncio.Future[Any]] = set()
"""Entries that are being written; an event loop keeps no hold of its tasks."""


def write_later(note: Coroutine[Any, Any, None]) -> None:
    """Has an entry written of a call that was cancelled and does not wait for it."""
    try:
        task = asyncio.get_running_loop().create_task(note)
    except RuntimeError:  # thrown out by `close()` after its loop has ended
        note.close()
        return
    end_later(task)


def end_later(work: asyncio.Future[Any]) -> None:
    """Has what was begun come to its end while nobody waits for it."""
    _notes.add(work)
    work.add_done_callback(_noted)


def _noted(task: asyncio.Future[Any]) -> None:
    _notes.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.warning("what became of a cancelled call could not be written to the journal: %s", error)
