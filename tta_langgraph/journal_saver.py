"""Reaches a checkpointer from wherever a call is made: sync or async, on its event loop or beside it.

A graph uses one half of its checkpointer, `invoke` the sync and `ainvoke` the async one, and some checkpointers have no
more than that half. A call inside a node may be of the other kind, so it borrows the half that there is.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from langgraph.checkpoint.base import BaseCheckpointSaver

from tta_langgraph.journal_later import end_later
from tta_langgraph.threads import in_thread

_PATIENCE = 2.0
"""Seconds a thread waits for a sign of life of the checkpointer's event loop, which may be waiting for that thread."""

_log = logging.getLogger(__name__)
_warned: set[str] = set()
_blocked: WeakKeyDictionary[asyncio.AbstractEventLoop, threading.Event] = WeakKeyDictionary()
"""Loops that did not answer in time, and what they set when they come to it."""


class Unreachable(Exception):
    """This checkpointer cannot be used from here."""


@dataclass(frozen=True, slots=True)
class SaverAccess:
    """Calls a checkpointer's methods by the name of the sync one."""

    saver: BaseCheckpointSaver[Any]
    """The graph's own."""

    def call(self, method: str, *arguments: Any) -> Any:
        """Calls a method, blocking.

        Raises:
            Unreachable: the checkpointer is async, and its event loop is blocked by this very call.
        """
        home = self._home()
        if home is not None:
            if self.is_on_this_loop() or not answers(home):
                raise Unreachable(f"the event loop of {self._name} is blocked by a sync call")
            return asyncio.run_coroutine_threadsafe(getattr(self.saver, f"a{method}")(*arguments), home).result()
        try:
            return getattr(self.saver, method)(*arguments)
        except (NotImplementedError, asyncio.InvalidStateError) as error:
            raise Unreachable(f"{self._name} is async") from error

    async def acall(self, method: str, *arguments: Any) -> Any:
        """Calls a method without blocking.

        Who is cancelled meanwhile leaves at once, but the call goes on to its end: the connection is the graph's, and
        LangGraph cancels a node whose sister has failed more than once, at which psycopg closes it.

        Raises:
            Unreachable: the checkpointer implements neither form of it.
        """
        call = asyncio.ensure_future(self._acall(method, *arguments))
        try:
            return await asyncio.shield(call)
        except BaseException:
            if not call.done():
                end_later(call)
            raise

    async def _acall(self, method: str, *arguments: Any) -> Any:
        home = self._home()
        if home is not None and home is not asyncio.get_running_loop():
            # Its connection and locks belong to that loop; this one may be of an `asyncio.run` inside a node.
            bridge = asyncio.run_coroutine_threadsafe(getattr(self.saver, f"a{method}")(*arguments), home)
            return await asyncio.wrap_future(bridge)
        try:
            return await getattr(self.saver, f"a{method}")(*arguments)
        except NotImplementedError:
            pass
        try:
            return await in_thread(partial(getattr(self.saver, method), *arguments))
        except NotImplementedError as error:
            raise Unreachable(f"{self._name} does not implement {method}") from error

    def is_on_this_loop(self) -> bool:
        """Whether a sync call made here would block the event loop that it needs."""
        home = self._home()
        return home is not None and home is _running_loop()

    def warn(self, why: Unreachable) -> None:
        """Says once per kind of checkpointer what cannot be written down."""
        if self._name not in _warned:
            _warned.add(self._name)
            _log.warning(
                "a call is not in the journal, because %s: if this process dies or is interrupted before the next "
                "checkpoint, another one does not know what the call cost. In async nodes, call models and nodes with "
                "`await ...ainvoke(...)`, or make the node a plain function",
                why,
            )

    @property
    def _name(self) -> str:
        return type(self.saver).__name__

    def _home(self) -> asyncio.AbstractEventLoop | None:
        """The running event loop that an async checkpointer belongs to; AsyncSqliteSaver and AsyncPostgresSaver do."""
        loop = getattr(self.saver, "loop", None)
        return loop if isinstance(loop, asyncio.AbstractEventLoop) and loop.is_running() else None


def on_event_loop() -> bool:
    """Whether this code runs on an event loop."""
    return _running_loop() is not None


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def answers(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether a loop gets to what other threads ask of it.

    It does not while an async node waits for threads by sync means, as `model.batch` does: to wait for it would be to
    wait forever.
    """
    unanswered = _blocked.get(loop)
    if unanswered is not None and not unanswered.is_set():
        return False  # somebody has waited already
    alive = threading.Event()
    loop.call_soon_threadsafe(alive.set)
    if alive.wait(_PATIENCE):
        return True
    _blocked[loop] = alive
    return False
