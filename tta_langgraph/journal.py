"""Open reservations, written down before each call, so that a killed process cannot lose a charge.

The journal lives in the graph's own checkpointer, as pending writes of the current root checkpoint under task ids of
our own; LangGraph keeps such writes and applies only those of its own tasks. So it survives wherever the graph's
state survives, and needs no further store. Entries are plain dictionaries: every serializer accepts them. Queries and
tool calls have one entry each, since what they cost is known before they begin; a second one takes back what did not
begin.

A call that is open in the journal and was never closed is charged in full on resume: nobody knows how far it came.
Every invocation of the graph reads the journal before its first call, for another process may have worked on the thread
since this one last did.

A call is filed under its own episode and those around it. A scope in a node begins a new episode when the node runs
again, so that of the killed call only the episodes around it will ever ask; and an inner graph on a thread of its own
has another checkpointer than the graph around it, or none that lasts, so the call is written down in each.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver

from tta_langgraph.budget import Charge, Usage, new_id
from tta_langgraph.enclosing import tasks_around
from tta_langgraph.journal_past import CHANNEL, Past
from tta_langgraph.journal_saver import SaverAccess, Unreachable, on_event_loop
from tta_langgraph.ledger import Ledger, Reservation

_RECOVERY_POLL = 0.005
"""Seconds between looks at whether a sister call has read the journal."""
_KEPT_READERS = 1024
"""Invocations remembered per ledger; a budget scope may be around many at a time."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Journal:
    """Where the entries of one superstep are written: a checkpointer and the root checkpoint of the run."""

    checkpointer: BaseCheckpointSaver[Any]
    """The graph's own."""
    config: Mapping[str, Any]
    """Address of the root checkpoint: thread, empty namespace, checkpoint id."""
    run: object | None = None
    """LangGraph's own object for this invocation of the root graph; a resume has another."""
    around: Journal | None = None
    """A further place, where graphs inside or around this one keep theirs elsewhere."""

    @classmethod
    def of(cls, config: Mapping[str, Any] | None) -> Journal | None:
        """The journal of the running graph and those around it; None where nothing outlives the process."""
        journal = cls._of_graph(config)
        task = tasks_around(config)
        while task is not None:
            outer = cls._of_graph(task.config)
            if outer is not None and (journal is None or not journal._covers(outer)):
                journal = replace(outer, around=journal)
            task = task.outer
        return journal

    @classmethod
    def _of_graph(cls, config: Mapping[str, Any] | None) -> Journal | None:
        configurable = (config or {}).get("configurable", {})
        checkpointer = configurable.get("__pregel_checkpointer")
        if not isinstance(checkpointer, BaseCheckpointSaver) or isinstance(checkpointer, InMemorySaver):
            return None
        root = configurable.get("checkpoint_map", {}).get("")
        thread = configurable.get("thread_id")
        if root is None or thread is None:
            return None
        address = {"configurable": {"thread_id": thread, "checkpoint_ns": "", "checkpoint_id": root}}
        return cls(checkpointer, address, getattr(configurable.get("__pregel_runtime"), "control", None))

    def opened(self, reservation: Reservation) -> None:
        """Writes an open reservation down, before the call is made."""
        _note_own(reservation)
        for place in self._places():
            place._write(_open(reservation), f"{reservation.id}:open")

    def closed(self, charge: Charge, ledger: Ledger) -> None:
        """Writes down what the call consumed; to repeat it is harmless."""
        for place in self._places():
            place._write(_entry("closed", charge, ledger), f"{charge.id}:closed")

    def withdrawn(self, reservation: Reservation) -> None:
        """Writes down that a call was never made which may have been opened here."""
        if reservation.id in reservation.ledger.opened:
            self.closed(_never_made(reservation), reservation.ledger)

    def certain(self, reservation: Reservation) -> None:
        """Writes down what will be charged whatever becomes of it, before it begins: a query is one execution."""
        _note_own(reservation)
        for place in self._places():
            place._write(_certain(reservation), f"{reservation.id}:open")

    @property
    def needs_this_loop(self) -> bool:
        """Whether it cannot be written by sync means from here."""
        return any(place._saver.is_on_this_loop() for place in self._places())

    def seen(self, ledger: Ledger) -> None:
        """Writes down until when this invocation was at work, which its task will not tell the state."""
        for place in self._places():
            place._write(_seen(ledger), f"{new_id()}:seen")

    def recover(self, episode: str) -> list[Charge]:
        """The charges of an episode that other processes made and no stored state need know of."""
        return self._past(episode).charges

    def _past(self, episode: str) -> Past:
        past = Past(episode, self.config)
        while (address := past.next) is not None:
            past.take(self._saver.call("get_tuple", address))
        return past

    def recover_once(self, ledger: Ledger) -> None:
        """Takes over, before a ledger's first call in an invocation, what others charged; again if that fails.

        Sister calls wait until it is known. Only a sync call on an event loop does not: the loop may be the one that
        reads. What others charged to the ledgers around is taken over there.
        """
        for each in _with_ancestors(ledger):
            for place in self._places():
                place._recover_once(each)

    def _recover_once(self, ledger: Ledger) -> None:
        if not self._known(ledger) and ledger.recovering.acquire(blocking=not on_event_loop()):
            try:
                if not self._known(ledger):
                    self._take_over(self._past(ledger.episode), ledger)
            except Unreachable as why:
                self._saver.warn(why)
            finally:
                ledger.recovering.release()

    async def aopened(self, reservation: Reservation) -> None:
        """Twin of `opened`."""
        _note_own(reservation)
        for place in self._places():
            await place._awrite(_open(reservation), f"{reservation.id}:open")

    async def aclosed(self, charge: Charge, ledger: Ledger) -> None:
        """Twin of `closed`."""
        for place in self._places():
            await place._awrite(_entry("closed", charge, ledger), f"{charge.id}:closed")

    async def awithdrawn(self, reservation: Reservation) -> None:
        """Twin of `withdrawn`."""
        if reservation.id in reservation.ledger.opened:
            await self.aclosed(_never_made(reservation), reservation.ledger)

    async def acertain(self, reservation: Reservation) -> None:
        """Twin of `certain`."""
        _note_own(reservation)
        for place in self._places():
            await place._awrite(_certain(reservation), f"{reservation.id}:open")

    async def aseen(self, ledger: Ledger) -> None:
        """Twin of `seen`."""
        for place in self._places():
            await place._awrite(_seen(ledger), f"{new_id()}:seen")

    async def arecover(self, episode: str) -> list[Charge]:
        """Twin of `recover`."""
        return (await self._apast(episode)).charges

    async def _apast(self, episode: str) -> Past:
        past = Past(episode, self.config)
        while (address := past.next) is not None:
            past.take(await self._saver.acall("get_tuple", address))
        return past

    async def arecover_once(self, ledger: Ledger) -> None:
        """Twin of `recover_once`."""
        for each in _with_ancestors(ledger):
            for place in self._places():
                await place._arecover_once(each)

    async def _arecover_once(self, ledger: Ledger) -> None:
        while not self._known(ledger):
            if not ledger.recovering.acquire(blocking=False):
                await asyncio.sleep(_RECOVERY_POLL)
                continue
            try:
                if not self._known(ledger):
                    self._take_over(await self._apast(ledger.episode), ledger)
            except Unreachable as why:
                self._saver.warn(why)
                return
            finally:
                ledger.recovering.release()

    def _places(self) -> Iterator[Journal]:
        place: Journal | None = self
        while place is not None:
            yield place
            place = place.around

    def _covers(self, other: Journal) -> bool:
        """Whether one of the places is the other's: an inner graph usually shares the checkpointer and the root."""
        return any(p.checkpointer is other.checkpointer and p.config == other.config for p in self._places())

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

    def _known(self, ledger: Ledger) -> bool:
        return self._reader in ledger.recovered

    @property
    def _reader(self) -> object:
        address = self.config["configurable"]
        return (self.run if self.run is not None else address["checkpoint_id"]), address["thread_id"]

    def _take_over(self, past: Past, ledger: Ledger) -> None:
        # Of the calls that this process opened it knows all: the charge, or that they are in flight or never began.
        found = [
            charge for charge in past.charges if charge.id not in ledger.opened and charge.id not in ledger.charges
        ]
        if found:
            _log.info("recovered %d charges of an interrupted run from its checkpoints", len(found))
        ledger.absorb(found)
        ledger.absorb_activity(past.active)
        ledger.recovered[self._reader] = None
        while len(ledger.recovered) > _KEPT_READERS:
            del ledger.recovered[next(iter(ledger.recovered))]


def _with_ancestors(ledger: Ledger) -> Iterator[Ledger]:
    """A ledger and those around it, each with its own ancestors around it."""
    each: Ledger | None = ledger
    while each is not None:
        yield each
        each = each.parent


def _note_own(reservation: Reservation) -> None:
    for ledger in reservation.ledger.lineage:
        ledger.opened.add(reservation.id)


def _open(reservation: Reservation) -> tuple[str, dict[str, Any]]:
    charge = Charge(
        id=reservation.id,
        usage=reservation.bound,
        source=reservation.request.source,
        estimated=True,
        note="killed while in flight: charged in full",
    )
    return _entry("open", charge, reservation.ledger)


def _certain(reservation: Reservation) -> tuple[str, dict[str, Any]]:
    charge = Charge(id=reservation.id, usage=reservation.bound, source=reservation.request.source)
    return _entry("open", charge, reservation.ledger)


def _never_made(reservation: Reservation) -> Charge:
    return Charge(id=reservation.id, usage=Usage(), source=reservation.request.source, note="never made")


def _entry(state: str, charge: Charge, ledger: Ledger) -> tuple[str, dict[str, Any]]:
    return CHANNEL, {"state": state, **_account(ledger), "charge": asdict(charge)}


def _seen(ledger: Ledger) -> tuple[str, dict[str, Any]]:
    return CHANNEL, {"state": "seen", **_account(ledger)}


def _account(ledger: Ledger) -> dict[str, Any]:
    """Whose an entry is; of those on the active clock also when they were at work."""
    account: dict[str, Any] = {"episodes": [each.episode for each in ledger.lineage]}
    if ledger.counts_activity:
        timed = [each for each in ledger.lineage if each.budget.clock == "active"]
        account["active"] = {each.episode: each.activity() for each in timed}
    return account
