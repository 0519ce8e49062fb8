"""What many tests need: a small real database; and which tests share an engine, hence a worker."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

# Some test imports the standard library's distutils; torch's setuptools must not refuse to load after it.
os.environ.setdefault("SETUPTOOLS_USE_DISTUTILS", "stdlib")


@pytest.fixture
def shop(tmp_path: Path) -> str:
    """URL of a SQLite database with two related tables and a few rows."""
    path = tmp_path / "shop.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript(
            """
            CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, city TEXT);
            CREATE TABLE orders (
                id INTEGER PRIMARY KEY, customer_id INTEGER REFERENCES customers (id), total REAL, placed_on TEXT
            );
            INSERT INTO customers VALUES (1, 'Ada', 'Berlin'), (2, 'Grace', 'Paris'), (3, 'Edsger', NULL);
            INSERT INTO orders VALUES (1, 1, 12.5, '2024-01-02'), (2, 1, 7.25, '2024-02-03');
            INSERT INTO orders VALUES (3, 2, 99.0, '2024-02-04');
            """
        )
    return f"sqlite:///{path}"


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share a model engine run in one worker: starting it costs more than they do."""
    for item in items:
        room = item.path.parent.name
        if room == "vllm":
            item.add_marker(pytest.mark.xdist_group("vllm"))
            item.add_marker(pytest.mark.timeout(900))
        elif room in ("models", "docs", "examples") or item.get_closest_marker("model") is not None:
            item.add_marker(pytest.mark.xdist_group("embedded"))
            item.add_marker(pytest.mark.timeout(600))
        else:
            # Everything else stays together by file, so that session fixtures are started once where they are used.
            item.add_marker(pytest.mark.xdist_group(str(item.path)))
