"""When two results are the same answer."""

from __future__ import annotations

import datetime as dt
import json
import random
from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from tta_langgraph.sql import Database, ExecutionResult, execution_feedback, result_key, same_result


def result(*rows: tuple[object, ...], ordered: bool = False, truncated: bool = False) -> ExecutionResult:
    return ExecutionResult(sql="", columns=("c",), rows=rows, ordered=ordered, truncated=truncated)


FAILED = ExecutionResult(sql="", error="no such table: x", error_kind="schema")
UTC = dt.UTC


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (1, 1.0),
        (1, Decimal("1.00")),
        (True, 1),
        (0.1 + 0.2, 0.3),
        (0.1 + 0.2, Decimal("0.3")),
        (2.9999999999999996, 3),
        (1e20, 10**20),
        (dt.date(2020, 1, 2), "2020-01-02"),
        (dt.datetime(2020, 1, 2), dt.date(2020, 1, 2)),
        (dt.datetime(2020, 1, 2, 3, 4, 5), "2020-01-02T03:04:05"),
        (dt.datetime(2020, 1, 2, 3, 4, 5), "2020-01-02 03:04:05.000"),
        (dt.datetime(2020, 1, 2, 3, tzinfo=UTC), "2020-01-02 05:00:00+02:00"),
        (dt.timedelta(hours=26), "26:00:00"),
        (b"abc", memoryview(b"abc")),
        ([1, 2.0], (1.0, 2)),
        ({"b": 1, "a": 2}, {"a": 2.0, "b": 1}),
        (float("nan"), float("nan")),
    ],
)
def test_a_value_is_the_same_whatever_type_the_driver_gave_it(a: object, b: object) -> None:
    assert same_result([(a,)], [(b,)])
    assert result_key([(a,)]) == result_key([(b,)])


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("1", 1),
        (None, 0),
        (None, ""),
        ("", 0),
        ("a", "A"),
        ("a", "a "),
        (b"a", "a"),
        (1.001, 1.002),
        (2**53, 2**53 + 1),
        (123456789.12, 123456789.13),
        ("2020-01-02", "2020-01-03"),
        (dt.datetime(2020, 1, 2, 3), dt.date(2020, 1, 2)),
        ("n", None),
    ],
)
def test_a_different_value_is_a_different_result(a: object, b: object) -> None:
    assert not same_result([(a,)], [(b,)])
    assert result_key([(a,)]) != result_key([(b,)])


def test_duplicates_count_but_for_bird() -> None:
    assert not same_result([(1,), (1,)], [(1,)])
    assert not same_result([(1,), (1,)], [(1,)], semantics="strict")
    assert same_result([(1,), (1,)], [(1,)], semantics="bird")


def test_column_order_is_free_only_for_spider() -> None:
    a, b = [("x", 1), ("y", 2)], [(2, "y"), (1, "x")]
    assert same_result(a, b)
    assert not same_result(a, b, semantics="bird")
    assert not same_result(a, b, semantics="strict")


def test_columns_are_permuted_together_never_row_by_row() -> None:
    assert not same_result([(1, 2), (2, 1)], [(1, 2), (1, 2)])
    assert not same_result([(1, 2), (3, 4)], [(1, 2), (4, 3)])
    assert result_key([(1, 2), (3, 4)]) != result_key([(1, 2), (4, 3)])


def test_row_order_counts_where_the_reference_orders() -> None:
    a, b = result((1,), (2,)), result((2,), (1,), ordered=True)
    assert not same_result(a, b)
    assert same_result(b, a)
    assert same_result(a, b, ordered=False)
    assert same_result(a, b, semantics="bird")


def test_an_error_is_the_same_as_nothing_not_even_itself() -> None:
    assert not same_result(FAILED, FAILED)
    assert not same_result(FAILED, result())
    assert FAILED.key is None
    assert result_key(FAILED) is None


def test_an_empty_result_keeps_a_key_that_says_so() -> None:
    assert result().empty
    assert str(result().key).startswith("empty")
    assert same_result(result(), result(ordered=True))


def test_the_cap_is_in_the_key() -> None:
    assert result((1,), truncated=True).key != result((1,)).key
    assert not same_result(result((1,), truncated=True), result((1,)))


def test_an_unknown_semantics_is_named() -> None:
    with pytest.raises(ValueError, match="spider"):
        same_result([], [], semantics="exact")  # type: ignore[arg-type]


cells = st.one_of(st.none(), st.integers(-3, 3), st.sampled_from(["a", "b", ""]), st.sampled_from([0.5, 1.0]))


@given(st.data(), st.integers(1, 4), st.integers(0, 6), st.booleans())
def test_shuffled_columns_and_rows_keep_the_key(data: st.DataObject, width: int, height: int, ordered: bool) -> None:
    rows = data.draw(st.lists(st.tuples(*[cells] * width), min_size=height, max_size=height))
    order = data.draw(st.permutations(range(width)))
    moved = [tuple(row[i] for i in order) for row in rows]
    if not ordered:
        moved = data.draw(st.permutations(moved))
    assert same_result(moved, rows, ordered)


@given(st.data(), st.integers(1, 3), st.integers(1, 5), st.booleans())
def test_equal_keys_are_equal_results(data: st.DataObject, width: int, height: int, ordered: bool) -> None:
    a = data.draw(st.lists(st.tuples(*[cells] * width), min_size=height, max_size=height))
    b = data.draw(st.lists(st.tuples(*[cells] * width), min_size=height, max_size=height))
    if result_key(a, ordered=ordered) == result_key(b, ordered=ordered):
        assert same_result(a, b, ordered)
    if not same_result(a, b, ordered):
        assert result_key(a, ordered=ordered) != result_key(b, ordered=ordered)


def test_the_dictionary_is_json_whatever_the_cells_are() -> None:
    row = (1, 2.5, float("inf"), Decimal("1.50"), dt.date(2020, 1, 2), b"\x00\xff", None, [1, {"a": dt.time(1)}], "x")
    told = json.loads(json.dumps(result(row).to_dict()))
    assert told["rows"][0] == [1, 2.5, "inf", "1.50", "2020-01-02", "0x00ff", None, [1, {"a": "01:00:00"}], "x"]
    assert told["error"] is None
    assert told["key"].startswith("rows:")


def test_recorded_systems_are_judged_as_they_were_judged_independently(data: Path) -> None:
    """13 systems on Spider dev: whether each answer is correct, and which answers have the same result.

    The recording hashed rows without their order and with their columns in place, so exactly two differences are
    expected: a hash splits into several keys where some of the statements order their rows, and several hashes meet
    in a key where columns are in another order. Each difference is shown to be one of the two.
    """
    questions = {q["id"]: q for q in map(json.loads, (data / "spider_dev" / "questions.jsonl").open())}
    samples = [json.loads(line) for line in (data / "replay_spider_dev" / "samples.jsonl").open()]
    keep = set(random.Random(7).sample(sorted(questions), 150))
    databases: dict[str, Database] = {}
    found: dict[tuple[str, str], ExecutionResult] = {}
    wrong, hashes, keys = [], defaultdict(list), defaultdict(dict)
    for sample in samples:
        if sample["id"] not in keep:
            continue
        question = questions[sample["id"]]
        name = question["db_id"]
        if name not in databases:
            path = data / "spider_dev" / "databases" / f"{name}.sqlite"
            databases[name] = Database(path, max_rows=100_000, max_bytes=50_000_000)
        for sql in (sample["sql"], question["gold_sql_official"]):
            if (name, sql) not in found:
                found[name, sql] = databases[name].execute(sql, timeout=10.0)
        ours, gold = found[name, sample["sql"]], found[name, question["gold_sql_official"]]
        if ours.ok != (sample["error"] is None) or same_result(ours, gold) != sample["correct"]:
            wrong.append((sample["id"], sample["system"], ours.error, sample["error"], sample["correct"]))
        if ours.ok:
            assert ours.n_rows == sample["n_rows"]
            hashes[sample["id"], sample["result_hash"]].append(ours)
            keys[sample["id"], ours.key][sample["result_hash"]] = ours
    for database in databases.values():
        database.close()
    assert wrong == []
    explained = Counter[str]()
    for group in hashes.values():
        if len({r.key for r in group}) > 1:
            one = {result_key(r, ordered=False) for r in group}
            explained["row order" if len(one) == 1 and any(r.ordered for r in group) else "unknown"] += 1
    for by_hash in keys.values():
        for a, b in zip(list(by_hash.values()), list(by_hash.values())[1:], strict=False):
            same_columns = same_result(a, b, False, semantics="strict")
            explained["unknown" if same_columns else "column order"] += 1
    assert explained["unknown"] == 0, explained
    assert len(wrong) + sum(len(group) for group in hashes.values()) > 1_000


def test_a_number_too_long_for_python_to_write_has_a_key(postgres_url: str) -> None:
    with create_engine(postgres_url).begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS one (x int)"))
    with Database(postgres_url) as database:
        result = database.execute("SELECT 10::numeric ^ 9000, 10::numeric ^ 9000 / 7")
        assert result.ok, result.error
        assert result.key
        assert json.dumps(result.to_dict())
        assert execution_feedback(result, database)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([("2020-01-01 x\x1fsfoo",)], [("2020-01-01 x", "foo")]),  # a separator of the key inside of a cell
        ([("a\x1fb",)], [("a\\x1fb",)]),
        ([(dt.timedelta(seconds=1.5),)], [(dt.timedelta(seconds=1.25),)]),
        ([(Decimal(10) ** 9000,)], [(Decimal(10) ** 9001,)]),
        ([(Decimal("1e400") / 7,)], [(Decimal("1e401") / 7,)]),
    ],
)
def test_unequal_cells_have_unequal_keys(a: list[tuple[object, ...]], b: list[tuple[object, ...]]) -> None:
    assert result_key(a) != result_key(b)


def test_a_date_before_the_year_1000_is_the_same_as_its_text() -> None:
    assert same_result([(dt.datetime(7, 1, 2, 3, 4, 5),)], [("0007-01-02 03:04:05",)])
    assert same_result([(dt.timedelta(seconds=1.5),)], [("00:00:01.5",)])


@pytest.mark.parametrize("text", ["9999-12-31 23:59:59-12:00", "0001-01-01 00:00:00+12:00"])
def test_a_moment_that_is_out_of_range_in_utc_has_a_key(sqlite_path: Path, text: str) -> None:
    with Database(sqlite_path) as database:
        assert database.execute(f"SELECT '{text}'").key is not None
    assert same_result([(text,)], [(dt.datetime.fromisoformat(text),)])


def test_a_fraction_of_a_second_is_the_same_as_its_text() -> None:
    assert same_result([(dt.time(5, 0, 0, 500_000),)], [("05:00:00.5",)])
    assert not same_result([(dt.time(5, 0, 0, 500_000),)], [("05:00:00.05",)])


def test_many_columns_that_are_alike_are_compared_at_once() -> None:
    """A left join that finds nothing; trying every order of its columns would take all memory."""
    rows = [(name, *[None] * 40, "x", "y") for name in ("a", "b")] + [("c", *[None] * 40, "y", "x")]
    turned = [tuple(reversed(row)) for row in rows]
    assert same_result(turned, rows)
    other = [("x", "y", *[None] * 40, name) for name in ("a", "b", "c")]
    assert not same_result(other, rows)
