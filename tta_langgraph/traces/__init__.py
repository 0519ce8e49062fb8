"""Recording, storing, exporting and monitoring episodes."""

from tta_langgraph.traces.model import Attempt, Judgement, Pool, Trace, text_hash

__all__ = ["Attempt", "Judgement", "Pool", "Trace", "text_hash"]
