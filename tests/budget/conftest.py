"""What several tests of budgets share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest

from tta_langgraph import scope


@pytest.fixture
def work_as(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Switches between workers, each with a memory of its own."""
    memories: dict[str, Any] = {}

    def switch(name: str) -> None:
        monkeypatch.setattr(scope, "_ledgers", memories.setdefault(name, OrderedDict()))

    return switch
