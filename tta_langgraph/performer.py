"""Performing what a node yields: each effect is admitted, made and charged, sync and async, on one ledger."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, convert_to_messages
from langchain_core.outputs import ChatGeneration, LLMResult

from tta_langgraph.budget import Usage
from tta_langgraph.effects import Ask, Call, Completion, Effect, OutOfBudget, Run, Steps
from tta_langgraph.errors import GraphError, ModelError, TTAError
from tta_langgraph.executions import HeldExecution
from tta_langgraph.ledger import Ledger, Refusal
from tta_langgraph.models.adapter import Adapter
from tta_langgraph.models.call import CallOptions, call_options, current_source
from tta_langgraph.models.counting import counter_for
from tta_langgraph.models.logprobs import logprob_stats
from tta_langgraph.models.metered import BudgetedChatModel, budgeted
from tta_langgraph.models.sync_loop import run_in_background
from tta_langgraph.models.usage import written
from tta_langgraph.scope import current_ledger, entered, running_config
from tta_langgraph.sql.result import ExecutionResult


class Performer:
    """Drives the body of one node and performs its effects on one ledger, sync or async."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    # -- driving ------------------------------------------------------------------------------------------

    def drive(self, steps: Steps | Mapping[str, Any] | None) -> dict[str, Any]:
        """Runs a node's body to its end; returns its update, or the reason where the budget ran out."""
        if not isinstance(steps, Generator):
            return _returned(steps)
        result: Any = None
        error: Exception | None = None
        try:
            while True:
                wanted = steps.send(result) if error is None else steps.throw(error)
                result, error = None, None
                try:
                    _check_effects(wanted)
                    result = self._side_by_side(wanted) if isinstance(wanted, tuple) else self._one(wanted)
                    self._check(result)
                except Exception as caught:
                    error = self._throwable(caught)
        except StopIteration as stop:
            return dict(stop.value or {})
        except OutOfBudget as out:
            return self._ended(out)

    async def adrive(self, steps: Steps | Mapping[str, Any] | None) -> dict[str, Any]:
        """Twin of `drive`."""
        if not isinstance(steps, Generator):
            return _returned(steps)
        result: Any = None
        error: Exception | None = None
        try:
            while True:
                wanted = steps.send(result) if error is None else steps.throw(error)
                result, error = None, None
                try:
                    _check_effects(wanted)
                    if isinstance(wanted, tuple):
                        result = await asyncio.gather(*map(self._aone, wanted), return_exceptions=True)
                    else:
                        result = await self._aone(wanted)
                    self._check(result)
                except Exception as caught:
                    error = self._throwable(caught)
        except StopIteration as stop:
            return dict(stop.value or {})
        except OutOfBudget as out:
            return self._ended(out)

    def _check(self, result: Any) -> None:
        """Lets nothing hide in a list of results that must end the node at once."""
        for slot in result if isinstance(result, list) else ():
            fatal = isinstance(slot, BaseException) and not isinstance(slot, Exception)
            if fatal or (isinstance(slot, OutOfBudget) and self._ledger.budget.on_exhausted == "raise"):
                raise slot

    def _throwable(self, error: Exception) -> Exception:
        """The error to throw into the node's body; raised instead where the user asked for an exception."""
        if isinstance(error, OutOfBudget) and self._ledger.budget.on_exhausted == "raise":
            raise error
        return error

    def _ended(self, out: OutOfBudget) -> dict[str, Any]:
        """Running out is how an episode ends, not a failure, unless the user asked for an exception."""
        if self._ledger.budget.on_exhausted == "raise":
            raise out
        return {"stop_reason": f"exhausted: {out.dimension}"}

    def _side_by_side(self, effects: tuple[Effect, ...]) -> list[Any]:
        def safely(effect: Effect) -> Any:
            try:
                return self._one(effect)
            except Exception as error:
                return error

        if not effects:
            return []
        with ThreadPoolExecutor(min(len(effects), PARALLEL_THREADS)) as threads:
            futures = [threads.submit(copy_context().run, safely, effect) for effect in effects]
            return [future.result() for future in futures]

    # -- one effect ---------------------------------------------------------------------------------------

    def _one(self, effect: Effect) -> Any:
        with entered(self._account(effect)):
            match effect:
                case Ask():
                    return self._ask(effect)
                case Run():
                    return self._run(effect)
                case Call():
                    return self._call(effect)

    async def _aone(self, effect: Effect) -> Any:
        with entered(self._account(effect)):
            match effect:
                case Ask():
                    return await self._aask(effect)
                case Run():
                    return await self._arun(effect)
                case Call():
                    return await self._acall(effect)

    def _account(self, effect: Effect) -> Ledger:
        if effect.tracker is None:
            return self._ledger
        return current_ledger(effect.tracker) or self._ledger

    # -- models -------------------------------------------------------------------------------------------

    def _ask(self, ask: Ask) -> list[Completion]:
        model, adapter, options = _prepared(ask)
        spent: list[Usage] = []
        with call_options(CallOptions(source=ask.source, final=ask.final, spent=spent)):
            try:
                if ask.n == 1 or adapter.takes_n:
                    messages = convert_to_messages(list(ask.messages))
                    results = [model.generate([messages], stop=ask.stop, callbacks=_callbacks(), **options)]
                else:
                    singles = tuple(_Single(model, ask, options) for _ in range(ask.n))
                    with ThreadPoolExecutor(min(ask.n, PARALLEL_THREADS)) as threads:
                        futures = [threads.submit(copy_context().run, single) for single in singles]
                        results = _kept([_outcome(future) for future in futures])
            except Exception as error:
                raise _as_model_error(error, adapter) from error
        return _completions(results, spent, model, adapter)

    async def _aask(self, ask: Ask) -> list[Completion]:
        model, adapter, options = _prepared(ask)
        spent: list[Usage] = []
        with call_options(CallOptions(source=ask.source, final=ask.final, spent=spent)):
            try:
                repeats = 1 if ask.n == 1 or adapter.takes_n else ask.n
                messages = convert_to_messages(list(ask.messages))
                calls = [
                    model.agenerate([messages], stop=ask.stop, callbacks=_callbacks(), **options)
                    for _ in range(repeats)
                ]
                results = _kept(await asyncio.gather(*calls, return_exceptions=True))
            except Exception as error:
                raise _as_model_error(error, adapter) from error
        return _completions(results, spent, model, adapter)

    # -- queries ------------------------------------------------------------------------------------------

    def _run(self, run: Run) -> ExecutionResult:
        held = _admitted(HeldExecution.admit(self._account(run), run.source or current_source("execute")))
        try:
            return run.database.execute(run.sql, timeout=self._timeout(run.timeout))
        finally:
            held.settle()

    async def _arun(self, run: Run) -> ExecutionResult:
        held = _admitted(await HeldExecution.aadmit(self._account(run), run.source or current_source("execute")))
        try:
            return await run.database.aexecute(run.sql, timeout=self._timeout(run.timeout))
        finally:
            held.settle()

    # -- functions ----------------------------------------------------------------------------------------

    def _call(self, call: Call) -> Any:
        with call_options(CallOptions(source=call.source)):
            if inspect.iscoroutinefunction(call.function):
                return run_in_background(call.function(*call.args, **call.kwargs), timeout=self._timeout(None))
            return call.function(*call.args, **call.kwargs)

    async def _acall(self, call: Call) -> Any:
        with call_options(CallOptions(source=call.source)):
            try:
                async with asyncio.timeout(self._timeout(None)):
                    if inspect.iscoroutinefunction(call.function):
                        return await call.function(*call.args, **call.kwargs)
                    result = await asyncio.to_thread(call.function, *call.args, **call.kwargs)
                    return await result if inspect.isawaitable(result) else result
            except TimeoutError:
                left = self._ledger.seconds_left()
                if left > 0:
                    raise
                raise OutOfBudget("seconds", self._ledger.elapsed, self._ledger.elapsed, call.source) from None

    def _timeout(self, wanted: float | None) -> float | None:
        left = self._ledger.seconds_left()
        if math.isinf(left):
            return wanted
        return max(0.001, left if wanted is None else min(wanted, left))


def _admitted(outcome: HeldExecution | Refusal) -> HeldExecution:
    if isinstance(outcome, Refusal):
        raise OutOfBudget(outcome.dimension, outcome.spent, outcome.limit, outcome.source)
    return outcome


def _returned(update: Any) -> dict[str, Any]:
    """The update of a body that yields nothing.

    Raises:
        GraphError: it is none.
    """
    if update is None or isinstance(update, Mapping):
        return dict(update or {})
    if inspect.iscoroutine(update) or inspect.isasyncgen(update):
        if inspect.iscoroutine(update):
            update.close()  # or Python warns that it was never awaited
        what, remedy = "the body is an async def", "Write it without async: what it yields is awaited in async graphs"
    else:
        what = f"the body returned a {type(update).__name__}"
        remedy = "Yield Ask, Run or Call, and return the state update, a dictionary"
    raise GraphError(what, where="BudgetNode.steps", remedy=remedy)


def _check_effects(wanted: Any) -> None:
    """Refuses what a body yields by mistake, where it yields it."""
    for effect in wanted if isinstance(wanted, tuple) else (wanted,):
        if not isinstance(effect, Ask | Run | Call):
            raise GraphError(
                f"the body yielded a {type(effect).__name__}",
                where="BudgetNode.steps",
                remedy="Yield Ask, Run or Call, or a tuple of them to have them performed side by side",
            )


class _Single:
    """One of several requests for a model that gives one sample a request."""

    def __init__(self, model: BudgetedChatModel, ask: Ask, options: Mapping[str, Any]) -> None:
        self._model, self._ask, self._options = model, ask, options

    def __call__(self) -> LLMResult:
        messages = convert_to_messages(list(self._ask.messages))
        return self._model.generate([messages], stop=self._ask.stop, callbacks=_callbacks(), **self._options)


def _prepared(ask: Ask) -> tuple[BudgetedChatModel, Adapter, dict[str, Any]]:
    """The budgeted model and the options that it understands."""
    model = budgeted(ask.model)
    adapter = Adapter.of(model.inner)
    options = {name: value for name, value in ask.options.items() if adapter.understands(name)}
    if ask.n > 1 and adapter.takes_n:
        options["n"] = ask.n
    if ask.max_tokens is not None:
        options[adapter.cap] = ask.max_tokens
    return model, adapter, options


def _callbacks() -> Any:
    """Callbacks of the running node, so that its calls are traced and its tokens streamed."""
    return (running_config() or {}).get("callbacks")


def _outcome(future: Any) -> Any:
    try:
        return future.result()
    except Exception as error:
        return error


def _kept(outcomes: Sequence[Any]) -> list[LLMResult]:
    """The results that arrived; the first error only if none did."""
    results = [outcome for outcome in outcomes if isinstance(outcome, LLMResult)]
    if not results:
        raise next(outcome for outcome in outcomes if isinstance(outcome, BaseException))
    return results


def _as_model_error(error: Exception, adapter: Adapter) -> Exception:
    """Our own errors pass as they are; a client's becomes one line that says which model and why."""
    if isinstance(error, TTAError):
        return error
    detail = " ".join(str(error).split())[:300] or type(error).__name__
    return ModelError(
        f"the model call failed: {type(error).__name__}: {detail}",
        where=adapter.name,
        remedy="Check that the server is up, the model name is right and the credentials are valid",
    )


def _completions(
    results: Sequence[LLMResult], spent: Sequence[Usage], model: BudgetedChatModel, adapter: Adapter
) -> list[Completion]:
    """One `Completion` per sample, each with its share of what its request was charged."""
    completions: list[Completion] = []
    for index, result in enumerate(results):
        usage = spent[index] if index < len(spent) else Usage()
        generations = [item for item in result.generations[0] if isinstance(item, ChatGeneration)]
        shares = _shares(usage, generations, model.inner)
        for generation, share in zip(generations, shares, strict=True):
            message = generation.message
            assert isinstance(message, AIMessage)
            info = {**(generation.generation_info or {}), **message.response_metadata}
            completions.append(
                Completion(
                    text=str(message.text),
                    message=message,
                    usage=share,
                    finish_reason=str(info.get("finish_reason") or "stop"),
                    logprobs=logprob_stats(info.get("logprobs")),
                    model=adapter.name,
                )
            )
    return completions


def _shares(usage: Usage, generations: Sequence[ChatGeneration], model: BaseChatModel) -> list[Usage]:
    """Splits a request's usage: the prompt goes to the first sample, completion tokens by length; nothing is lost."""
    if len(generations) == 1:
        return [usage]
    count = counter_for(model).count_text
    lengths = [max(1, count(written(generation.message))) for generation in generations]
    total, left = sum(lengths), usage.completion_tokens
    shares: list[Usage] = []
    for index, length in enumerate(lengths):
        last = index == len(lengths) - 1
        part = left if last else min(left, round(usage.completion_tokens * length / total))
        left -= part
        first = usage if index == 0 else Usage()
        shares.append(
            Usage(
                prompt_tokens=first.prompt_tokens,
                cached_tokens=first.cached_tokens,
                completion_tokens=part,
                seconds=usage.seconds,
                usd=usage.usd / len(lengths),
                model_calls=first.model_calls,
            )
        )
    return shares


PARALLEL_THREADS = 32
"""Threads that one sync node uses for effects side by side."""
