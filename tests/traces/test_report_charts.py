"""Charts: what their lines claim, and whether their labels can be read."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tta_langgraph.decision import Policy
from tta_langgraph.traces.model import Attempt, Pool
from tta_langgraph.traces.replay_evaluate import evaluate
from tta_langgraph.traces.report_charts import cost_of_pass_figure, mixtures, round_ticks

pytest.importorskip("matplotlib", reason="reports need matplotlib (extra: report)")


@pytest.mark.parametrize("first", [0.0, 10.0])
def test_a_line_between_two_points_is_what_a_coin_between_them_gives(first: float) -> None:
    cost, accuracy = mixtures([first, 1_000, 2_000], [0.4, 0.8, 0.9])
    assert {first, 1_000, 2_000} <= set(cost.tolist())
    assert len(cost) > 50
    below = cost <= 1_000
    share = (cost[below] - first) / (1_000 - first)
    np.testing.assert_allclose(accuracy[below], 0.4 + 0.4 * share)


@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize("span", [(60, 200), (60, 20_000), (1, 1_000_000), (0.02, 400)])
def test_labels_of_a_logarithmic_axis_do_not_overlap(span: tuple[float, float], narrow: bool) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.1 if narrow else 8.2, 4), layout="constrained")
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.set_xlim(*span)
    round_ticks(axes, narrow)
    figure.draw_without_rendering()
    boxes = sorted(
        (label.get_window_extent().x0, label.get_window_extent().x1)
        for tick, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
        if span[0] <= tick <= span[1]
    )
    assert len(boxes) >= 2
    assert all(end < start for (_, end), (start, _) in itertools.pairwise(boxes))


@pytest.mark.parametrize("narrow", [True, False])
def test_models_with_long_names_leave_room_for_their_bars(narrow: bool) -> None:
    from matplotlib.figure import Figure

    pools = [
        Pool(
            question_id=f"q{q}",
            db_id=f"db{q}",
            attempts=tuple(
                Attempt(
                    id=name,
                    action="escalate" if rank else "generate",
                    model=f"some-provider/a-model-with-a-very-long-name-{name}-instruct-fp8-greedy-zero-shot",
                    correct=True,
                    key="k",
                    completion_tokens=10 * 4**rank,
                )
                for rank, name in enumerate(("small", "middle", "large"))
            ),
        )
        for q in range(6)
    ]
    chart = cost_of_pass_figure(evaluate(pools, Policy.default("sql"), repeats=1, prices=[1e-3], keep=False))
    assert chart is not None
    figure = Figure(figsize=(4.1 if narrow else 8.2, chart.height), layout="constrained")
    axes = figure.subplots()
    chart.draw(axes, narrow)
    figure.draw_without_rendering()
    assert axes.get_window_extent().width > 0.4 * figure.bbox.width
    assert all(label.get_window_extent().x0 >= 0 for label in axes.get_yticklabels())
