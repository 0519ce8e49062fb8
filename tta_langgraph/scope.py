"""Which budget a call draws on: the one opened by `budget_scope`, or the one in the running graph's state.

Ledgers live here, by episode, for as long as the process works on the episode: all branches of a graph, its tools and
threads meet in the same ledger, whatever copy of the state they hold.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from langgraph.errors import GraphBubbleUp

from tta_langgraph.budget import Budget, BudgetTracker, Remaining, new_id
from tta_langgraph.charge_write import ChargeWrite
from tta_langgraph.enclosing import CHANNEL, Enclosing, in_send, in_state, loop_of, note_task, task_writes, tasks_around
from tta_langgraph.enclosing import running_config as running_config
from tta_langgraph.journal_interrupt import anote_interrupt, note_interrupt
from tta_langgraph.ledger import Ledger
from tta_langgraph.outbox import Outbox

if TYPE_CHECKING:
    from tta_langgraph.pool import SharedPool

KEPT_EPISODES = 4096
"""Ledgers kept in memory beside those in use; beyond it the longest unused one is dropped (its charges are in the
graph's state)."""

_PROCESS = new_id()[:8]
_active: ContextVar[Scope | None] = ContextVar("tta_budget_scope", default=None)
_lock = threading.RLock()
"""Reentrant: Python may collect a stream that nobody closed while it is held, which then writes what it has spent."""
_ledgers: WeakValueDictionary[str, Ledger] = WeakValueDictionary()
"""Every account that anything holds, by episode: of one there are never two, however many others there are."""
_recent: OrderedDict[str, Ledger] = OrderedDict()
"""Those that were used last."""
_held: WeakKeyDictionary[object, dict[str, Ledger]] = WeakKeyDictionary()
"""Those that a graph draws on, for as long as it runs: what its tasks have spent is in no state before they end."""
_runs: OrderedDict[tuple[int, str], tuple[object, Ledger]] = OrderedDict()


@dataclass(eq=False, slots=True)
class Scope:
    """An open budget scope; what `with budget_scope(...) as scope` gives."""

    ledger: Ledger
    """The account."""
    pools: tuple[SharedPool, ...] = ()
    """Shared pools that every call draws on as well."""
    _around: Scope | None = field(default=None, repr=False)
    _open: bool = field(default=True, repr=False)

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
            (in a node of your own, around a graph that has no `budget` key and is called with a thread of its own).
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
        self._opened: list[tuple[Scope, Mapping[str, Any] | None]] = []

    def __enter__(self) -> Scope:
        around, config = _active.get(), running_config()
        tracker = self._budget if isinstance(self._budget, BudgetTracker) else BudgetTracker.start(self._budget)
        own = tracker_in_state(config)
        outer = _found(own, config)
        if config is not None and own is not None and outer is not None:
            _hold(config, outer, own.episode)
        ledger = ledger_for(tracker, outer)
        scope = _opened(ledger, (around.pools if around else ()) + self._pools)
        if ledger.counts_activity and config is not None:
            ledger.touch(invocation_of(config))
        note_task()
        self._opened.append((scope, config))
        return scope

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ledger, config = self._leave()
        if isinstance(error, GraphBubbleUp):
            note_interrupt(ledger, config)

    def _leave(self) -> tuple[Ledger, Mapping[str, Any] | None]:
        scope, config = self._opened.pop()
        _close(scope)
        save_to_state(scope.ledger, config)
        return scope.ledger, config

    async def __aenter__(self) -> Scope:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ledger, config = self._leave()
        if isinstance(error, GraphBubbleUp):
            await anote_interrupt(ledger, config)


class entered:
    """Makes an existing ledger the active one, for a node that has resolved it already."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._opened: list[Scope] = []

    def __enter__(self) -> Scope:
        around = _active.get()
        scope = _opened(self._ledger, around.pools if around else ())
        self._opened.append(scope)
        return scope

    def __exit__(self, *_: object) -> None:
        _close(self._opened.pop())


def _opened(ledger: Ledger, pools: tuple[SharedPool, ...]) -> Scope:
    scope = Scope(ledger, pools, _active.get())
    _active.set(scope)
    return scope


def _close(scope: Scope) -> None:
    """Goes back to the innermost scope that is still open.

    No token is reset: a generator may be closed in another context than the one that it was begun in, where the scope
    was never open, or after scopes that others have opened in this one since.
    """
    scope._open = False
    if _active.get() is scope:
        around = scope._around
        while around is not None and not around._open:
            around = around._around
        _active.set(around)


def active_scope() -> Scope | None:
    """The innermost open scope of this context, or None."""
    return _active.get()


def active_pools() -> tuple[SharedPool, ...]:
    """Shared pools of the open scopes."""
    scope = _active.get()
    return scope.pools if scope else ()


def tracker_in_state(config: Mapping[str, Any] | None, *, fresh: bool = False) -> BudgetTracker | None:
    """The tracker in the running graph's state; None if the graph has no `budget` channel or no budget was set.

    Args:
        config: the running task's config.
        fresh: include what this task has written so far.
    """
    if config is None:
        return None
    found = in_state(config, fresh=fresh)
    return found if isinstance(found, BudgetTracker) and found.episode else None


def current_ledger(tracker: BudgetTracker | None = None) -> Ledger | None:
    """The ledger that a call made here draws on, or None outside of any budget.

    Looked for in this order: the given tracker or the running graph's state, the innermost open scope, the states of
    the graphs in whose nodes this one runs, and, where those cannot be told, the ledger of the nearest graph around it
    that has used one in this run. The open scopes and the graphs in whose nodes this one runs are around it, as they
    are at this moment; a part of the budget in the input of a `Send` is inside it.

    Args:
        tracker: draw on this one.
    """
    config = running_config()
    return ledger_here(tracker or tracker_in_state(config), config)


def ledger_here(tracker: BudgetTracker | None, config: Mapping[str, Any] | None) -> Ledger | None:
    """`current_ledger` for a caller that has looked up the running task's config, and the tracker in its state."""
    ledger = _found(tracker, config)
    if config is None:
        return ledger
    if ledger is not None and tracker is not None:
        _note_run(config, ledger, tracker.episode)
    part = in_send(config)
    if isinstance(part, BudgetTracker) and part.episode:
        ledger = ledger_for(part, ledger)
        _hold(config, ledger, part.episode)
    if ledger is not None and ledger.counts_activity:
        ledger.touch(invocation_of(config))
    return ledger


def with_surroundings(tracker: BudgetTracker | None) -> BudgetTracker | None:
    """The account of a state together with the budgets around it: the open scopes, and the graphs that call this one.

    A state knows its own limits only; whoever asks what is left, to decide on it, must know of the others.
    """
    own = tracker if tracker is not None and tracker.episode else None
    ledger = current_ledger(own)
    if ledger is None or (own is not None and ledger.parent is None):
        return tracker
    return ledger.tracker()


def _found(tracker: BudgetTracker | None, config: Mapping[str, Any] | None) -> Ledger | None:
    around = _around(tasks_around(config))
    if tracker is not None and tracker.episode:
        return ledger_for(tracker, around)
    noted = _ledger_of_run(config)
    if noted is None or (around is not None and not _has(noted, around.episode)):
        return around
    return noted


def _around(task: Enclosing | None) -> Ledger | None:
    """The ledger of the open scopes and of the states of this task's graph and the graphs around it."""
    if task is None:
        scope = _active.get()
        return scope.ledger if scope else None
    # A scope that was opened inside the task has its graph's ledger in its lineage; any other is around the graph.
    around, tracker = _around(task.outer), tracker_in_state(task.config)
    ledger = around
    for own in (tracker, in_send(task.config)):
        if isinstance(own, BudgetTracker) and own.episode:
            ledger = ledger_for(own, ledger)
            _hold(task.config, ledger, own.episode)
    return ledger


def ledger_for(tracker: BudgetTracker, parent: Ledger | None = None) -> Ledger:
    """The ledger to draw on for this tracker: the process's one account of its episode, with `parent` around it.

    Where `parent` is inside that account already, as a scope is that was opened in a node, it is `parent` itself.
    """
    if parent is not None and _has(parent, tracker.episode):
        parent.of_episode(tracker.episode).absorb_new(tracker.charges)
        return parent
    if tracker.parent is not None and tracker.parent.episode:
        parent = ledger_for(tracker.parent, parent)
    with _lock:
        ledger = account = _ledgers.get(tracker.episode)
        if ledger is None:
            ledger = _ledgers[tracker.episode] = Ledger(tracker)
        _recent[tracker.episode] = ledger
        _recent.move_to_end(tracker.episode)
        while len(_recent) > KEPT_EPISODES:
            _recent.popitem(last=False)
        if parent is not None:
            ledger = ledger.under(parent)
    if account is not None:
        ledger.absorb_new(tracker.charges)
    elif tracker.charges:
        ledger.absorb(tracker.charges)  # in the ancestors
    return ledger


def _has(ledger: Ledger, episode: str) -> bool:
    for each in ledger.lineage:  # noqa: SIM110 - a generator costs a call for each step
        if each.episode == episode:
            return True
    return False


def save_to_state(ledger: Ledger, config: Mapping[str, Any] | None = None, known: BudgetTracker | None = None) -> None:
    """Writes every charge that the running graph's state does not know yet, along with this task's writes.

    So it does for the tasks around it: what an inner graph spends is in the states of the outer ones whatever becomes
    of the inner state. The union reducer makes repetition harmless, so whatever an earlier attempt of a retried node
    lost is simply written again.

    Args:
        ledger: the account.
        config: the running task's config, where the caller has it already.
        known: the tracker in the state, likewise.
    """
    config = config or running_config()
    if config is None:
        return
    if ledger.counts_activity:
        ledger.touch(invocation_of(config))
    _send(ledger, config, known or tracker_in_state(config))
    task = tasks_around(config)
    while task is not None:
        Outbox.put_into(task.config)
        _send(ledger, task.config, tracker_in_state(task.config))
        task = task.outer


def _send(ledger: Ledger, config: Mapping[str, Any], known: BudgetTracker | None) -> None:
    own = ledger
    if known is None:
        return
    if own.episode != known.episode:
        if not _has(ledger, known.episode):
            return
        own = ledger.of_episode(known.episode)
    send = config["configurable"]["__pregel_send"]
    writes = task_writes(config)
    if writes is not None:
        written = _written(writes, known.episode)
    else:
        known, written = tracker_in_state(config, fresh=True) or known, None
    new = own.charges_beyond(known.charges, {} if written is None else written.charges)
    active = own.activity() if own.counts_activity else {}
    if written is not None:
        # It grows, so that a task gives the state one update, however many calls it makes. Its dictionary does not: if
        # the task has ended and left a thread behind, it may be on its way into a checkpoint.
        with _lock:
            written.__dict__.update(charges={**written.charges, **new}, active=active)
    elif new or active:
        update = BudgetTracker(
            episode=known.episode,
            budget=known.budget,
            started=known.started,
            charges=new,
            active=active,
            report=True,
        )
        send([(CHANNEL, update) if writes is None else ChargeWrite(update, writes)])


def _written(writes: Iterable[tuple[str, Any]], episode: str) -> BudgetTracker | None:
    """What `_send` has added to the writes of this attempt of a task; None if nothing yet.

    LangGraph's `send` extends the task's writes, which it empties before a retry. Asking it for the state with the
    writes applied would copy every channel of the graph, for each call.
    """
    for name, value in list(writes):
        if name == CHANNEL and isinstance(value, BudgetTracker) and value.report and value.episode == episode:
            return value
    return None


def invocation_of(config: Mapping[str, Any] | None) -> str:
    """An id of the current invocation of the root graph: it changes when an interrupted graph is resumed.

    Another process has others, also one that was forked, where objects have the same addresses.
    """
    control = _control(config)
    return f"{_PROCESS}-{os.getpid():x}-{id(control):x}" if control is not None else "direct"


def _control(config: Mapping[str, Any] | None) -> object | None:
    return None if config is None else getattr(config["configurable"].get("__pregel_runtime"), "control", None)


def _note_run(config: Mapping[str, Any], ledger: Ledger, episode: str) -> None:
    control = _control(config)
    if control is None:
        return
    key = id(control), _graph_of(config)
    noted = _runs.get(key)
    if noted is not None and noted[0] is control and noted[1] is ledger:
        return
    _hold(config, ledger, episode)
    with _lock:
        # The control object is kept, so that its id cannot be taken by another run's.
        _runs[key] = (control, ledger.of_episode(episode))
        _runs.move_to_end(key)
        while len(_runs) > KEPT_EPISODES:
            _runs.popitem(last=False)


def _hold(config: Mapping[str, Any], ledger: Ledger, episode: str) -> None:
    """Keeps the ledger of an episode, and those around it, in memory until the graph of this task has ended."""
    loop = loop_of(config)
    if loop is not None:
        with _lock:
            _held.setdefault(loop, {})[episode] = ledger.of_episode(episode)


def _ledger_of_run(config: Mapping[str, Any] | None) -> Ledger | None:
    control = _control(config)
    if control is None or config is None:
        return None
    graph = _graph_of(config)
    while True:
        found = _runs.get((id(control), graph))
        if found is not None:
            return found[1]
        if not graph:
            return None
        graph = graph.rpartition("|")[0]


def _graph_of(config: Mapping[str, Any]) -> str:
    """The namespace of the graph that a task belongs to; empty for the outermost one."""
    namespace: str = config["configurable"].get("checkpoint_ns", "")
    return namespace.rpartition("|")[0]
