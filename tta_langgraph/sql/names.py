"""How an identifier is written in a dialect: quoted where it has to be."""

from __future__ import annotations

import re
from functools import lru_cache

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect

from tta_langgraph.sql.parsing import known


@lru_cache(maxsize=8192)
def spelled(name: str, dialect: str, *, always: bool = False) -> str:
    """The identifier as a statement names it.

    Args:
        name: as the catalog has it.
        dialect: sqlglot's name; unknown ones get standard quotes.
        always: quote also where it is not needed.
    """
    reader = Dialect.get_or_raise(known(dialect))
    folded = (dialect in _LOWER and name != name.lower()) or (dialect in _UPPER and name != name.upper())
    quoted = always or folded or not _PLAIN.fullmatch(name) or name.lower() in _RESERVED
    return exp.to_identifier(name, quoted=quoted).sql(reader)


def located(name: str, schema: str | None, dialect: str, *, always: bool = False) -> str:
    """A table as a statement names it, behind its schema where the name alone does not reach it.

    Args:
        name: the table, as the catalog has it.
        schema: its schema; None where the name is enough.
        dialect: sqlglot's name.
        always: quote also where it is not needed.
    """
    return ".".join(spelled(part, dialect, always=always) for part in (schema, name) if part is not None)


_WORDS = (
    "add all alter analyze and any array as asc asof between both by case cast change character check collate column "
    "condition constraint create cross current_date current_time current_timestamp current_user database databases "
    "dec default delete desc describe distinct div do drop each else end except exists explain false fetch for force "
    "foreign from full fulltext function generated grant group groups having if ignore in index inner insert intersect "
    "interval into is isnull join key keys kill lateral leading left like limit lines load localtime lock loop match "
    "mod natural not notnull null of offset on only optimize option or order out outer over partition pivot positional "
    "primary procedure purge qualify range rank read recursive references release rename repeat replace require "
    "restrict return returning right row rows schema schemas select separator session_user set show signal some sql "
    "starting system table tablesample then to trailing trigger true undo union unique unlock unpivot update usage use "
    "user using values varying virtual when where while window with write xor"
)
_RESERVED = frozenset(_WORDS.split())  # in one of the engines; quoting one too many does no harm
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LOWER = frozenset({"postgres", "redshift"})
_UPPER = frozenset({"oracle", "snowflake"})
