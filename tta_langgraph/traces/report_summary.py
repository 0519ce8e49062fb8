"""The head of a report: the figures that matter, how the policy stands, and what would make them misleading."""

from __future__ import annotations

from html import escape
from math import isfinite

from tta_langgraph.traces.frontier import Comparison
from tta_langgraph.traces.metrics_intervals import FEW, mcnemar, standing
from tta_langgraph.traces.replay_evaluate import Evaluation
from tta_langgraph.traces.replay_result import Outcomes

MARGIN = 0.01
"""A loss of accuracy that counts as none: one point."""


def summary_html(ev: Evaluation) -> str:
    """Cards, verdicts and warnings."""
    warned = f'<p class="verdict undecided"><strong>Mind.</strong> {escape(seen_before(ev))}</p>' if overlap(ev) else ""
    return warned + _cards(ev) + _verdicts(ev)


def overlap(ev: Evaluation) -> int | None:
    """How many of these databases the policy was fitted on; None if it does not say what it was fitted on."""
    noted = ev.policy.notes.get("fitted_on")
    names = noted.get("databases") if isinstance(noted, dict) else None
    return None if names is None else len(set(ev.table.db_ids) & set(names))


def seen_before(ev: Evaluation) -> str:
    """Whether the policy has seen these databases when it was fitted, as a sentence; empty if that is not known."""
    shared, here = overlap(ev), len(set(ev.table.db_ids))
    if shared is None:
        return ""
    if not shared:
        return "The policy was fitted on none of these databases."
    return f"The policy was fitted on {shared} of the {here} databases here: these figures flatter it."


def _cards(ev: Evaluation) -> str:
    own = _own(ev)
    point, groups = own.point(), len(set(ev.table.db_ids))
    on = f"{len(ev.table):,} question{'s' if len(ev.table) != 1 else ''} on {groups:,} database{'s' * (groups != 1)}"
    cards = [
        (f"{point.accuracy:.1%}", "accuracy of the policy", f"95% interval {point.low:.1%} to {point.high:.1%}; {on}"),
        (f"{own.mean_tokens:,.0f}", "tokens per question", f"{own.calls.mean():.1f} requests to models"),
        _price_card(ev.comparison()),
        _area_card(ev.comparison()),
    ]
    items = "".join(
        f'<li><span class="value">{escape(value)}</span><span class="label">{escape(label)}</span>'
        f'<span class="detail">{escape(detail)}</span></li>'
        for value, label, detail in cards
    )
    return f'<ul class="cards">{items}</ul>'


def _price_card(found: Comparison) -> tuple[str, str, str]:
    ratio, best = found.cost_ratio, f"{found.static_best:.1%}"
    if not isfinite(ratio):
        return "–", "cheaper at equal accuracy", f"no price tried reaches the best static strategy's {best}"
    than = f"than the best static strategy, {best}, at the best price tried"
    if ratio <= 2 / 3:
        return f"{1 / ratio:.1f}×", "cheaper at equal accuracy", than
    return f"{abs(1 - ratio):.0%}", f"{'fewer' if ratio < 1 else 'more'} tokens at equal accuracy", than


def _area_card(found: Comparison) -> tuple[str, str, str]:
    label = "of the way to the oracle"
    if found.no_area:
        return "–", label, f"not given: {found.no_area}"
    if found.area_share < 0:
        return "None", label, "the policy's curve lies below the best static mixture, on the whole"
    return (
        f"{found.area_share:.0%}",
        label,
        "area between the best static mixture and an oracle that knows which answers are right",
    )


def _verdicts(ev: Evaluation) -> str:
    found, vote = ev.comparison(), ev.comparison(oracle="oracle stop")
    ratio = found.cost_ratio
    spends = f"the policy's best price spends {ratio:.0%} of them." if isfinite(ratio) else "no price tried reaches it."
    lines = [
        _against_best(ev),
        ("Met" if ratio <= 1 / 3 else "Missed", f"At most a third of the tokens for the same accuracy: {spends}"),
    ]
    area = "At least 70% of the area between the best static mixture and the oracle:"
    if found.no_area:
        lines.append(("Undecided", f"{area} {found.no_area}."))
    elif found.area_share < 0:
        lines.append(("Missed", f"{area} none; the policy's curve lies below that mixture, on the whole."))
    else:
        voting = "" if vote.no_area else f"; {vote.area_share:.0%} if the oracle, too, must choose by vote"
        lines.append(("Met" if found.area_share >= 0.7 else "Missed", f"{area} {found.area_share:.0%}{voting}."))
    return "".join(
        f'<p class="verdict {word.lower()}"><strong>{word}.</strong> {escape(text)}</p>' for word, text in lines
    )


def _against_best(ev: Evaluation) -> tuple[str, str]:
    own = _own(ev)
    best, gap = ev.gap_to_best(own)
    questions = len(ev.table)
    outcome = standing(gap, n=questions, margin=MARGIN)
    test = mcnemar(own.per_question(own.correct) > 0.5, best.per_question(best.correct) > 0.5)
    which = "The policy at its own prices" if ev.headline is not None else f"{own.name}, the best of all prices here,"
    verb = {
        "not below": f"is not below {best.name}",
        "undecided": f"may or may not be below {best.name}",
        "below": f"is below {best.name}",
    }[outcome]
    few = f" Fewer than {FEW} questions decide nothing." if questions < FEW else ""
    text = (
        f"{which} {verb}, the most accurate static strategy: {gap.value * 100:+.1f} points (95% interval "
        f"{gap.low * 100:+.1f} to {gap.high * 100:+.1f}; a loss within {MARGIN * 100:.0f} point counts as none) for "
        f"{own.mean_tokens:,.0f} tokens instead of {best.mean_tokens:,.0f}. Only the policy is right on {test.only_a} "
        f"questions, only {best.name} on {test.only_b} (McNemar, p {_p(test.p_value)}).{few}"
    )
    if outcome == "not below" and own.mean_tokens > 1.01 * best.mean_tokens:
        return "Dearer", text  # accuracy that was paid for is no target met
    return {"not below": "Met", "undecided": "Undecided", "below": "Missed"}[outcome], text


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.2f}" if value >= 0.1 else f"= {value:.3f}"


def _own(ev: Evaluation) -> Outcomes:
    """The policy as it would run: at its own prices, where those were replayed."""
    return ev.headline or max(ev.curve, key=lambda o: (o.accuracy, -o.mean_tokens))
