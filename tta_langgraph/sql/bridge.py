"""The way from anywhere to an async engine: one private event loop, with a pool of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError as FutureCancelled
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import StaticPool

from tta_langgraph.sql.stop import Stop

T = TypeVar("T")


class Bridge:
    """Runs sync work on the connections of an async engine.

    Async drivers tie a connection to the event loop that opened it; the pool is therefore made anew, with the user's
    settings, for a loop in a thread of its own. So the same database serves `execute`, `aexecute`, and several
    `asyncio.run` one after another.

    Args:
        engine: the user's engine; its pool is left alone, unless the database lives in that pool's one connection.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        sync = engine.sync_engine
        self._shared = isinstance(sync.pool, StaticPool)
        if self._shared:
            self._engine = engine
        else:
            self._engine = AsyncEngine(Engine(sync.pool.recreate(), sync.dialect, sync.url))
        self._beside = AsyncEngine(Engine(sync.pool.recreate(), sync.dialect, sync.url))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tta-sql-async", daemon=True)
        self._thread.start()

    def reading(self, work: Callable[[Connection], T], stop: Stop | None = None) -> T:
        """See `Source.reading`."""
        future = asyncio.run_coroutine_threadsafe(self._go(work), self._loop)
        if stop is None:
            return future.result()

        asked: list[float] = []

        def interrupt() -> None:
            asked.append(time.monotonic())
            if stop.politely is None or asked[-1] - asked[0] > _PATIENCE:
                future.cancel()
            else:
                stop.politely()

        with stop.watched(interrupt, grace=_GRACE):
            try:
                return future.result()
            except FutureCancelled as error:
                raise SQLAlchemyError("cancelled") from error

    def aside(self, sql: str) -> None:
        """Runs a short statement on a connection of another pool, and does not wait for it."""
        asyncio.run_coroutine_threadsafe(self._aside(sql), self._loop)

    def hang_up(self, raw: Any) -> None:
        """Closes a driver's connection under a statement that waits for a server which does not answer."""
        self._loop.call_soon_threadsafe(raw.close)

    def close(self) -> None:
        """Closes the pools made here and ends the loop."""
        for engine in (self._beside,) if self._shared else (self._beside, self._engine):
            asyncio.run_coroutine_threadsafe(engine.dispose(), self._loop).result(_CLOSING)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSING)
        if not self._thread.is_alive():
            self._loop.close()

    async def _go(self, work: Callable[[Connection], T]) -> T:
        async with self._engine.connect() as connection:
            return await connection.run_sync(work)

    async def _aside(self, sql: str) -> None:
        async with self._beside.connect() as connection:
            await connection.exec_driver_sql(sql)


_PATIENCE = 1.0  # seconds for a server that was asked to end a statement
_GRACE = 0.5  # the server's own timeout comes first; this is for a server that does not answer
_CLOSING = 5.0
