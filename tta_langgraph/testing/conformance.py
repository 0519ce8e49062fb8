"""Runs any enforcement of a token budget through the scenarios and measures it by the server's log.

An enforcement is put to the test through three small methods, see `Enforcement` and `Account`. Our own adapter is
`tta_langgraph.testing.ours.Ours`; those of others are in `tta_langgraph.testing.peers`.

Example:
    ```python
    measured = await measure(Ours(), Scenario(kind="retries", branches=32))
    assert measured.overshoot == 0 and measured.uncharged == 0
    ```
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Protocol

from tta_langgraph.testing.scenarios import CAP, Scenario
from tta_langgraph.testing.server import ScriptedServer

RUNAWAY = 3.0
"""Times the budget after which a run is stopped: nothing will hold it."""
CANCEL_AFTER = 0.02
"""Seconds for which the server has worked on a call when it is cancelled."""
SETTLE_SECONDS = 30.0
"""Seconds for the server to notice what was cancelled last."""


class Refused(Exception):
    """The enforcement does not admit another call."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One model call that a scenario asks for."""

    prompt: str
    """The user's message."""
    branch: int
    """Branch that asks, from 0."""
    max_tokens: int = CAP
    """Completion cap that the caller wishes for, per sample."""
    n: int = 1
    """Samples."""
    stream: bool = False
    """Whether to stream the reply."""


class Account(Protocol):
    """One episode under one budget."""

    @property
    def reported(self) -> int:
        """Tokens that the enforcement believes to have been spent."""
        ...

    async def call(self, call: Call) -> str:
        """Makes a call, if the budget admits it, and returns the text of its first sample.

        Raises:
            Refused: the budget does not admit it, now or later.
        """
        ...

    async def resume(self) -> Account:
        """Returns the episode as a new process finds it: with what the enforcement saves, and nothing else."""
        ...


class Enforcement(Protocol):
    """Something that holds a budget."""

    @property
    def name(self) -> str:
        """Name in the table."""
        ...

    async def start(self, server: ScriptedServer, scenario: Scenario) -> Account:
        """Opens an episode of `scenario.limit` tokens against the server."""
        ...


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What one enforcement did in one scenario, by the server's log."""

    enforcement: str
    """Its name."""
    scenario: Scenario
    """The scenario."""
    used: int
    """Tokens that the server processed and produced."""
    reported: int
    """Tokens that the enforcement believes to have been spent."""
    calls: int
    """Calls that returned an answer."""
    requests: int
    """Requests that reached the server."""
    disconnects: int
    """Requests whose client left."""
    seconds: float
    """Duration, seconds."""
    errors: tuple[str, ...] = ()
    """Failures other than refusals, one line each."""
    answer: str | None = None
    """The last answer that came back, or None."""

    @property
    def overshoot(self) -> float:
        """Tokens beyond the budget, as a share of it."""
        return max(0, self.used - self.scenario.limit) / self.scenario.limit

    @property
    def usable(self) -> float:
        """Tokens of the budget that were put to use, as a share of it."""
        return min(self.used, self.scenario.limit) / self.scenario.limit

    @property
    def uncharged(self) -> int:
        """Tokens of the server's log that the enforcement does not know of."""
        return max(0, self.used - self.reported)


@dataclass
class _Tally:
    calls: int = 0
    answer: str | None = None
    refused: set[int] = field(default_factory=set)
    attempts: dict[int, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


async def measure(enforcement: Enforcement, scenario: Scenario) -> Measurement:
    """Runs one scenario against a server of its own.

    Args:
        enforcement: what holds the budget.
        scenario: what is done to it.

    Returns:
        What the server's log says about it.
    """
    tally = _Tally()
    async with ScriptedServer(scenario.script(), tokenize_endpoint=scenario.tokenize_endpoint) as server:
        begun = time.monotonic()
        account = await enforcement.start(server, scenario)
        while True:
            branches = [branch for branch in range(scenario.branches) if branch not in tally.refused]
            await asyncio.gather(*(_visit(account, scenario, branch, tally, server) for branch in branches))
            if len(tally.refused) == scenario.branches:
                break
            await asyncio.to_thread(server.wait_for, lambda s: s.in_flight == 0, timeout=SETTLE_SECONDS)
            account = await account.resume()
        await asyncio.to_thread(server.wait_for, lambda s: s.in_flight == 0, timeout=SETTLE_SECONDS)
        return Measurement(
            enforcement=enforcement.name,
            scenario=scenario,
            used=server.total,
            reported=account.reported,
            calls=tally.calls,
            requests=server.requests,
            disconnects=server.disconnects,
            seconds=time.monotonic() - begun,
            errors=tuple(tally.errors),
            answer=tally.answer,
        )


async def _visit(account: Account, scenario: Scenario, branch: int, tally: _Tally, server: ScriptedServer) -> None:
    """Lets one branch call until it is refused, or until the episode is to be saved."""
    visits = 0
    while scenario.calls_per_visit is None or visits < scenario.calls_per_visit:
        visits += 1
        number = tally.attempts[branch] = tally.attempts.get(branch, 0) + 1
        if number > scenario.calls_per_branch or server.total > RUNAWAY * scenario.limit:
            tally.refused.add(branch)
            return
        call = Call(prompt=scenario.prompt(branch, number), branch=branch, n=scenario.n, stream=scenario.stream)
        cancelled = scenario.cancel_every is not None and number % scenario.cancel_every == 0
        try:
            answer = await (_cancelled(account, call, server) if cancelled else account.call(call))
            if answer is not None:
                tally.answer = answer
                tally.calls += 1
        except Refused:
            tally.refused.add(branch)
            return
        except Exception as error:  # whatever a client raises for a failed request; the branch asks again
            tally.errors.append(f"{type(error).__name__}: {error}"[:200])


async def _cancelled(account: Account, call: Call, server: ScriptedServer) -> str | None:
    """Makes a call and cancels it while the server works on it; returns its answer if it was faster, else None.

    Raises:
        Refused: the call was not admitted.
    """
    seen = server.requests
    task = asyncio.ensure_future(account.call(call))
    while not task.done() and not any(call.prompt in request.text for request in server.log[seen:]):
        await asyncio.wait([task], timeout=0.005)
    await asyncio.wait([task], timeout=CANCEL_AFTER)
    if task.cancel():
        await asyncio.wait([task])
        return None
    return task.result()
