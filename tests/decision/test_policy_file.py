"""A policy is one JSON file: it comes back as it was, and what cannot be read is refused by name."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tta_langgraph.decision import (
    Agreement,
    Option,
    Policy,
    Saturating,
    ScoreTail,
    Transitions,
    TransitionTable,
    Utility,
    VoteStability,
    register,
)
from tta_langgraph.decision.actions import Action
from tta_langgraph.decision.transitions import Transition
from tta_langgraph.errors import PolicyError

STEPS = [Transition(Action("reflect"), "m", "failed", 0, False, True)]
POLICIES = [
    Policy.default("sql"),
    Policy.default("text", utility=Utility(wrong=0.5)),
    Policy.static("best_of", 8),
    Policy.static("adaptive_consistency", threshold=0.9, most=12),
    Policy.static("pets", samples={"4": 4, "3-1": 12}),
    Policy(predictor=Transitions(table=TransitionTable.fit(STEPS)), selection="predictor", notes={"fitted on": "x"}),
    Policy(predictor=Agreement(), actions=[Option(action=Action("judge"), when="unjudged", max_uses=1)]),
    Policy(predictor=Saturating()),
    Policy(predictor=ScoreTail()),
    Policy(predictor=VoteStability(form="dirichlet")),
]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: f"{policy.name}-{policy.predictor.name}")
def test_what_is_saved_comes_back_equal(policy: Policy, tmp_path: Path) -> None:
    assert Policy.load(policy.save(tmp_path / "deep" / "policy.json")) == policy


def test_the_file_is_plain_json_with_a_version(tmp_path: Path) -> None:
    data = json.loads(Policy.default().save(tmp_path / "p.json").read_text())
    assert (data["format"], data["version"]) == ("tta-policy", 1)


def edited(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps({**json.loads(Policy.default().save(path).read_text()), **changes}))
    return path


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"version": 2}, "version 2"),
        ({"version": None}, "version None"),
        ({"format": "other"}, "not a policy file"),
        ({"predictor": {"kind": "oracle"}}, "unknown predictor 'oracle'"),
        ({"predictor": {"kind": "agreement"}}, "KeyError"),
        ({"predictor": 7}, "not a predictor"),
        ({"selection": "coin"}, "unknown selection"),
        ({"actions": [{"action": "Reflect!"}]}, "Reflect!"),
        ({"actions": [{"action": "reflect", "max_uses": 0}]}, "max_uses"),
        ({"actions": [{"action": "reflect", "when": "raining"}]}, "raining"),
        ({"utility": {"per_token": -1}}, "Utility.per_token"),
        ({"utility": {"per_mile": 1}}, "per_mile"),
        ({"utility": 3}, "cannot be read"),
        ({"version": True}, "version True"),
        ({"rule": {"kind": "best_of"}}, "best_of"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_file_named(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    path = edited(tmp_path / "p.json", **changes)
    with pytest.raises(PolicyError) as caught:
        Policy.load(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    good = Policy.default().save(path).read_text()
    path.write_text(good.replace('"per_token":5e-05', f'"per_token":{text}'))
    assert text in path.read_text()
    with pytest.raises(PolicyError, match=r"p\.json"):
        Policy.load(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"\x80\x04\x95pickle", b"[" * 100_000])
def test_files_that_are_no_policy_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(content)
    with pytest.raises(PolicyError, match="not a policy file"):
        Policy.load(path)


def test_a_missing_file_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="tta fit"):
        Policy.load(tmp_path / "nothing.json")


def test_nan_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    with pytest.raises(PolicyError, match="JSON"):
        Policy(predictor=Agreement(), notes={"loss": float("nan")}).save(path)
    assert not path.exists()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Policy.default().save(tmp_path / "p.json")
    before = path.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PolicyError, match="No space left"):
        Policy.static("one_shot").save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["p.json"]


def test_the_file_is_readable_to_others_as_the_umask_allows(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        path = Policy.default().save(tmp_path / "p.json")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_what_is_no_predictor_is_refused_before_the_first_decision() -> None:
    class Nameless:
        name = "nameless"

    with pytest.raises(PolicyError, match="assess"):
        Policy(predictor=Nameless())  # type: ignore[arg-type]


def test_a_predictor_that_no_file_could_be_read_into_is_not_registered() -> None:
    with pytest.raises(PolicyError, match="from_dict"):

        @register("write-only")
        class WriteOnly:
            name = "write-only"
