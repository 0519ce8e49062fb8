"""Peak memory and the latest stop over the hostile corpora of the tests, one family after another.

Run: `python benchmarks/sql_hostile.py [sqlite] [duckdb] [postgres]`; each family runs in a process of its own, whose
peak resident memory is printed beside what it held before the first statement.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests" / "sql"
TIMEOUT = 0.5


def peak() -> float:
    """MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(family: str, folder: Path) -> None:
    sys.path.insert(0, str(TESTS))
    from hostile_common import RESOURCES
    from hostile_setup import fill
    from sqlalchemy import create_engine

    from tta_langgraph.sql import Database

    corpus: dict[str, list[str]] = __import__(f"hostile_{family}").CORPUS
    server = None
    url = f"{family}:///{folder}/y.{family}"
    if family == "postgres":
        import pgserver

        server = pgserver.get_server(folder / "pg", cleanup_mode="delete")
        url = f"postgresql+psycopg://postgres@/postgres?host={folder}/pg"
    engine = create_engine(url)
    fill(engine)
    engine.dispose()
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
    print(
        f"{family:9} {count:4} statements, {outcomes}, peak {peak():.0f} MiB ({before:.0f} before), "
        f"latest end {latest:.2f} s at a deadline of {TIMEOUT} s: {slowest!r}"
    )
    if server is not None:
        server.cleanup()


def main() -> None:
    if len(sys.argv) == 3 and sys.argv[1] == "--inside":
        folder = Path(tempfile.mkdtemp(prefix="tta-bench-"))
        try:
            run(sys.argv[2], folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return
    for family in sys.argv[1:] or ["sqlite", "duckdb", "postgres"]:
        subprocess.run([sys.executable, "-W", "ignore", __file__, "--inside", family], check=False)


if __name__ == "__main__":
    main()
