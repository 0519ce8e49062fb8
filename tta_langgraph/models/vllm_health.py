"""Whether a vLLM engine still takes requests.

vLLM notices an engine process that ended, not one that has stopped reading: its thread that reads requests may have
died of one that it could not decode, or the whole process may be stopped. Requests then wait for ever. So while
requests are in flight the engine is asked, every few seconds, a question that costs it nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["engine_processes", "listens"]


async def listens(
    llm: Any, *, processes: Sequence[int], steps: Callable[[], int] | None, window: float = 5.0, windows: int = 3
) -> bool:
    """Asks the engine a question and waits until it answers, or until it is certain that it never will.

    An engine answers between two of its steps, and a step may take long (a large prompt on a CPU); so silence alone
    proves nothing. It is deaf when it did many steps without answering, or when its processes have nothing to do.

    Args:
        llm: vLLM's `AsyncLLM`.
        processes: ids of the engine's processes; none known: only its steps are looked at.
        steps: how many steps the engine has reported; None where several engines report together.
        window: seconds between two looks.
        windows: idle looks in a row that prove it deaf.

    Returns:
        False when no request will be read any more; True also where the engine says that it is dead, which callers
        hear from vLLM.
    """
    answer = asyncio.ensure_future(llm.is_sleeping())
    begun, idle, load = steps() if steps else 0, 0, _Load(processes)
    try:
        while True:
            answered, _ = await asyncio.wait({answer}, timeout=window)
            if answered:
                answer.exception()  # looked at, so that nobody reports it as forgotten
                return True
            idle = idle + 1 if load.since() < _IDLE * window else 0
            if idle >= windows or (steps is not None and steps() - begun > _STEPS):
                return False
    finally:
        answer.cancel()


def engine_processes(llm: Any) -> list[Any]:
    """The engine's processes (of `multiprocessing`), without those they started; empty where vLLM hides them."""
    resources = getattr(getattr(llm, "engine_core", None), "resources", None)
    return list(getattr(getattr(resources, "engine_manager", None), "processes", None) or ())


class _Load:
    """CPU seconds that processes and all they started have used since they were last looked at."""

    def __init__(self, processes: Sequence[int]) -> None:
        self._processes = processes
        self._used = self._read()

    def since(self) -> float:
        if not self._processes:
            return float("inf")
        before, self._used = self._used, self._read()
        return self._used - before

    def _read(self) -> float:
        import psutil  # comes with vllm

        used = 0.0
        for process in self._processes:
            with contextlib.suppress(psutil.Error):  # one that has ended uses nothing
                engine = psutil.Process(process)
                for one in (engine, *engine.children(recursive=True)):
                    with contextlib.suppress(psutil.Error):
                        times = one.cpu_times()
                        used += times.user + times.system
        return used


_IDLE = 0.02
"""Share of one core below which processes count as idle."""
_STEPS = 100
"""Steps without an answer that prove an engine deaf; it answers after each."""
