"""A budget for agents of `langchain.agents.create_agent`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Literal, NotRequired, TypeVar

from langchain.agents.middleware import AgentMiddleware, AgentState, ExtendedModelResponse, ModelRequest, ModelResponse
from langchain.agents.middleware.types import PrivateStateAttr, hook_config
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import Runnable
from langgraph.errors import GraphBubbleUp
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.runtime import Runtime
from langgraph.types import Command, Overwrite

from tta_langgraph.budget import Budget, BudgetTracker, Dimension, merge_budget
from tta_langgraph.decision import Policy
from tta_langgraph.errors import BudgetError, BudgetExceededError
from tta_langgraph.executions import HeldExecution
from tta_langgraph.ledger import Refusal
from tta_langgraph.middleware_answers import AnswerReview
from tta_langgraph.middleware_request import BudgetedRequest
from tta_langgraph.models.answer_cache import end_of, is_cut
from tta_langgraph.models.call import CallOptions, call_options
from tta_langgraph.scope import current_ledger, running_config
from tta_langgraph.shown_budget import budget_block
from tta_langgraph.state import Candidate, Decision, merge_candidates, merge_decisions
from tta_langgraph.verifiers import Verifier

ExitBehavior = Literal["finalize", "end", "error"]
ToolResult = TypeVar("ToolResult")


class BudgetAgentState(AgentState[Any]):
    """State of an agent under a budget."""

    budget: NotRequired[Annotated[BudgetTracker, merge_budget]]
    """Limits and charges. Give a `Budget` in the input to replace the middleware's."""
    candidates: NotRequired[Annotated[list[Candidate], merge_candidates]]
    """The final answers so far, if they are reviewed."""
    decisions: NotRequired[Annotated[list[Decision], merge_decisions]]
    """What the policy decided about them."""
    stop_reason: NotRequired[str]
    """`stop`, `abstain`, `exhausted: <dimension>`, or empty while the agent works."""
    last_episode: NotRequired[Annotated[str, PrivateStateAttr]]
    """The episode of the last question on this thread, answered or not."""


class BudgetMiddleware(AgentMiddleware[BudgetAgentState, Any, Any]):
    """Keeps an agent inside a budget, shows it what is left, and gives its final answer a second look while
    it pays.

    Every model call of the agent is admitted, cancelled at the deadline and charged, and every tool call
    counts as an execution. Charges are a set in the agent's state: interrupts, resumes in another process and
    retries neither lose nor repeat one. Each new question on a thread starts a new episode; a resume goes on
    with the old one.

    Args:
        budget: the limits of one episode; a `Budget`, its fields, or a number of tokens. The input's `budget`
            wins.
        exit_behavior: what happens when the budget is exhausted. `finalize` asks once more, without tools, on
            the budget's reserve (set `Budget(reserve=...)`), `end` ends with what was said last, `error`
            raises `BudgetExceededError`.
        show_budget: whether the model is shown what is used and left, at the end of every prompt (BATS).
        max_reflections: most second looks at a final answer.
        evaluator: verifies a final answer: a function or pattern as in `tta_langgraph.nodes.Check`, or an
            evaluator node such as `Judge`. With one, only an answer that fails is looked at again.
        policy: decides between another look (`reflect`) and the end; without one, looks go on while the
            evaluator is not satisfied and `max_reflections` allows.

    Raises:
        BudgetError: the budget is not valid, or the exit behavior is unknown.

    Example:
        ```python
        from langchain.agents import create_agent
        from tta_langgraph import Budget, BudgetMiddleware

        guard = BudgetMiddleware(Budget(tokens=8_000, seconds=30, reserve=600), show_budget=True)
        agent = create_agent(model, tools, middleware=[guard])
        state = agent.invoke({"messages": [("user", "Which singer sold most?")]})
        print(state["messages"][-1].text, state["budget"].usage.tokens)
        ```
    """

    state_schema = BudgetAgentState

    def __init__(
        self,
        budget: Budget | Mapping[str, Any] | int | None = None,
        *,
        exit_behavior: ExitBehavior = "finalize",
        show_budget: bool = False,
        max_reflections: int = 0,
        evaluator: Verifier | re.Pattern[str] | Runnable[Any, Any] | None = None,
        policy: Policy | None = None,
    ) -> None:
        super().__init__()
        if exit_behavior not in ("finalize", "end", "error"):
            raise BudgetError(
                f"there is no exit behavior {exit_behavior!r}",
                where="BudgetMiddleware.exit_behavior",
                remedy="Use 'finalize', 'end' or 'error'",
            )
        self.budget = Budget.coerce(budget)
        """The limits of one episode."""
        self.exit_behavior: ExitBehavior = exit_behavior
        """What happens when the budget is exhausted."""
        self.show_budget = show_budget
        """Whether the model is shown the budget."""
        looks = max_reflections if max_reflections or (evaluator is None and policy is None) else 1
        self.review = AnswerReview(evaluator=evaluator, policy=policy, max_reflections=looks)
        """How final answers are reviewed."""

    # -- the episode --------------------------------------------------------------------------------------

    def before_agent(self, state: BudgetAgentState, runtime: Runtime[Any]) -> dict[str, Any]:
        """Opens the account of a new question."""
        update: dict[str, Any] = {"stop_reason": ""}
        for channel in ("candidates", "decisions"):
            if state.get(channel):
                update[channel] = Overwrite([])
        given = state.get("budget")
        opened: BudgetTracker | None = None
        if not isinstance(given, BudgetTracker) or not given.episode:
            opened = BudgetTracker.start(self.budget)
        elif (given.charges or given.episode == state.get("last_episode")) and not _inside_another_graph():
            # The thread's previous question: its account is closed, also if it failed before anything was charged.
            opened = BudgetTracker.start(self.budget if self.budget.limits else given.budget, after=given)
        if opened is not None:
            # As a tracker, for its id; by the reducer, which notes the graphs in whose nodes this one runs.
            update["budget"] = given = opened
        update["last_episode"] = given.episode if given is not None else ""
        return update

    async def abefore_agent(self, state: BudgetAgentState, runtime: Runtime[Any]) -> dict[str, Any]:
        """The same."""
        return self.before_agent(state, runtime)

    # -- model calls --------------------------------------------------------------------------------------

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any] | ExtendedModelResponse[Any]:
        """Makes the call under the budget; when that is exhausted, leaves as it was told to."""
        request = self._prepared(request)
        try:
            return _said_something(handler(request))
        except BudgetExceededError as out:
            self._raise_if_wanted(out, request.state)
            if self.exit_behavior == "finalize":
                try:
                    with call_options(CallOptions(source="finalize", final=True)):
                        return _stopped(_said_something(handler(self._last_request(request)), final=True), out)
                except BudgetExceededError:
                    pass
            return _stopped(ModelResponse(result=[_last_words(request)]), out)

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any] | ExtendedModelResponse[Any]:
        """The same without blocking."""
        request = self._prepared(request)
        try:
            return _said_something(await handler(request))
        except BudgetExceededError as out:
            self._raise_if_wanted(out, request.state)
            if self.exit_behavior == "finalize":
                try:
                    with call_options(CallOptions(source="finalize", final=True)):
                        response = await handler(self._last_request(request))
                        return _stopped(_said_something(response, final=True), out)
                except BudgetExceededError:
                    pass
            return _stopped(ModelResponse(result=[_last_words(request)]), out)

    def _prepared(self, request: ModelRequest[Any]) -> ModelRequest[Any]:
        request = BudgetedRequest.of(request)
        ledger = current_ledger()
        if self.show_budget and ledger is not None:
            block = budget_block(ledger.tracker())
            if block:
                # Last, because it changes with every call: what stands before it stays in the prefix cache.
                request = request.override(messages=[*request.messages, HumanMessage(block)])
        return request

    def _last_request(self, request: ModelRequest[Any]) -> ModelRequest[Any]:
        messages = [*request.messages, HumanMessage(LAST_REQUEST)]
        return request.override(messages=messages, tools=[], tool_choice=None, response_format=None)

    def _raise_if_wanted(self, out: BudgetExceededError, state: Any) -> None:
        tracker = state.get("budget") if isinstance(state, Mapping) else getattr(state, "budget", None)
        asked = isinstance(tracker, BudgetTracker) and tracker.budget.on_exhausted == "raise"
        if self.exit_behavior == "error" or asked:
            raise out

    # -- tool calls ---------------------------------------------------------------------------------------

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], ToolResult]
    ) -> ToolResult | ToolMessage:
        """Runs a tool as one execution of the budget; a sync tool is not stopped at the deadline, but
        charged."""
        held = _reserved(request)
        if isinstance(held, ToolMessage):
            return held
        try:
            with call_options(CallOptions(source=_name(request))):
                result = handler(request)
        except GraphBubbleUp:
            _give_back(held)  # interrupted: the resume runs the tool again, and pays for it then
            raise
        except BudgetExceededError as out:
            _settle(held, "failed")
            self._raise_if_wanted(out, request.state)
            return _out_of_budget(request, out)
        except BaseException:
            _settle(held, "failed")
            raise
        _settle(held)
        return result

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[ToolResult]]
    ) -> ToolResult | ToolMessage:
        """Runs a tool as one execution of the budget, cancelled at the deadline."""
        held = await _areserved(request)
        if isinstance(held, ToolMessage):
            return held
        left = held.reservation.ledger.seconds_left() if held else float("inf")
        try:
            with call_options(CallOptions(source=_name(request))):
                async with asyncio.timeout(None if left == float("inf") else max(0.0, left)):
                    result = await handler(request)
        except GraphBubbleUp:
            await _agive_back(held)
            raise
        except BudgetExceededError as out:
            _settle(held, "failed")
            self._raise_if_wanted(out, request.state)
            return _out_of_budget(request, out)
        except BaseException as error:
            _settle(held, "failed")
            if isinstance(error, TimeoutError) and held is not None and held.reservation.ledger.seconds_left() <= 0:
                return _not_run(request, "was stopped at the deadline")
            raise
        _settle(held)
        return result

    # -- final answers ------------------------------------------------------------------------------------

    @hook_config(can_jump_to=["model", "end"])
    def after_model(self, state: BudgetAgentState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Looks at a final answer: another round, or the end."""
        try:
            return self.review.after(state)
        except BudgetExceededError as out:  # what the evaluator calls was refused: the answer stands as it is
            self._raise_if_wanted(out, state)
            return self.review.after(_ended(state, out))

    @hook_config(can_jump_to=["model", "end"])
    async def aafter_model(self, state: BudgetAgentState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """The same without blocking."""
        try:
            return await self.review.aafter(state)
        except BudgetExceededError as out:
            self._raise_if_wanted(out, state)
            return await self.review.aafter(_ended(state, out))


def _inside_another_graph() -> bool:
    """Whether this agent runs as a node of a graph, whose episode it then belongs to."""
    metadata = (running_config() or {}).get("metadata", {})
    return "|" in str(metadata.get("langgraph_checkpoint_ns", ""))


def _stopped(response: ModelResponse[Any], out: BudgetExceededError) -> ExtendedModelResponse[Any]:
    return ExtendedModelResponse(model_response=response, command=Command(update=_ended({}, out)))


def _ended(state: Mapping[str, Any], out: BudgetExceededError) -> dict[str, Any]:
    return {**state, "stop_reason": f"exhausted: {out.dimension}"}


def _said_something(response: ModelResponse[Any], *, final: bool = False) -> ModelResponse[Any]:
    """The response, unless the budget cut it before its first word or within a tool call: the agent would end on it.

    Raises:
        BudgetExceededError: it says nothing, and another such call does not fit.
    """
    ledger, message = current_ledger(), response.result[-1] if response.result else None
    if ledger is None or not isinstance(message, AIMessage) or message.text.strip() or message.tool_calls:
        return response
    if response.structured_response is not None or not is_cut(end_of(message.response_metadata)):
        return response
    prompt = message.usage_metadata["input_tokens"] if message.usage_metadata else 0
    needed: dict[Dimension, int] = {"tokens": prompt + 1, "completion_tokens": 1}
    for dimension, least in needed.items():
        if ledger.left(dimension, final=final) < least:
            spent = float(getattr(ledger.spent, dimension))
            raise BudgetExceededError(dimension, spent, spent + ledger.left(dimension), "BudgetMiddleware", least)
    return response


def _last_words(request: ModelRequest[Any]) -> AIMessage:
    """What the agent said last, else that it did not get to an answer."""
    for message in reversed(request.messages):
        if isinstance(message, AIMessage) and message.text.strip():
            return AIMessage(message.text)
    return AIMessage(NO_ANSWER)


def _name(request: ToolCallRequest) -> str:
    return str(request.tool_call.get("name") or "tool")


def _reserved(request: ToolCallRequest) -> HeldExecution | ToolMessage | None:
    """One execution, None outside of any budget, or the refusal as the tool's message."""
    ledger = current_ledger()
    if ledger is None:
        return None
    if ledger.seconds_left() <= 0:
        return _too_late(request)
    return _held(request, HeldExecution.admit(ledger, _name(request)))


async def _areserved(request: ToolCallRequest) -> HeldExecution | ToolMessage | None:
    """Twin of `_reserved`."""
    ledger = current_ledger()
    if ledger is None:
        return None
    if ledger.seconds_left() <= 0:
        return _too_late(request)
    return _held(request, await HeldExecution.aadmit(ledger, _name(request)))


def _held(request: ToolCallRequest, outcome: HeldExecution | Refusal) -> HeldExecution | ToolMessage:
    if isinstance(outcome, Refusal):
        return _not_run(request, f"was not run: the {outcome.dimension} budget is exhausted")
    return outcome


def _too_late(request: ToolCallRequest) -> ToolMessage:
    return _not_run(request, "was not run: the time is up")


def _out_of_budget(request: ToolCallRequest, out: BudgetExceededError) -> ToolMessage:
    """A model or query inside the tool was refused: the tool fails, not the agent, which still has what it knows."""
    return _not_run(request, f"did not finish: the {out.dimension} budget is exhausted")


def _not_run(request: ToolCallRequest, why: str) -> ToolMessage:
    text = f"{_name(request)} {why}. Answer with what you know."
    return ToolMessage(text, tool_call_id=str(request.tool_call.get("id") or ""), name=_name(request), status="error")


def _give_back(held: HeldExecution | None) -> None:
    if held is not None:
        held.give_back()


async def _agive_back(held: HeldExecution | None) -> None:
    if held is not None:
        await held.agive_back()


def _settle(held: HeldExecution | None, note: str = "") -> None:
    if held is not None:
        held.settle(note)


LAST_REQUEST = "The budget is used up. Give your final answer now, from what you know, in a few words."
"""Asks for the final answer on the reserve."""
NO_ANSWER = "The budget was used up before there was an answer."
"""What an agent says that ends without an answer."""
