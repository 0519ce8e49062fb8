"""Replay makes hundreds of small objects per episode and no reference cycles: looking for cycles finds nothing."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

OBJECTS = 100_000
"""New objects after which Python looks for cycles during replay; Python's own default is 700 or 2,000."""

_lock = threading.Lock()
_running = 0
_before = (0, 0, 0)


@contextmanager
def fewer_collections() -> Iterator[None]:
    """Has Python look for reference cycles less often until the block ends, however it ends.

    The threshold belongs to the process, so blocks that overlap (threads, a replay within a replay) count as one: the
    first raises it and the last puts it back. Collections stay on, because other threads may make cycles. A process
    that switched them off, collects less often still, or changes the threshold meanwhile, is left alone. Nothing is
    frozen: thawing would also thaw what the program froze itself.
    """
    global _running, _before
    with _lock:
        if _running == 0:
            _before = gc.get_threshold()
            if 0 < _before[0] < OBJECTS:
                gc.set_threshold(OBJECTS, *_before[1:])
        _running += 1
    try:
        yield
    finally:
        with _lock:
            _running -= 1
            if _running == 0 and gc.get_threshold()[0] == OBJECTS:
                gc.set_threshold(*_before)
