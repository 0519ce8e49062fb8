"""What a caller says about which tool to call, in one form for every engine."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from tta_langgraph.errors import ModelError

__all__ = ["REQUIRED", "choice_of", "is_forced"]

REQUIRED: Final = "required"
"""Some tool must be called."""


def choice_of(choice: object, names: Collection[str]) -> str | None:
    """One word for what OpenAI, Anthropic and LangChain spell in several ways.

    Args:
        choice: `"auto"`, `"none"`, `"any"`, `"required"`, a boolean, a tool's name, or a dictionary of these APIs.
        names: of the tools that are offered; nothing is looked up among none.

    Returns:
        `"auto"`, `"none"`, `"required"`, the name of a tool, or None where nothing was said.

    Raises:
        ModelError: no such form, or no such tool.

    Example:
        >>> choice_of({"type": "function", "function": {"name": "add"}}, ["add"])
        'add'
    """
    said = _said(choice)
    if said is None or said in _WORDS:
        return _WORDS.get(said or "")
    if names and said not in names:
        raise ModelError(
            f"tool_choice names {said!r}, which is not among the tools",
            where="tool_choice",
            remedy=f"Choose from: {', '.join(names)}",
        )
    return said


def is_forced(choice: str | None) -> bool:
    """Whether a choice, as `choice_of` returns it, leaves the model no way but to call."""
    return choice not in (None, "auto", "none")


def _said(choice: object) -> str | None:
    if choice is None or isinstance(choice, bool):
        return REQUIRED if choice else None
    if isinstance(choice, str) and choice:
        return choice
    if isinstance(choice, Mapping):
        inner = choice.get("function")
        name = inner.get("name") if isinstance(inner, Mapping) else choice.get("name")
        said = name or (choice.get("type") if choice.get("type") in _WORDS else None)
        if isinstance(said, str):
            return said
    raise ModelError(
        f"tool_choice {choice!r} is not understood",
        where="tool_choice",
        remedy="Use 'auto', 'none', 'required' or the name of a tool",
    )


_WORDS: Final[dict[str, str]] = {"auto": "auto", "none": "none", "any": REQUIRED, "required": REQUIRED}
