"""Messages to token ids with the engine's own tokenizer and chat template: what is counted is what is sent."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage

from tta_langgraph.errors import ModelError
from tta_langgraph.models.history import encoded, openai_messages, partial_answer
from tta_langgraph.models.vllm_tools import hermes_instructions

__all__ = ["PromptBuilder"]


class PromptBuilder:
    """Renders and tokenizes; thread-safe, and remembers the last prompts, since budgets count before they call.

    Args:
        tokenizer: a transformers tokenizer with a chat template.
        where: the model, named in errors.
        chat_template: a template that replaces the tokenizer's own.
    """

    def __init__(self, tokenizer: Any, *, where: str, chat_template: str | None = None) -> None:
        self._tokenizer = tokenizer
        self._where = where
        self.chat_template: str | None = chat_template or getattr(tokenizer, "chat_template", None)
        """The template in use, or None when the model has none."""
        self._lock = threading.Lock()
        self._recent: OrderedDict[str, tuple[int, ...]] = OrderedDict()

    @property
    def template_sha256(self) -> str | None:
        """Hash of the chat template, or None without one."""
        template = self.chat_template
        return None if template is None else hashlib.sha256(template.encode()).hexdigest()

    def token_ids(
        self,
        messages: Sequence[BaseMessage],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        continue_final_message: bool = False,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> tuple[int, ...]:
        """The exact prompt of a call.

        Args:
            messages: the conversation.
            tools: tool definitions in the OpenAI form.
            continue_final_message: the last message is an `AIMessage` whose text the model shall continue. The
                prompt is then the prompt that message would have answered, followed by its text.
            template_kwargs: further variables of the chat template (such as `enable_thinking`).

        Raises:
            ModelError: no chat template, a message that is not text, or nothing to continue.
        """
        if not messages and not continue_final_message:
            raise ModelError("there is no message to answer", where=self._where)
        partial = ""
        if continue_final_message:
            partial = partial_answer(messages)
            messages = messages[:-1]
        text = self._render(_as_dicts(messages, self._where), tools, dict(template_kwargs or {}))
        return self.encode(text + partial)

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of a rendered prompt or any other text, without special tokens added."""
        with self._lock:
            known = self._recent.get(text)
            if known is not None:
                self._recent.move_to_end(text)
                return known
            encoded(text, where=self._where)
            ids = tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])
            self._recent[text] = ids
            if len(self._recent) > _REMEMBERED:
                self._recent.popitem(last=False)
        return ids

    def _render(
        self,
        messages: list[dict[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        template_kwargs: dict[str, Any],
    ) -> str:
        if self.chat_template is None:
            raise ModelError(
                "the model has no chat template",
                where=self._where,
                remedy="Use an instruct model, or give chat_template=",
            )
        text = self._apply(messages, tools, template_kwargs)
        if tools and text == self._apply(messages, None, template_kwargs):
            # The template drops tools in silence; the model would never hear of them.
            text = self._apply(_with_instructions(messages, hermes_instructions(tools)), None, template_kwargs)
        return text

    def _apply(
        self,
        messages: list[dict[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        template_kwargs: dict[str, Any],
    ) -> str:
        try:
            text = self._tokenizer.apply_chat_template(
                messages,
                tools=list(tools) if tools else None,
                chat_template=self.chat_template,
                add_generation_prompt=True,
                tokenize=False,
                **template_kwargs,
            )
        except Exception as error:  # templates raise what they like: jinja2's errors, TypeError, KeyError
            raise ModelError(
                f"the chat template refused the messages: {error}",
                where=self._where,
                remedy="Check the order of roles and the contents of the messages",
            ) from error
        return str(text)


def _as_dicts(messages: Sequence[BaseMessage], where: str) -> list[dict[str, Any]]:
    converted = openai_messages(messages, where=where)
    for message in converted:
        for call in message.get("tool_calls") or ():
            with contextlib.suppress(ValueError):  # a call that was cut is shown as it is
                call["function"]["arguments"] = json.loads(call["function"]["arguments"] or "{}")
    return converted


def _with_instructions(messages: list[dict[str, Any]], instructions: str) -> list[dict[str, Any]]:
    if messages and messages[0]["role"] == "system":
        first = {**messages[0], "content": f"{messages[0]['content']}\n\n{instructions}"}
        return [first, *messages[1:]]
    return [{"role": "system", "content": instructions}, *messages]


_REMEMBERED = 256
