"""Waiting for a connection no longer than for the statement: a pool may be used up, a server may not answer."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as NotYet
from contextvars import copy_context

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from tta_langgraph.sql.stop import Stop


def connected(engine: Engine, stop: Stop) -> Connection:
    """A connection of the engine, if it comes in time; one that comes later goes back to its pool.

    A pool waits for as long as it was told to (30 seconds by default), and a driver for as long as the system waits
    for a server, whatever deadline a statement has. So somebody else waits.

    Args:
        engine: whose pool is asked.
        stop: when to give up.

    Raises:
        SQLAlchemyError: when there is none; `stop.reason` says whether it was because of the deadline.
    """
    if not isinstance(engine.pool, QueuePool):  # others tie a connection to the thread that asked for it, or never wait
        return engine.connect()
    coming: Future[Connection] = Future()
    context = copy_context()
    threading.Thread(target=context.run, args=(_fetch, engine, coming), name="tta-sql-connect", daemon=True).start()
    while True:
        try:
            return coming.result(min(_LOOK, stop.remaining))
        except NotYet:
            if stop.due() and coming.cancel():
                raise SQLAlchemyError("no connection in time") from None
        except PoolTimeoutError as error:
            raise SQLAlchemyError("all connections are in use") from error
        except CancelledError as error:
            raise SQLAlchemyError("no connection in time") from error


def _fetch(engine: Engine, coming: Future[Connection]) -> None:
    try:
        connection = engine.connect()
    except BaseException as error:  # whatever it is, it is for the one who waits
        if coming.set_running_or_notify_cancel():
            coming.set_exception(error)
        return
    if coming.set_running_or_notify_cancel():
        coming.set_result(connection)
    else:
        connection.close()


_LOOK = 0.05
