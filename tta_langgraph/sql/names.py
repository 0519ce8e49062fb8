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
    quoted = always or folded or not _PLAIN.fullmatch(name) or name.upper() in reader.tokenizer_class.KEYWORDS
    return exp.to_identifier(name, quoted=quoted).sql(reader)


_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LOWER = frozenset({"postgres", "redshift"})
_UPPER = frozenset({"oracle", "snowflake"})
