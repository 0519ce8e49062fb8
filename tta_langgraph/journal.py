"""Open reservations, written down before each call, so that a killed process cannot lose a charge.

The journal lives in the graph's own checkpointer, as pending writes of the current root checkpoint under task ids of
our own; LangGraph keeps such writes and applies only those of its own tasks. So it survives wherever the graph's
state survives, and needs no further store. Entries are plain dictionaries: every serializer accepts them.

A call that is open in the journal and was never closed is charged in full on resume: nobody knows how far it came.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.memory import InMemorySaver

from tta_langgraph.budget import Charge, Usage
from tta_langgraph.journal_saver import SaverAccess, Unreachable, on_event_loop
from tta_langgraph.ledger import Ledger, Reservation

CHANNEL = "__tta_journal__"
"""Name under which entries are written; no graph has a channel of this name."""

_RECOVERY_POLL = 0.005
"""Seconds between looks at whether a sister call has read the journal."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Journal:
    """Where the entries of one superstep are written: a checkpointer and the root checkpoint of the run."""

    checkpointer: BaseCheckpointSaver[Any]
    """The graph's own."""
    config: Mapping[str, Any]
    """Address of the root checkpoint: thread, empty namespace, checkpoint id."""
    episode: str
    """Only entries of this episode are read back."""

    @classmethod
    def of(cls, config: Mapping[str, Any] | None, episode: str) -> Journal | None:
        """The journal of the running graph; None where nothing outlives the process."""
        configurable = (config or {}).get("configurable", {})
        checkpointer = configurable.get("__pregel_checkpointer")
        if not isinstance(checkpointer, BaseCheckpointSaver) or isinstance(checkpointer, InMemorySaver):
            return None
        root = configurable.get("checkpoint_map", {}).get("")
        thread = configurable.get("thread_id")
        if root is None or thread is None:
            return None
        address = {"configurable": {"thread_id": thread, "checkpoint_ns": "", "checkpoint_id": root}}
        return cls(checkpointer, address, episode)

    def opened(self, reservation: Reservation) -> None:
        """Writes an open reservation down, before the call is made."""
        self._write(self._open(reservation), f"{reservation.id}:open")

    def closed(self, charge: Charge) -> None:
        """Writes down what the call consumed."""
        self._write(self._closed(charge), f"{charge.id}:closed")

    def recover(self) -> list[Charge]:
        """The charges of calls that a dead process made since the last checkpoint."""
        return self._charges(self._saver.call("get_tuple", self.config))

    def recover_once(self, ledger: Ledger) -> None:
        """Takes over, before a ledger's first call in this process, what a dead one charged; again if that fails.

        Sister calls wait until it is known. Only a sync call on an event loop does not: the loop may be the one that
        reads.
        """
        if not ledger.recovered and ledger.recovering.acquire(blocking=not on_event_loop()):
            try:
                if not ledger.recovered:
                    self._take_over(self.recover(), ledger)
            except Unreachable as why:
                self._saver.warn(why)
            finally:
                ledger.recovering.release()

    async def aopened(self, reservation: Reservation) -> None:
        """Twin of `opened`."""
        await self._awrite(self._open(reservation), f"{reservation.id}:open")

    async def aclosed(self, charge: Charge) -> None:
        """Twin of `closed`."""
        await self._awrite(self._closed(charge), f"{charge.id}:closed")

    async def arecover(self) -> list[Charge]:
        """Twin of `recover`."""
        return self._charges(await self._saver.acall("get_tuple", self.config))

    async def arecover_once(self, ledger: Ledger) -> None:
        """Twin of `recover_once`."""
        while not ledger.recovered:
            if not ledger.recovering.acquire(blocking=False):
                await asyncio.sleep(_RECOVERY_POLL)
                continue
            try:
                if not ledger.recovered:
                    self._take_over(await self.arecover(), ledger)
            except Unreachable as why:
                self._saver.warn(why)
                return
            finally:
                ledger.recovering.release()

    @property
    def _saver(self) -> SaverAccess:
        return SaverAccess(self.checkpointer)

    def _write(self, entry: tuple[str, dict[str, Any]], task: str) -> None:
        try:
            self._saver.call("put_writes", self.config, [entry], task)
        except Unreachable as why:
            self._saver.warn(why)

    async def _awrite(self, entry: tuple[str, dict[str, Any]], task: str) -> None:
        try:
            await self._saver.acall("put_writes", self.config, [entry], task)
        except Unreachable as why:
            self._saver.warn(why)

    def _take_over(self, charges: Iterable[Charge], ledger: Ledger) -> None:
        # What this process has in flight is open in the journal too, and is no dead one's.
        alive = {reservation.id for reservation in ledger.in_flight}
        ledger.absorb([charge for charge in charges if charge.id not in alive])
        ledger.recovered = True

    def _open(self, reservation: Reservation) -> tuple[str, dict[str, Any]]:
        charge = Charge(
            id=reservation.id,
            usage=reservation.bound,
            source=reservation.request.source,
            estimated=True,
            note="killed while in flight: charged in full",
        )
        return CHANNEL, {"state": "open", "episode": self.episode, "charge": asdict(charge)}

    def _closed(self, charge: Charge) -> tuple[str, dict[str, Any]]:
        return CHANNEL, {"state": "closed", "episode": self.episode, "charge": asdict(charge)}

    def _charges(self, saved: CheckpointTuple | None) -> list[Charge]:
        writes: Iterable[tuple[str, str, Any]] = (saved.pending_writes or ()) if saved is not None else ()
        found: dict[str, Charge] = {}
        closed: set[str] = set()
        for _, channel, entry in writes:
            if channel != CHANNEL or entry["episode"] != self.episode:
                continue
            fields = dict(entry["charge"])
            charge = Charge(**{**fields, "usage": Usage(**fields["usage"])})
            if entry["state"] == "closed":
                closed.add(charge.id)
                found[charge.id] = charge
            elif charge.id not in closed:
                found.setdefault(charge.id, charge)
        if found:
            _log.info("recovered %d charges of an interrupted run from its checkpoint", len(found))
        return list(found.values())
