"""A new file that several writers open in the same moment is whole for all of them."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tta_langgraph.sqlite_files import share

WRITERS = 6


def test_many_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    for number in range(40):
        together = threading.Barrier(WRITERS)

        def opens(file: Path = tmp_path / f"{number}.db", together: threading.Barrier = together) -> str:
            connection = sqlite3.connect(file)
            together.wait()
            share(connection)
            mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
            connection.close()
            return str(mode)

        with ThreadPoolExecutor(WRITERS) as threads:
            assert [task.result() for task in [threads.submit(opens) for _ in range(WRITERS)]] == ["wal"] * WRITERS
