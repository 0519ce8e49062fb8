"""Chains that a model made of itself, with another model in its place."""

from __future__ import annotations

from typing import Any

from langchain_core.runnables import RunnableBinding, RunnableSequence
from langchain_core.runnables.base import RunnableParallel


def rebound(runnable: Any, old: Any, new: Any) -> Any:
    """The same chain with `new` wherever it calls `old`.

    Args:
        runnable: what `bind_tools` or `with_structured_output` of the old model returned.
        old: the model to replace.
        new: the model to call instead.
    """
    if runnable is old:
        return new
    if isinstance(runnable, RunnableBinding):
        return runnable.model_copy(update={"bound": rebound(runnable.bound, old, new)})
    if isinstance(runnable, RunnableSequence):
        return RunnableSequence(*(rebound(step, old, new) for step in runnable.steps), name=runnable.name)
    if isinstance(runnable, RunnableParallel):
        return RunnableParallel({key: rebound(step, old, new) for key, step in runnable.steps__.items()})
    return runnable
