"""A model request that stays under the budget when other middleware puts another model into it."""

from __future__ import annotations

import warnings
from dataclasses import fields
from typing import Any

from langchain.agents.middleware import ModelRequest

from tta_langgraph.models.metered import budgeted


class BudgetedRequest(ModelRequest[Any]):
    """Wraps every model that is put into it, be it by `override` or by assignment.

    Fallbacks and dynamic choices of a model happen in middleware further in, after ours has seen the request.
    `override` makes a request of the same class, so this holds for whatever they hand on.
    """

    def __init__(self, *args: Any, **fields: Any) -> None:
        super().__init__(*args, **fields)
        # From langchain 1.5 on, a request that is made by `override` does not go by `__setattr__`.
        object.__setattr__(self, "model", budgeted(self.model))

    def __setattr__(self, name: str, value: Any) -> None:
        """Sets a field; langchain's warning that this is deprecated still comes."""
        super().__setattr__(name, budgeted(value) if name == "model" else value)

    @classmethod
    def of(cls, request: ModelRequest[Any]) -> BudgetedRequest:
        """The same request, under the budget."""
        if isinstance(request, cls):
            return request
        copy = cls.__new__(cls)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            for field in fields(request):
                setattr(copy, field.name, getattr(request, field.name))
        return copy
