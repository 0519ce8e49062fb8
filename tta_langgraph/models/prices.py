"""What a call costs in US dollars.

Prices come from `register_price`, from the table that `genai-prices` carries (no network), or are zero for the
models that this package runs on the user's own machine.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Any, Final, Protocol

from tta_langgraph.errors import ModelError
from tta_langgraph.models.weights_catalog import WEIGHTS


class _Rule(Protocol):
    def __call__(
        self, prompt_tokens: int, completion_tokens: int, cached_tokens: int, written_tokens: int, /
    ) -> float: ...


@dataclass(frozen=True, kw_only=True)
class Price:
    """The price of one model."""

    model: str
    """The model as the table calls it."""
    provider: str | None
    """Who charges it, or None for a registered price."""
    source: str
    """Where the price is from: `genai-prices 0.2.3`, `registered` or `runs on this machine`."""
    rule: _Rule
    """Dollars for prompt, completion and cached tokens, and for those written to a cache."""

    def cost(
        self, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0, written_tokens: int = 0
    ) -> float:
        """Dollars for one call.

        Args:
            prompt_tokens: length of the prompt (tokens), the cached ones included.
            completion_tokens: tokens written, over all samples.
            cached_tokens: how many of the prompt tokens a prefix cache served.
            written_tokens: how many of the others were stored for later calls, which some providers charge more for.

        Returns:
            US dollars; at least 0, and growing with the first two arguments.
        """
        cached = min(max(0, cached_tokens), prompt_tokens)
        return self.rule(prompt_tokens, completion_tokens, cached, min(max(0, written_tokens), prompt_tokens - cached))

    def to_dict(self) -> dict[str, Any]:
        """What a trace keeps: where the price is from, and dollars per million tokens of each kind."""
        million = 1_000_000
        return {
            "model": self.model,
            "provider": self.provider,
            "source": self.source,
            "usd_per_mtok": {
                "input": self.cost(10_000, 0) * million / 10_000,
                "output": self.cost(0, 10_000) * million / 10_000,
                "cached_input": self.cost(10_000, 0, 10_000) * million / 10_000,
            },
        }


def price_for(model_name: str, provider: str | None = None) -> Price | None:
    """The price of a model, or None when nobody stated one.

    Args:
        model_name: as the provider calls it; `provider:model` is understood.
        provider: who serves it, e.g. `openai`; None finds the maker by the name.

    Example:
        >>> price = price_for("gpt-4o-mini")
        >>> price is not None and price.cost(1_000, 100) > price.cost(1_000, 100, cached_tokens=900)
        True
    """
    if _REGISTERED:
        own = _REGISTERED.get(model_name) or _REGISTERED.get(model_name.rpartition(":")[2])
        if own is not None:
            return own
    key = (model_name, provider)
    if key not in _FOUND:
        with _LOCK:
            if key not in _FOUND:
                _FOUND[key] = _look_up(model_name, provider)
    return _FOUND[key]


def register_price(
    model: str,
    input_usd_per_mtok: float,
    output_usd_per_mtok: float,
    cached_input_usd_per_mtok: float | None = None,
    cache_write_usd_per_mtok: float | None = None,
) -> Price:
    """States the price of a model that the table does not know, or knows wrongly. Wins over the table.

    Args:
        model: the name the chat model reports.
        input_usd_per_mtok: US dollars per million prompt tokens.
        output_usd_per_mtok: US dollars per million completion tokens.
        cached_input_usd_per_mtok: the same for prompt tokens from a prefix cache; None charges them in full.
        cache_write_usd_per_mtok: the same for prompt tokens that are stored in one; None: no more than others.

    Raises:
        ModelError: a price that is below zero or no number.

    Example:
        >>> register_price("my-model", 0.5, 1.5).cost(1_000_000, 0)
        0.5
    """
    cached = input_usd_per_mtok if cached_input_usd_per_mtok is None else cached_input_usd_per_mtok
    written = input_usd_per_mtok if cache_write_usd_per_mtok is None else cache_write_usd_per_mtok
    for stated in (input_usd_per_mtok, output_usd_per_mtok, cached, written):
        if not (isinstance(stated, int | float) and math.isfinite(stated) and stated >= 0):
            raise ModelError(
                f"{stated!r} is no price",
                where=f"register_price({model!r})",
                remedy="Give US dollars per million tokens, as a number of at least 0",
            )
    rule = _flat(input_usd_per_mtok, output_usd_per_mtok, cached, written)
    price = Price(model=model, provider=None, source="registered", rule=rule)
    with _LOCK:
        _REGISTERED[model] = price
    return price


def _look_up(model_name: str, provider: str | None) -> Price | None:
    prefix, _, bare = model_name.rpartition(":")
    if bare in WEIGHTS:
        return Price(model=bare, provider=None, source="runs on this machine", rule=_flat(0.0, 0.0, 0.0, 0.0))
    attempts = [(model_name, provider and _PROVIDERS.get(provider, provider))]
    if prefix and provider is None:
        attempts.insert(0, (bare, _PROVIDERS.get(prefix, prefix)))
    for name, who in attempts:
        if (price := _from_table(name, who)) is not None:
            return price
    return None


def _from_table(model_name: str, provider: str | None) -> Price | None:
    import genai_prices
    from genai_prices.data_snapshot import get_snapshot

    try:
        found, model = get_snapshot().find_provider_model(model_name, None, provider, None)
    except LookupError:
        return None

    def rule(prompt_tokens: int, completion_tokens: int, cached_tokens: int, written_tokens: int) -> float:
        usage = genai_prices.Usage(
            input_tokens=prompt_tokens,
            output_tokens=completion_tokens,
            cache_read_tokens=cached_tokens,
            cache_write_tokens=written_tokens,
        )
        return float(model.calc_price(usage, found).total_price)

    source = f"genai-prices {genai_prices.__version__}"
    try:
        quick = rule if isinstance(model.prices, list) else _flattened(rule)
    except (LookupError, ValueError, TypeError):  # listed without a price
        return None
    return Price(model=model.id, provider=found.id, source=source, rule=quick)


def _flattened(rule: _Rule) -> _Rule:
    """The same prices by four multiplications, unless the table has tiers: a budget asks very often."""
    kinds = (1, 0, 0, 0), (0, 1, 0, 0), (1, 0, 1, 0), (1, 0, 0, 1)
    rates = [[rule(*(size * part for part in kind)) for kind in kinds] for size in (1_000_000, 100)]
    tiered = any(not math.isclose(large, small * 10_000) for large, small in zip(*rates, strict=True))
    return rule if tiered else _flat(*rates[0])


def _flat(prompt: float, completion: float, cached: float, written: float) -> _Rule:
    def rule(prompt_tokens: int, completion_tokens: int, cached_tokens: int, written_tokens: int) -> float:
        fresh = prompt_tokens - cached_tokens - written_tokens
        read = fresh * prompt + cached_tokens * cached + written_tokens * written
        return (read + completion_tokens * completion) / 1_000_000

    return rule


# LangChain's names of providers where the table uses another one.
_PROVIDERS: Final = {
    "google_genai": "google",
    "google_vertexai": "google",
    "azure_openai": "azure",
    "mistralai": "mistral",
    "bedrock": "aws",
    "bedrock_converse": "aws",
    "xai": "x-ai",
}
_LOCK: Final = threading.RLock()
_REGISTERED: Final[dict[str, Price]] = {}
_FOUND: Final[dict[tuple[str, str | None], Price | None]] = {}
