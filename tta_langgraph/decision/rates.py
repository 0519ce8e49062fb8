"""Counts and rates of answers that become right or wrong in one step."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rates:
    """Transition probabilities of one step."""

    p_fix: float
    """P(right after | wrong before)."""
    p_break: float
    """P(wrong after | right before)."""

    def after(self, c: float) -> float:
        """P(right after) from P(right before) = c."""
        return c + self.gain(c)

    def gain(self, c: float) -> float:
        """(1−c)·p_fix − c·p_break."""
        return (1 - c) * self.p_fix - c * self.p_break

    @property
    def break_even(self) -> float:
        """P(right before) under which the step helps: p_fix / (p_fix + p_break); its fixed point when repeated."""
        total = self.p_fix + self.p_break
        return self.p_fix / total if total > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Counts:
    """Observed transitions."""

    fixed: float = 0.0
    """Wrong before, right after."""
    wrong: float = 0.0
    """Wrong before."""
    broken: float = 0.0
    """Right before, wrong after."""
    right: float = 0.0
    """Right before."""

    def plus(self, before: bool, after: bool) -> Counts:
        """With one more observation."""
        return self + Counts(after and not before, not before, before and not after, before)

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.fixed + other.fixed,
            self.wrong + other.wrong,
            self.broken + other.broken,
            self.right + other.right,
        )


NO_COUNTS = Counts()
"""Nothing seen yet."""
