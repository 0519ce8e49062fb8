"""What a model writes is hostile input: nothing changes, nothing hangs, one short error comes back."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hostile_duckdb
import hostile_mysql
import hostile_postgres
import hostile_sqlite
import pytest
from hostile_common import RESOURCES
from hostile_setup import fill, fingerprint, sqlite_engine
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import StaticPool

from tta_langgraph.sql import Database
from tta_langgraph.sql.backend import StatementError
from tta_langgraph.sql.checks import Verdict
from tta_langgraph.sql.stop import Stop

CORPORA = {
    "sqlite": hostile_sqlite.CORPUS,
    "sqlite-engine": hostile_sqlite.CORPUS,
    "sqlite-memory": hostile_sqlite.CORPUS,
    "postgres": hostile_postgres.CORPUS,
    "mysql": hostile_mysql.CORPUS,
    "duckdb": hostile_duckdb.CORPUS,
    "duckdb-engine": hostile_duckdb.CORPUS,
}
# A quote read by the dialect's own rules may close elsewhere than a stranger hopes: then it is one harmless string.
HARMLESS = {"mysql": {"SELECT '\\'; DELETE FROM singer; -- '", 'SELECT "\\"; DELETE FROM singer; -- "'}}
TIMEOUT = 0.5
PATIENCE = 8.0  # a loaded machine; what is not stopped at all takes minutes
eve_secret_frame = [1]  # a Python variable that DuckDB would find, if it were let


@dataclass
class Target:
    """A database under attack."""

    family: str
    database: Database
    engine: Engine
    folder: Path
    before: str

    def unchanged(self) -> bool:
        if self.family == "duckdb":  # opened read-only: the file says it all, and a second engine may not open it
            return fingerprint(self.engine) == self.before
        return fingerprint(self.engine) == self.before and not list(self.folder.iterdir())


@pytest.fixture(scope="module", params=list(CORPORA))
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    family: str = request.param
    root = Path(tempfile.mkdtemp(prefix="tta-hostile-"))
    root.chmod(0o755)
    folder = root / "canary"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    if family == "sqlite-memory":
        engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
        fill(engine)
        given: str | Engine = engine
    elif family.startswith("sqlite"):
        engine = sqlite_engine(root / "y.sqlite")
        given = engine if family.endswith("engine") else f"sqlite:///{root}/y.sqlite"
    elif family.startswith("duckdb"):
        pytest.importorskip("duckdb_engine")
        engine = create_engine(f"duckdb:///{root}/y.duckdb")
        fill(engine)
        engine.dispose()
        given = engine if family.endswith("engine") else f"duckdb:///{root}/y.duckdb"
    else:
        given = str(request.getfixturevalue(f"{family}_url"))
        engine = create_engine(given)
        fill(engine)
    before = fingerprint(engine)
    with Database(given) as database:
        yield Target(family, database, engine, folder, before)
    assert fingerprint(engine) == before
    assert not list(folder.iterdir())
    engine.dispose()
    shutil.rmtree(root, ignore_errors=True)


def statements(target: Target, *categories: str) -> list[str]:
    corpus = CORPORA[target.family]
    return [
        sql.replace("{dir}", str(target.folder))
        for category in categories or tuple(name for name in corpus if name not in RESOURCES)
        for sql in corpus.get(category, [])
    ]


def test_each_family_faces_at_least_two_hundred_statements() -> None:
    sizes = {family: len({sql for group in corpus.values() for sql in group}) for family, corpus in CORPORA.items()}
    assert min(sizes.values()) >= 200, sizes


def test_nothing_but_reading_is_executed(target: Target) -> None:
    ran = []
    for sql in statements(target):
        result = target.database.execute(sql, timeout=TIMEOUT)
        if result.ok and sql not in HARMLESS.get(target.family, ()):
            ran.append(sql)
        if result.error is not None:
            assert len(result.error) <= 300, sql
            assert "\n" not in result.error, sql
            assert result.error_kind in ("refused", "syntax", "schema"), (sql, result)
            assert result.key is None
    assert ran == []
    assert target.unchanged()


def test_what_would_never_end_or_never_fit_is_stopped_or_cut(target: Target) -> None:
    late, large = [], []
    for sql in statements(target, *RESOURCES):
        result = target.database.execute(sql, timeout=TIMEOUT)
        if result.seconds > PATIENCE:
            late.append((sql[:100], result.seconds))
        held = sum(len(str(cell)) for row in result.rows for cell in row)
        if result.n_rows > 1_000 or held > 4_000_000:
            large.append((sql[:100], result.n_rows, held))
        assert result.ok or (result.error and len(result.error) <= 300)
    assert late == []
    assert large == []
    assert target.unchanged()


def test_the_engine_itself_refuses_to_write_when_the_tree_check_is_left_out(target: Target) -> None:
    """The second wall, alone."""
    backend = target.database._backend
    assert backend is not None
    for sql in statements(target, "write", "tree", "stacked", "disguised"):
        try:
            backend.run(sql, Verdict(), Stop(TIMEOUT), target.database._limits)
        except StatementError:
            continue
    assert target.unchanged()


def test_good_queries_run_right_after_all_that(target: Target) -> None:
    result = target.database.execute("SELECT count(*) FROM singer", timeout=5.0)
    assert result.rows == ((3,),), result.error
