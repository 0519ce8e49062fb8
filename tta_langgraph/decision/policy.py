"""A policy: predictor, utility and allowed actions, in one value that can be saved, loaded and replayed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import as_file
from pathlib import Path
from typing import Any, Literal

from tta_langgraph.decision.actions import Action
from tta_langgraph.decision.agreement import Agreement
from tta_langgraph.decision.decide import decide
from tta_langgraph.decision.options import Option
from tta_langgraph.decision.partition import PartitionModel
from tta_langgraph.decision.policy_file import read_policy_file, write_policy_file
from tta_langgraph.decision.predictor import Predictor, predictor_from_dict, predictor_to_dict
from tta_langgraph.decision.priors import DEFAULT_ACTIONS, PARTITION_PRIORS
from tta_langgraph.decision.repricing import with_latency
from tta_langgraph.decision.rules import Rule, make_rule, rule_from_dict, rule_name, rule_to_dict
from tta_langgraph.decision.shipped import shipped_policies
from tta_langgraph.decision.snapshot import Snapshot
from tta_langgraph.decision.transitions import Transitions
from tta_langgraph.decision.utility import AdaptiveLambda, Utility
from tta_langgraph.errors import PolicyError
from tta_langgraph.latency import LatencyModel
from tta_langgraph.selection import PRESETS, select
from tta_langgraph.state import Candidate, Decision

BY_VOTE = "execution_vote"
BY_PREDICTOR = "predictor"


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Decides after every step what is worth doing next.

    Example:
        ```python
        from tta_langgraph import Policy, Utility

        policy = Policy.default("sql", utility=Utility(per_token=1e-4))
        policy.save("policy.json")
        assert Policy.load("policy.json") == policy
        ```

    Raises:
        PolicyError: no predictor, an action that cannot be read or ends the episode, the same action twice, or an
            unknown selection.
    """

    predictor: Predictor
    """Forecasts P(correct) and costs."""
    utility: Utility = field(default_factory=Utility)
    """The exchange rates."""
    actions: Sequence[Option | Action | str] = ("reflect", "resample(2)")
    """What it may do besides stopping: `Option`s, or actions or their text with the default conditions."""
    selection: str = BY_VOTE
    """Which candidate is the answer: a preset of `select`, or `predictor` for the most probable one."""
    adaptive: AdaptiveLambda | None = None
    """Prices that follow the budget within an episode, or None for fixed prices."""
    rule: Rule | None = None
    """A fixed strategy in place of the utility, for comparison."""
    opening: int = 1
    """Answers that the first request draws: one greedily, more as samples, which read the prompt once together."""
    max_steps: int = 32
    """Decisions per episode after which it stops whatever the forecasts say."""
    name: str = "policy"
    """For traces and tables."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """What it was fitted on, with which figures; for people."""

    def __post_init__(self) -> None:
        if not isinstance(self.predictor, Predictor):
            raise PolicyError(
                f"a {type(self.predictor).__name__} is no predictor",
                where="Policy.predictor",
                remedy="It needs `name`, `assess(snapshot, actions)` and `to_dict()`; see "
                "tta_langgraph.decision.Predictor",
            )
        options = tuple(Option.coerce(action) for action in self.actions)
        names = [str(option.action) for option in options]
        for option in options:
            if option.action.ends:
                raise PolicyError(f"{option.action} needs no mention", where="Policy.actions", remedy="Leave it out")
            if names.count(str(option.action)) > 1:
                raise PolicyError(f"{option.action} is listed twice", where="Policy.actions", remedy="List it once")
        if isinstance(self.opening, bool) or not isinstance(self.opening, int) or self.opening < 1:
            raise PolicyError(
                f"an opening of {self.opening!r} answers", where="Policy.opening", remedy="Give at least 1"
            )
        if self.selection != BY_PREDICTOR and self.selection not in PRESETS:
            known = ", ".join((BY_PREDICTOR, *PRESETS))
            raise PolicyError(
                f"unknown selection {self.selection!r}", where="Policy.selection", remedy=f"Use one of {known}"
            )
        object.__setattr__(self, "actions", options)

    @property
    def options(self) -> tuple[Option, ...]:
        """The allowed actions with their conditions."""
        return self.actions  # type: ignore[return-value]  # coerced in __post_init__

    @classmethod
    def default(
        cls,
        task: Literal["sql", "text"] = "sql",
        *,
        utility: Utility | None = None,
        actions: Iterable[Option | Action | str] | None = None,
    ) -> Policy:
        """The policy to start with: transitions and agreement under shipped priors, until traces say better.

        Args:
            task: `sql` (answers are executed and compared by result) or `text` (answers are compared by key).
            utility: the exchange rates; by default those of `Utility()`.
            actions: what it may do; by default reflect and resample.

        Raises:
            PolicyError: the task is unknown.
        """
        if task not in PARTITION_PRIORS:
            raise PolicyError(f"unknown task {task!r}", where="Policy.default", remedy="Use 'sql' or 'text'")
        belief = Agreement(model=PartitionModel(**PARTITION_PRIORS[task]))
        return cls(
            predictor=Transitions(belief=belief),
            utility=utility or Utility(),
            actions=tuple(actions) if actions is not None else DEFAULT_ACTIONS[task],
            name=f"default({task})",
        )

    @classmethod
    def for_model(cls, model: str, task: Literal["sql", "text"] = "sql") -> Policy:
        """The policy that comes with the package for a model, or `default(task)` where there is none.

        Shipped policies are fitted on recorded answers of that very model (`notes` say which, and what they reached on
        databases that they were not fitted on). So far there is one: text-to-SQL by the embedded default.

        Args:
            model: the model's name, e.g. `qwen2.5-coder-0.5b` (`model_name` of a chat model).
            task: as for `default`.

        Raises:
            PolicyError: the task is unknown.

        Example:
            >>> Policy.for_model("qwen2.5-coder-0.5b").name
            'fitted(qwen2.5-coder-0.5b, 420 recorded questions)'
            >>> Policy.for_model("gpt-4o-mini").name
            'default(sql)'
        """
        shipped = shipped_policies().get(model) if task == "sql" else None
        if shipped is None:
            return cls.default(task)
        with as_file(shipped) as path:
            return cls.load(path)

    @classmethod
    def static(cls, strategy: str, n: int | None = None, **settings: Any) -> Policy:
        """A fixed strategy under the same router, to compare with: `one_shot`, `best_of` n, `reflect` n, ….

        Raises:
            PolicyError: an unknown strategy or setting.
        """
        rule = make_rule(strategy, n, **settings)
        action = getattr(rule, "action", "resample")
        return cls(predictor=Transitions(), actions=(action,), rule=rule, name=rule_name(rule))

    @classmethod
    def one_shot(cls) -> Policy:
        """The first answer, and no more."""
        return cls.static("one_shot")

    def decide(self, snapshot: Snapshot) -> Decision:
        """Chooses the next action; see `tta_langgraph.decision.decide`."""
        return decide(snapshot, self)

    def with_utility(self, utility: Utility | None = None, **rates: float) -> Policy:
        """The same policy under another utility, or with some of its rates changed (`per_token=...`)."""
        return replace(self, utility=replace(utility or self.utility, **rates))

    def with_opening(self, answers: int | None) -> Policy:
        """The same policy, whose first request draws so many answers; None leaves it as it is."""
        return self if answers is None else replace(self, opening=answers)

    def with_latency(self, latency: LatencyModel | None) -> Policy:
        """The same policy on an engine whose idle latency was measured; see `tta_langgraph.latency`."""
        return replace(self, predictor=with_latency(self.predictor, latency))

    def with_actions(self, actions: Iterable[Option | Action | str]) -> Policy:
        """The same policy with other allowed actions."""
        return replace(self, actions=tuple(actions))

    def prepare(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with the candidate that the selection rule would answer, and the rates in force."""
        chosen = snapshot.chosen
        if chosen is None and self.selection != BY_PREDICTOR and snapshot.candidates:
            if self.selection == BY_VOTE:
                chosen = snapshot.tally.best
            else:
                chosen = select(snapshot.candidates, self.selection).candidate
        return snapshot.prepared(chosen=chosen, utility=self.utility_at(snapshot))

    def select(self, snapshot: Snapshot) -> Candidate | None:
        """The candidate it would answer now, or None without any."""
        snapshot = self.prepare(snapshot)
        return snapshot.get(self.predictor.assess(snapshot, ()).best)

    def utility_at(self, snapshot: Snapshot) -> Utility:
        """The utility to decide with at this moment."""
        if self.adaptive is None:
            return self.utility
        return self.adaptive.at(self.utility, snapshot.spent_fraction, snapshot.step)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "name": self.name,
            "predictor": predictor_to_dict(self.predictor),
            "utility": self.utility.to_dict(),
            "actions": [option.to_dict() for option in self.options],
            "selection": self.selection,
            "adaptive": None if self.adaptive is None else self.adaptive.to_dict(),
            "rule": None if self.rule is None else rule_to_dict(self.rule),
            "opening": self.opening,
            "max_steps": self.max_steps,
            "notes": dict(self.notes),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, where: str = "policy") -> Policy:
        """Reads `to_dict`'s output.

        Raises:
            PolicyError: something is missing, unknown or malformed.
        """
        try:
            return cls(
                name=data["name"],
                predictor=predictor_from_dict(data["predictor"], where=where),
                utility=Utility.from_dict(data["utility"]),
                actions=tuple(Option.from_dict(option) for option in data["actions"]),
                selection=data["selection"],
                adaptive=None if data["adaptive"] is None else AdaptiveLambda(**data["adaptive"]),
                rule=None if data["rule"] is None else rule_from_dict(data["rule"]),
                opening=data.get("opening", 1),
                max_steps=data["max_steps"],
                notes=data["notes"],
            )
        except PolicyError as error:
            raise PolicyError(error.what, where=f"{where}: {error.where}", remedy=error.remedy) from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PolicyError(
                f"the policy cannot be read: {type(error).__name__}: {error}",
                where=where,
                remedy="Fit it again with tta fit",
            ) from error

    def save(self, path: str | Path) -> Path:
        """Writes one JSON file, whole or not at all.

        Raises:
            PolicyError: the file cannot be written.
        """
        return write_policy_file(Path(path), self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> Policy:
        """Reads a policy file.

        Raises:
            PolicyError: there is no such file, it is no policy, of an unknown version or kind, or holds NaN.
        """
        return cls.from_dict(read_policy_file(Path(path)), where=str(path))
