"""`tta import` and `tta export`: other people's answers come in, and what is stored goes out and back unchanged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from tta_langgraph.commands.app import app
from tta_langgraph.errors import TraceError
from tta_langgraph.traces.export import read_pools
from tta_langgraph.traces.store import TraceStore


@pytest.fixture
def answers(tmp_path: Path) -> str:
    rows = [
        {
            "qid": f"q{q}",
            "db_id": f"db{q % 4}",
            "system": name,
            "sql": f"{name} {q % 3}",
            "correct": q % 2 == 0,
            "cost": 1,
        }
        for q in range(40)
        for name in ("small", "large")
    ]
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


FIELDS = ("--field", "question_id=qid", "--field", "model=system", "--field", "answer=sql")


def run(*arguments: str) -> Result:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output or done.exception
    return done


def test_imported_answers_can_be_replayed_at_once(answers: str, tmp_path: Path) -> None:
    out = str(tmp_path / "pools.jsonl.gz")
    said = run("import", answers, *FIELDS, "--price", "large=20", "--out", out).stderr
    assert "40 questions of 4 databases, 80 answers" in said
    assert "small, large" in said
    assert "no token counts" in said
    assert "not used: cost" in said
    found = json.loads(run("replay", out, "--json", "--repeats", "1").stdout)
    assert any(each["strategy"] == "always large" for each in found["strategies"])


def test_a_store_goes_out_and_comes_back_the_same(answers: str, tmp_path: Path) -> None:
    store, other = str(tmp_path / "one.sqlite"), str(tmp_path / "two.sqlite")
    run("import", answers, *FIELDS, "--out", store, "--recording", "theirs")
    for name in ("pools.parquet", "pools.jsonl"):
        run("export", store, str(tmp_path / name), "--recording", "theirs")
        run("import", str(tmp_path / name), "--out", other, "--recording", name)
        with TraceStore(other) as opened:
            assert list(opened.pools(name)) == list(read_pools(tmp_path / name))
    with TraceStore(store) as opened:
        assert [pool.stripped() for pool in opened.pools("theirs")] == list(read_pools(tmp_path / "pools.jsonl"))


@pytest.mark.parametrize(
    "options", ["--field correct", "--price large=cheap", "--price large=-1", "--field no_such_field=qid"]
)
def test_a_mistaken_option_is_refused(answers: str, tmp_path: Path, options: str) -> None:
    done = CliRunner().invoke(app, ["import", answers, "--out", str(tmp_path / "p.jsonl"), *options.split()])
    assert done.exit_code != 0
    assert not (tmp_path / "p.jsonl").exists()


def test_an_export_is_not_imported_into_another_export(answers: str, tmp_path: Path) -> None:
    out = str(tmp_path / "pools.jsonl")
    run("import", answers, *FIELDS, "--out", out)
    assert CliRunner().invoke(app, ["import", out, "--out", str(tmp_path / "again.jsonl")]).exit_code == 2


def test_other_answers_do_not_take_the_place_of_those_that_are_there(answers: str, tmp_path: Path) -> None:
    store = str(tmp_path / "one.sqlite")
    for _ in range(2):  # the same again changes nothing
        run("import", answers, *FIELDS, "--out", store, "--recording", "may")
    other = ("import", answers, *FIELDS, "--price", "large=20", "--out", store, "--recording")
    assert "has other answers" in str(CliRunner().invoke(app, [*other, "may"]).exception)
    run(*other, "june")
    with TraceStore(store) as opened:
        assert opened.recordings() == {"june": 40, "may": 40}


def test_a_store_is_not_named_like_a_table(answers: str, tmp_path: Path) -> None:
    error = CliRunner().invoke(app, ["import", answers, *FIELDS, "--out", str(tmp_path / "pools.csv")]).exception
    assert "no export is known for '.csv'" in str(error)
    assert not list(tmp_path.glob("pools*"))


def test_who_takes_answers_for_pools_is_shown_the_way(answers: str) -> None:
    assert "tta import" in str(CliRunner().invoke(app, ["replay", answers]).exception)


def test_what_is_not_there_is_not_exported(tmp_path: Path) -> None:
    error = CliRunner().invoke(app, ["export", str(tmp_path / "none.sqlite"), str(tmp_path / "out.jsonl")]).exception
    assert isinstance(error, TraceError)
    assert not (tmp_path / "out.jsonl").exists()
