"""What the package exports is what it says, whichever of its modules were imported before."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

import pytest

import tta_langgraph


@pytest.mark.parametrize(
    "room", ["tta_langgraph", "tta_langgraph.decision", "tta_langgraph.nodes", "tta_langgraph.graphs"]
)
def test_no_export_is_hidden_by_a_module_of_its_name(room: str) -> None:
    package = importlib.import_module(room)
    for module in pkgutil.iter_modules(package.__path__):
        if module.name in package.__all__:
            importlib.import_module(f"{room}.{module.name}")  # which puts the module in the export's place
    assert not [name for name in package.__all__ if isinstance(getattr(package, name), ModuleType)]


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="nothing_of_ours"):
        _ = tta_langgraph.nothing_of_ours
