"""Budget-aware reasoning for LangGraph."""
