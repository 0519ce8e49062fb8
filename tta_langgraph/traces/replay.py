"""Replay: a policy runs against recorded pools, with recorded tokens and seconds, and no model.

The policy is the one that runs live: the same `Snapshot`, predictor and decision rule. Episodes run in lock-step, so
that a predictor with an `assess_batch` forecasts thousands of moments at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from tta_langgraph.budget import Budget
from tta_langgraph.decision import ABSTAIN, Action, Policy
from tta_langgraph.decision.batch import Choice
from tta_langgraph.state import Decision
from tta_langgraph.traces.model import Pool
from tta_langgraph.traces.replay_columns import Columns, Measure, columns
from tta_langgraph.traces.replay_draws import Order, order
from tta_langgraph.traces.replay_episode import Episode, Hand
from tta_langgraph.traces.replay_gc import fewer_collections
from tta_langgraph.traces.replay_policy import Stage
from tta_langgraph.traces.replay_result import Outcomes

Progress = Callable[[int, int], None]
"""Called with (episodes done, episodes in all)."""


def replay(
    pools: Columns | Iterable[Pool],
    policy: Policy,
    *,
    budget: Budget | int | None = None,
    repeats: int = 1,
    seed: int = 0,
    measure: Measure = "tokens",
    cards: Order | None = None,
    opening: int | None = None,
    sharing: float = 0.0,
    keep: bool = False,
    chunk: int = 2048,
    progress: Progress | None = None,
) -> Outcomes:
    """Runs a policy on every recorded question.

    An action whose outcome was not recorded (a ninth sample of eight, a correction of an answer that nobody corrected)
    is not offered. An episode ends when the policy stops or abstains, or when nothing is left to offer.

    Args:
        pools: recorded questions, or their columns.
        policy: any policy; `Policy.static(...)` runs the same way.
        budget: limits per episode (tokens and seconds are enforced); a plain number means tokens.
        repeats: episodes per question, each with its own order of the samples.
        seed: deals the cards; the same seed deals the same cards to every strategy.
        measure: what counts as a token: `tokens`, `uncached` or `completion`. Ignored for `Columns`.
        cards: dealt before, by `order(...)`; replaces `repeats` and `seed`.
        opening: answers that the first request draws; what the policy says if not given. More than one are samples, as
            live: they read the prompt once, none of them is the greedy answer, and there are fewer where the budget has
            no room for all.
        sharing: seconds that a token of a further sample of the same request adds (`per_token * batch` of a
            `LatencyModel`); 0 where samples decode together for nothing. Recorded seconds must be those of single
            calls.
        keep: keep every decision with its forecasts, for the episode viewer (memory grows with episodes).
        chunk: episodes in flight at once.
        progress: called after each chunk.

    Returns:
        One row per episode.

    Raises:
        TraceError: the pools hold no attempt, or a question has no first answer.
        BudgetError: the budget is malformed.

    Example:
        ```python
        pools = read_pools("recordings/pools.jsonl.gz")
        outcomes = replay(pools, Policy.default("sql"), budget=4_000, repeats=4)
        print(outcomes.accuracy, outcomes.mean_tokens)
        ```
    """
    table = pools if isinstance(pools, Columns) else columns(pools, measure=measure)
    dealt = cards if cards is not None else order(table, repeats=repeats, seed=seed)
    limits = None if budget is None else Budget.coerce(budget)
    opening = policy.with_opening(opening).opening
    result, stage = _Collector(dealt.episodes, keep), Stage(policy)
    for start in range(0, dealt.episodes, chunk):
        stop = min(start + chunk, dealt.episodes)
        with fewer_collections():
            _run(table, dealt, start, stop, stage, limits, result, opening, sharing)
        if progress is not None:
            progress(stop, dealt.episodes)
    return result.outcomes(policy.name, table, dealt)


def _run(
    table: Columns,
    dealt: Order,
    start: int,
    stop: int,
    stage: Stage,
    budget: Budget | None,
    result: _Collector,
    opening: int,
    sharing: float,
) -> None:
    hands: dict[int, Hand] = {}
    active: list[tuple[int, Episode]] = []
    samples, ladder = dealt.samples[start:stop], dealt.ladder[start:stop]
    played = dealt.question[start:stop]
    block = table.block(int(played.min()), int(played.max()) + 1)
    for index in range(start, stop):
        question = int(dealt.question[index])
        hand = hands.get(question)
        if hand is None:
            first, last = int(table.offsets[question]), int(table.offsets[question + 1])
            hand = hands[question] = Hand(block, first, last, table.features[question])
        base = hand.start
        drawn, rungs = (rows[index - start] - base for rows in (samples, ladder))
        own, further = drawn[drawn >= 0].tolist(), rungs[rungs >= 0].tolist()
        episode = Episode(hand, int(dealt.first[index]) - base, own, further, opening, budget, sharing)
        active.append((index, episode))
    while active:
        episodes = [episode for _, episode in active]
        choices = _explained(stage, episodes, budget) if result.keep else stage.choose(episodes, budget)
        going = []
        for (index, episode), choice in zip(active, choices, strict=True):
            if choice.action.ends:
                result.take(index, episode, choice)
            else:
                episode.play(choice.action, choice.best)
                going.append((index, episode))
        active = going


def _explained(stage: Stage, episodes: Sequence[Episode], budget: Budget | None) -> list[Choice]:
    choices = []
    for episode, decision in zip(episodes, stage.explain(episodes, budget), strict=True):
        episode.decisions.append(decision)
        action = Action(decision.action, decision.n)
        choices.append(Choice(action, decision.candidate, decision.p_correct, 0.0))
    return choices


class _Collector:
    """Fills the columns of the result as episodes end, in any order."""

    def __init__(self, episodes: int, keep: bool) -> None:
        self.keep = keep
        self.correct = np.zeros(episodes, dtype=bool)
        self.tokens, self.seconds, self.p = (np.zeros(episodes) for _ in range(3))
        self.calls, self.row, self.steps = (np.zeros(episodes, dtype=np.int64) for _ in range(3))
        self.abstained = np.zeros(episodes, dtype=bool)
        self.reasons: list[str] = [""] * episodes if keep else []
        self.decisions: list[tuple[Decision, ...]] = [()] * episodes if keep else []

    def take(self, index: int, episode: Episode, last: Choice) -> None:
        gave_up = last.action.name == ABSTAIN
        position = None if gave_up else episode.positions.get(last.best or "")
        self.row[index] = -1 if position is None else episode.hand.start + position
        self.correct[index] = position is not None and episode.hand.correct(position)
        self.tokens[index], self.seconds[index] = episode.spent, episode.seconds
        self.p[index], self.calls[index] = last.p_now, episode.calls
        self.steps[index], self.abstained[index] = episode.step + 1, gave_up
        if self.keep:
            self.reasons[index] = episode.decisions[-1].reason
            self.decisions[index] = tuple(episode.decisions)

    def outcomes(self, name: str, table: Columns, dealt: Order) -> Outcomes:
        fields: dict[str, Any] = {
            "correct": self.correct,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "calls": self.calls,
            "row": self.row,
            "p_correct": self.p,
            "abstained": self.abstained,
            "steps": self.steps,
            "reasons": self.reasons,
            "decisions": self.decisions,
        }
        return Outcomes(name=name, family="policy", question=dealt.question, clusters=table.db_ids, **fields)
