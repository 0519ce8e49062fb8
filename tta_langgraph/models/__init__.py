"""Models: the metered door, counting, prices, the embedded model, vLLM, and one string for any of them."""

from tta_langgraph.models.counting import counter_for, margin_for
from tta_langgraph.models.embedded import EmbeddedChatModel, create_embedded_model
from tta_langgraph.models.metered import BudgetedChatModel, budgeted
from tta_langgraph.models.openai_compatible import chat_openai_server
from tta_langgraph.models.prices import price_for, register_price
from tta_langgraph.models.resolve import resolve_model
from tta_langgraph.models.weights import ensure_weights

__all__ = [
    "BudgetedChatModel",
    "EmbeddedChatModel",
    "budgeted",
    "chat_openai_server",
    "counter_for",
    "create_embedded_model",
    "ensure_weights",
    "margin_for",
    "price_for",
    "register_price",
    "resolve_model",
]
