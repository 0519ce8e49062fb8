"""Who holds which engine: equal settings share one, the first call starts it, and the last to let go ends it."""

from __future__ import annotations

import atexit
import json
import multiprocessing.util  # noqa: F401 - so that its exit handler is registered before ours
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from tta_langgraph.errors import ModelError
from tta_langgraph.models.vllm_engine import Engine

__all__ = ["EngineLease"]


class EngineLease:
    """One user's hold on a shared engine: the first `engine` call starts it, the last `release` stops it.

    A lease that is garbage collected counts as released. A copy, or one that was pickled, holds nothing yet.

    Args:
        model: folder or hub name.
        options: keyword arguments of vLLM's `AsyncEngineArgs`; equal options share an engine.
    """

    def __init__(self, model: str, options: Mapping[str, Any]) -> None:
        self._key = json.dumps([model, options], sort_keys=True, default=repr)
        self._model, self._options = model, options
        self.tools: Any = None
        """What the holder made for the engine it holds, such as its tokenizer's prompts; forgotten with the hold."""

    def __reduce__(self) -> tuple[type[EngineLease], tuple[str, Mapping[str, Any]]]:
        return type(self), (self._model, self._options)

    def engine(self) -> Engine:
        """The shared engine, started if need be (tens of seconds). Blocks; call it from a thread in async code.

        Raises:
            ModelError: it does not start, or it belongs to the process that this one was forked from.
        """
        running = self.running()
        if running is not None:
            return running
        with _lock_of(self._key):
            if self._key in _inherited:
                raise ModelError(
                    "this process was forked from the one that the engine belongs to, and cannot reach it",
                    where=self._model,
                    remedy="Call the model in the parent, start processes with multiprocessing's `spawn` method, fork "
                    "before the first call, or call close() in the child, which then starts an engine of its own",
                )
            with _registry_lock:
                engine = _engines.get(self._key)
            if engine is None:
                engine = Engine(self._model, self._options, died=_forget)
            with _registry_lock:
                _engines[self._key] = engine
                holders = _holders.setdefault(self._key, weakref.WeakSet())
                if self not in holders:
                    holders.add(self)
                    weakref.finalize(self, _collected, self._key).atexit = False
        return engine

    def running(self) -> Engine | None:
        """The engine if this lease holds one that runs, without starting it."""
        with _registry_lock:
            return _engines.get(self._key) if self in _holders.get(self._key, ()) else None

    def release(self) -> None:
        """Gives the hold up; shuts the engine down when nobody else holds it."""
        self.tools = None
        with _lock_of(self._key):
            _inherited.discard(self._key)
            with _registry_lock:
                holders = _holders.get(self._key)
                if holders is None or self not in holders:
                    return
                holders.discard(self)
            _close_unheld(self._key)


def _lock_of(key: str) -> threading.RLock:
    with _registry_lock:
        return _start_locks.setdefault(key, threading.RLock())


def _close_unheld(key: str) -> None:
    """Shuts an engine down unless somebody holds it."""
    with _lock_of(key):
        with _registry_lock:
            # A set of weak references counts those that died a moment ago; iterating does not.
            held = any(True for _ in _holders.get(key, ()))
            engine = None if held else _engines.pop(key, None)
        if engine is not None:
            engine.close()


def _collected(key: str) -> None:
    """A holder was garbage collected. That happens at any line of any thread, one that holds our locks included, so
    nothing is locked, awaited or started here: the engine's own loop is told."""
    engine = _engines.get(key)
    if engine is not None:
        engine.call_soon(lambda: _in_background(lambda: _close_unheld(key)))


def _forget(engine: Engine) -> None:
    """A dead engine is replaced at the next call; what is left of it is cleared away, off its own loop."""
    with _registry_lock:
        keys = [key for key, value in _engines.items() if value is engine]
        for key in keys:
            del _engines[key]
    if keys:
        _in_background(engine.close)


def _in_background(close: Callable[[], None]) -> None:
    thread = threading.Thread(target=close, name="tta-vllm-close", daemon=True)
    _closers.add(thread)
    thread.start()


def _close_all() -> None:
    """At the end of the program, before Python waits for the engine's processes, which end only when told."""
    for engine in list(_engines.values()):
        engine.close()
    _engines.clear()
    for thread in list(_closers):
        thread.join(timeout=_CLOSE_SECONDS)


def _in_forked_child() -> None:
    """A fork copies the objects and not the threads: the engines go on in the parent; nothing here may stop them."""
    global _registry_lock
    _registry_lock = threading.Lock()
    _start_locks.clear()
    for key, engine in _engines.items():
        engine.abandon()
        _inherited.add(key)
        _abandoned.append(engine)
    for registered in (_engines, _holders, _closers):
        registered.clear()


# Exit handlers run last in, first out: ours is registered after that of multiprocessing, and so runs before it.
atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_forked_child)
_registry_lock = threading.Lock()
_start_locks: dict[str, threading.RLock] = {}
_engines: dict[str, Engine] = {}
_holders: dict[str, weakref.WeakSet[EngineLease]] = {}
_closers: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
_inherited: set[str] = set()
"""Settings whose engine is the parent's, where this process was forked; until a holder here closes."""
_abandoned: list[Engine] = []
"""Those engines, kept: vLLM's objects shut processes down when they are deleted, and these are the parent's."""
_CLOSE_SECONDS = 10.0
