"""A policy as replay runs it: the live decision rule, kept to the actions whose outcome was recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tta_langgraph.budget import Budget
from tta_langgraph.decision import Action, Assessment, Policy, Predictor, Snapshot
from tta_langgraph.decision.batch import Batch, BatchPredictor, Choice, choose, choose_batch, looks_at_many
from tta_langgraph.state import Decision
from tta_langgraph.traces.replay_episode import Episode


class Recorded:
    """A predictor that keeps silent about actions whose outcome the recording does not know."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.episodes: Sequence[Episode] = ()

    @property
    def name(self) -> str:
        """The name of the predictor behind it."""
        return self.predictor.name

    def assess(self, snapshot: Snapshot, actions: Sequence[Action]) -> Assessment:
        """What the predictor says, for the single episode that is looked at."""
        episode = self.episodes[0]
        # Whether so many samples are left is known before anyone forecasts; looking eight samples ahead is expensive.
        asked = [a for a in actions if a.kind != "resample" or episode.can(a, None)]
        found = self.predictor.assess(snapshot, asked)
        known = {a: forecast for a, forecast in found.forecasts.items() if episode.can(a, found.best)}
        return replace(found, forecasts=known) if len(known) < len(found.forecasts) else found

    def to_dict(self) -> dict[str, Any]:
        """Of the predictor behind it."""
        return self.predictor.to_dict()


class RecordedBatch(Recorded):
    """The same for predictors that look at many moments at once."""

    def assess_batch(self, snapshots: Sequence[Snapshot], actions: Sequence[Action]) -> Batch:
        """What the predictor says, for the episodes that are looked at."""
        assert isinstance(self.predictor, BatchPredictor)
        found = self.predictor.assess_batch(snapshots, actions)
        nothing = float("nan")
        for i, episode in enumerate(self.episodes):
            best = found.best[i]
            for a, action in enumerate(found.actions):
                if not episode.can(action, best):
                    found.p_after[i, a] = nothing
                    found.ahead[:, i, a] = nothing
        return found


class Stage:
    """Decides for many episodes, exactly as the policy would for each of them."""

    def __init__(self, policy: Policy) -> None:
        batched = looks_at_many(policy.predictor)
        self.recorded = RecordedBatch(policy.predictor) if batched else Recorded(policy.predictor)
        self.policy = replace(policy, predictor=self.recorded)
        self.batched = batched and policy.rule is None

    def choose(self, episodes: Sequence[Episode], budget: Budget | None) -> list[Choice]:
        """The next action of each episode.

        Policies draw no lots: episodes of one question that have seen the same are decided once.
        """
        distinct: dict[tuple[Any, ...], int] = {}
        asked: list[Episode] = []
        place = []
        for episode in episodes:
            known = distinct.setdefault(episode.seen, len(asked))
            if known == len(asked):
                asked.append(episode)
            place.append(known)
        if self.batched:
            self.recorded.episodes = asked
            choices = choose_batch([episode.snapshot(budget) for episode in asked], self.policy)
        else:
            choices = []
            for episode in asked:
                self.recorded.episodes = (episode,)
                choices.append(choose(episode.snapshot(budget), self.policy))
        return [choices[i] for i in place]

    def explain(self, episodes: Sequence[Episode], budget: Budget | None) -> list[Decision]:
        """The next decision of each episode with its forecasts and reason: one by one, as live."""
        decisions = []
        for episode in episodes:
            self.recorded.episodes = (episode,)
            decisions.append(self.policy.decide(episode.snapshot(budget)))
        return decisions
