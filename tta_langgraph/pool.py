"""A budget that many processes share: per user, per day, per team. SQLite on one machine, PostgreSQL for many.

Every reservation is one conditional `UPDATE`: the row changes only if what is spent and reserved plus the new bound
stays within the limit, so processes cannot overshoot together. Each reservation is also a lease with an expiry. A
process that dies leaves its leases behind; whoever asks next takes expired ones back. A living process renews its
leases from a small thread that ends with the last of them.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Float,
    MetaData,
    String,
    Table,
    Update,
    bindparam,
    create_engine,
    delete,
    event,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from tta_langgraph.addresses import shown
from tta_langgraph.budget import Dimension, Usage
from tta_langgraph.errors import BudgetError, DatabaseError
from tta_langgraph.sqlite_files import share

PoolDimension = Literal["tokens", "prompt_tokens", "completion_tokens", "usd", "model_calls", "executions"]
POOLED: tuple[PoolDimension, ...] = get_args(PoolDimension)
"""Dimensions that a pool can limit: those that add up. Seconds do not."""

Window = Literal["hour", "day", "week"] | float | None
_WINDOWS = {"hour": 3600.0, "day": 86400.0, "week": 604800.0}

_log = logging.getLogger(__name__)

_metadata = MetaData()
_pools = Table(
    "tta_pools",
    _metadata,
    Column("name", String(200), primary_key=True),
    Column("window_start", Float(53), primary_key=True),
    *(Column(f"spent_{name}", Float(53), nullable=False, default=0.0) for name in POOLED),
    *(Column(f"reserved_{name}", Float(53), nullable=False, default=0.0) for name in POOLED),
)
_leases = Table(
    "tta_pool_leases",
    _metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(200), nullable=False, index=True),
    Column("window_start", Float(53), nullable=False),
    Column("expires", Float(53), nullable=False),
    *(Column(name, Float(53), nullable=False) for name in POOLED),
)


_HERE = (_pools.c.name == bindparam("pool")) & (_pools.c.window_start == bindparam("window"))
_CLOSING = delete(_leases).where(_leases.c.id == bindparam("lease"))
_ADDING = (
    update(_pools)
    .where(_HERE)
    .values({f"reserved_{name}": _pools.c[f"reserved_{name}"] + bindparam(f"held_{name}") for name in POOLED})
    .values({f"spent_{name}": _pools.c[f"spent_{name}"] + bindparam(f"used_{name}") for name in POOLED})
)


@dataclass(frozen=True, slots=True)
class Lease:
    """A reservation in a pool, held until it is settled, released or expired."""

    id: str
    """Unique id."""
    window_start: float
    """Start of the window it counts in, Unix seconds."""
    bound: Usage
    """The most that may be consumed under it."""


@dataclass(frozen=True, slots=True)
class PoolRefusal:
    """Why the pool did not admit a reservation."""

    dimension: Dimension
    """The limit that struck."""
    busy: bool
    """True: others hold reservations that may come back. False: spent."""
    spent: float
    """Spent in this window (tokens, US dollars, calls)."""
    limit: float
    """The limit, same unit."""
    reserved: float = 0.0
    """Held by calls in flight, same unit."""


class SharedPool:
    """A budget drawn on by many processes at once.

    Args:
        engine: a SQLAlchemy engine or URL; its tables are created on first use.
        name: the pool's name, for example `"user:42"`.
        limit: tokens per window, or a mapping of dimensions to limits.
        window: `"hour"`, `"day"` or `"week"` (aligned to Unix time, UTC), a number of seconds, or None for ever.
        lease: seconds after which the reservation of a dead process comes back. Living processes renew theirs.

    Example:
        ```python
        from tta_langgraph import Budget, SharedPool, budget_scope

        pool = SharedPool("sqlite:///pools.sqlite", "user:42", limit=200_000, window="day")
        with budget_scope(Budget(tokens=4_000), pools=[pool]):
            ...
        print(pool.remaining())
        ```

    Raises:
        BudgetError: a limit is not positive or names an unknown dimension, or there is no such window.
        DatabaseError: the database cannot be reached or written.
    """

    def __init__(
        self,
        engine: Engine | str,
        name: str,
        limit: float | Mapping[str, float],
        window: Window = "day",
        *,
        lease: float = 60.0,
    ) -> None:
        self.name = name
        self.limits = _limits(limit)
        self.lease_seconds = lease
        self._window = _seconds(window)
        self._engine = _pool_engine(engine) if isinstance(engine, str) else engine
        # Built once: putting a statement together takes longer than SQLite takes to run it.
        self._taking = _taking(self.limits)
        self._held: dict[str, float] = {}
        self._owed: dict[str, tuple[Lease, Mapping[str, float]]] = {}
        self._lock, self._paying = threading.Lock(), threading.Lock()
        self._renewer: threading.Thread | None = None
        self._wake = threading.Event()
        try:
            self._create_tables()
        except SQLAlchemyError as error:
            raise self._unreachable(error) from error

    def __repr__(self) -> str:
        return f"SharedPool({self.name!r}, {self.limits}, window={self._window}, at {shown(self._engine.url)})"

    def _create_tables(self, attempts: int = 5) -> None:
        """Creates the tables where they are missing; several processes may find them missing at once."""
        for attempt in range(attempts):
            try:
                _metadata.create_all(self._engine)
                return
            except SQLAlchemyError:
                if attempt == attempts - 1:
                    raise
                time.sleep(0.1 * (attempt + 1))

    @property
    def account(self) -> tuple[str, str]:
        """What it draws on, the same for every object that stands for it; accounts are taken in this order."""
        place = self._engine.url
        in_memory = place.get_backend_name() == "sqlite" and place.database in (None, "", ":memory:")
        return (f"{place}#{id(self._engine)}" if in_memory else str(place), self.name)

    def reserve(self, bound: Usage) -> Lease | PoolRefusal:
        """Reserves the bound of a call, in one conditional update. The lease is renewed until it is closed.

        Args:
            bound: the most that the call can consume.
        """
        lease = Lease(uuid.uuid4().hex, self._window_start(), bound)
        amounts: dict[str, float] = {name: float(getattr(bound, name)) for name in POOLED}
        expires = time.time() + self.lease_seconds
        with self._transaction() as connection:
            if not self._take(connection, lease.window_start, amounts):
                self._reclaim(connection)
                if not self._take(connection, lease.window_start, amounts):
                    return self._refusal(connection, lease.window_start, amounts)
            row = {"id": lease.id, "name": self.name, "window_start": lease.window_start, "expires": expires, **amounts}
            connection.execute(insert(_leases), row)
        self._hold(lease)
        return lease

    def settle(self, lease: Lease, usage: Usage) -> None:
        """Replaces a lease by what was consumed; counted even if the lease had expired.

        The answer that was paid for is not lost to a database that is away just now: what could not be written is kept,
        with its lease, and written by the thread that renews leases, or when the process ends.
        """
        self._close(lease, {name: float(getattr(usage, name)) for name in POOLED})

    def release(self, lease: Lease) -> None:
        """Gives a lease back: the call was never made."""
        self._close(lease, {})

    def spent(self) -> dict[PoolDimension, float]:
        """Spent in the current window, per dimension."""
        return self._read("spent")

    def reserved(self) -> dict[PoolDimension, float]:
        """Held by calls in flight in the current window, per dimension."""
        return self._read("reserved")

    def remaining(self) -> dict[PoolDimension, float]:
        """Neither spent nor reserved in the current window, per limited dimension."""
        spent, reserved = self.spent(), self.reserved()
        return {name: max(0.0, limit - spent[name] - reserved[name]) for name, limit in self.limits.items()}

    # -- inside a transaction -----------------------------------------------------------------------------

    def _take(self, connection: Connection, window_start: float, amounts: Mapping[str, float]) -> bool:
        """The one atomic step: reserve if, and only if, it fits."""
        wanted = {f"more_{name}": amount for name, amount in amounts.items()}
        wanted |= {"pool": self.name, "window": window_start}  # type: ignore[dict-item]
        if connection.execute(self._taking, wanted).rowcount:
            return True
        if self._exists(connection, window_start):
            return False
        empty = {f"{kind}_{name}": 0.0 for kind in ("spent", "reserved") for name in POOLED}
        try:
            with connection.begin_nested():
                connection.execute(insert(_pools), {"name": self.name, "window_start": window_start, **empty})
        except IntegrityError:
            _log.debug("another process opened the window of pool %s first", self.name)
        return bool(connection.execute(self._taking, wanted).rowcount)

    def _exists(self, connection: Connection, window_start: float) -> bool:
        found = select(_pools.c.name).where(_pools.c.name == self.name, _pools.c.window_start == window_start)
        return connection.execute(found).first() is not None

    def _reclaim(self, connection: Connection) -> None:
        """Takes the reservations of dead processes back."""
        expired = select(_leases).where(_leases.c.name == self.name, _leases.c.expires < time.time())
        for row in connection.execute(expired).mappings().all():
            if connection.execute(_CLOSING, {"lease": row["id"]}).rowcount:
                self._add(connection, row["window_start"], {name: -row[name] for name in POOLED}, {})
                _log.warning("pool %s: took back the reservation of a process that went away", self.name)

    def _add(
        self, connection: Connection, window_start: float, reserved: Mapping[str, float], spent: Mapping[str, float]
    ) -> None:
        if reserved or spent:
            values: dict[str, float | str] = {"pool": self.name, "window": window_start}
            for name in POOLED:
                values[f"held_{name}"] = reserved.get(name, 0.0)
                values[f"used_{name}"] = spent.get(name, 0.0)
            connection.execute(_ADDING, values)

    def _refusal(self, connection: Connection, window_start: float, amounts: Mapping[str, float]) -> PoolRefusal:
        here = (_pools.c.name == self.name) & (_pools.c.window_start == window_start)
        row = connection.execute(select(_pools).where(here)).mappings().one()
        for name, limit in self.limits.items():
            spent, reserved = row[f"spent_{name}"], row[f"reserved_{name}"]
            if spent + reserved + amounts[name] > limit:
                return PoolRefusal(name, reserved > 0 and spent + amounts[name] <= limit, spent, limit, reserved)
        name, limit = next(iter(self.limits.items()))
        return PoolRefusal(name, True, row[f"spent_{name}"], limit, row[f"reserved_{name}"])

    # -- leases of this process ---------------------------------------------------------------------------

    def _close(self, lease: Lease, spent: Mapping[str, float]) -> None:
        try:
            self._closed(lease, spent)
        except DatabaseError:
            _log.warning("pool %s: a settlement could not be written and is tried again", self.name, exc_info=True)
            with self._lock:
                if not self._owed:
                    atexit.register(self._pay_at_exit)
                self._owed[lease.id] = (lease, spent)
                self._start_renewing()

    def _pay(self) -> None:
        """Writes what is owed, one thread at a time.

        Raises:
            DatabaseError: one could not be written; it and those after it are still owed.
        """
        with self._paying:
            for key, (lease, spent) in list(self._owed.items()):
                self._closed(lease, spent)
                with self._lock:
                    del self._owed[key]
                    if not self._owed:
                        atexit.unregister(self._pay_at_exit)

    def _pay_at_exit(self) -> None:
        try:
            self._pay()
        except DatabaseError as error:
            _log.error("pool %s: %d settlements were never written: %s", self.name, len(self._owed), error)

    def _closed(self, lease: Lease, spent: Mapping[str, float]) -> None:
        with self._transaction() as connection:
            held = connection.execute(_CLOSING, {"lease": lease.id}).rowcount
            amounts: dict[str, float] = {name: -float(getattr(lease.bound, name)) for name in POOLED}
            self._add(connection, lease.window_start, amounts if held else {}, spent)
        with self._lock:
            self._held.pop(lease.id, None)
            if not self._held:  # nothing to renew: the thread ends
                self._wake.set()

    def _hold(self, lease: Lease) -> None:
        with self._lock:
            self._held[lease.id] = lease.window_start
            self._start_renewing()

    def _start_renewing(self) -> None:
        if self._renewer is None or not self._renewer.is_alive():
            self._wake.clear()
            self._renewer = threading.Thread(target=self._renew, name=f"tta-pool-{self.name}", daemon=True)
            self._renewer.start()

    def _renew(self) -> None:
        """Renews this process's leases every third of their life, and writes what is owed; ends when none is held."""
        while True:
            self._wake.wait(self.lease_seconds / 3)
            with self._lock:
                self._wake.clear()
                held = list(self._held)
                if not held and not self._owed:
                    self._renewer = None
                    return
            try:
                with self._transaction() as connection:
                    mine = _leases.c.id.in_(held)
                    connection.execute(update(_leases).where(mine).values(expires=time.time() + self.lease_seconds))
                self._pay()
            except DatabaseError:
                _log.exception("pool %s: could not renew %d leases", self.name, len(held))

    # -- plumbing -----------------------------------------------------------------------------------------

    def _window_start(self) -> float:
        return 0.0 if self._window is None else time.time() // self._window * self._window

    def _read(self, kind: str) -> dict[PoolDimension, float]:
        with self._transaction() as connection:
            here = (_pools.c.name == self.name) & (_pools.c.window_start == self._window_start())
            row = connection.execute(select(_pools).where(here)).mappings().first()
        return {name: 0.0 if row is None else float(row[f"{kind}_{name}"]) for name in POOLED}

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> DatabaseError:
        return DatabaseError(
            f"the shared pool {self.name!r} cannot be used: {str(error).splitlines()[0]}",
            where=shown(self._engine.url),
            remedy="Check that the database is reachable and writable",
        )


def _taking(limits: Mapping[PoolDimension, float]) -> Update:
    """The conditional update that reserves if, and only if, it fits."""
    statement = update(_pools).where(_HERE)
    for name, limit in limits.items():
        taken = _pools.c[f"spent_{name}"] + _pools.c[f"reserved_{name}"] + bindparam(f"more_{name}")
        statement = statement.where(taken <= limit + 1e-9)
    more = {f"reserved_{name}": _pools.c[f"reserved_{name}"] + bindparam(f"more_{name}") for name in POOLED}
    return statement.values(more)


def _limits(limit: float | Mapping[str, float]) -> dict[PoolDimension, float]:
    wanted = {"tokens": limit} if not isinstance(limit, Mapping) else dict(limit)
    unknown = [name for name in wanted if name not in POOLED]
    if unknown or not wanted:
        raise BudgetError(
            f"a pool cannot limit {', '.join(map(repr, unknown)) or 'nothing'}",
            where="SharedPool.limit",
            remedy=f"Known dimensions: {', '.join(POOLED)}",
        )
    for name, value in wanted.items():
        if not 0 < float(value) < float("inf"):
            raise BudgetError(
                f"a limit must be a positive, finite number, got {value!r}",
                where=f"SharedPool.limit[{name!r}]",
                remedy="Give a number above 0",
            )
    return {name: float(wanted[name]) for name in POOLED if name in wanted}


def _seconds(window: Window) -> float | None:
    """Length of a window; None for one that never ends."""
    length = _WINDOWS.get(window) if isinstance(window, str) else window
    if window is None or (length is not None and 0 < length < float("inf")):
        return length
    raise BudgetError(
        f"there is no window {window!r}",
        where="SharedPool.window",
        remedy=f"Use one of {', '.join(map(repr, _WINDOWS))}, a number of seconds above 0, or None for ever",
    )


def _pool_engine(url: str) -> Engine:
    """An engine whose SQLite transactions take the write lock at once, so that writers queue instead of failing."""
    engine = create_engine(url, pool_pre_ping=not url.startswith("sqlite"))  # a file does not go away
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _configure(connection: Any, _: Any) -> None:
            connection.isolation_level = None
            share(connection)

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
