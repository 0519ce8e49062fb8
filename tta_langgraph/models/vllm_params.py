"""Call options of LangChain and OpenAI, turned into vLLM's `SamplingParams`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tta_langgraph.errors import ModelError
from tta_langgraph.models.json_schema import openai_tool
from tta_langgraph.models.response_format import form_of
from tta_langgraph.models.tool_choice import choice_of, is_forced
from tta_langgraph.models.vllm_sources import merged_options
from tta_langgraph.models.vllm_tools import forced_schema
from tta_langgraph.models.vllm_values import check_transport, checked_values

__all__ = ["CallOptions", "refusals", "sampling_params"]


@dataclass(frozen=True, kw_only=True)
class CallOptions:
    """One call, read and checked, before anything was sent."""

    sampling: Mapping[str, Any]
    """Keyword arguments of `SamplingParams`, `max_tokens` not yet clamped to the window."""
    tools: Sequence[Mapping[str, Any]] | None = None
    """Tool definitions shown to the model."""
    forced: bool = False
    """Whether guided decoding forces the answer to be tool calls."""
    top_logprobs: int | None = None
    """Alternatives per token to report; None: no log-probabilities."""
    continue_final_message: bool = False
    """Whether the last message is continued."""
    template_kwargs: Mapping[str, Any] | None = None
    """Further variables of the chat template."""
    timeout: float | None = None
    """Seconds until the request is aborted."""
    priority: int = 0
    """Lower runs first, where the engine schedules by priority."""

    @property
    def n(self) -> int:
        """Samples asked for."""
        return int(self.sampling.get("n") or 1)

    @classmethod
    def read(cls, options: Mapping[str, Any], *, model: str, where: str = "ChatVLLM") -> CallOptions:
        """Reads the options of a call: OpenAI's names, vLLM's own, and vLLM's inside `extra_body`.

        Args:
            options: merged options, the later source winning; values that are None count as absent.
            model: the model the engine serves; asking for another one is an error.
            where: named in errors.

        Raises:
            ModelError: an option nobody knows, or one out of range.
        """
        merged = merged_options(options, where=where)
        given = checked_values({name: value for name, value in merged.items() if value is not None}, where)
        if given.pop("model", model) != model:
            raise ModelError(
                "this engine serves one model", where=where, remedy="Make a second ChatVLLM for the other model"
            )
        for ignored in _IGNORED:
            given.pop(ignored, None)
        tools = [openai_tool(tool) for tool in given.pop("tools", ())] or None
        choice = choice_of(given.pop("tool_choice", None), [tool["function"]["name"] for tool in tools or ()])
        parallel = given.pop("parallel_tool_calls", True)
        structured = _structured(given, where)
        forced = bool(tools) and is_forced(choice)
        if tools and choice is not None and forced:
            structured = {"json": forced_schema(tools, choice, parallel=parallel)}
        top = given.pop("top_logprobs", None)
        top = (top or 0) if given.pop("logprobs", False) or top else None
        sampling = {name: given.pop(name) for name in list(given) if name in _SAMPLING}
        if structured is not None:
            sampling["structured_outputs"] = structured
        if top is not None:
            sampling["logprobs"] = top
        if tools and choice == "none":
            tools = None
        read = cls(
            sampling=sampling,
            tools=tools,
            forced=forced,
            top_logprobs=top,
            continue_final_message=bool(given.pop("continue_final_message", False)),
            template_kwargs=given.pop("chat_template_kwargs", None),
            timeout=given.pop("timeout", None),
            priority=given.pop("priority", 0),
        )
        given.pop("add_generation_prompt", None)  # the server wants it beside continue_final_message
        if given:
            raise ModelError(
                f"unknown option {', '.join(sorted(map(repr, given)))}",
                where=where,
                remedy=f"Known: {', '.join(sorted(_SAMPLING | _OTHER))}",
            )
        read._check(where)
        return read

    def _check(self, where: str) -> None:
        limit, n = self.sampling.get("max_tokens"), self.sampling.get("n", 1)
        if limit is not None and limit < 1:
            raise ModelError(f"max_tokens is {limit}", where=where, remedy="Ask for at least one token")
        if n < 1:
            raise ModelError(f"n is {n}", where=where, remedy="Ask for at least one sample")
        if n > 1 and self.sampling.get("temperature") == 0:
            raise ModelError(
                f"n is {n} at temperature 0, which would be {n} times the same answer",
                where=where,
                remedy="Raise the temperature, or ask for one sample",
            )


def sampling_params(options: CallOptions, defaults: Mapping[str, Any], room: int, *, stream: bool) -> Any:
    """vLLM's `SamplingParams` of a call.

    Args:
        options: the call.
        defaults: what the model's own generation config recommends.
        room: tokens left in the window after the prompt; the completion is clamped to it.
        stream: whether partial outputs are wanted, as differences.

    Raises:
        ModelError: vLLM refuses the combination, or its process could not read it.
    """
    from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

    values = {**_ENGINE_DEFAULTS, **defaults, **options.sampling}
    limit = values.get("max_tokens")
    values["max_tokens"] = room if limit is None else min(limit, room)
    values["output_kind"] = RequestOutputKind.DELTA if stream else RequestOutputKind.FINAL_ONLY
    if options.tools:
        values["skip_special_tokens"] = False  # some models mark a tool call with special tokens
    refused: tuple[type[Exception], ...] = (TypeError, *refusals())
    try:
        if "structured_outputs" in values:
            values["structured_outputs"] = StructuredOutputsParams(**values["structured_outputs"])
        params = SamplingParams(**values)
    except refused as error:
        raise ModelError(f"vLLM refused the sampling options: {error}", where="ChatVLLM") from error
    check_transport(params)
    return params


def refusals() -> tuple[type[Exception], ...]:
    """What vLLM raises for a request that it cannot take: errors of its own, in older versions `ValueError` only."""
    from vllm import exceptions

    return ValueError, getattr(exceptions, "VLLMClientError", ValueError)


def _structured(given: dict[str, Any], where: str) -> dict[str, Any] | None:
    """`structured_outputs` as vLLM takes it, from that option or from OpenAI's `response_format`."""
    structured: dict[str, Any] | None = given.pop("structured_outputs", None)
    form = form_of(given.pop("response_format", None), where=where)
    if form is None or structured is not None:
        return structured
    return {"json_object": True} if form["type"] == "json_object" else {"json": form["json_schema"]["schema"]}


_ENGINE_DEFAULTS = {"temperature": 1.0}
_SAMPLING = {
    *("n", "temperature", "top_p", "top_k", "min_p", "seed", "max_tokens", "min_tokens", "ignore_eos"),
    *("stop", "stop_token_ids", "include_stop_str_in_output", "skip_special_tokens", "bad_words"),
    *("presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias", "allowed_token_ids"),
    "thinking_token_budget",
}
_OTHER = {
    *("max_completion_tokens", "logprobs", "top_logprobs", "tools", "tool_choice", "parallel_tool_calls"),
    *("response_format", "structured_outputs", "continue_final_message", "chat_template_kwargs", "timeout"),
    *("priority", "extra_body"),
}
_IGNORED = ("stream", "stream_usage", "stream_options", "user", "strict")
"""Options of other chat models that change nothing here: usage is always streamed, schemas are always strict."""
