"""Which budget a call draws on: the one opened by `budget_scope`, or the one in the running graph's state.

Ledgers live here, by episode, for as long as the process works on the episode: all branches of a graph, its tools and
threads meet in the same ledger, whatever copy of the state they hold.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any

from langchain_core.runnables.config import var_child_runnable_config

from tta_langgraph.budget import Budget, BudgetTracker, Charge, Remaining, merge_budget
from tta_langgraph.ledger import Ledger

if TYPE_CHECKING:
    from tta_langgraph.pool import SharedPool

CHANNEL = "budget"
"""The state key that carries the tracker."""
KEPT_EPISODES = 4096
"""Ledgers kept in memory; beyond it the longest unused idle one is dropped (its charges are in the graph's state)."""

_active: ContextVar[Scope | None] = ContextVar("tta_budget_scope", default=None)
_lock = threading.Lock()
_ledgers: OrderedDict[str, Ledger] = OrderedDict()
_runs: OrderedDict[int, tuple[object, Ledger]] = OrderedDict()


@dataclass(frozen=True, slots=True)
class Scope:
    """An open budget scope; what `with budget_scope(...) as scope` gives."""

    ledger: Ledger
    """The account."""
    pools: tuple[SharedPool, ...] = ()
    """Shared pools that every call draws on as well."""

    @property
    def tracker(self) -> BudgetTracker:
        """Limits, charges and clock at this moment."""
        return self.ledger.tracker()

    @property
    def remaining(self) -> Remaining:
        """What is neither spent nor in flight, per dimension."""
        return self.ledger.remaining


class budget_scope:
    """Sets a budget on everything that runs inside: any graph, model or tool, theirs as well as ours.

    Scopes nest: what is spent inside counts in every scope around it, and the outermost exhausted limit wins. Only
    models wrapped with `budgeted` draw on it. LangGraph, LangChain and asyncio carry the scope into their tasks and
    threads; a bare `threading.Thread` does not: start it with `contextvars.copy_context().run`.

    Args:
        budget: a `Budget`, a mapping of its fields, a number of tokens, or the `BudgetTracker` of a graph's state
            (in a node of your own, around a sub-graph that has no `budget` key).
        pools: budgets shared with other processes, drawn on by every call inside.

    Example:
        ```python
        from tta_langgraph import Budget, budget_scope

        with budget_scope(Budget(tokens=4_000, seconds=8)) as scope:
            graph.invoke({"messages": [("user", "How many singers are there?")]})
        print(scope.tracker.usage.tokens, scope.remaining.seconds)
        ```

    Raises:
        BudgetError: the budget is not valid.
    """

    def __init__(
        self,
        budget: Budget | BudgetTracker | Mapping[str, Any] | int | None = None,
        *,
        pools: tuple[SharedPool, ...] | list[SharedPool] = (),
    ) -> None:
        self._budget = budget if isinstance(budget, BudgetTracker) else Budget.coerce(budget)
        self._pools = tuple(pools)
        self._tokens: list[Token[Scope | None]] = []

    def __enter__(self) -> Scope:
        around = _active.get()
        tracker = self._budget if isinstance(self._budget, BudgetTracker) else BudgetTracker.start(self._budget)
        ledger = ledger_for(tracker, around.ledger if around else current_ledger())
        pools = (around.pools if around else ()) + self._pools
        scope = Scope(ledger, pools)
        self._tokens.append(_active.set(scope))
        return scope

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _active.reset(self._tokens.pop())

    async def __aenter__(self) -> Scope:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


class entered:
    """Makes an existing ledger the active one, for a node that has resolved it already."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._tokens: list[Token[Scope | None]] = []

    def __enter__(self) -> Scope:
        around = _active.get()
        scope = Scope(self._ledger, around.pools if around else ())
        self._tokens.append(_active.set(scope))
        return scope

    def __exit__(self, *_: object) -> None:
        _active.reset(self._tokens.pop())


def active_scope() -> Scope | None:
    """The innermost open scope of this context, or None."""
    return _active.get()


def active_pools() -> tuple[SharedPool, ...]:
    """Shared pools of the open scopes."""
    scope = _active.get()
    return scope.pools if scope else ()


def running_config() -> Mapping[str, Any] | None:
    """The config of the LangGraph task that this code runs in, or None outside of a graph."""
    config = var_child_runnable_config.get()
    if config is None or "__pregel_read" not in config.get("configurable", {}):
        return None
    return config


def tracker_in_state(config: Mapping[str, Any] | None, *, fresh: bool = False) -> BudgetTracker | None:
    """The tracker in the running graph's state; None if the graph has no `budget` channel or no budget was set.

    Args:
        config: the running task's config.
        fresh: include what this task has written so far.
    """
    if config is None:
        return None
    try:
        found = config["configurable"]["__pregel_read"](CHANNEL, fresh)
    except KeyError:
        return None
    return found if isinstance(found, BudgetTracker) and found.episode else None


def current_ledger(tracker: BudgetTracker | None = None, config: Mapping[str, Any] | None = None) -> Ledger | None:
    """The ledger that a call made here draws on, or None outside of any budget.

    Looked for in this order: the given tracker or the running graph's state, the innermost open scope, and, in a
    sub-graph that has no `budget` key, the last ledger that the same run used.

    Args:
        tracker: draw on this one.
        config: the running task's config, where the caller has it already.
    """
    scope = _active.get()
    around = scope.ledger if scope else None
    config = config or running_config()
    tracker = tracker or tracker_in_state(config)
    if tracker is not None and tracker.episode:
        if around is not None and any(ledger.episode == tracker.episode for ledger in around.lineage):
            ledger = around
            _own(around, tracker).absorb_new(tracker.charges)
        else:
            ledger = ledger_for(tracker, around)
    elif around is not None:
        ledger = around
    else:
        return _ledger_of_run(config)
    _note_run(config, ledger)
    return ledger


def ledger_for(tracker: BudgetTracker, parent: Ledger | None = None) -> Ledger:
    """The process's one ledger for the tracker's episode, made on first sight."""
    if tracker.parent is not None and tracker.parent.episode:
        parent = ledger_for(tracker.parent, parent)
    with _lock:
        ledger = _ledgers.get(tracker.episode)
        if ledger is None:
            ledger = _ledgers[tracker.episode] = Ledger(tracker, parent=parent)
            if len(_ledgers) > KEPT_EPISODES:
                _trim()
        else:
            _ledgers.move_to_end(tracker.episode)
    ledger.absorb_new(tracker.charges)
    return ledger


def save_to_state(ledger: Ledger, config: Mapping[str, Any] | None = None, known: BudgetTracker | None = None) -> None:
    """Writes every charge that the running graph's state does not know yet, along with this task's writes.

    The union reducer makes repetition harmless, so whatever an earlier attempt of a retried node lost is simply
    written again.

    Args:
        ledger: the account.
        config: the running task's config, where the caller has it already.
        known: the tracker in the state, likewise.
    """
    config = config or running_config()
    known = known or tracker_in_state(config)
    if config is None or known is None:
        return
    send = config["configurable"]["__pregel_send"]
    for own in ledger.lineage:
        if own.episode == known.episode:
            new = own.charges_beyond(known.charges, *_written(config, send))
            active = own.activity() if own.counts_activity else {}
            if new or active:
                update = BudgetTracker(
                    episode=known.episode, budget=known.budget, started=known.started, charges=new, active=active
                )
                send([(CHANNEL, update)])


def _written(config: Mapping[str, Any], send: Any) -> list[Mapping[str, Charge]]:
    """The charges that this attempt of the task has written so far.

    LangGraph's `send` extends the task's writes, which it empties before a retry. Asking it for the state with the
    writes applied would copy every channel of the graph, for each call.
    """
    writes = getattr(send, "__self__", None)
    if isinstance(writes, (deque, list)):
        return [value.charges for name, value in list(writes) if name == CHANNEL and isinstance(value, BudgetTracker)]
    applied = tracker_in_state(config, fresh=True)
    return [] if applied is None else [applied.charges]


def invocation_of(config: Mapping[str, Any] | None) -> str:
    """An id of the current invocation of the root graph: it changes when an interrupted graph is resumed."""
    control = _control(config)
    return f"{id(control):x}" if control is not None else "direct"


def reduced(left: Any, right: Any) -> BudgetTracker:
    """`merge_budget` for nodes that are called directly, outside of a graph."""
    return merge_budget(left, right)


def _own(ledger: Ledger, tracker: BudgetTracker) -> Ledger:
    return next(above for above in ledger.lineage if above.episode == tracker.episode)


def _control(config: Mapping[str, Any] | None) -> object | None:
    runtime = (config or {}).get("configurable", {}).get("__pregel_runtime")
    return getattr(runtime, "control", None)


def _note_run(config: Mapping[str, Any] | None, ledger: Ledger) -> None:
    control = _control(config)
    if control is None:
        return
    noted = _runs.get(id(control))
    if noted is not None and noted[0] is control and noted[1] is ledger:
        return
    with _lock:
        # The control object is kept, so that its id cannot be taken by another run's.
        _runs[id(control)] = (control, ledger)
        _runs.move_to_end(id(control))
        while len(_runs) > KEPT_EPISODES:
            _runs.popitem(last=False)


def _ledger_of_run(config: Mapping[str, Any] | None) -> Ledger | None:
    control = _control(config)
    found = _runs.get(id(control)) if control is not None else None
    return found[1] if found is not None else None


def _trim() -> None:
    for episode in list(islice(_ledgers, len(_ledgers) - KEPT_EPISODES)):
        if not _ledgers[episode].in_flight:
            del _ledgers[episode]
