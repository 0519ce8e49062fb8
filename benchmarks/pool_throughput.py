"""Reservations per second that a shared pool takes from many processes at once.

    python benchmarks/pool_throughput.py [--url postgresql+psycopg://...] [--processes 8] [--seconds 5]

Each process reserves and settles in a loop; the total is compared with one process alone in the same run.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

from tta_langgraph import SharedPool
from tta_langgraph.budget import Usage
from tta_langgraph.pool import Lease


def hammer(url: str, seconds: float, done: Any) -> None:
    """Reserves and settles until the time is over; reports how often."""
    pool = SharedPool(url, "benchmark", limit=1e12)
    count, until = 0, time.monotonic() + seconds
    bound, used = (
        Usage(prompt_tokens=100, completion_tokens=200, model_calls=1),
        Usage(prompt_tokens=100, model_calls=1),
    )
    while time.monotonic() < until:
        lease = pool.reserve(bound)
        if isinstance(lease, Lease):
            pool.settle(lease, used)
            count += 1
    done.put(count)


def rate(url: str, processes: int, seconds: float) -> float:
    """Calls per second over all processes."""
    done: Any = multiprocessing.Queue()
    workers = [multiprocessing.Process(target=hammer, args=(url, seconds, done)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    total = sum(done.get() for _ in workers)
    for worker in workers:
        worker.join()
    return total / seconds


def main() -> None:
    """Prints the rates of one process and of many."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = options.url or f"sqlite:///{Path(folder) / 'pool.sqlite'}"
        SharedPool(url, "benchmark", limit=1e12)
        one = rate(url, 1, options.seconds)
        many = rate(url, options.processes, options.seconds)
    print(
        f"{url.split(':')[0]}: 1 process {one:.0f} calls/s; {options.processes} processes {many:.0f} calls/s together"
    )
    print(f"ratio {many / one:.2f}; a call is one reservation and one settlement")


if __name__ == "__main__":
    main()
