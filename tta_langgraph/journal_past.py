"""What the journal says of an episode, read from the current root checkpoint back to where all of it is in the state.

One checkpoint is not enough: `update_state` and a new input put a checkpoint after the one whose task was interrupted
or failed, and what that task's calls cost is in no state yet.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from langgraph.checkpoint.base import CheckpointTuple

from tta_langgraph.budget import BudgetTracker, Charge, Usage

CHANNEL = "__tta_journal__"
"""Name under which entries are written; no graph has a channel of this name."""
_STATE_KEY = "budget"
_FURTHEST = 64
"""Most checkpoints that are read: steps without a model call may lie between."""


class Past:
    """The charges that the checkpoints of one thread hold for one episode; the reader is told where to look next.

    Args:
        episode: the one asked for.
        config: address of the current root checkpoint.
    """

    def __init__(self, episode: str, config: Mapping[str, Any]) -> None:
        self.next: Mapping[str, Any] | None = config
        """Address of the checkpoint to read; None when nothing older can matter."""
        self._episode = episode
        self._read = 0
        self._stored: set[str] | None = None
        """Ids of the charges in the states seen so far; None while no state was of this episode."""
        self._found: dict[str, Charge] = {}
        self._closed: set[str] = set()
        self.active: dict[str, tuple[float, float]] = {}
        """When invocations were at work that the states need not know of, as in `BudgetTracker.active`."""

    @property
    def charges(self) -> list[Charge]:
        """What was found so far; a call that was never closed at its reservation."""
        return list(self._found.values())

    def take(self, saved: CheckpointTuple | None) -> None:
        """Reads the checkpoint at `next`, None if it is not stored, and sets `next` to the one before or to None."""
        address, self.next = self.next, None
        self._read += 1
        if saved is None:
            # Of the current one LangGraph may not have stored more than the intention (`durability="async"`).
            if self._read == 1 and address is not None:
                thread = address["configurable"]["thread_id"]
                self.next = {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
            return
        here = self._entries(saved)
        if self._read < _FURTHEST and self._goes_on(saved, here):
            self.next = saved.parent_config

    def _goes_on(self, saved: CheckpointTuple, here: Collection[str]) -> bool:
        """Whether calls before this checkpoint may be unknown to every later state."""
        stored = self._charges_in_state(saved)
        if stored is None:
            # The episode began later; or it is of a sub-graph, and then only what is no step of the graph is passed.
            return self._stored is None and saved.metadata.get("source") in ("input", "update", "fork")
        later = self._stored or set()
        self._stored = later | stored.keys()
        # Whoever made calls here had read what lies before, and a later state knows of them.
        return not here or not later.issuperset(here)

    def _charges_in_state(self, saved: CheckpointTuple) -> Mapping[str, Charge] | None:
        tracker = saved.checkpoint["channel_values"].get(_STATE_KEY)
        while isinstance(tracker, BudgetTracker):
            if tracker.episode == self._episode:
                return tracker.charges
            tracker = tracker.parent
        return None

    def _entries(self, saved: CheckpointTuple) -> set[str]:
        """Adds what is written at one checkpoint; the ids."""
        here: set[str] = set()
        for _, channel, entry in saved.pending_writes or ():
            if channel != CHANNEL or self._episode not in entry["episodes"]:
                continue
            for invocation, (begin, end) in entry.get("active", {}).get(self._episode, {}).items():
                known = self.active.get(invocation, (begin, end))
                self.active[invocation] = (min(begin, known[0]), max(end, known[1]))
            if entry["state"] == "seen":
                continue
            fields = dict(entry["charge"])
            charge = Charge(**{**fields, "usage": Usage(**fields["usage"])})
            here.add(charge.id)
            if entry["state"] == "closed":
                self._closed.add(charge.id)
                self._found[charge.id] = charge
            elif charge.id not in self._closed:
                self._found.setdefault(charge.id, charge)
        return here
