"""Builds the demonstration database: a music shop of our own making, the same bytes on every build."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from tta_langgraph.demo import catalogue, opinions, people
from tta_langgraph.demo.dice import Dice
from tta_langgraph.demo.people import Row
from tta_langgraph.demo.schema import SCHEMA
from tta_langgraph.demo.trade import stock, trade
from tta_langgraph.errors import DatabaseError

SEED = 1967


def build_database(path: str | os.PathLike[str]) -> Path:
    """Builds the database of a music shop: 15 related tables, some 75,000 rows, in about a second.

    Its dirt is what real shops have: unknown values, two date formats in `customers.joined`, trailing spaces,
    customers and artists that were entered twice. An existing file is replaced only when the new one is
    complete.

    Args:
        path: SQLite file to write; its folder is made where it is missing.

    Returns:
        The path.

    Raises:
        DatabaseError: the file cannot be written.

    Example:
        >>> from sqlalchemy import create_engine
        >>> engine = create_engine(f"sqlite:///{build_database('music_shop.sqlite')}")
    """
    target = Path(path)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)
        with closing(sqlite3.connect(draft)) as connection:
            _fill(connection)
        draft.replace(target)
    except (OSError, sqlite3.Error) as error:
        raise DatabaseError(
            f"the demonstration database cannot be written: {error}",
            where=str(target),
            remedy="Choose a path in a folder that can be written and has 10 MB left",
        ) from error
    finally:
        if draft.exists():
            draft.unlink()
    return target


def _fill(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    connection.executescript(SCHEMA)
    for table, rows in _tables().items():
        batch = list(rows)
        marks = ", ".join("?" * len(batch[0]))
        connection.executemany(f"INSERT INTO {table} VALUES ({marks})", batch)
    connection.commit()


def _tables() -> dict[str, Iterable[Row]]:
    """Returns the rows of every table; each room draws from its own seed, so that one can change without the
    rest.
    """
    employees = list(people.employees(Dice(SEED)))
    artists = list(catalogue.artists(Dice(SEED + 1)))
    albums = list(catalogue.albums(Dice(SEED + 2), artists))
    tracks = list(catalogue.tracks(Dice(SEED + 3)))
    sales = trade(Dice(SEED + 4), albums, employees)
    return {
        "stores": people.stores(),
        "employees": employees,
        "customers": people.customers(Dice(SEED + 5)),
        "genres": catalogue.genres(),
        "labels": catalogue.labels(),
        "artists": artists,
        "albums": albums,
        "tracks": tracks,
        "stock": stock(Dice(SEED + 6), albums),
        "orders": sales.orders,
        "order_items": sales.items,
        "payments": sales.payments,
        "reviews": opinions.reviews(Dice(SEED + 7), albums, sales),
        "playlists": opinions.playlists(Dice(SEED + 8)),
        "playlist_tracks": opinions.playlist_tracks(Dice(SEED + 9), len(tracks)),
    }
