"""What the database says of the candidates."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from tta_langgraph.episode import BudgetNode, Call, Run, Steps
from tta_langgraph.evidence import Evidence, Execution
from tta_langgraph.nodes.reading import State, candidates_of, settled
from tta_langgraph.nodes.settings import check_database, check_selection
from tta_langgraph.selection import Rule
from tta_langgraph.sql import Database, ExecutionResult, execution_feedback
from tta_langgraph.state import Candidate


@dataclass(frozen=True, kw_only=True)
class Execute(BudgetNode):
    """Runs the SQL of every candidate that was not run yet, and records what came back as evidence and key.

    Costs no tokens; one execution per distinct query. Equal results get equal keys; an error gets none, so it
    has no vote. The result of the best answer so far goes to the state's `result`.
    """

    database: Database
    """Where the queries run, reading only."""
    timeout: float | None = None
    """Seconds for one query; None for the database's default. The deadline of the budget holds besides."""
    feedback_tokens: int = 120
    """Most tokens of what a model may later be told about a result."""
    selection: str | Rule = "execution_vote"
    """Rule by which the best answer so far is kept up to date."""

    def __post_init__(self) -> None:
        check_database(self)
        check_selection(self)

    def steps(self, state: State) -> Steps:
        """Runs what is new, and adds the evidence."""
        waiting = [c for c in candidates_of(state) if c.answer is not None and c.evidence.execution is None]
        found, results = yield from executed(
            self.database, waiting, timeout=self.timeout, feedback_tokens=self.feedback_tokens
        )
        update = settled(state, found, self.selection)
        result = yield from self._result_of(update["best"], results, state)
        return update if result is None else {**update, "result": result}

    def _result_of(
        self, best: Candidate | None, results: dict[str, ExecutionResult], state: State
    ) -> Generator[Any, Any, dict[str, Any] | None]:
        """Columns and rows of the best answer; None if the state shows them already."""
        before = state.get("best")
        if best is None or best.answer is None or best.evidence.execution is None:
            return None
        if best.answer not in results:
            if before is not None and before.id == best.id and state.get("result") is not None:
                return None
            # The vote went back to an answer of an earlier step, whose rows are no longer at hand.
            results[best.answer] = yield self._run(best.answer)
        return shown(results[best.answer])

    def _run(self, sql: str) -> Run:
        return Run(database=self.database, sql=sql, timeout=self.timeout, source="execute")


def executed(
    database: Database,
    candidates: Sequence[Candidate],
    *,
    timeout: float | None = None,
    feedback_tokens: int = 120,
    source: str = "execute",
) -> Generator[Any, Any, tuple[list[Candidate], dict[str, ExecutionResult]]]:
    """Runs the candidates' queries, each distinct one once, in parallel.

    Returns the candidates with their evidence and key (those whose query found no budget are left out), and
    the results by query.
    """
    queries = list(dict.fromkeys(c.answer for c in candidates if c.answer is not None))
    if not queries:
        return [], {}
    runs = tuple(Run(database=database, sql=sql, timeout=timeout, source=source) for sql in queries)
    outcomes = yield runs
    if all(isinstance(outcome, BaseException) for outcome in outcomes):
        raise outcomes[0]
    results = {
        sql: outcome for sql, outcome in zip(queries, outcomes, strict=True) if not isinstance(outcome, BaseException)
    }
    # Feedback may look into the database for near-miss values, so it is not worked out on the event loop.
    said = yield tuple(
        Call(
            function=execution_feedback,
            args=(result, database),
            kwargs={"max_tokens": feedback_tokens},
            source=source,
        )
        for result in results.values()
    )
    seen = {
        sql: execution_of(result, feedback if isinstance(feedback, str) else "")
        for (sql, result), feedback in zip(results.items(), said, strict=True)
    }
    found = [
        candidate.observed(Evidence(execution=seen[candidate.answer]), key=results[candidate.answer].key)
        for candidate in candidates
        if candidate.answer in seen
    ]
    return found, results


def execution_of(result: ExecutionResult, feedback: str = "") -> Execution:
    """The evidence that an execution's outcome amounts to, with what a model may be told about it."""
    return Execution(
        ok=result.ok,
        key=result.key,
        n_rows=result.n_rows,
        empty=result.empty,
        truncated=result.truncated,
        error=result.error,
        error_kind=result.error_kind,
        feedback=feedback,
        seconds=result.seconds,
    )


def shown(result: ExecutionResult) -> dict[str, Any]:
    """What the state's `result` holds: the query, columns, rows as plain values, whether they were cut, and
    the error."""
    plain = result.to_dict()
    return {name: plain[name] for name in ("sql", "columns", "rows", "truncated", "error")}
