"""Running somebody else's agent as a strategy: its runs become candidates, its calls are charged."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import merge_configs, var_child_runnable_config
from langgraph.errors import GraphRecursionError

from tta_langgraph.budget import Usage
from tta_langgraph.decision import planned_samples
from tta_langgraph.episode import BudgetNode, Call, OutOfBudget, Steps
from tta_langgraph.evidence import Evidence
from tta_langgraph.graphs.wrap_inputs import Agent, final_text, input_kind
from tta_langgraph.graphs.wrap_meter import AsyncForeignMeter, ForeignMeter
from tta_langgraph.graphs.wrap_threads import ThreadMeter
from tta_langgraph.nodes.reading import State, best_of, candidates_of, messages_of, question_of, settled
from tta_langgraph.nodes.reflect import rounds_used
from tta_langgraph.parsing import Normaliser, Parser, normal_text, read_reply, whole_reply
from tta_langgraph.scope import active_scope
from tta_langgraph.selection import Rule
from tta_langgraph.state import Candidate


@dataclass(frozen=True, kw_only=True)
class RunAgent(BudgetNode):
    """Runs an agent on the question, several times side by side, or again on what was found about its answer.

    Adds one candidate per run and keeps what the run returned in `runs`, by the candidate's id.
    """

    agent: Agent
    """Any runnable or compiled graph."""
    action: str = "generate"
    """`generate` runs it once, `resample` as often as the router's last decision says, `reflect` once more on
    its best answer and what was observed about it."""
    parse: Parser = whole_reply
    """Finds the answer in the agent's final text."""
    normalise: Normaliser | None = normal_text
    """What counts as the same answer; None if only executing it can tell."""
    make_input: Callable[[State], Any] | None = None
    """From the state to the agent's input; None to choose by the agent's input schema."""
    read_output: Callable[[Any], str] | None = None
    """From the agent's output to its final text; None for the usual places."""
    max_rounds: int = 3
    """Second looks after which nothing is asked any more."""
    selection: str | Rule = "execution_vote"
    """Rule by which the best answer so far is kept up to date."""

    def steps(self, state: State) -> Steps:
        """Runs the agent and adds what it answered."""
        best = best_of(state, self.selection) if self.action == "reflect" else None
        if best is not None and rounds_used(best, candidates_of(state)) >= self.max_rounds:
            return {}
        given = self._input(state) if best is None else self._second_input(state, best)
        n = planned_samples(state) if self.action == "resample" else 1
        results = yield tuple(self._call(given) for _ in range(n))
        failed = [result for result in results if isinstance(result, BaseException)]
        for error in failed:
            if not isinstance(error, OutOfBudget | GraphRecursionError):
                raise error
        if failed and len(failed) == len(results) and isinstance(failed[0], OutOfBudget):
            raise failed[0]
        found: list[Candidate] = []
        runs: dict[str, Any] = {}
        for result in results:
            if isinstance(result, OutOfBudget):
                continue
            candidate = self._candidate(result, best)
            found.append(candidate)
            if candidate.id != (best.id if best else ""):
                runs[candidate.id] = None if isinstance(result, BaseException) else result
        return {**settled(state, found, self.selection), "runs": runs}

    def _call(self, given: Any) -> Call:
        """The agent's own way for this mode: cancelling works only where the agent itself is async."""
        scope = active_scope()
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            sync = ForeignMeter(scope.ledger) if scope else None
            return Call(function=_Called(self.agent, sync).run, args=(given,), source="agent")
        meter = AsyncForeignMeter(scope.ledger) if scope else None
        return Call(function=_Awaited(self.agent, meter).run, args=(given,), source="agent")

    # -- in and out ---------------------------------------------------------------------------------------

    def _input(self, state: State) -> Any:
        if self.make_input is not None:
            return self.make_input(state)
        messages = messages_of(state) or [HumanMessage(question_of(state))]
        match input_kind(self.agent):
            case "messages":
                return {"messages": messages}
            case "list":
                return messages
            case "text":
                return question_of(state)
            case key:
                return {key: question_of(state)}

    def _second_input(self, state: State, best: Candidate) -> Any:
        """What was asked, what was answered, and what was found; or the question with a note, as the agent
        takes it."""
        note = second_note(best)
        given = self._input(state)
        if isinstance(given, Mapping) and "messages" in given:
            return {**given, "messages": _continued(list(given["messages"]), best, note)}
        if isinstance(given, list):
            return _continued(given, best, note)
        if isinstance(given, str):
            return f"{given}\n\n{QUOTED.format(answer=best.answer)}\n{note}"
        if isinstance(given, Mapping):
            asked = question_of(state)
            return {
                k: f"{v}\n\n{QUOTED.format(answer=best.answer)}\n{note}" if v == asked else v for k, v in given.items()
            }
        return given

    def _candidate(self, result: Any, best: Candidate | None) -> Candidate:
        cut = isinstance(result, BaseException)
        text = "" if cut else (self.read_output or final_text)(result)
        reply = read_reply(text, self.parse, current=best.answer if best else None, normalise=self.normalise)
        if best is not None and reply.kind == "confirmation":
            return best.observed(Evidence(confirmations=best.evidence.confirmations + 1))
        answer = reply.answer
        return Candidate(
            id=uuid.uuid4().hex[:12],
            text=text,
            answer=answer,
            key=None if answer is None or self.normalise is None else self.normalise(answer),
            parent=best.id if best else None,
            action=self.action,
            feedback="agent" if best else "",
            round=best.round + 1 if best else 0,
            model=type(self.agent).__name__,
            usage=Usage(),
            finish_reason="length" if cut else "stop",
        )


@dataclass(frozen=True)
class _Called:
    """An agent's sync way, with the config of the context it is called in."""

    agent: Agent
    meter: ForeignMeter | None

    def run(self, given: Any) -> Any:
        if self.meter is not None:
            self.meter.recover()
        return self.agent.invoke(given, _config(self.meter))


@dataclass(frozen=True)
class _Awaited:
    """An agent's async way, with the config of the context it is awaited in."""

    agent: Agent
    meter: AsyncForeignMeter | None

    async def run(self, given: Any) -> Any:
        if self.meter is None:
            return await self.agent.ainvoke(given)
        await self.meter.recover()
        try:
            return await self.agent.ainvoke(given, _config(self.meter))
        finally:
            await self.meter.flush()


def _config(meter: ForeignMeter | AsyncForeignMeter | None) -> RunnableConfig | None:
    """The running node's config with the meter among its callbacks: tracing, streaming and checkpoints go
    on."""
    if meter is None:
        return None
    handlers: list[BaseCallbackHandler] = [meter]
    if isinstance(meter, AsyncForeignMeter):
        handlers.insert(0, ThreadMeter(meter))
    return merge_configs(var_child_runnable_config.get(), {"callbacks": handlers})


def second_note(best: Candidate) -> str:
    """What was found about an answer, and what is wanted now."""
    evidence = best.evidence
    found = [evidence.execution.feedback] if evidence.execution and evidence.execution.feedback else []
    found += [check.detail or f"It fails the check {check.name!r}." for check in evidence.checks if not check.passed]
    found += [verdict.critique for verdict in evidence.verdicts if verdict.critique]
    return "\n".join([*found, LOOK_AGAIN])


def _continued(messages: list[Any], best: Candidate, note: str) -> list[Any]:
    return [*messages, AIMessage(best.text or best.answer or ""), HumanMessage(note)]


LOOK_AGAIN = """\
Look at your answer again. If it is right and complete, reply with the single word CORRECT. \
Otherwise give the corrected answer, whole."""
"""Ends a second look."""
QUOTED = "Your first answer was: {answer}"
"""Reminds an agent that keeps no messages of its answer."""
