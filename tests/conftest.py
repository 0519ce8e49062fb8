"""What many tests need: a small real database."""

from __future__ import annotations

import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

# Some test imports the standard library's distutils; torch's setuptools must not refuse to load after it.
os.environ.setdefault("SETUPTOOLS_USE_DISTUTILS", "stdlib")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Run in a shell's background: children would ignore Ctrl-C as well, and some tests press it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


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


def pytest_itemcollected(item: pytest.Item) -> None:
    """Tests on a real model wait for its engine, which shares two cores with everything else."""
    if item.path.parent.name in ROOMS_WITH_ENGINES:
        item.add_marker(pytest.mark.timeout(900))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests stay together, and so do all that run a model: two engines on two cores wait for each other."""
    from xdist.scheduler import LoadFileScheduling

    class ByEngine(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return "engines" if Path(file).parent.name in ROOMS_WITH_ENGINES else file

    return ByEngine(config, log)


ROOMS_WITH_ENGINES = ("vllm", "models", "docs", "examples")
