"""The scenarios of the conformance suite: what a run does to the enforcement of its budget."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tta_langgraph.testing.log import LoggedRequest
from tta_langgraph.testing.replies import Reply, UsageReport

Kind = Literal[
    "plain",
    "fan-out",
    "retries",
    "cancellations",
    "streaming without usage",
    "resumes",
    "n samples",
    "partial usage",
    "reasoning",
]
"""What makes a scenario hard, beside its parallel branches."""

KINDS: tuple[Kind, ...] = (
    "plain",
    "fan-out",
    "retries",
    "cancellations",
    "streaming without usage",
    "resumes",
    "n samples",
    "partial usage",
    "reasoning",
)
"""Every kind: nothing else; one call per branch, all at once, and a budget for three in four of them; failures that
the client or the enforcement repeats; calls cancelled in flight; streams whose usage nobody reports; an episode taken
up again from what was saved of it, as in a new process; several samples in a request; the same from a server that
reports the first sample only (llama.cpp); hidden reasoning without usage."""
BRANCHES = (1, 8, 32, 128)
"""Parallel branches of the published table."""

CAP = 256
"""Completion cap of every call, tokens: what a careful user sets, two to sixteen times what most replies take."""
TOKENS_PER_BRANCH = 420
"""Budget per branch, tokens: a few calls each, but soon less than the worst case of all branches at once."""
TOKENS_PER_FAN = 80
"""Budget per branch of a fan-out, tokens: a mean call takes 108, a reservation for the worst case 280."""
BASE_TOKENS = 1_200
"""Budget before any branch, tokens."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One episode: parallel branches that call a model until their budget refuses.

    The demand is greater than the budget, so that an ideal enforcement spends all of it and not one token more.
    """

    kind: Kind
    """What makes it hard."""
    branches: int
    """Branches that run at once."""
    tokenize_endpoint: bool = True
    """Whether the server counts tokens for clients that ask it, as vLLM does."""

    @property
    def name(self) -> str:
        """Kind and branches, say `retries x32`."""
        return f"{self.kind} x{self.branches}"

    @property
    def limit(self) -> int:
        """The budget, tokens."""
        if self.kind == "fan-out":
            return TOKENS_PER_FAN * self.branches
        return BASE_TOKENS + TOKENS_PER_BRANCH * self.branches * self.n

    @property
    def n(self) -> int:
        """Samples per request."""
        return 4 if self.kind in ("n samples", "partial usage") else 1

    @property
    def stream(self) -> bool:
        """Whether the calls stream."""
        return self.kind in ("streaming without usage", "reasoning")

    @property
    def client_retries(self) -> int:
        """Retries that the HTTP client makes on its own, as clients do unless they are told otherwise."""
        return 2 if self.kind == "retries" else 0

    @property
    def cancel_every(self) -> int | None:
        """Every how many calls of a branch one is cancelled in flight; None for never."""
        return 3 if self.kind == "cancellations" else None

    @property
    def calls_per_visit(self) -> int | None:
        """Calls of each branch until the episode is saved and taken up again; None for never."""
        return 2 if self.kind == "resumes" else None

    @property
    def calls_per_branch(self) -> int:
        """Calls after which a branch has had enough."""
        return 1 if self.kind == "fan-out" else 60

    def script(self) -> Callable[[LoggedRequest], Reply]:
        """Returns the server's script: replies of 8 to 160 tokens, and the failures of the kind."""
        return lambda request: _reply(self, request)

    def prompt(self, branch: int, call: int) -> str:
        """Returns the prompt of one call; no two are the same."""
        return f"Branch {branch}, call {call}: how many albums of genre {branch * 31 + call} were sold in 2023?"


def all_scenarios(branches: tuple[int, ...] = BRANCHES, kinds: tuple[Kind, ...] = KINDS) -> list[Scenario]:
    """Returns the scenarios of a table: every kind with every number of branches (a fan-out has several)."""
    return [
        Scenario(kind=kind, branches=count) for kind in kinds for count in branches if count > 1 or kind != "fan-out"
    ]


def _reply(scenario: Scenario, request: LoggedRequest) -> Reply:
    roll = int.from_bytes(hashlib.blake2b(f"{request.index} {request.text}".encode(), digest_size=8).digest())
    tokens = 8 + roll % 73 + (roll >> 16) % 81
    texts = [" ".join(["word"] * max(1, tokens - 5 * index)) for index in range(scenario.n)]
    if scenario.kind == "cancellations":  # 200 tokens per second: a small model on a large GPU
        return Reply(texts[0], latency=0.002, stream_interval=0.005, tokens_per_event=2)
    if scenario.kind == "retries":
        soon = {"retry-after-ms": "2"}
        match request.index % 7:
            case 1:
                return Reply(texts[0], status=500, headers=soon, tokens_per_event=2)
            case 3:
                return Reply(status=429, headers=soon)
            case 5:
                return Reply(texts[0], status=503, headers=soon, tokens_per_event=2)
        return Reply(texts[0], latency=0.002, tokens_per_event=2)
    if scenario.kind == "reasoning":
        return Reply("It is 42.", completion_tokens=tokens, usage=False, latency=0.002)
    usage: UsageReport = False if scenario.stream else "first_choice_only" if scenario.kind == "partial usage" else True
    return Reply(texts=texts, usage=usage, latency=0.002, tokens_per_event=8)
