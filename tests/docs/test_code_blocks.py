"""Every Python block of README and docs runs, in order, one namespace a page; every `tta` line is one the CLI takes."""

from __future__ import annotations

import json
import shlex
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from langchain_core.tools import tool
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tta_langgraph.demo import build_database
from tta_langgraph.graphs import create_text_to_sql_graph
from tta_langgraph.sql import Database
from tta_langgraph.testing import ScriptedServer, scripted_chat_model

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
SKIP = "<!-- no-run:"
"""Starts the comment before a block that needs what a test machine cannot have; the comment says what runs it."""


def fences(page: Path) -> Iterator[Token]:
    before = ""
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "fence" and not before.startswith(SKIP):
            yield token
        before = token.content


def blocks(page: Path, *languages: str) -> list[Token]:
    return [token for token in fences(page) if token.info.strip() in languages]


def answer(request: Any) -> str:
    """What the scripted model says: a query where a schema is in the prompt, else a plain answer."""
    asked = " ".join(str(message.get("content")) for message in request.messages)
    return "SELECT count(*) FROM customers" if "CREATE TABLE" in asked or "SQL" in asked else "The answer is 21."


@tool
def lookup(month: str) -> str:
    """What was sold in a month."""
    return f"120 EUR in {month}"


def surroundings(folder: Path, shop: Path) -> None:
    """The files that the pages speak of: a database, recorded pools, questions on two small databases."""
    (folder / "shop.sqlite").write_bytes(shop.read_bytes())
    recorded = next((ROOT / "benchmarks" / "recordings").glob("*.jsonl.gz"))
    (folder / "pools.jsonl.gz").write_bytes(recorded.read_bytes())
    (folder / "databases").mkdir()
    lines = []
    for name in ("birds", "fish"):
        with sqlite3.connect(folder / "databases" / f"{name}.sqlite") as connection:
            connection.execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, name TEXT)")
            connection.execute(f"INSERT INTO {name} (name) VALUES ('a'), ('b')")
        question = {
            "id": name,
            "db_id": name,
            "question": f"How many {name}?",
            "gold_sql": f"SELECT count(*) FROM {name}",
        }
        lines.append(json.dumps(question))
    (folder / "questions.jsonl").write_text("\n".join(lines))


@pytest.fixture(scope="session")
def shop_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_database(tmp_path_factory.mktemp("docs") / "shop.sqlite")


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python", "py")], ids=lambda p: p.stem)
def test_the_code_blocks_run(page: Path, shop_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    surroundings(tmp_path, shop_file)
    monkeypatch.chdir(tmp_path)
    # A page that starts to listen does not stop: it must not be heard in other tests.
    monkeypatch.setattr("tta_langgraph.events._listeners", [])
    with ScriptedServer(script=answer) as server:
        model = scripted_chat_model(server)
        graph = create_text_to_sql_graph(model, "sqlite:///shop.sqlite").compile()
        # What the pages take for granted: a model, a graph, an agent's tools.
        namespace: dict[str, Any] = {"__name__": "__main__", "model": model, "chat_model": model, "graph": graph}
        namespace |= {"my_sql_agent": graph, "tools": [lookup], "database": Database("sqlite:///shop.sqlite")}
        for block in blocks(page, "python", "py"):
            line = (block.map or [0])[0] + 1
            # Compiled with the page's name and line, so that a failure points into the page.
            code = compile("\n" * line + block.content, str(page), "exec", dont_inherit=True)
            exec(code, namespace)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "bash", "sh", "console")], ids=lambda p: p.stem)
def test_the_commands_exist_and_take_these_options(page: Path) -> None:
    from tta_langgraph.commands.app import app

    root: Any = typer.main.get_command(app)
    for block in blocks(page, "bash", "sh", "console"):
        text = block.content.replace("\\\n", " ")
        for line in text.splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words[:1] != ["tta"]:
                continue
            words = words[1 : next((i for i, word in enumerate(words) if word in ("&&", "|", ">", "&")), None)]
            command = root.commands.get(words[0])
            assert command is not None, f"{page.name}: tta {words[0]} does not exist"
            if "--help" not in words:
                command.make_context(words[0], words[1:], resilient_parsing=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_links_inside_the_repository_lead_somewhere(page: Path) -> None:
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        for child in token.children or ():
            target = str(child.attrs.get("href", "")).split("#")[0] if child.type == "link_open" else ""
            if target and "://" not in target and not target.startswith("mailto:"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
