"""A small database and a scripted server for the nodes' tests."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tta_langgraph.sql import Database
from tta_langgraph.testing import LoggedRequest, ScriptedServer

PROMPTS = Path(__file__).parent / "prompts"
_SCHEMA = re.compile(r"CREATE TABLE.*\Z", re.S)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A running scripted server; give it replies with `server.use([...])`."""
    with ScriptedServer([]) as running:
        yield running


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Three artists, five albums."""
    path = tmp_path_factory.mktemp("shop") / "shop.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(
            """
            CREATE TABLE artist (id INTEGER PRIMARY KEY, name TEXT NOT NULL, country TEXT);
            CREATE TABLE album (
              id INTEGER PRIMARY KEY, artist_id INTEGER REFERENCES artist (id), title TEXT, year INTEGER
            );
            INSERT INTO artist VALUES (1, 'Ada', 'Norway'), (2, 'Bo', 'Sweden'), (3, 'Cy', 'Norway');
            INSERT INTO album VALUES
              (1, 1, 'One', 1999), (2, 1, 'Two', 2001), (3, 2, 'Three', 2001),
              (4, 3, 'Four', 2010), (5, 3, 'Five', 2011);
            """
        )
    with Database(path) as database:
        yield database


def transcript(request: LoggedRequest) -> str:
    """A request as a reader sees it: parameters that shape the reply, then one block per message.

    The schema, whose wording is tested elsewhere, is cut to a mark.
    """
    shaping = ("temperature", "max_tokens", "max_completion_tokens", "n", "logprobs", "top_logprobs", "stop")
    head = [f"{name}: {request.params[name]}" for name in shaping if request.params.get(name) is not None]
    blocks = [
        f"--- {message['role']} ---\n{_SCHEMA.sub('[schema]', message['content'])}" for message in request.messages
    ]
    return "\n".join([*head, *blocks]) + "\n"


@pytest.fixture
def assert_prompt() -> Callable[[LoggedRequest, str], None]:
    """Compares a request with its snapshot."""
    return _assert_prompt


def _assert_prompt(request: LoggedRequest, name: str) -> None:
    """The request equals the snapshot `prompts/<name>.txt`; set TTA_UPDATE_PROMPTS=1 to write it anew."""
    path = PROMPTS / f"{name}.txt"
    said = transcript(request)
    if os.environ.get("TTA_UPDATE_PROMPTS"):
        path.write_text(said)
    assert path.exists(), f"no snapshot {path.name}; look at it and write it with TTA_UPDATE_PROMPTS=1:\n{said}"
    assert said == path.read_text()
