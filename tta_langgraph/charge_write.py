"""The write that takes a task's charges into its graph's state, and that a failed task takes back.

LangGraph keeps what a failed task has written beside its error, and takes a task with writes for one that has
finished: a resume would go on behind the node that failed, without its answer. So a task that fails must leave nothing
but its error. What it has spent is in the account and in the journal, and goes into the state with the next call.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from tta_langgraph.budget import BudgetTracker
from tta_langgraph.enclosing import CHANNEL

_ERROR: Final = "__error__"
"""Where LangGraph writes a task's error, after all else; after it comes at most the mark that a handler takes over."""


class ChargeWrite(list[Any]):
    """A pair of the channel and its update; the pair of the error instead, once the task's last write is an error.

    Where an error handler takes over, the node will not run again, and its charges stay. A list, since LangGraph's
    caches can store no other kind of tuple than the plain one.

    Args:
        update: the charges.
        writes: all that the task has written, which this becomes a part of.
    """

    def __init__(self, update: BudgetTracker, writes: deque[Any]) -> None:
        super().__init__((CHANNEL, update))
        self._writes = writes

    # Both are read a dozen times for every task, so neither asks a third for the error.

    def __iter__(self) -> Iterator[Any]:
        last = self._writes[-1] if self._writes else self  # LangGraph empties them before a retry
        return list.__iter__(self) if last is self or last[0] != _ERROR else iter(last)

    def __getitem__(self, index: Any) -> Any:
        last = self._writes[-1] if self._writes else self
        return list.__getitem__(self, index) if last is self or last[0] != _ERROR else last[index]
