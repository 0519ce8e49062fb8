"""`tta replay` and `tta tune`: the same numbers on Ray, and openings of several answers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "traces"))
from replay_worlds import two_kinds

from tta_langgraph import Policy
from tta_langgraph.commands.app import app
from tta_langgraph.traces.export import export_pools


@pytest.fixture
def pools(tmp_path: Path) -> str:
    path = tmp_path / "pools.jsonl.gz"
    export_pools(two_kinds(30), path)
    return str(path)


def figures(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_ray_gives_the_numbers_of_the_single_process(pools: str) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'tta-langgraph[ray]'")
    alone = figures("replay", pools, "--repeats", "3")
    spread = figures("replay", pools, "--repeats", "3", "--executor", "ray", "--workers", "2")
    assert spread == alone


def test_an_opening_of_several_answers_is_best_of_as_many(pools: str) -> None:
    found = figures("replay", pools, "--opening", "4", "--policy", str(one_shot(Path(pools).parent)))
    own, *others = found["strategies"]
    same = next(other for other in others if other["strategy"] == "best_of(4)")
    assert (own["accuracy"], own["tokens"]) == (same["accuracy"], same["tokens"])


def test_accuracies_come_with_their_intervals(pools: str) -> None:
    for each in figures("replay", pools)["strategies"]:
        assert 0 <= each["low"] < each["accuracy"] < each["high"] <= 1
    assert "accuracy [95%]" in CliRunner().invoke(app, ["replay", pools]).stdout


def test_a_tuned_policy_carries_its_opening(pools: str, tmp_path: Path) -> None:
    out = tmp_path / "tuned.json"
    done = CliRunner().invoke(
        app, ["tune", pools, "--tokens", "400", "--opening", "2", "--side", "all", "--repeats", "1", "--out", str(out)]
    )
    assert done.exit_code == 0, done.output
    assert Policy.load(out).opening == 2


@pytest.mark.parametrize("arguments", ["--executor dask", "--workers 2", "--opening 0", "--executor ray --workers 0"])
def test_a_mistaken_option_is_refused(pools: str, arguments: str) -> None:
    done = CliRunner().invoke(app, ["replay", pools, *arguments.split()])
    assert done.exit_code != 0
    assert not done.stdout


def one_shot(folder: Path) -> Path:
    return Policy.one_shot().save(folder / "one_shot.json")


def test_figures_on_what_the_policy_was_fitted_on_are_called_flattering(pools: str, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'tta-langgraph[learn]'")
    path = str(tmp_path / "policy.json")
    fitted = CliRunner().invoke(app, ["fit", pools, "--predictor", "transitions", "--out", path])
    assert fitted.exit_code == 0, fitted.output
    everything = CliRunner().invoke(app, ["replay", pools, "--policy", path, "--repeats", "1", "--json"])
    assert "figures flatter it; --side test" in everything.stderr
    json.loads(everything.stdout)
    fresh = CliRunner().invoke(app, ["replay", pools, "--policy", path, "--repeats", "1", "--side", "test"])
    assert fresh.exit_code == 0
    assert "flatter" not in fresh.output
