"""Any other engine: the strict list of functions, a transaction that is always rolled back, and the limits."""

from __future__ import annotations

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from tta_langgraph.sql.backend import Backend, Fetched, StatementError
from tta_langgraph.sql.checks import Verdict
from tta_langgraph.sql.rows import Limits, RowSink
from tta_langgraph.sql.stop import Stop


class FallbackBackend(Backend):
    """Runs statements in a transaction that is rolled back, on an engine we know nothing else about.

    The tree check is stricter here (only functions known to be harmless). At the deadline the driver's own cancel is
    called if it has one (`cancel` or `interrupt`), otherwise the connection is dropped.

    Args:
        engine: the engine.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def run(self, sql: str, verdict: Verdict, stop: Stop, limits: Limits) -> Fetched:
        """See `Backend.run`."""
        try:
            with self._engine.connect() as connection:
                raw = connection.connection.driver_connection
                cancel = getattr(raw, "cancel", None) or getattr(raw, "interrupt", None) or getattr(raw, "close", None)
                transaction = connection.begin()
                try:
                    with stop.watched(cancel if callable(cancel) else connection.invalidate):
                        options = {"no_parameters": True, "stream_results": True}
                        result = connection.exec_driver_sql(sql, execution_options=options)
                        if not result.returns_rows:
                            raise StatementError("refused", "not executed: the statement is not a query")
                        sink = RowSink(limits)
                        columns = tuple(result.keys())
                        while not stop.due():
                            batch = result.fetchmany(sink.wanted)
                            if not batch or not all(sink.add(tuple(row)) for row in batch):
                                break
                        if stop.reason is not None:
                            raise StatementError(stop.reason, "stopped at the deadline")
                        return Fetched(columns, sink.rows, sink.truncated)
                except SQLAlchemyError:
                    connection.invalidate()
                    raise
                finally:
                    if not connection.invalidated:
                        transaction.rollback()
        except SQLAlchemyError as error:
            if stop.reason is not None:
                raise StatementError(stop.reason, "stopped at the deadline") from error
            raise StatementError("database", str(getattr(error, "orig", None) or error)) from error
