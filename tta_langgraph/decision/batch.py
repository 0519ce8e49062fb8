"""Decisions for many moments at once, for replay: the same numbers as one by one, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from tta_langgraph.decision.actions import ABSTAIN, STOP, Action
from tta_langgraph.decision.costs import CostModel, Scale
from tta_langgraph.decision.decide import lacks_executions, unaffordable
from tta_langgraph.decision.snapshot import Snapshot

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tta_langgraph.decision.policy import Policy
    from tta_langgraph.decision.predictor import Predictor


@dataclass(frozen=True, slots=True)
class Choice:
    """A decision without its explanation."""

    action: Action
    """What to do next."""
    best: str | None
    """Id of the candidate that would be answered now."""
    p_now: float
    """P(it is right)."""
    utility: float
    """Utility of the action; 0 for `stop` and `abstain`."""


@dataclass(frozen=True)
class Batch:
    """Forecasts of several actions for many moments. NaN in `p_after`: no forecast."""

    best: list[str | None]
    """What would be answered, shape (moments,)."""
    p_now: NDArray[np.float64]
    """Shape (moments,)."""
    actions: tuple[Action, ...]
    """Shape (actions,)."""
    p_after: NDArray[np.float64]
    """Shape (moments, actions)."""
    tokens: NDArray[np.float64]
    """Mean and p90, shape (2, moments, actions)."""
    seconds: NDArray[np.float64]
    """Mean and p90, shape (2, moments, actions)."""
    ahead: NDArray[np.float64]
    """P(correct), tokens and seconds at the end of the best plan, shape (3, moments, actions); NaN: not known."""

    @classmethod
    def empty(cls, best: list[str | None], p_now: NDArray[np.float64], actions: Sequence[Action]) -> Batch:
        """No forecasts yet, costs 0."""
        import numpy as np

        shape = (len(best), len(actions))
        return cls(
            best=best,
            p_now=p_now,
            actions=tuple(actions),
            p_after=np.full(shape, np.nan),
            tokens=np.zeros((2, *shape)),
            seconds=np.zeros((2, *shape)),
            ahead=np.full((3, *shape), np.nan),
        )

    def price(self, costs: CostModel, scales: Sequence[Scale]) -> None:
        """Fills in the costs."""
        import numpy as np

        rows = [(s.prompt, s.completion, s.seconds, s.execution, s.cached, s.contention) for s in scales]
        columns = np.asarray(rows).reshape(-1, 6).T
        wide: Any = Scale(*columns)
        for a, action in enumerate(self.actions):
            tokens, seconds = costs.of(action, wide)
            self.tokens[0, :, a], self.tokens[1, :, a] = tokens.mean, tokens.p90
            self.seconds[0, :, a], self.seconds[1, :, a] = seconds.mean, seconds.p90


@runtime_checkable
class BatchPredictor(Protocol):
    """A predictor that can look at many moments at once."""

    def assess_batch(self, snapshots: Sequence[Snapshot], actions: Sequence[Action]) -> Batch:
        """Forecasts for every moment and action."""
        ...


def looks_at_many(predictor: Predictor) -> bool:
    """Whether a predictor, and the one that it is wrapped around, can look at many moments at once."""
    belief = getattr(predictor, "belief", None)
    return isinstance(predictor, BatchPredictor) and (belief is None or looks_at_many(belief))


def batch_of(predictor: Predictor, snapshots: Sequence[Snapshot], actions: Sequence[Action]) -> Batch:
    """What any predictor says of many moments: at once where it can, else one by one."""
    import numpy as np

    if isinstance(predictor, BatchPredictor):
        return predictor.assess_batch(snapshots, actions)
    found = [predictor.assess(snapshot, actions) for snapshot in snapshots]
    batch = Batch.empty([each.best for each in found], np.asarray([each.p_now for each in found]), actions)
    for i, assessment in enumerate(found):
        for a, action in enumerate(actions):
            forecast = assessment.forecasts.get(action)
            if forecast is None:
                continue
            batch.p_after[i, a] = forecast.p_correct
            batch.tokens[:, i, a] = forecast.tokens.mean, forecast.tokens.p90
            batch.seconds[:, i, a] = forecast.seconds.mean, forecast.seconds.p90
            if forecast.ahead is not None:
                batch.ahead[:, i, a] = forecast.ahead.p_correct, forecast.ahead.tokens, forecast.ahead.seconds
    return batch


def choose(snapshot: Snapshot, policy: Policy) -> Choice:
    """`decide` without the explanation: the same action, a fraction of the time."""
    snapshot = policy.prepare(snapshot)
    utility = snapshot.utility or policy.utility
    planned = policy.rule.next(snapshot) if policy.rule is not None else None
    if planned is not None:
        offered = [] if planned.ends else [planned]
    elif snapshot.step >= policy.max_steps:
        offered = []
    else:
        offered = [option.action for option in policy.options if option.blocked(snapshot) is None]
    assessment = policy.predictor.assess(snapshot, offered)
    chosen, worth = None, 0.0
    for action in offered:
        forecast = assessment.forecasts.get(action)
        if forecast is None:
            continue
        u = utility.of(forecast, assessment.p_now)
        if (planned is not None or u > worth) and unaffordable(forecast, snapshot) is None:
            chosen, worth = action, u
    if chosen is None:
        abstains = bool(snapshot.candidates) and assessment.p_now < utility.abstain_below
        chosen = Action(ABSTAIN if abstains else STOP)
    return Choice(chosen, assessment.best, assessment.p_now, worth)


def choose_batch(snapshots: Sequence[Snapshot], policy: Policy) -> list[Choice]:
    """`choose` for many moments; much faster for predictors with `assess_batch`."""
    if policy.rule is not None or not isinstance(policy.predictor, BatchPredictor):
        return [choose(snapshot, policy) for snapshot in snapshots]
    import numpy as np

    moments = [policy.prepare(snapshot) for snapshot in snapshots]
    options = policy.options
    batch = policy.predictor.assess_batch(moments, [option.action for option in options])
    rates = [moment.utility or policy.utility for moment in moments]
    value, per_token, per_second, floor = (
        np.asarray([getattr(rate, name) for rate in rates])
        for name in ("value", "per_token", "per_second", "abstain_below")
    )
    planned = ~np.isnan(batch.ahead[0])
    p = np.where(planned, batch.ahead[0], batch.p_after)
    tokens = np.where(planned, batch.ahead[1], batch.tokens[0])
    seconds = np.where(planned, batch.ahead[2], batch.seconds[0])
    worth = value[:, None] * (p - batch.p_now[:, None])
    worth -= per_token[:, None] * tokens + per_second[:, None] * seconds
    left = np.asarray([(m.tokens_left, m.seconds_left, m.calls_left) for m in moments]).reshape(-1, 3)
    fits = (batch.tokens[1] <= left[:, :1]) & (batch.seconds[1] <= left[:, 1:2]) & (left[:, 2:] >= 1)
    fits &= ~np.isnan(p)
    for i, moment in enumerate(moments):
        if moment.step >= policy.max_steps:
            fits[i] = False
            continue
        for a, option in enumerate(options):
            if fits[i, a] and (option.blocked(moment) is not None or lacks_executions(moment, option.action)):
                fits[i, a] = False
    worth = np.where(fits, worth, -np.inf)
    found = []
    picks = worth.argmax(axis=1) if options else np.zeros(len(moments), dtype=int)
    for i, moment in enumerate(moments):
        u = float(worth[i, picks[i]]) if options else 0.0
        p_now = float(batch.p_now[i])
        if u > 0:
            action = options[int(picks[i])].action
        else:
            action, u = (_ABSTAIN if moment.candidates and p_now < floor[i] else _STOP), 0.0
        found.append(Choice(action, batch.best[i], p_now, u))
    return found


_STOP, _ABSTAIN = Action(STOP), Action(ABSTAIN)
