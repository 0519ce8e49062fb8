"""P(correct) from who agrees with whom, and what more samples or a verdict would add. Needs no gold answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from tta_langgraph.decision.actions import Action
from tta_langgraph.decision.batch import Batch
from tta_langgraph.decision.costs import CostModel
from tta_langgraph.decision.forecasts import Assessment, Forecast
from tta_langgraph.decision.partition import PartitionModel, Pattern
from tta_langgraph.decision.posterior import Likelihoods, expected_best_after_verdict
from tta_langgraph.decision.posterior import posterior as bayes
from tta_langgraph.decision.predictor import register
from tta_langgraph.decision.snapshot import Snapshot
from tta_langgraph.decision.tally import Group
from tta_langgraph.evidence import Evidence, Execution
from tta_langgraph.state import Candidate


@register("agreement")
@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The partition model of agreement, with other evidence as likelihood ratios.

    P(correct now) is the posterior of the answer that would be given; `resample(n)` forecasts the expected posterior of
    the best answer after n more samples, `judge` that after one verdict. Actions it has no model for (`reflect`, …) are
    forecast to change nothing: wrap it in `Transitions` for those.
    """

    model: PartitionModel = field(default_factory=PartitionModel)
    """Prior over agreement."""
    likelihoods: Likelihoods = field(default_factory=Likelihoods)
    """What verdicts, checks and empty results say."""
    costs: CostModel = field(default_factory=CostModel)
    """What actions cost."""

    @property
    def name(self) -> str:
        """`agreement`."""
        return "agreement"

    def assess(self, snapshot: Snapshot, actions: Sequence[Action]) -> Assessment:
        """Forecasts all actions."""
        tally = snapshot.tally
        pattern, groups = self._pattern(tally.groups)
        failed = tally.failed
        beliefs = self.model.posterior(pattern, failed)
        best, p_now = self._best(snapshot, groups, beliefs)
        scale = self.costs.scale(snapshot)
        forecasts: dict[Action, Forecast] = {}
        for action in actions:
            tokens, seconds = self.costs.of(action, scale)
            p = min(1.0, p_now + self._gain(action, pattern, failed, beliefs))
            forecasts[action] = Forecast(action, p, tokens, seconds, self.name)
        features = {
            "candidates": float(len(snapshot.candidates)),
            "groups": float(len(groups)),
            "votes": float(tally.leader.votes if tally.leader else 0),
            "failed": float(failed),
        }
        return Assessment(p_now, forecasts, self.name, features, best.id if best else None)

    def assess_batch(self, snapshots: Sequence[Snapshot], actions: Sequence[Action]) -> Batch:
        """The same for many moments at once: what depends on the pattern alone is worked out once per pattern."""
        import numpy as np

        known: dict[tuple[Pattern, int], list[float]] = {}
        best: list[str | None] = []
        now, gains = [], []
        for snapshot in snapshots:
            tally = snapshot.tally
            pattern, groups = self._pattern(tally.groups)
            failed = tally.failed
            beliefs = self.model.posterior(pattern, failed)
            answer, p = self._best(snapshot, groups, beliefs)
            gained = known.get((pattern, failed))
            if gained is None:
                gained = [self._gain(action, pattern, failed, beliefs) for action in actions]
                known[pattern, failed] = gained
            best.append(answer.id if answer else None)
            now.append(p)
            gains.append(gained)
        batch = Batch.empty(best, np.asarray(now), actions)
        batch.price(self.costs, [self.costs.scale(snapshot) for snapshot in snapshots])
        batch.p_after[:] = np.minimum(1.0, batch.p_now[:, None] + np.asarray(gains).reshape(batch.p_after.shape))
        return batch

    def _gain(self, action: Action, pattern: Pattern, failed: int, beliefs: Sequence[float]) -> float:
        """What an action adds to the posterior of the best answer."""
        if action.kind == "resample":
            # Under the model's own choice of answer more samples never hurt; the vote in use may lag behind it.
            return max(0.0, self.model.expected_best(pattern, failed, action.n) - max(beliefs, default=0.0))
        if action.kind == "judge" and beliefs:
            leader = max(range(len(beliefs)), key=beliefs.__getitem__)
            return max(0.0, expected_best_after_verdict(beliefs, leader, self.likelihoods.judge) - beliefs[leader])
        return 0.0

    def _pattern(self, groups: Sequence[Group]) -> tuple[Pattern, list[Group]]:
        """The groups as a sorted pattern, and the groups in that order."""
        ratio = self._log_ratio
        rated = []
        for group in groups:
            members = group.members
            best = ratio(members[0].evidence)
            for member in members[1:]:
                best = max(best, ratio(member.evidence))
            rated.append(((len(members), best), group))
        if len(rated) > 1:
            rated.sort(key=lambda pair: pair[0])
        return tuple(pair[0] for pair in rated), [pair[1] for pair in rated]

    def _log_ratio(self, evidence: Evidence) -> float:
        """What is observed of most answers, that they ran and found something or nothing, is looked up."""
        if evidence.verdicts or evidence.checks or evidence.confirmations:
            return self.likelihoods.log_ratio(evidence)
        ran = evidence.execution
        return self._ran[None if ran is None or not ran.ok else ran.empty]

    @cached_property
    def _ran(self) -> Mapping[bool | None, float]:
        say = self.likelihoods.log_ratio
        ratios: dict[bool | None, float] = {None: say(Evidence())}
        for empty in (False, True):
            ratios[empty] = say(Evidence(execution=Execution(ok=True, empty=empty)))
        return ratios

    def _best(
        self, snapshot: Snapshot, groups: Sequence[Group], beliefs: Sequence[float]
    ) -> tuple[Candidate | None, float]:
        """What would be answered now, and P(it is right)."""
        chosen = snapshot.chosen
        if chosen is None and groups:
            # Heavier groups first among equals, so that ties go as in the vote.
            ranked = {group.key: belief for group, belief in zip(groups, beliefs, strict=True)}
            leader = max(snapshot.tally.groups, key=lambda group: ranked[group.key])
            return leader.best, ranked[leader.key]
        best = chosen or snapshot.tally.best
        if best is None:
            return None, 0.0
        for group, belief in zip(groups, beliefs, strict=True):
            if group.key == best.key:
                return best, belief
        execution = best.evidence.execution
        if execution is not None and not execution.ok:
            return best, FAILED
        return best, bayes(self.model.prior, [self.likelihoods.log_ratio(best.evidence)])

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "model": asdict(self.model),
            "likelihoods": self.likelihoods.to_dict(),
            "costs": self.costs.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Agreement:
        """Reads `to_dict`'s output."""
        return cls(
            model=PartitionModel(**data["model"]),
            likelihoods=Likelihoods.from_dict(data["likelihoods"]),
            costs=CostModel.from_dict(data["costs"]),
        )


FAILED = 0.01
"""P(correct) of an answer that failed to execute."""
