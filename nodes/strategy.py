"""What every strategy has in common: a model, what it is asked, and how its replies become candidates."""

from __future__ import annotations

import uuid
from abc import ABC
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, convert_to_messages

from tta_langgraph.episode import BudgetNode, Call, Completion
from tta_langgraph.evidence import Evidence
from tta_langgraph.nodes.demonstrations import Demonstrations
from tta_langgraph.nodes.prompts import question_messages, text_to_sql_messages, with_demonstrations
from tta_langgraph.nodes.reading import State, candidates_of, question_of
from tta_langgraph.nodes.settings import check_database, check_selection
from tta_langgraph.parsers import final_line
from tta_langgraph.parsing import Normaliser, Parser, Reply, normal_text, read_reply
from tta_langgraph.selection import Rule
from tta_langgraph.sql import Database, extract_sql
from tta_langgraph.state import Candidate

Prompt = Callable[[State], Sequence[Any]]
"""From the state to the messages that ask the question; the last one is the human's."""


@dataclass(frozen=True, kw_only=True)
class Strategy(BudgetNode, ABC):
    """A node that asks a model for answers."""

    model: BaseChatModel
    """Any chat model; drawn from the episode's budget."""
    database: Database | None = None
    """The database that the question is about: its schema goes into the system message, and replies are read
    as SQL. None for any other task."""
    prompt: Prompt | None = None
    """Makes the messages that ask the question, instead of the built-in prompt."""
    instruction: str | None = None
    """Replaces the built-in instruction; for SQL, `{dialect}` is filled in and the schema follows."""
    parse: Parser | None = None
    """Finds the answer in a reply; by default the SQL with a database, else the final line."""
    normalise: Normaliser | None = None
    """What counts as the same answer, where there is no database to tell; by default case and spaces are
    folded."""
    max_tokens: int = 512
    """Most completion tokens of one reply; less where the budget leaves less."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Sampling options for the call: `temperature`, `seed`, `logprobs`, `top_logprobs`, `stop`, …"""
    schema_tokens: int = 1_500
    """Most tokens of the schema in the system message."""
    demonstrations: Demonstrations | None = None
    """A store of solved questions; the most similar ones are shown before the question."""
    selection: str | Rule = "execution_vote"
    """Rule by which the best answer so far is kept up to date."""

    def __post_init__(self) -> None:
        check_database(self)
        check_selection(self)

    def opening(self, state: State) -> Generator[Any, Any, list[BaseMessage]]:
        """Yields what it takes to build the messages that ask the question, and returns them."""
        if self.prompt is not None:
            messages = convert_to_messages(list(self.prompt(state)))
        elif self.database is not None:
            schema = yield Call(
                function=self.database.schema_prompt,
                args=(question_of(state),),
                kwargs={"max_tokens": self.schema_tokens},
                source="schema",
            )
            messages = text_to_sql_messages(
                question_of(state), schema, dialect=self.database.dialect, instruction=self.instruction
            )
        else:
            messages = question_messages(question_of(state), self.instruction)
        if self.demonstrations is not None:
            shown = yield Call(
                function=self.demonstrations.similar, args=(question_of(state),), source="demonstrations"
            )
            messages = with_demonstrations(messages, shown)
        return messages

    def sampling(self, state: State, temperature: float, *, skip: int = 0) -> dict[str, Any]:
        """The options of a call in this state; what `options` says outranks the temperature.

        A seed moves on past every candidate that is there: each sample of a request has a seed of its own, counted from
        the request's, so that a second request with the same seed would draw the same answers again.

        Args:
            state: whose candidates were drawn before.
            temperature: unless `options` has one.
            skip: requests of the same step before this one.
        """
        options = {"temperature": temperature, **self.options}
        if options.get("seed") is not None:
            options["seed"] += len(candidates_of(state)) + skip
        return options

    @property
    def parser(self) -> Parser:
        """How the answer is found in a reply."""
        return self.parse or (extract_sql if self.database is not None else final_line)

    def read(self, completion: Completion, *, current: str | None = None) -> Reply:
        """Reads one completion strictly."""
        return read_reply(
            completion.text,
            self.parser,
            current=current,
            normalise=self.normalise or (same_sql_text if self.database is not None else None),
            truncated=completion.finish_reason == "length",
        )

    def candidate(
        self,
        completion: Completion,
        *,
        action: str,
        reply: Reply | None = None,
        parent: Candidate | None = None,
        feedback: str = "",
        form: str = "",
    ) -> Candidate:
        """The candidate that a completion amounts to; without an answer it takes no part in votes.

        With a database the key is left open: only the result tells what counts as the same answer.
        """
        reply = reply or self.read(completion)
        answer = reply.answer
        key = None
        if answer is not None and self.database is None:
            key = (self.normalise or normal_text)(answer)
        return Candidate(
            id=uuid.uuid4().hex[:12],
            text=completion.text,
            answer=answer,
            key=key,
            parent=parent.id if parent else None,
            action=action,
            feedback=feedback,
            form=form,
            round=parent.round + 1 if parent else 0,
            model=completion.model,
            usage=completion.usage,
            finish_reason=completion.finish_reason,
            evidence=Evidence(logprobs=completion.logprobs),
        )


def same_sql_text(sql: str) -> str:
    """Folds white space and case outside of quotes, and a final semicolon: enough to notice a repeated
    query."""
    parts = sql.strip().rstrip("; \n").split("'")
    return "'".join(part if i % 2 else " ".join(part.casefold().split()) for i, part in enumerate(parts))
