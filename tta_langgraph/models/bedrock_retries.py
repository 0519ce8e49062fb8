"""Bedrock's clients (boto3's) without their own retries.

`Config(retries={"total_max_attempts": 1})` is how boto3 is told, and only when a client is made: afterwards its
retries are a handler that it has registered, and no client can be made from another, which keeps its credentials to
itself. So the meter calls through a copy that has no such handler. The user's client stays as it is, retries included.
"""

from __future__ import annotations

import copy
import logging
from typing import Any

from langchain_core.language_models import BaseChatModel

__all__ = ["is_boto_client", "without_boto_retries"]

_log = logging.getLogger(__name__)


def is_boto_client(client: Any) -> bool:
    """Whether a model's client is one of boto3's."""
    return type(client).__module__ == "botocore.client"


def without_boto_retries(model: Any) -> BaseChatModel:
    """The same model on a client that sends each request once; as it is, with a warning, where that cannot be had."""
    try:
        return model.model_copy(update={"client": _sending_once(model.client)})  # type: ignore[no-any-return]
    except (AttributeError, TypeError) as error:
        _log.warning(
            "%s: the retries of its client cannot be switched off (%s), so that a budget may be overshot by them; "
            'make it with config=botocore.config.Config(retries={"total_max_attempts": 1})',
            type(model).__name__,
            error,
        )
        return model  # type: ignore[no-any-return]


def _sending_once(client: Any) -> Any:
    events, service = copy.copy(client.meta.events), client.meta.service_model.service_id.hyphenize()
    events.unregister(f"needs-retry.{service}", unique_id=f"retry-config-{service}")
    single = object.__new__(type(client))  # `copy.copy` looks for attributes before there are any, and never ends
    single.__dict__.update(client.__dict__)
    single.meta = copy.copy(client.meta)
    single.meta.events = events
    # What sends the request asks its own emitter whether to send it again.
    single._endpoint = copy.copy(client._endpoint)
    if single._endpoint._event_emitter is not client.meta.events:
        raise AttributeError("this version of botocore keeps them elsewhere")
    single._endpoint._event_emitter = events
    return single
