"""The questions of the demonstration, with their gold SQL."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

Difficulty = Literal["easy", "medium", "hard", "extra"]
"""How much SQL a question needs: one table; a join or group; several of them; dirt, windows or set logic."""


@dataclass(frozen=True, kw_only=True)
class DemoQuestion:
    """One question about the demonstration database."""

    id: str
    """Stable, readable name."""
    question: str
    """The question; it says which columns to show."""
    gold_sql: str
    """A query whose result is the right answer (SQLite)."""
    difficulty: Difficulty
    """Grade."""
    notes: str = ""
    """Where the dirt of the data matters."""


@cache
def _questions() -> tuple[DemoQuestion, ...]:
    lines = files(__package__).joinpath("questions.jsonl").read_text(encoding="utf-8").splitlines()
    return tuple(DemoQuestion(**json.loads(line)) for line in lines)


def load_questions() -> list[DemoQuestion]:
    """Returns the questions, from easy to extra hard.

    Example:
        >>> load_questions()[0].question
        'How many customers are there?'
    """
    return list(_questions())
