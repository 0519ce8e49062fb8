"""The values of call options, brought to the type the engine's process reads, or refused by name.

vLLM checks ranges here but types only there: its process decodes a request with msgspec, and a request it cannot
decode ends the thread that reads requests. Nobody is told, and every caller of the engine waits for ever.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import Any

from tta_langgraph.errors import ModelError

__all__ = ["CAPS", "check_transport", "checked_values", "whole_number"]

CAPS = ("max_tokens", "max_completion_tokens")
"""Two names of the completion cap; where both are given, the smaller one holds."""


def checked_values(options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The options, each value in the type its name asks for; names unknown here are passed on as they are.

    Whole numbers may be floats (`5.0`), and token ids that are keys may be strings, since JSON knows no others.

    Args:
        options: options of a call, without those that are None.
        where: named in errors.

    Raises:
        ModelError: a value of another kind, with the name of the option.
    """
    return {name: _READERS[name](value, name, where) if name in _READERS else value for name, value in options.items()}


def whole_number(value: Any, name: str, where: str) -> int:
    """An integer of 64 bits; a float with no fraction counts as one.

    Raises:
        ModelError: anything else.
    """
    number = _plain(value)
    if number is not None and -(2**63) <= number < 2**63 and int(number) == number:
        return int(number)
    raise _refused(value, name, where, "a whole number of 64 bits")


def check_transport(params: Any) -> None:
    """Reads the request's parameters as the engine's process will: what fails here would stop that process.

    Raises:
        ModelError: the process could not read them; the message has vLLM's name of the field.
    """
    import msgspec

    try:
        msgspec.msgpack.decode(msgspec.msgpack.encode(params), type=type(params))
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError) as error:
        raise ModelError(
            f"the engine cannot read the call's options: {error}",
            where="ChatVLLM",
            remedy="Correct the type of the option it names; the engine was not asked",
        ) from error


def _number(value: Any, name: str, where: str) -> float:
    number = _plain(value)
    if number is not None and abs(number) <= sys.float_info.max:
        return float(number)
    raise _refused(value, name, where, "a finite number")


def _plain(value: Any) -> int | float | None:
    """Python's own number for one of numpy's, say; None for what is no number, which truth values are not either."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    return int(value) if isinstance(value, Integral) else float(value)


def _seconds(value: Any, name: str, where: str) -> float:
    return value if value == math.inf else _number(value, name, where)


def _switch(value: Any, name: str, where: str) -> bool:
    if isinstance(value, bool):
        return value
    raise _refused(value, name, where, "True or False")


def _strings(value: Any, name: str, where: str) -> list[str]:
    if not isinstance(value, str) and isinstance(value, Iterable):
        items = list(value)
        if all(isinstance(item, str) for item in items):
            return items
    raise _refused(value, name, where, "a list of strings")


def _stop(value: Any, name: str, where: str) -> list[str]:
    return [value] if isinstance(value, str) else _strings(value, name, where)


def _token_ids(value: Any, name: str, where: str) -> list[int]:
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        raise _refused(value, name, where, "a list of token ids")
    return [whole_number(item, name, where) for item in value]


def _logit_bias(value: Any, name: str, where: str) -> dict[int, float]:
    if not isinstance(value, Mapping):
        raise _refused(value, name, where, "a mapping of token ids to numbers")
    return {_key(key, name, where): _number(bias, name, where) for key, bias in value.items()}


def _key(key: Any, name: str, where: str) -> int:
    if isinstance(key, str):
        try:
            key = int(key)
        except ValueError:
            raise _refused(key, name, where, "a mapping whose keys are token ids") from None
    return whole_number(key, name, where)


def _mapping(value: Any, name: str, where: str) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    raise _refused(value, name, where, "a mapping")


def _refused(value: Any, name: str, where: str, wanted: str) -> ModelError:
    return ModelError(f"{name} is {value!r:.80}", where=where, remedy=f"Give {wanted}")


_READERS: dict[str, Callable[[Any, str, str], Any]] = {
    **dict.fromkeys((*CAPS, "min_tokens", "seed", "n", "top_k", "top_logprobs", "priority"), whole_number),
    "thinking_token_budget": whole_number,
    **dict.fromkeys(("temperature", "top_p", "min_p"), _number),
    **dict.fromkeys(("presence_penalty", "frequency_penalty", "repetition_penalty"), _number),
    "timeout": _seconds,
    **dict.fromkeys(("ignore_eos", "include_stop_str_in_output", "skip_special_tokens"), _switch),
    "stop": _stop,
    "bad_words": _strings,
    **dict.fromkeys(("stop_token_ids", "allowed_token_ids"), _token_ids),
    "logit_bias": _logit_bias,
    **dict.fromkeys(("structured_outputs", "chat_template_kwargs"), _mapping),
}
