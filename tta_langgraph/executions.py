"""A query or a tool call under a budget: admitted, written down, run, and charged one execution.

**This is where an execution is admitted and charged** by nodes and by `BudgetMiddleware`. It costs one whatever becomes
of it, so that one entry in the journal does, before it begins. Only what was not run after all, or was interrupted and
will be run again, is taken back.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

from tta_langgraph.budget import Usage
from tta_langgraph.journal import Journal
from tta_langgraph.journal_later import write_later
from tta_langgraph.ledger import Ledger, Refusal, Request, Reservation
from tta_langgraph.scope import running_config, save_to_state


@dataclass(frozen=True, eq=False, slots=True)
class HeldExecution:
    """One execution that was admitted: `settle` it when it was run, or `give_back` what will be run again."""

    reservation: Reservation
    """What it holds: exactly what it is charged, so that admission never has to wait for others."""
    journal: Journal | None
    """Where it is written down; None where nothing outlives the process."""
    begun: float
    """When it was admitted, on `time.perf_counter`, seconds."""

    @classmethod
    def admit(cls, ledger: Ledger, source: str) -> HeldExecution | Refusal:
        """Holds one execution, or says why not; raises what keeps it from being written down, and then charges nothing.

        Args:
            ledger: the account.
            source: who spends.
        """
        journal = Journal.of(running_config())
        if journal is not None:
            journal.recover_once(ledger)
        held = ledger.try_reserve(Request(executions=1, source=source))
        if isinstance(held, Refusal):
            return held
        if journal is not None:
            try:
                journal.certain(held)
            except BaseException:
                held.release()
                with contextlib.suppress(Exception):  # the journal may be what went wrong
                    journal.withdrawn(held)
                raise
        return cls(held, journal, time.perf_counter())

    @classmethod
    async def aadmit(cls, ledger: Ledger, source: str) -> HeldExecution | Refusal:
        """Twin of `admit`."""
        journal = Journal.of(running_config())
        if journal is not None:
            await journal.arecover_once(ledger)
        held = ledger.try_reserve(Request(executions=1, source=source))
        if isinstance(held, Refusal):
            return held
        if journal is not None:
            try:
                await journal.acertain(held)
            except BaseException:
                held.release()
                write_later(journal.awithdrawn(held))
                raise
        return cls(held, journal, time.perf_counter())

    def settle(self, note: str = "") -> None:
        """Charges it, with the seconds since it was admitted."""
        self.reservation.settle(Usage(executions=1, seconds=time.perf_counter() - self.begun), note)
        save_to_state(self.reservation.ledger)

    def give_back(self) -> None:
        """Charges nothing: it was interrupted, and pays when it is run again."""
        self.reservation.release()
        if self.journal is not None:
            with contextlib.suppress(Exception):  # what is raised is the interrupt
                self.journal.withdrawn(self.reservation)

    async def agive_back(self) -> None:
        """Twin of `give_back`."""
        self.reservation.release()
        if self.journal is not None:
            with contextlib.suppress(Exception):
                await self.journal.awithdrawn(self.reservation)
