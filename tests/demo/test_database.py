"""The bundled database: the same everywhere, related, and as dirty as it says."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tta_langgraph.demo import build_database
from tta_langgraph.errors import DatabaseError


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(build_database(tmp_path_factory.mktemp("demo") / "shop.sqlite"))
    yield connection
    connection.close()


def tables(shop: sqlite3.Connection) -> list[str]:
    return [name for (name,) in shop.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]


def one(shop: sqlite3.Connection, sql: str) -> int:
    return int(shop.execute(sql).fetchone()[0])


def test_every_build_has_the_same_bytes_whatever_the_hash_seed(tmp_path: Path) -> None:
    script = "import sys; from tta_langgraph.demo import build_database; build_database(sys.argv[1])"
    for seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / seed)],
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
        )
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_it_has_ten_related_tables_and_tens_of_thousands_of_rows(shop: sqlite3.Connection) -> None:
    names = tables(shop)
    rows = {name: one(shop, f"SELECT count(*) FROM {name}") for name in names}
    assert len(names) >= 10
    assert all(rows.values())
    assert 20_000 <= sum(rows.values()) <= 200_000
    related = {name for name in names if shop.execute(f"PRAGMA foreign_key_list({name})").fetchall()}
    referenced = {key[2] for name in names for key in shop.execute(f"PRAGMA foreign_key_list({name})")}
    assert related | referenced == set(names)


def test_every_foreign_key_points_at_a_row(shop: sqlite3.Connection) -> None:
    assert shop.execute("PRAGMA foreign_key_check").fetchall() == []
    assert shop.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize(
    ("what", "sql"),
    [
        ("unknown emails", "SELECT count(*) FROM customers WHERE email IS NULL"),
        ("unknown salaries", "SELECT count(*) FROM employees WHERE salary IS NULL"),
        ("unknown years", "SELECT count(*) FROM albums WHERE release_year IS NULL"),
        ("ISO dates", "SELECT count(*) FROM customers WHERE joined LIKE '____-__-__'"),
        ("dates of the old system", "SELECT count(*) FROM customers WHERE joined LIKE '__/__/____'"),
        ("trailing spaces", "SELECT count(*) FROM customers WHERE city <> trim(city)"),
        ("artists entered twice", "SELECT count(*) FROM artists a JOIN artists b ON b.name = 'The ' || a.name"),
        (
            "customers entered twice",
            "SELECT count(*) FROM customers a JOIN customers b ON b.customer_id = a.customer_id + 1 "
            "WHERE a.name <> b.name AND lower(replace(a.name, ' ', '')) = lower(replace(b.name, ' ', ''))",
        ),
        ("paid back", "SELECT count(*) FROM payments WHERE amount < 0"),
        ("web orders", "SELECT count(*) FROM orders WHERE store_id IS NULL"),
        (
            "customers without order",
            "SELECT count(*) FROM customers WHERE customer_id NOT IN (SELECT customer_id FROM orders)",
        ),
    ],
)
def test_its_dirty_corners_are_there(shop: sqlite3.Connection, what: str, sql: str) -> None:
    assert one(shop, sql) >= 3, what


def test_the_money_adds_up(shop: sqlite3.Connection) -> None:
    wrong = """
        SELECT count(*) FROM orders o WHERE
          (SELECT round(sum(quantity * unit_price), 2) FROM order_items WHERE order_id = o.order_id)
          <> (SELECT round(sum(amount), 2) FROM payments WHERE order_id = o.order_id AND amount > 0)
    """
    assert one(shop, "SELECT count(*) FROM payments WHERE amount > 0") > 1_000
    assert one(shop, wrong) == 0


def test_no_store_sells_before_it_opens(shop: sqlite3.Connection) -> None:
    early = (
        "FROM orders o JOIN stores s USING (store_id) WHERE CAST(substr(o.ordered_on, 1, 4) AS INTEGER) < s.opened_year"
    )
    assert one(shop, f"SELECT count(*) {early}") == 0
    assert one(shop, "SELECT count(DISTINCT store_id) FROM orders") == one(shop, "SELECT count(*) FROM stores")


def test_a_missing_folder_is_made_and_an_old_file_replaced(tmp_path: Path) -> None:
    target = tmp_path / "new" / "shop.sqlite"
    target.parent.mkdir()
    target.write_text("an old file")
    assert build_database(target) == target
    assert target.read_bytes().startswith(b"SQLite format 3")
    assert [path.name for path in target.parent.iterdir()] == ["shop.sqlite"]


def test_a_path_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatabaseError, match=r"cannot be written.*Choose a path"):
        build_database(tmp_path / "file" / "shop.sqlite")
