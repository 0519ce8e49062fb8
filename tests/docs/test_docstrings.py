"""Examples in docstrings: those at a prompt run, those in a fence parse and import what exists."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(path for room in ("tta_langgraph", "nodes", "graphs") for path in (ROOT / room).rglob("*.py"))
FENCE = re.compile(r"^( *)```python\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "tta_langgraph" else ("tta_langgraph", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def at_a_prompt(path: Path) -> bool:
    """Whether some example can be run; `+SKIP` marks those that need a download."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return any(line.lstrip().startswith(">>>") and "+SKIP" not in line for line in lines)


def fenced(path: Path) -> Iterator[str]:
    """Every Python fence of the file's docstrings."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        text = ast.get_docstring(node) if isinstance(node, DOCUMENTED) else None
        yield from (textwrap.dedent(block) for _, block in FENCE.findall(text or ""))


@pytest.mark.parametrize("path", [p for p in FILES if at_a_prompt(p)], ids=module_name)
def test_examples_at_a_prompt_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # some make a file
    found = doctest.testmod(importlib.import_module(module_name(path)))
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize("path", [p for p in FILES if "```python" in p.read_text(encoding="utf-8")], ids=module_name)
def test_fenced_examples_import_what_exists(path: Path) -> None:
    blocks = list(fenced(path))
    assert blocks
    for node in (node for block in blocks for node in ast.walk(ast.parse(block))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tta_langgraph":
            module = importlib.import_module(str(node.module))
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert not missing, f"{node.module} has no {missing}"
