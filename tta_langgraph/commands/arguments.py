"""Checks of numbers from the command line that a plain range lets through: NaN and infinity."""

from __future__ import annotations

import math

import typer


def price(value: float | None) -> float | None:
    """A price, a temperature: finite and not negative."""
    if value is not None and not 0 <= value < math.inf:
        raise typer.BadParameter(f"{value:g} is not a finite number from 0")
    return value


def limit(value: float | None) -> float | None:
    """A mean to stay within: finite and above 0."""
    if value is not None and not 0 < value < math.inf:
        raise typer.BadParameter(f"{value:g} is not a finite number above 0")
    return value


def share(value: float) -> float:
    """A share that leaves something on both sides."""
    if not 0 < value < 1:
        raise typer.BadParameter(f"{value:g} is not a share between 0 and 1")
    return value
