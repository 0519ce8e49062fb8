"""What is written for a task while an inner graph runs in it, and taken back when the task writes the same itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tta_langgraph.budget import BudgetTracker
from tta_langgraph.enclosing import CHANNEL

Write = tuple[str, Any]


class Outbox:
    """A task's `send`. A sub-graph that is a node hands its whole state over at its end, charges and all.

    Charges that were written before then (it may leave by a `Command` to its parent, and hand over nothing) are
    written twice, which the reducer would not mind; but `stream_mode="updates"` shows a node that wrote a key twice as
    a list of updates, and a node that did not as one.
    """

    def __init__(self, writes: deque[Write], send: Callable[[Sequence[Write]], None]) -> None:
        self.__self__ = writes  # where a bound `extend`, which this stands for, has them too
        self._send = send

    @classmethod
    def put_into(cls, config: Mapping[str, Any]) -> None:
        """Makes it the `send` of a task whose writes can be reached."""
        configurable = config["configurable"]
        send = configurable["__pregel_send"]
        writes = getattr(send, "__self__", None)
        if isinstance(writes, deque) and not isinstance(send, cls):
            configurable["__pregel_send"] = cls(writes, send)

    def __call__(self, writes: Sequence[Write]) -> None:
        """Adds the writes; earlier ones that say nothing more about the budget are dropped."""
        for name, new in writes:
            if name == CHANNEL and isinstance(new, BudgetTracker):
                for write in list(self.__self__):
                    if write[0] == CHANNEL and isinstance(write[1], BudgetTracker) and _says(new, write[1]):
                        self.__self__.remove(write)
        self._send(writes)


def _says(new: BudgetTracker, old: BudgetTracker) -> bool:
    return new.episode == old.episode and new.charges.keys() >= old.charges.keys() and new.active == old.active
