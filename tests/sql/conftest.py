"""Databases for the SQL tests: a small one per engine family, and the shared question sets when they are there."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import SQLAlchemyError

sys.path.insert(0, str(Path(__file__).parent))  # the corpora are modules beside the tests
sys.path.insert(0, str(Path(__file__).parents[1]))

from hostile_setup import sqlite_engine
from postgres import postgres_url  # noqa: F401 - a fixture that other rooms use too

DATA = Path(os.environ.get("TTA_SHARED_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
SOCKETS = ("/run/mysqld/mysqld.sock", "/var/run/mysqld/mysqld.sock", "/tmp/mysql.sock")


@pytest.fixture(scope="session")
def data() -> Path:
    """The shared question sets."""
    if not DATA.is_dir():
        pytest.skip(f"no question sets at {DATA}; set TTA_SHARED_DATA")
    return DATA


@pytest.fixture(scope="session")
def mysql_url() -> Iterator[str]:
    """A SQLAlchemy URL of an empty MySQL or MariaDB database that is dropped after the tests."""
    pytest.importorskip("pymysql")
    given = os.environ.get("TTA_TEST_MYSQL_URL")
    socket = next((path for path in SOCKETS if Path(path).exists()), None)
    if given is None and socket is None:
        pytest.skip("no MySQL or MariaDB: set TTA_TEST_MYSQL_URL or start one with a local socket")
    url = make_url(given or f"mysql+pymysql://root@localhost/mysql?unix_socket={socket}")
    server = create_engine(url.set(database=None))
    name = f"tta_tests_{os.getpid()}"
    try:
        with server.begin() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
    except SQLAlchemyError as error:
        pytest.skip(f"MySQL is not usable here: {error.__class__.__name__}; set TTA_TEST_MYSQL_URL")
    try:
        yield url.set(database=name).render_as_string(hide_password=False)
    finally:
        with server.begin() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name}")
        server.dispose()


@pytest.fixture
def sqlite_path(tmp_path: Path) -> Path:
    """A SQLite file with three tables."""
    path = tmp_path / "shop.sqlite"
    sqlite_engine(path).dispose()
    return path
