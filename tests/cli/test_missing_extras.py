"""What an installation without extras is told: which one to install, in one line."""

from __future__ import annotations

import subprocess
import sys

import pytest


def without(package: str, program: str) -> subprocess.CompletedProcess[str]:
    """Runs a program in a Python that lacks a package."""
    code = f"import sys; sys.modules[{package!r}] = None\n{program}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("command", "extra"), [("replay x.jsonl", "learn"), ("fit x.jsonl", "learn"), ("report x.jsonl", "learn")]
)
def test_a_command_names_the_extra_that_it_needs(command: str, extra: str) -> None:
    done = without("numpy", f"sys.argv = ['tta', *{command.split()}]\nfrom tta_langgraph.cli import main; main()")
    assert done.returncode == 1
    assert done.stderr.strip().endswith(f"pip install 'tta-langgraph[{extra}]'")
    assert "bug" not in done.stderr


def test_all_public_names_can_be_imported_and_the_middleware_names_the_extra_that_it_needs_when_it_is_used() -> None:
    program = "from tta_langgraph import *\ntry:\n  BudgetMiddleware(100)\nexcept ImportError as error:\n  print(error)"
    assert "pip install 'tta-langgraph[agents]'" in without("langchain", program).stdout
