"""What the pages import can be looked up in the reference."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
LISTED = re.findall(r"^::: (\S+)", (DOCS / "reference" / "index.md").read_text(encoding="utf-8"), re.MULTILINE)
IMPORT = re.compile(r"^from (tta_langgraph\S*) import (.+)$", re.MULTILINE)
IMPORTED = sorted(
    {
        (module, name.strip())
        for page in DOCS.rglob("*.md")
        for module, names in IMPORT.findall(page.read_text(encoding="utf-8"))
        for name in names.split(",")
    }
)


@pytest.mark.parametrize(("module", "name"), IMPORTED)
def test_what_a_page_imports_is_in_the_reference(module: str, name: str) -> None:
    home = getattr(getattr(import_module(module), name), "__module__", module)
    rooms = (import_module(listed) for listed in LISTED)
    assert module in LISTED or home in LISTED or any(name in getattr(room, "__all__", ()) for room in rooms)
