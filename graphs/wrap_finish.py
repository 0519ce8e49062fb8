"""The last node of a wrapped agent: the chosen run, as if it had been the only one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage

from tta_langgraph.episode import Steps
from tta_langgraph.nodes.deliver import Deliver
from tta_langgraph.nodes.reading import State, messages_of


@dataclass(frozen=True, kw_only=True)
class FinishRun(Deliver):
    """Puts the chosen answer, its run's output and its new messages into the state."""

    def steps(self, state: State) -> Steps:
        """Settles the episode."""
        update = yield from super().steps(state)
        best = update["best"]
        reason = state.get("stop_reason") or "stop"
        if best is None:
            return {**update, "output": None, "stop_reason": reason}
        output = (state.get("runs") or {}).get(best.id)
        return {
            **update,
            "output": output,
            "stop_reason": reason,
            "messages": new_messages(output, messages_of(state)) or [AIMessage(best.text)],
        }


def new_messages(output: Any, known: list[BaseMessage]) -> list[BaseMessage]:
    """The messages of a run that are not in the conversation yet, second looks' exchanges included."""
    if isinstance(output, BaseMessage):
        return [output]
    found = output.get("messages") if isinstance(output, Mapping) else None
    ids = {message.id for message in known if message.id}
    return [m for m in found or () if isinstance(m, BaseMessage) and (m.id is None or m.id not in ids)]
