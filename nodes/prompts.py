"""What models are told. Everything that is the same for every question comes first, so that a prefix cache
serves it.

The system message holds the instruction and the schema, the human message the question and nothing else.
Later turns append to these two and never change them.
"""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage


def text_to_sql_messages(
    question: str, schema: str, *, dialect: str = "sqlite", instruction: str | None = None
) -> list[BaseMessage]:
    """The conversation that opens a text-to-SQL episode.

    Args:
        question: the user's question.
        schema: the schema prompt, identical for every question on the same database.
        dialect: sqlglot's name of the dialect.
        instruction: replaces the instruction; may use `{dialect}`.
    """
    system = (instruction or TEXT_TO_SQL).replace("{dialect}", DIALECT_NAMES.get(dialect, dialect))
    return [SystemMessage(f"{system}\n\n{schema.strip()}"), HumanMessage(question.strip())]


def question_messages(question: str, instruction: str | None = None) -> list[BaseMessage]:
    """The conversation that opens any other episode."""
    system: list[BaseMessage] = [SystemMessage(instruction)] if instruction else []
    return [*system, HumanMessage(question.strip())]


def with_demonstrations(
    messages: Sequence[BaseMessage], demonstrations: Sequence[tuple[str, str]]
) -> list[BaseMessage]:
    """Puts solved questions between the system message and the question, the most similar one last."""
    head = [message for message in messages[:-1] if isinstance(message, SystemMessage)]
    shown: list[BaseMessage] = []
    for question, answer in reversed(demonstrations):
        shown += [HumanMessage(question), AIMessage(answer)]
    return [*head, *shown, *messages[len(head) :]]


def with_note(messages: Sequence[BaseMessage], note: str) -> list[BaseMessage]:
    """Adds a note below the question, in the same message."""
    *before, last = messages
    return [*before, HumanMessage(f"{last.text}\n\n{note.strip()}")]


def fenced(sql: str) -> str:
    """A query as models write it."""
    return f"```sql\n{sql.strip()}\n```"


DIALECT_NAMES = {
    "sqlite": "SQLite",
    "postgres": "PostgreSQL",
    "mysql": "MySQL",
    "duckdb": "DuckDB",
    "tsql": "SQL Server",
    "bigquery": "BigQuery",
    "snowflake": "Snowflake",
    "oracle": "Oracle",
}
"""How models know the dialects by name."""

TEXT_TO_SQL = """\
You translate questions into {dialect} queries. Use only the tables and columns of the schema below. \
Select exactly the columns the question asks for, in its order, and nothing else. \
Reply with one query in a ```sql block and no explanation."""
"""Instruction of the text-to-SQL system message; the schema follows it."""
