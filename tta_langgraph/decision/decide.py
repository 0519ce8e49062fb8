"""The decision rule: the feasible action with the highest utility, or stop, or abstain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tta_langgraph.decision.actions import ABSTAIN, STOP, Action
from tta_langgraph.decision.costs import MAKES
from tta_langgraph.decision.forecasts import Assessment, Forecast
from tta_langgraph.decision.snapshot import Snapshot
from tta_langgraph.state import Decision

if TYPE_CHECKING:
    from tta_langgraph.decision.policy import Policy


def decide(snapshot: Snapshot, policy: Policy) -> Decision:
    """Chooses the next action of an episode.

    Among the actions that the policy offers now and whose p90 tokens and p90 seconds fit in what is left after the
    reserve, the one with the highest utility; `stop` if none has a utility above 0; `abstain` in place of `stop` if
    P(correct now) is below c_wrong / (V + c_wrong).

    Args:
        snapshot: the present moment.
        policy: predictor, utility and options.

    Returns:
        The decision with every forecast, also of what was not feasible, and why.
    """
    snapshot = policy.prepare(snapshot)
    planned = policy.rule.next(snapshot) if policy.rule is not None else None
    blocked: dict[Action, str] = {}
    offered: list[Action] = []
    if planned is None:
        for option in policy.options:
            why = option.blocked(snapshot)
            if why is None:
                offered.append(option.action)
            else:
                blocked[option.action] = why
        if snapshot.step >= policy.max_steps:
            blocked.update(dict.fromkeys(offered, f"at most {policy.max_steps} decisions"))
            offered = []
    elif not planned.ends:
        offered = [planned]
    assessment = policy.predictor.assess(snapshot, offered)
    utility = snapshot.utility or policy.utility
    rows: list[dict[str, Any]] = []
    chosen, chosen_utility = None, 0.0
    closest, closest_utility = None, float("-inf")
    for action in offered:
        forecast = assessment.forecasts.get(action)
        if forecast is None:
            blocked[action] = "no forecast"
            continue
        worth = utility.of(forecast, assessment.p_now)
        why = unaffordable(forecast, snapshot)
        rows.append(_row(forecast, worth, why))
        if why is not None:
            continue
        if planned is not None or worth > chosen_utility:
            chosen, chosen_utility = forecast, worth
        if worth > closest_utility:
            closest, closest_utility = forecast, worth
    if chosen is not None:
        action, reason = (
            chosen.action,
            _why_go(chosen, assessment.p_now, chosen_utility, utility.value, planned is not None),
        )
    elif snapshot.candidates and assessment.p_now < utility.abstain_below:
        action = Action(ABSTAIN)
        reason = f"abstain: P(correct) {assessment.p_now:.2f} is below {utility.abstain_below:.2f}"
    else:
        action = Action(STOP)
        reason = _why_stop(
            snapshot, assessment, closest, closest_utility, utility.value, rows, blocked, planned is not None
        )
    rows.append(_ending(action.name if action.ends else STOP, assessment))
    rows.extend(_missing(action, why, policy.predictor.name) for action, why in blocked.items())
    return Decision(
        step=snapshot.step,
        action=action.name,
        n=action.n,
        reason=reason,
        candidate=assessment.best,
        p_correct=assessment.p_now,
        predictor=assessment.predictor,
        forecasts=tuple(rows),
        features=dict(assessment.features),
        tokens_left=snapshot.tokens_left,
        seconds_left=snapshot.seconds_left,
    )


def unaffordable(forecast: Forecast, snapshot: Snapshot) -> str | None:
    """Why an action does not fit in what is left after the reserve, or None if it does."""
    if forecast.tokens.p90 > snapshot.tokens_left:
        return f"needs {forecast.tokens.p90:.0f} tokens at p90, {snapshot.tokens_left:.0f} left"
    if forecast.seconds.p90 > snapshot.seconds_left:
        return f"needs {forecast.seconds.p90:.1f} s at p90, {snapshot.seconds_left:.1f} s left"
    if snapshot.calls_left < 1:
        return "no model call left"
    if lacks_executions(snapshot, forecast.action):
        return f"needs {forecast.action.n} executions, {snapshot.executions_left:.0f} left"
    return None


def lacks_executions(snapshot: Snapshot, action: Action) -> bool:
    """Whether the candidates of an action could not all be executed, in an episode that executes."""
    if action.kind not in MAKES or snapshot.executions_left >= action.n:
        return False
    return any(candidate.evidence.execution is not None for candidate in snapshot.candidates)


def _row(forecast: Forecast, worth: float, why: str | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "action": str(forecast.action),
        "p_correct": forecast.p_correct,
        "tokens": forecast.tokens.mean,
        "tokens_p90": forecast.tokens.p90,
        "seconds": forecast.seconds.mean,
        "seconds_p90": forecast.seconds.p90,
        "utility": worth,
        "feasible": why is None,
        "why": why or "",
        "predictor": forecast.predictor,
    }
    ahead = forecast.ahead
    if ahead is not None:
        row |= {"ahead_p_correct": ahead.p_correct, "ahead_tokens": ahead.tokens, "ahead_seconds": ahead.seconds}
    return row


def _ending(name: str, assessment: Assessment) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(("tokens", "tokens_p90", "seconds", "seconds_p90", "utility"), 0.0)
    row |= {
        "action": name,
        "p_correct": assessment.p_now,
        "feasible": True,
        "why": "",
        "predictor": assessment.predictor,
    }
    return row


def _missing(action: Action, why: str, predictor: str) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(
        ("p_correct", "tokens", "tokens_p90", "seconds", "seconds_p90", "utility"), None
    )
    return row | {"action": str(action), "feasible": False, "why": why, "predictor": predictor}


def _offer(forecast: Forecast, p_now: float, worth: float, value: float) -> str:
    """What an action is expected to bring and to cost, gain and price in units of `Utility.value`."""
    p, tokens, seconds = forecast.p_correct, forecast.tokens.mean, forecast.seconds.mean
    if forecast.ahead is not None:
        p, tokens, seconds = forecast.ahead.p_correct, forecast.ahead.tokens, forecast.ahead.seconds
    gain = value * (p - p_now)
    price = gain - worth
    digits = 2 if f"{gain:.2f}" != f"{price:.2f}" else 4  # a close decision shows by how much
    gain = round(gain, digits) + 0.0  # no minus before a zero
    return f"{p:.2f} for {tokens:.0f} tokens and {seconds:.1f} s (gain {gain:.{digits}f}, price {price:.{digits}f})"


def _why_go(forecast: Forecast, p_now: float, worth: float, value: float, planned: bool) -> str:
    text = f"{forecast.action}: P(correct) {p_now:.2f} -> {_offer(forecast, p_now, worth, value)}"
    return f"{text} (planned)" if planned else text


def _why_stop(
    snapshot: Snapshot,
    assessment: Assessment,
    closest: Forecast | None,
    worth: float,
    value: float,
    rows: Sequence[Mapping[str, Any]],
    blocked: Mapping[Action, str],
    planned: bool,
) -> str:
    text = f"stop: P(correct) {assessment.p_now:.2f}"
    if rows and closest is None:
        return f"{text}; {rows[0]['action']} {rows[0]['why']}"
    if planned:
        return f"{text}; the plan is done"
    if closest is not None:
        return f"{text}; {closest.action} -> {_offer(closest, assessment.p_now, worth, value)}"
    if blocked:
        action, why = next(iter(blocked.items()))
        return f"{text}; {action}: {why}"
    return f"{text}; nothing else is offered"
