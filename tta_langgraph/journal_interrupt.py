"""How long a node was at work that ends in an interrupt: LangGraph drops all that its task has written to the state."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from tta_langgraph.journal import Journal
from tta_langgraph.journal_later import write_later
from tta_langgraph.ledger import Ledger


def note_interrupt(ledger: Ledger, config: Mapping[str, Any] | None) -> None:
    """Writes it to the journal, for whoever resumes the run in another process; nothing on the wall clock."""
    journal = Journal.of(config) if ledger.counts_activity else None
    if journal is None:
        return
    if journal.needs_this_loop:
        write_later(journal.aseen(ledger))
        return
    with contextlib.suppress(Exception):  # what is raised is the interrupt
        journal.seen(ledger)


async def anote_interrupt(ledger: Ledger, config: Mapping[str, Any] | None) -> None:
    """Twin of `note_interrupt`."""
    journal = Journal.of(config) if ledger.counts_activity else None
    if journal is not None:
        with contextlib.suppress(Exception):
            await journal.aseen(ledger)
