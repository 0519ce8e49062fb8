"""The episode viewer: every decision of some episodes, with its reason and all forecasts it was taken from."""

from __future__ import annotations

from html import escape

import numpy as np

from tta_langgraph.state import Decision
from tta_langgraph.traces.replay_columns import Columns
from tta_langgraph.traces.replay_result import Outcomes


def episodes_html(table: Columns, outcomes: Outcomes, *, name: str, most: int = 36) -> str:
    """Some episodes as disclosure elements that work without a script.

    Those that teach most come first: the dearest, the surest mistakes, the ones that gave up, then a cross-section.
    """
    chosen = _chosen(outcomes, most)
    items = "\n".join(_episode(table, outcomes, index) for index in chosen)
    kinds = [("", "All"), ("right", "Right"), ("wrong", "Wrong"), ("long", "Three decisions or more")]
    if outcomes.abstained is not None and outcomes.abstained[chosen].any():
        kinds.append(("abstained", "Abstained"))
    buttons = "".join(
        f'<button type="button" value="{value}" aria-pressed="{"true" if not value else "false"}">{label}</button>'
        for value, label in kinds
    )
    return (
        f'<div class="filters" data-for="{name}" role="group" aria-label="Filter episodes" hidden>{buttons}'
        f'<span class="what" role="status">{len(chosen)} shown</span></div><div id="{name}">{items}</div>'
    )


def _chosen(outcomes: Outcomes, most: int) -> list[int]:
    """One episode per question at most: those of one question often differ in nothing."""
    quarter = max(1, most // 4)
    belief = outcomes.p_correct if outcomes.p_correct is not None else np.zeros(len(outcomes))
    dearest = np.argsort(-outcomes.tokens, kind="stable")
    surest_wrong = np.argsort(np.where(outcomes.correct, 1.0, -belief), kind="stable")
    surest_wrong = surest_wrong[~outcomes.correct[surest_wrong]]
    gave_up = np.flatnonzero(outcomes.abstained) if outcomes.abstained is not None else np.zeros(0, dtype=np.int64)
    spread = np.linspace(0, len(outcomes) - 1, most).astype(int)
    picked: dict[int, int] = {}
    for order, limit in ((dearest, quarter), (surest_wrong, quarter), (gave_up, quarter), (spread, most)):
        fresh = [int(index) for index in order if int(outcomes.question[index]) not in picked]
        of_question = {int(outcomes.question[index]): index for index in reversed(fresh)}
        first = [index for index in fresh if of_question[int(outcomes.question[index])] == index]
        picked |= {int(outcomes.question[index]): index for index in first[: min(limit, most - len(picked))]}
    for index, question in enumerate(outcomes.question.tolist()):
        if len(picked) < most:
            picked.setdefault(question, index)
    return list(picked.values())


def _episode(table: Columns, outcomes: Outcomes, index: int) -> str:
    question = int(outcomes.question[index])
    gave_up = outcomes.abstained is not None and bool(outcomes.abstained[index])
    kind = "abstained" if gave_up else "right" if outcomes.correct[index] else "wrong"
    decisions = outcomes.decisions[index]
    kinds = f"{kind} long" if len(decisions) >= 3 else kind
    told = " · ".join(
        part
        for part in (
            table.db_ids[question],
            table.difficulties[question],
            f"{outcomes.tokens[index]:,.0f} tokens",
            f"{outcomes.seconds[index]:.1f} s" if outcomes.seconds[index] else "",
            f"{len(decisions)} decision{'s' if len(decisions) != 1 else ''}",
        )
        if part
    )
    steps = "".join(_step(decision) for decision in decisions)
    return (
        f'<details class="episode" data-kind="{kinds}"><summary>'
        f'<span class="id">{escape(table.question_ids[question])}</span><span class="tag {kind}">{kind}</span>'
        f'<span class="what">{escape(told)}</span></summary>{steps}</details>'
    )


def _step(decision: Decision) -> str:
    chosen = decision.action if decision.n == 1 else f"{decision.action}({decision.n})"
    percent = f"{decision.p_correct:.0%}"
    rows = "".join(_forecast(row, chosen) for row in decision.forecasts)
    seen = ", ".join(f"{key} {value:.3g}" for key, value in decision.features.items() if value)
    return (
        f'<div class="step"><h3>{decision.step + 1}. {escape(chosen)}</h3><p>{escape(decision.reason)}</p>'
        f'<p><span class="meter" aria-hidden="true"><i style="width:{percent}"></i></span>'
        f"P(correct now) {decision.p_correct:.2f}, said by {escape(decision.predictor)}</p>"
        '<div class="scroll" tabindex="0" role="region" aria-label="Forecasts"><table><thead><tr>'
        '<th scope="col">action</th><th scope="col">P after</th><th scope="col">tokens</th><th scope="col">seconds</th>'
        '<th scope="col">utility</th><th scope="col" class="left">why not</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        f"<details><summary>What it saw</summary><p class='what'>{escape(seen)}</p></details></div>"
    )


def _forecast(row: dict[str, object], chosen: str) -> str:
    action = str(row["action"])
    mark = ' class="chosen"' if action in (chosen, f"{chosen}(1)") else ""
    p = row.get("ahead_p_correct")
    numbers = [
        (p if p is not None else row["p_correct"], 3),
        (row.get("ahead_tokens") if p is not None else row["tokens"], 0),
        (row.get("ahead_seconds") if p is not None else row["seconds"], 1),
        (row["utility"], 4),
    ]
    cells = "".join(f"<td>{_number(value, digits)}</td>" for value, digits in numbers)
    return f'<tr{mark}><td>{escape(action)}</td>{cells}<td class="wrapped">{escape(str(row["why"] or ""))}</td></tr>'


def _number(value: object, digits: int) -> str:
    return f"{value:,.{digits}f}" if isinstance(value, int | float) else "–"
