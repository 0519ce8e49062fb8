"""MySQL's four ways to write a string: a setting of the server decides where a quote ends, and the parser must agree.

`ANSI_QUOTES` makes `"x"` a name; `NO_BACKSLASH_ESCAPES` makes a backslash a character like any other. Read by the
wrong one, `'\\' , sleep(60) -- '` is one harmless string to the parser, and a call to the server.
"""

from __future__ import annotations

from sqlglot.dialects.mysql import MySQL


class MySQLNames(MySQL):
    """MySQL under `ANSI_QUOTES`."""

    class Tokenizer(MySQL.Tokenizer):
        QUOTES = ["'"]  # noqa: RUF012 - the parser's way to declare them
        IDENTIFIERS = ["`", '"']  # noqa: RUF012


class MySQLBackslash(MySQL):
    """MySQL under `NO_BACKSLASH_ESCAPES`."""

    class Tokenizer(MySQL.Tokenizer):
        STRING_ESCAPES = ["'", '"']  # noqa: RUF012


class MySQLNamesBackslash(MySQLNames):
    """MySQL under both."""

    class Tokenizer(MySQLNames.Tokenizer):
        STRING_ESCAPES = ["'"]  # noqa: RUF012


def mysql_grammar(modes: frozenset[str]) -> str:
    """The name of the grammar for a server's `sql_mode`.

    Args:
        modes: its words, in upper case.
    """
    names, plain = "ANSI_QUOTES" in modes, "NO_BACKSLASH_ESCAPES" in modes
    if names:
        return "mysqlnamesbackslash" if plain else "mysqlnames"
    return "mysqlbackslash" if plain else "mysql"
