"""Calls per second that a shared pool takes from one process and from many, in SQLite and PostgreSQL.

    python benchmarks/pool_throughput.py [--url postgresql+psycopg://...] [--processes 8] [--seconds 5] [--json FILE]

Each process reserves and settles in a loop, as a model call does. The pool is too small for all of them, and what they
settled is compared with its limit and its account. Without `--url`, SQLite and the PostgreSQL of the package
`pgserver` are measured, on this machine's disk.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tta_langgraph import SharedPool
from tta_langgraph.budget import Usage
from tta_langgraph.pool import Lease

BOUND = Usage(prompt_tokens=100, completion_tokens=200, model_calls=1)
USED = Usage(prompt_tokens=100, completion_tokens=50, model_calls=1)


def hammer(url: str, name: str, limit: float, seconds: float, start: Any, done: Any) -> None:
    """Reserves and settles until the time is over; reports how often, and the tokens that it settled."""
    pool = SharedPool(url, name, limit=limit)
    count = tokens = 0
    start.wait()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        lease = pool.reserve(BOUND)
        if isinstance(lease, Lease):
            pool.settle(lease, USED)
            count, tokens = count + 1, tokens + USED.tokens
    done.put((count, tokens))


def rate(url: str, name: str, limit: float, processes: int, seconds: float) -> dict[str, Any]:
    """Calls per second over all processes, and what was spent beyond the limit or beside the account."""
    pool = SharedPool(url, name, limit=limit)
    context = multiprocessing.get_context("spawn")
    done, start = context.Queue(), context.Barrier(processes)
    work = (url, name, limit, seconds, start, done)
    workers = [context.Process(target=hammer, args=work) for _ in range(processes)]
    for worker in workers:
        worker.start()
    results = [done.get() for _ in workers]
    for worker in workers:
        worker.join()
    spent, settled = pool.spent()["tokens"], sum(tokens for _, tokens in results)
    return {
        "calls_per_second": sum(count for count, _ in results) / seconds,
        "overspend": max(0.0, settled - limit),
        "unaccounted": abs(settled - spent) + pool.reserved()["tokens"],
    }


@contextlib.contextmanager
def databases(url: str | None) -> Iterator[dict[str, str]]:
    """The databases to measure: the one asked for, else SQLite and, where it is installed, PostgreSQL."""
    if url is not None:
        yield {url.partition(":")[0]: url}
        return
    folder = Path(tempfile.mkdtemp(prefix="tta-pool-"))
    server = None
    try:
        found = {"sqlite": f"sqlite:///{folder / 'pool.sqlite'}"}
        try:
            import pgserver

            server = pgserver.get_server(folder / "pg", cleanup_mode="stop")
            found["postgresql"] = f"postgresql+psycopg://postgres@/postgres?host={quote(str(folder / 'pg'))}"
        except Exception as error:
            print(f"PostgreSQL is left out: {type(error).__name__}: {error}")
        yield found
    finally:
        if server is not None:
            server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Prints a line per database and number of processes, with room for all and with a pool that runs out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with databases(options.url) as found:
        for database, url in found.items():
            for processes in (1, options.processes):
                name = f"{processes} processes"
                row = rate(url, name, 1e12, processes, options.seconds)
                rows.append({"database": database, "processes": processes, **row})
            scarce = rate(url, "scarce", 20_000, options.processes, options.seconds)
            rows.append({"database": database, "processes": options.processes, "scarce": True, **scarce})
    print(f"{'database':12} {'processes':>9} {'calls/s':>9} {'overspend':>10} {'unaccounted':>12}")
    for row in rows:
        calls = "runs out" if row.get("scarce") else f"{row['calls_per_second']:.0f}"
        line = f"{row['database']:12} {row['processes']:9} {calls:>9}"
        print(f"{line} {row['overspend']:10.0f} {row['unaccounted']:12.0f}")
    print("a call is one reservation and one settlement, each a transaction; overspend and unaccounted are tokens")
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
