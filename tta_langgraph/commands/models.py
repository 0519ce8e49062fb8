"""The model that a command was given, ready to answer before the budget's clock starts."""

from __future__ import annotations

from langchain_core.language_models import BaseChatModel
from rich.console import Console

from tta_langgraph.commands.progress import weights_progress
from tta_langgraph.models.embedded import EmbeddedChatModel
from tta_langgraph.models.resolve import resolve_model

MODEL_HELP = (
    "embedded, embedded:NAME, a .gguf path, vllm:MODEL, an OpenAI-compatible server as http://host/v1[#model], "
    "or any LangChain provider:model."
)

POLICY_HELP = (
    "A policy file made by `tta fit`; if not given, the one that comes with the package for this model, else priors."
)


def ready_model(spec: str, console: Console) -> BaseChatModel:
    """Resolves a model and, if it runs in this process, fetches and loads it with a progress bar.

    Raises:
        ModelError: no such model, or it cannot be had here.
    """
    model = resolve_model(spec)
    if isinstance(model, EmbeddedChatModel):
        with weights_progress(console) as progress:
            model.progress = progress
            model.warm_up()
            model.progress = None
    return model


def name_of(model: BaseChatModel) -> str:
    """What a shipped policy would be called after."""
    return str(getattr(model, "model_name", None) or getattr(model, "model", ""))
