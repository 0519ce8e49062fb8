"""What the checks and the walls cost: executions per second through `Database`, beside bare SQLAlchemy.

All variants run the same statements on the same SQLite file in turns, in one process, so that a busy machine slows
all of them alike: read the ratios. Run: `python benchmarks/sql_execute.py [--seconds 2]`.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import create_engine, text

from tta_langgraph.sql import Database
from tta_langgraph.sql.checks import Policy, Verdict, check
from tta_langgraph.sql.stop import Stop

QUERIES = [
    "SELECT count(*) FROM singer",
    "SELECT name, age FROM singer WHERE country = 'c3' ORDER BY age DESC LIMIT 10",
    "SELECT s.country, count(*), avg(c.year) FROM singer AS s JOIN concert AS c ON c.singer_id = s.id "
    "WHERE s.age > 30 GROUP BY s.country HAVING count(*) > 2 ORDER BY 2 DESC",
    "SELECT name FROM singer WHERE id NOT IN (SELECT singer_id FROM concert WHERE year = 2014)",
]


def build(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE singer (id integer PRIMARY KEY, name text, country text, age integer)")
        connection.execute("CREATE TABLE concert (id integer PRIMARY KEY, singer_id integer, year integer)")
        connection.executemany(
            "INSERT INTO singer VALUES (?, ?, ?, ?)", [(i, f"n{i}", f"c{i % 7}", 20 + i % 50) for i in range(500)]
        )
        connection.executemany(
            "INSERT INTO concert VALUES (?, ?, ?)", [(i, i % 400, 2000 + i % 20) for i in range(2_000)]
        )


def variants(path: Path) -> dict[str, Callable[[str, int], object]]:
    engine = create_engine(f"sqlite:///{path}")
    database = Database(path)
    backend, limits = database._backend, database._limits
    assert backend is not None

    def bare(sql: str, _: int) -> object:
        with engine.connect() as connection:
            return connection.execute(text(sql)).fetchall()

    def unchecked(sql: str, _: int) -> object:
        return backend.run(sql, Verdict(), Stop(30.0), limits)

    def cached(sql: str, _: int) -> object:
        return database.execute(sql)

    def fresh(sql: str, turn: int) -> object:  # a comment makes every statement one that was never seen
        return database.execute(f"{sql} /* {turn} */")

    return {
        "bare SQLAlchemy": bare,
        "Database, walls without the tree check": unchecked,
        "Database, seen statement": cached,
        "Database, new statement": fresh,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    seconds: float = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.sqlite"
        build(path)
        runs = variants(path)
        times: dict[str, list[float]] = {name: [] for name in runs}
        end, turn = time.monotonic() + seconds * len(runs), 0
        while time.monotonic() < end:
            for name, run in runs.items():
                started = time.perf_counter()
                for sql in QUERIES:
                    run(sql, turn)
                times[name].append((time.perf_counter() - started) / len(QUERIES))
            turn += 1
    base = statistics.median(times["bare SQLAlchemy"])
    print(f"{'variant':42}{'median ms':>11}{'per second':>12}{'of bare':>9}")
    for name, samples in times.items():
        median = statistics.median(samples)
        print(f"{name:42}{median * 1e3:11.3f}{1 / median:12.0f}{base / median:9.2f}")
    policy = Policy(dialect="sqlite")
    print(f"\n{'tree check alone, a new statement each time':42}{'CPU ms':>10}{'best':>8}")
    for i, sql in enumerate(QUERIES):
        samples = []
        for turn in range(200):
            started = time.thread_time()  # of this thread alone: other work on the machine does not count
            check(f"{sql} /* check {turn} */", policy)
            samples.append(time.thread_time() - started)
        label = f"  query {i + 1}, {len(sql)} characters"
        print(f"{label:42}{statistics.median(samples) * 1e3:10.3f}{min(samples) * 1e3:8.3f}")


if __name__ == "__main__":
    main()
