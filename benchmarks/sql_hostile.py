"""Peak memory and the latest stop over the hostile corpora of the tests, one family after another.

Run: `python benchmarks/sql_hostile.py [sqlite] [duckdb] [postgres] [mysql]`; each family runs in a process of its own
and prints its peak resident memory beside what it held before the first statement. MySQL or MariaDB is the server that
`TTA_TEST_MYSQL_URL` names (`mysql+pymysql://user:password@host/`); a database is made there and dropped.

Then, on the servers, results far larger than memory: wide rows of long values, long texts, and rows that nobody reads.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tta_langgraph.sql import Database

TESTS = Path(__file__).parents[1] / "tests" / "sql"
TIMEOUT = 0.5
_WIDE = ", ".join(["repeat(name, 1000000 + age * 100000)"] * 10)
GIGABYTES = {
    family: [
        f"SELECT {_WIDE} FROM singer",
        "SELECT repeat(name, 5000000 + age) FROM singer, number",
        "SELECT a.x, b.x, c.x FROM number a, number b, number c LIMIT 1000000000",
        "SELECT a.x, repeat('x', 3000) FROM number a, number b LIMIT 10000000",
    ]
    for family in ("postgres", "mysql")
}


def peak() -> float:
    """MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(family: str, folder: Path) -> None:
    sys.path.insert(0, str(TESTS))
    from hostile_common import RESOURCES
    from hostile_setup import fill, fingerprint
    from sqlalchemy import create_engine, make_url

    corpus: dict[str, list[str]] = __import__(f"hostile_{family}").CORPUS
    server = None
    url = f"{family}:///{folder}/y.{family}"
    if family == "postgres":
        import pgserver

        server = pgserver.get_server(folder / "pg", cleanup_mode="delete")
        url = f"postgresql+psycopg://postgres@/postgres?host={folder}/pg"
    if family == "mysql":
        given = make_url(os.environ["TTA_TEST_MYSQL_URL"])
        name = f"tta_bench_{os.getpid()}"
        with create_engine(given.set(database=None)).begin() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        url = given.set(database=name).render_as_string(hide_password=False)
    engine = create_engine(url)
    fill(engine)
    engine.dispose()  # a file is whole only when it is closed
    state = fingerprint(engine)
    count, latest, slowest, outcomes = 0, 0.0, "", {"refused": 0, "stopped": 0, "bounded": 0}
    with Database(url) as database:
        database.execute("SELECT count(*) FROM singer")
        before = peak()
        for category, statements in corpus.items():
            for sql in statements:
                result = database.execute(sql.replace("{dir}", str(folder)), timeout=TIMEOUT)
                count += 1
                if category in RESOURCES and result.seconds > latest:
                    latest, slowest = result.seconds, sql[:60]
                kind = "bounded" if result.ok else "stopped" if result.error_kind == "timeout" else "refused"
                outcomes[kind] += 1
        gigabytes(database, family, peak())
    same = "unchanged" if fingerprint(engine) == state else "CHANGED"
    print(
        f"{family:9} {count:4} statements, {outcomes}, peak {peak():.0f} MiB ({before:.0f} before), "
        f"latest end {latest:.2f} s at a deadline of {TIMEOUT} s: {slowest!r}; database {same}"
    )
    if family == "mysql":
        with engine.begin() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name}")
    if server is not None:
        server.cleanup()


def gigabytes(database: Database, family: str, before: float) -> None:
    """Statements whose results are gigabytes, with time enough to receive them."""
    for sql in GIGABYTES.get(family, ()):
        result = database.execute(sql, timeout=5.0)
        outcome = result.error or f"{result.n_rows} rows{', cut' if result.truncated else ''}"
        print(f"{'':9} +{peak() - before:.0f} MiB, {result.seconds:.2f} s: {sql[:72]} ... -> {outcome}")


def main() -> None:
    if len(sys.argv) == 3 and sys.argv[1] == "--inside":
        folder = Path(tempfile.mkdtemp(prefix="tta-bench-"))
        try:
            run(sys.argv[2], folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return
    families = ["sqlite", "duckdb", "postgres"] + ["mysql"] * ("TTA_TEST_MYSQL_URL" in os.environ)
    for family in sys.argv[1:] or families:
        subprocess.run([sys.executable, "-W", "ignore", __file__, "--inside", family], check=False)


if __name__ == "__main__":
    main()
