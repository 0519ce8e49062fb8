"""What learning is done from: one recorded step, with what was known before and after it, and who was right."""

from __future__ import annotations

from dataclasses import dataclass

from tta_langgraph.decision.actions import Action
from tta_langgraph.decision.snapshot import Snapshot


@dataclass(frozen=True, kw_only=True)
class Experience:
    """One step of an episode that was recorded, or dealt from a recorded pool.

    Explore widely: what a policy never tried, it cannot learn. From recorded pools take random actions and stop at
    random depths; several episodes per question with the samples in different orders.
    """

    snapshot: Snapshot
    """Before the action."""
    action: Action
    """What was done."""
    after: Snapshot
    """After it, with all evidence that the next decision would see."""
    right: frozenset[str]
    """Ids of the candidates of `after` whose answer is right."""
    tokens: float
    """Tokens it took, summed over parallel calls."""
    seconds: float
    """Seconds it took, the maximum over parallel calls."""
    question: str
    """Id of the question: its rows count once together, however often it was dealt."""
    group: str = ""
    """What must not be split between fitting and checking: the database, or the question's family."""
