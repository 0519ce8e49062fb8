"""What is set in a MySQL session before a statement, and put back after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from tta_langgraph.sql.grammars import mysql_grammar


@dataclass(frozen=True, kw_only=True)
class Session:
    """How this server is told what it may do, and how it reads quotes."""

    variables: tuple[str, ...]
    """Session variables: seconds or milliseconds, rows, read only, SQL mode."""
    maria: bool
    """Whether it is MariaDB, whose time limit is in seconds, not milliseconds."""
    mode: str
    """The SQL mode that statements are parsed and run under."""
    grammar: str
    """The parser's grammar for it."""
    stored: frozenset[str]
    """Lower-case names of the functions that users have made; nothing says what they do."""

    def opening(self, seconds: float, rows: int) -> str:
        """Keeps the variables and sets ours. The transaction alone would not do: what commits it would run after it."""
        time = f"{max(0.001, seconds):.3f}" if self.maria else str(max(1, int(seconds * 1000)))
        values = (time, str(rows), "ON", f"'{self.mode}'")
        kept = [f"@tta_{i} = @@SESSION.{name}" for i, name in enumerate(self.variables)]
        ours = [f"SESSION {name} = {value}" for name, value in zip(self.variables, values, strict=True)]
        return "SET " + ", ".join(kept + ours)

    @property
    def closing(self) -> str:
        """Puts the variables back as they were."""
        back = [f"SESSION {name} = @tta_{i}" for i, name in enumerate(self.variables)]
        return "SET " + ", ".join(back + [f"@tta_{i} = NULL" for i in range(len(self.variables))])


def read_session(connection: Connection) -> Session:
    """Asks the server who it is and how it reads quotes."""
    version, mode = _rows(connection, "SELECT VERSION(), @@SESSION.sql_mode")[0]
    maria = "mariadb" in str(version).lower()
    modes = [word for word in str(mode).upper().split(",") if word and word not in _OTHER_GRAMMARS]
    time = "max_statement_time" if maria else "max_execution_time"
    return Session(
        variables=(time, "sql_select_limit", "tx_read_only" if maria else "transaction_read_only", "sql_mode"),
        maria=maria,
        mode=",".join(modes),
        grammar=mysql_grammar(frozenset(modes)),
        stored=frozenset(name for query in _STORED for name in _names(connection, query)),
    )


def _names(connection: Connection, query: str) -> list[str]:
    try:
        return [str(row[0]).lower() for row in _rows(connection, query)]
    except SQLAlchemyError:  # not there, or not for this user
        return []


def _rows(connection: Connection, query: str) -> list[Any]:
    return list(connection.exec_driver_sql(query, execution_options={"no_parameters": True}))


_OTHER_GRAMMARS = frozenset({"ORACLE", "MSSQL", "DB2", "MAXDB"})  # MariaDB: another language, in part
_STORED = (
    "SELECT routine_name FROM information_schema.routines WHERE routine_type = 'FUNCTION'",
    "SELECT name FROM mysql.func",
    "SELECT udf_name FROM performance_schema.user_defined_functions",
)
