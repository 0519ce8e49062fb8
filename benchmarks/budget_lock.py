"""What one lock for all ledgers costs: threads with an episode each, with the lock and with a lock for every thread.

    python benchmarks/budget_lock.py [--rounds 12]

The model answers at once, so that the ledgers are as busy as they can be. No two threads share an episode, so that a
lock of their own is all they need: the difference is what waiting for the one lock costs. Both are measured in turns,
and reached in the same way.
"""

from __future__ import annotations

import argparse
import random
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

from budget_overhead import Instant

from tta_langgraph import Budget, BudgetTracker, budget_scope, budgeted, ledger
from tta_langgraph.budget import Usage
from tta_langgraph.ledger import Ledger, Request, Reservation

THREADS = (1, 8, 32)
CALLS, EPISODES = 40, 64
"""Calls per episode, and episodes of one measurement, shared out among the threads."""


class OneLock:
    """A lock for all threads."""

    def __init__(self) -> None:
        self.lock = threading.RLock()

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


class OwnLocks(OneLock, threading.local):
    """A lock for each thread: of a `threading.local`, each has attributes of its own."""


def whole_calls(model: Any) -> None:
    """One episode of budgeted calls, as users make them."""
    with budget_scope(Budget(tokens=100_000, model_calls=100)):
        for _ in range(CALLS):
            model.invoke("2 + 2?")


def bare_ledger(_: Any) -> None:
    """One episode of nothing but reservations and settlements: the worst case."""
    account = Ledger(BudgetTracker.start(Budget(tokens=100_000, model_calls=100)))
    for _ in range(CALLS):
        held = account.try_reserve(Request(prompt_tokens=8, completion_tokens=16, model_calls=1), account)
        assert isinstance(held, Reservation)
        held.settle(Usage(prompt_tokens=8, completion_tokens=2, model_calls=1))
        account.charges.clear()


def seconds(work: Callable[[Any], None], model: Any, threads: int) -> tuple[float, float]:
    """Wall and processor seconds for all episodes, started together."""
    ready = threading.Barrier(threads + 1)

    def run() -> None:
        ready.wait()
        for _ in range(EPISODES // threads):
            work(model)

    started = [threading.Thread(target=run) for _ in range(threads)]
    for thread in started:
        thread.start()
    ready.wait()
    wall, busy = time.perf_counter(), time.process_time()
    for thread in started:
        thread.join()
    return time.perf_counter() - wall, time.process_time() - busy


def main() -> None:
    """Measures in turns, and prints the medians of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    rounds = parser.parse_args().rounds
    model = budgeted(Instant())
    usual = ledger._lock
    locks = {"one": OneLock(), "own": OwnLocks()}
    for work in (whole_calls, bare_ledger):
        for threads in THREADS:
            taken: dict[str, list[tuple[float, float]]] = {"one": [], "own": []}
            for _ in range(rounds):
                for name in random.sample(list(locks), len(locks)):
                    ledger._lock = locks[name]  # type: ignore[assignment]
                    taken[name].append(seconds(work, model, threads))
            ratios = [
                [a / b for a, b in zip(*pair, strict=True)] for pair in zip(taken["one"], taken["own"], strict=True)
            ]
            wall, busy = (statistics.quantiles(column, n=4) for column in zip(*ratios, strict=True))
            cost = statistics.median(each for _, each in taken["one"]) / (EPISODES * CALLS) * 1e6
            print(f"{work.__name__}, {threads} threads, {cost:.0f} µs of processor time each; one lock over own locks:")
            for name, (low, middle, high) in (("wall", wall), ("processor", busy)):
                print(f"    {name:9} time {middle:.3f} (quartiles {low:.3f} to {high:.3f})")
    ledger._lock = usual


if __name__ == "__main__":
    main()
