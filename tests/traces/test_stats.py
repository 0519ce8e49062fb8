"""What `tta stats` shows can be recomputed by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from tests.traces.conftest import make_trace
from tta_langgraph.budget import Charge, Usage
from tta_langgraph.errors import TraceError
from tta_langgraph.evidence import Evidence, Verdict
from tta_langgraph.state import Candidate
from tta_langgraph.traces import Trace
from tta_langgraph.traces.alarms import CallSize, output_alarms
from tta_langgraph.traces.stats import stats
from tta_langgraph.traces.stats_tables import stats_tables


def _trace(
    key: str,
    *,
    strategy: str = "policy",
    correct: bool | None = True,
    seconds: float = 1.0,
    model: str = "small",
    usage: Usage = Usage(prompt_tokens=90, completion_tokens=10, model_calls=1),
) -> Trace:
    return Trace(
        id=key,
        strategy=strategy,
        correct=correct,
        seconds=seconds,
        candidates=(Candidate(text="x", model=model, usage=usage),),
        charges=(Charge(id="c", usage=usage, source="generate"),),
        tokens=usage.tokens,
        stop_reason="stop",
    )


def test_accuracy_counts_labelled_episodes_only() -> None:
    found = stats([_trace("a"), _trace("b", correct=False), _trace("c"), _trace("d", correct=None)]).overall
    assert (found.episodes, found.labelled) == (4, 3)
    assert found.accuracy == pytest.approx(2 / 3)
    # Wilson's interval for 2 of 3, from the closed form with z = 1.959964.
    z2 = 1.959964**2
    centre = (2 / 3 + z2 / 6) / (1 + z2 / 3)
    half = 1.959964 / (1 + z2 / 3) * math.sqrt(2 / 9 / 3 + z2 / 36)
    assert (found.accuracy_low, found.accuracy_high) == pytest.approx((centre - half, centre + half), abs=1e-6)


def test_costs_are_means_over_all_and_cost_of_pass_over_labelled_episodes() -> None:
    cheap, dear = (Usage(prompt_tokens=n, usd=n / 100, model_calls=1) for n in (100, 300))
    found = stats(
        [_trace("a", usage=cheap), _trace("b", usage=dear, correct=False), _trace("c", usage=dear, correct=None)]
    ).overall
    assert found.tokens == pytest.approx(700 / 3)
    assert found.usd == pytest.approx(7 / 3)
    assert found.tokens_per_right == pytest.approx(400)
    assert found.usd_per_right == pytest.approx(4.0)


def test_cost_adjusted_accuracy_takes_off_what_an_episode_costs() -> None:
    traces = [_trace("a", seconds=2.0), _trace("b", seconds=4.0, correct=False)]
    found = stats(traces, per_token=0.001, per_second=0.02, per_usd=9.0).overall
    assert found.cost_adjusted == pytest.approx(0.5 - 0.001 * 100 - 0.02 * 3)


def test_latency_percentiles() -> None:
    found = stats([_trace(str(i), seconds=float(i)) for i in range(101)]).overall
    assert (found.seconds_p50, found.seconds_p90, found.seconds_p99) == pytest.approx((50, 90, 99))


def test_strategies_are_kept_apart() -> None:
    found = stats([_trace("a"), _trace("b"), _trace("c", strategy="one_shot", correct=False)])
    assert [(group.name, group.episodes, group.accuracy) for group in found.strategies] == [
        ("policy", 2, 1.0),
        ("one_shot", 1, 0.0),
    ]
    assert math.isinf(found.strategies[1].tokens_per_right)


def test_a_model_listed_cheaper_that_costs_more_per_episode_is_named() -> None:
    prices = {"chatty": (0.1, 0.4), "terse": (1.0, 4.0)}
    chatty = Usage(prompt_tokens=100, completion_tokens=10_000, usd=0.00401, model_calls=1)
    terse = Usage(prompt_tokens=100, completion_tokens=100, usd=0.0005, model_calls=1)
    found = stats(
        [_trace("a", model="chatty", usage=chatty), _trace("b", model="terse", usage=terse)], listed=prices.get
    )
    assert found.reversals == (("chatty", "terse"),)
    assert [model.model for model in found.models] == ["chatty", "terse"]
    assert found.models[0].actual == pytest.approx(0.00401 / 10_100 * 1e6)
    assert found.models[1].listed == 2.5


def _call(key: str, source: str, usd: float, tokens: int = 100) -> Charge:
    return Charge(id=key, source=source, usage=Usage(prompt_tokens=tokens, usd=usd, model_calls=1))


def test_a_models_costs_are_all_its_calls_not_its_answers_alone() -> None:
    prices = {"cheap": (1.0, 2.0), "dear": (3.0, 6.0)}

    def episode(key: str, model: str, others: tuple[Charge, ...]) -> Trace:
        return replace(_trace(key, model=model), charges=(_call("a", "generate", 0.001), *others))

    looked_again = (_call("b", "reflect", 0.05, 2_000), _call("c", "generate", 0.01))
    found = stats([episode("1", "cheap", looked_again), episode("2", "dear", ())], listed=prices.get)
    by_name = {model.model: model for model in found.models}
    assert by_name["cheap"].usd_per_episode == pytest.approx(0.061)
    assert by_name["cheap"].usage.prompt_tokens == 2_200
    assert found.reversals == (("cheap", "dear"),)
    assert sum(model.usd_per_episode * model.episodes for model in found.models) == pytest.approx(
        found.overall.usd * found.overall.episodes
    )


def test_a_judges_calls_and_an_escalation_belong_to_their_own_models() -> None:
    seen = Evidence(verdicts=(Verdict(score=1.0, label="SUCCESS", judge="judge-model"),))
    candidates = (
        Candidate(text="x", model="small", evidence=seen),
        Candidate(text="y", model="large", action="escalate"),
    )
    charges = (_call("a", "generate", 0.1), _call("b", "judge", 0.2), _call("c", "escalate", 0.4))
    found = stats([replace(_trace("1"), candidates=candidates, charges=charges)])
    assert {model.model: model.usd_per_episode for model in found.models} == {
        "small": pytest.approx(0.1),
        "judge-model": pytest.approx(0.2),
        "large": pytest.approx(0.4),
    }


def test_a_call_that_may_be_either_models_is_given_to_neither_and_no_reversal_is_claimed() -> None:
    candidates = (Candidate(text="x", model="cheap"), Candidate(text="y", model="dear"))
    trace = replace(_trace("1"), candidates=candidates, charges=(_call("a", "call", 0.1), _call("b", "judge", 0.1)))
    alone = [
        _trace("2", model="cheap", usage=Usage(prompt_tokens=9, usd=9.0, model_calls=1)),
        _trace("3", model="dear"),
    ]
    found = stats([trace, *alone], listed={"cheap": (1.0, 2.0), "dear": (3.0, 6.0)}.get)
    assert {model.model for model in found.models} == {"cheap", "dear", "unknown"}
    assert found.reversals == ()


def test_a_recording_of_the_whole_grid_is_not_an_episode_among_others() -> None:
    grid = _trace("r", strategy="record", usage=Usage(prompt_tokens=90_000, usd=1.0, model_calls=20))
    found = stats([_trace("a"), grid])
    assert (found.overall.episodes, found.overall.tokens) == (1, 100)
    [row] = [group for group in found.strategies if group.name == "record"]
    assert math.isnan(row.tokens_per_right)
    assert math.isnan(row.usd_per_right)
    assert [model.usage.tokens for model in found.models] == [100]
    assert [row[0] for row in stats_tables(found)[0].rows] == ["all", "policy", "record"]
    assert [row[0] for row in stats_tables(stats([grid]))[0].rows] == ["record"]


def test_a_model_without_a_price_has_none() -> None:
    [model] = stats([_trace("a", model="my-own-model")]).models
    assert (model.listed_prompt, model.usd_per_episode) == (None, 0.0)


def test_a_runaway_output_raises_an_alarm_and_ordinary_ones_do_not() -> None:
    sizes = [
        CallSize(episode=str(i), charge="c", source="generate", prompt_tokens=500, completion_tokens=60 + i % 30)
        for i in range(60)
    ]
    bomb = CallSize(episode="bomb", charge="c", source="generate", prompt_tokens=80, completion_tokens=8_000)
    [alarm] = output_alarms([*sizes, bomb])
    assert (alarm.episode, alarm.ratio) == ("bomb", 100.0)
    assert max(size.ratio for size in sizes) < alarm.limit < 100


def test_what_is_usual_depends_on_the_caller() -> None:
    writer = [
        CallSize(episode=str(i), charge="c", source="plan", prompt_tokens=100, completion_tokens=2_000 + i)
        for i in range(40)
    ]
    judge = [
        CallSize(episode=str(i), charge="c", source="judge", prompt_tokens=1_000, completion_tokens=10)
        for i in range(40)
    ]
    odd = CallSize(episode="odd", charge="c", source="judge", prompt_tokens=1_000, completion_tokens=900)
    assert [alarm.episode for alarm in output_alarms([*writer, *judge, odd])] == ["odd"]


def test_a_fixed_limit_needs_no_history() -> None:
    size = CallSize(episode="e", charge="c", source="generate", prompt_tokens=10, completion_tokens=100)
    assert output_alarms([size]) == []
    assert [alarm.episode for alarm in output_alarms([size], ratio=5)] == ["e"]
    assert output_alarms([replace(size, completion_tokens=49)], ratio=1) == []
    with pytest.raises(TraceError, match="ratio"):
        output_alarms([size], ratio=0)


def test_an_empty_store_has_figures_too() -> None:
    found = stats([])
    assert found.overall.episodes == 0
    assert json.dumps(found.to_dict(), allow_nan=False)
    assert [table.title for table in stats_tables(found)] == ["Episodes"]


def test_tables_have_as_many_cells_as_columns() -> None:
    found = stats([make_trace("a"), make_trace("b", strategy="one_shot")], alarm_ratio=0.01)
    assert {table.title for table in stats_tables(found)} >= {"Episodes", "Models"}
    assert all(len(row) == len(table.header) for table in stats_tables(found) for row in table.rows)
