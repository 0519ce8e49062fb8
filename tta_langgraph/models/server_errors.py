"""What a client says of a server that failed it ("Connection error."), with the address and what to do about it.

The error stays the one that the client raised, for whoever catches it by its class; the rest is a note on it, which
Python prints below it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing, contextmanager
from typing import Any, Final

from tta_langgraph.errors import ModelError
from tta_langgraph.models.failures import classify, is_timeout

__all__ = ["aexplained_stream", "explained", "explained_stream", "notes_of"]


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Adds a note to errors that pass: which server it was, and what to do."""
    try:
        yield
    except Exception as error:
        note = f"{url}: {_remedy(error)}"
        if not isinstance(error, ModelError) and note not in notes_of(error):
            error.add_note(note)
        raise


def explained_stream(chunks: Iterator[Any], url: str) -> Iterator[Any]:
    """The same for a stream; one that holds nothing is an error.

    Raises:
        ModelError: the server answered with something that is no stream, such as a web page.
    """
    empty = True
    with explained(url), closing(chunks):  # type: ignore[type-var]
        for chunk in chunks:
            empty = False
            yield chunk
        if empty:
            raise _no_stream(url)


async def aexplained_stream(chunks: AsyncIterator[Any], url: str) -> AsyncIterator[Any]:
    """Twin of `explained_stream`."""
    empty = True
    with explained(url):
        async with aclosing(chunks):  # type: ignore[type-var]
            async for chunk in chunks:
                empty = False
                yield chunk
            if empty:
                raise _no_stream(url)


def notes_of(error: BaseException) -> list[str]:
    """The notes on an error."""
    return list(getattr(error, "__notes__", ()))


def _no_stream(url: str) -> ModelError:
    return ModelError("this is not a model server: its stream holds nothing", where=url, remedy=_ELSEWHERE)


def _remedy(error: Exception) -> str:
    failure, status = classify(error), getattr(error, "status_code", None)
    if status in (401, 403):
        return "the server refused the key. Pass api_key="
    if status == 404:
        return (
            "it knows no such model or path. tta_langgraph.models.openai_compatible.served_models lists what it serves"
        )
    if status == 429:
        wait = f", and asks to wait {failure.retry_after:g} s" if failure.retry_after else ""
        return (
            f"the server turns requests away{wait}. Send fewer at once, or allow more attempts: Retries(attempts=...)"
        )
    if isinstance(status, int) and status >= 500:
        return "the server failed, or is still starting. See its log"
    if isinstance(status, int):
        return "the server did not take the request. Correct what it names"
    if failure.nothing_written:
        return "the server cannot be reached. Check the address and that it runs (`tta serve MODEL` starts one)"
    if is_timeout(error):
        return "no answer in time. Raise timeout=, ask for fewer tokens, or see whether the server is overloaded"
    if failure.retryable:
        return "the connection broke. See the server's log; a proxy in between may give up early"
    if isinstance(error, ValueError | TypeError) and "response" in str(error):
        return f"this is not a model server. {_ELSEWHERE}"
    return "see what the client says, and the server's log"


_ELSEWHERE: Final = "Check host, port and path; a proxy or a login page may answer in its place"
