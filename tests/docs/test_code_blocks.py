"""Every Python block of README and docs runs, in order, one namespace a page; every `tta` line is one the CLI takes."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tta_langgraph.demo import build_database
from tta_langgraph.testing import ScriptedServer, scripted_chat_model

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
SKIP = "no-run"
"""Info string of a block that is not meant to run (```python no-run), for what a test machine cannot have."""


def fences(page: Path) -> Iterator[Token]:
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "fence":
            yield token


def blocks(page: Path, *languages: str) -> list[Token]:
    return [t for t in fences(page) if t.info.split()[:1] and t.info.split()[0] in languages and SKIP not in t.info]


def answer(request: Any) -> str:
    """What the scripted model says: a query where a schema is in the prompt, else a plain answer."""
    asked = " ".join(str(message.get("content")) for message in request.messages)
    return "SELECT count(*) FROM customers" if "CREATE TABLE" in asked or "SQL" in asked else "The answer is 21."


@pytest.fixture(scope="session")
def shop_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_database(tmp_path_factory.mktemp("docs") / "shop.sqlite")


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python", "py")], ids=lambda p: p.stem)
def test_the_code_blocks_run(page: Path, shop_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop.sqlite").write_bytes(shop_file.read_bytes())
    monkeypatch.chdir(tmp_path)
    with ScriptedServer(script=answer) as server:
        model = scripted_chat_model(server)
        namespace: dict[str, Any] = {"__name__": "docs", "model": model, "chat_model": model, "server": server}
        for block in blocks(page, "python", "py"):
            line = (block.map or [0])[0] + 1
            # Compiled with the page's name and line, so that a failure points into the page.
            code = compile("\n" * line + block.content, str(page), "exec")
            exec(code, namespace)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "bash", "sh", "console")], ids=lambda p: p.stem)
def test_the_commands_exist_and_take_these_options(page: Path) -> None:
    from tta_langgraph.cli import app

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
