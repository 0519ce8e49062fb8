"""What can go wrong between a budget and a model. All are `ModelError`s."""

from __future__ import annotations

from tta_langgraph.errors import ModelError


class WeightsError(ModelError):
    """Model weights that could not be found, fetched, verified or loaded."""


class ModelTimeoutError(ModelError, TimeoutError):
    """A call that outlived the timeout it was given; the request was cancelled at the engine."""


class ContextOverflowError(ModelError, ValueError):
    """A prompt longer than the model's window; nothing was generated and nothing was cut silently.

    Args:
        prompt_tokens: length of the prompt (tokens), when it is known.
        context: the window (tokens), when it is known.
        where: the model.
    """

    nothing_sent = True
    """Known before anything was sent: such a call costs nothing."""

    def __init__(self, prompt_tokens: int | None, context: int | None, where: str) -> None:
        self.prompt_tokens = prompt_tokens
        """Length of the prompt (tokens), or None."""
        self.context = context
        """The model's window (tokens), or None."""
        length = f"{prompt_tokens:,} tokens" if prompt_tokens is not None else "too many tokens"
        window = f" for a window of {context:,}" if context is not None else ""
        super().__init__(
            f"the prompt does not fit: {length}{window}",
            where=where,
            remedy="Show a smaller part of the schema, trim the history, or use a model with a larger window",
        )

    def __reduce__(self) -> tuple[type[ContextOverflowError], tuple[int | None, int | None, str]]:
        return type(self), (self.prompt_tokens, self.context, self.where or "")


class UnsendableError(ModelError, ValueError):
    """A call that cannot be written down as a request, such as a text that is no Unicode."""

    nothing_sent = True
    """Known before anything was sent: such a call costs nothing."""
