"""How large a value one statement can build out of nothing, read off its tree.

A string or a list is built in one piece, deaf to interrupts until it is done; in DuckDB also outside of its memory
limit (measured: `repeat('x', 1000000000)` held 2 GB and 17 seconds past the deadline; `format('%900000000s', 'x')`
took PostgreSQL 10 seconds past it). So what a statement spells out as sizes is multiplied up before it runs, and must
stay small.
"""

from __future__ import annotations

import math
import re

from sqlglot import exp


def too_large(nodes: list[exp.Expr], most: int, *, strict: bool) -> str | None:
    """The reason why the statement may build values beyond `most` elements, or None.

    Args:
        nodes: every node of the statement.
        most: the largest product of sizes.
        strict: whether sizes that are not plain numbers are refused as well, and lists of numbers counted; for an
            engine that has no limit of its own.
    """
    product = 2.0 ** max(0, _rows_in_rows(nodes) - _FEW_ROWS) * _spelled_out(nodes)
    refusal = _slow_or_doubling(nodes) if strict else None
    if refusal is not None:
        return refusal
    for node in nodes:
        factors = [_factor(call, strict=strict) for call in (_readings(node) if strict else (node,))]
        if None in factors and strict:
            return f"the size that {_named(node)} builds has to be a plain number"
        product *= max(factor or 1.0 for factor in factors)
        if product > most:
            break
    return f"it may build a value of more than {most} elements" if product > most else None


def _readings(node: exp.Expr) -> tuple[exp.Expr, ...]:
    """The node, and for a call after a dot the call that DuckDB makes of it: `'x'.repeat(9)` is `repeat('x', 9)`.

    A name before the dot may be a schema as well; then both are looked at.
    """
    if not (isinstance(node, exp.Anonymous) and isinstance(node.parent, exp.Dot) and node.arg_key == "expression"):
        return (node,)
    before = node.parent.this
    call = exp.Anonymous(this=node.this)
    call.args["expressions"] = [before, *node.expressions]  # without moving them out of the tree
    return (node, call) if isinstance(before, (exp.Identifier, exp.Dot)) else (call,)


def _factor(node: exp.Expr, *, strict: bool) -> float | None:
    """How many times larger than what it is given the node's value may be; None when that is not a plain number."""
    if isinstance(node, (exp.DPipe, exp.Concat, exp.ArrayConcat)):
        return _joined(node) if strict else 1.0
    if isinstance(node, exp.DataType) and strict:  # INT[1000][1000] is a million of them, also when it is NULL
        return math.prod(max(1.0, _number(size) or 1.0) for size in node.args.get("values") or ())
    if not isinstance(node, exp.Func):
        return 1.0
    name = _named(node)
    if name in _SERIES:
        return _series(node) if strict else 1.0
    if name in _SIZED:
        return _sized(node, name)
    if name in _FORMATS:
        return _format(node)
    if name in _REPLACING:
        return _replacing(node) if strict else 1.0
    if name in _JOINING and strict:
        return float(len(_arguments(node)))
    return 1.0


def _spelled_out(nodes: list[exp.Expr]) -> float:
    """How many times longer a value gets by being quoted, or written in digits, again and again.

    What stands side by side in one query does not add up, so the deepest nesting counts; a query may take what another
    has made, so queries multiply.
    """
    longest: dict[int, float] = {}  # by query
    within: dict[int, tuple[int, float]] = {}  # of each node: its query, and what is around it there
    for node in nodes:  # parents come before their children
        query, factor = within.get(id(node.parent), (id(node), 1.0))
        if isinstance(node, exp.Query):
            query, factor = id(node), 1.0
        call = node.expression if isinstance(node, exp.Dot) else node  # `x.hex().hex()`: what is before is given, too
        counted = isinstance(node.parent, exp.Dot) and node.arg_key == "expression"
        if isinstance(call, exp.Func) and not counted:
            name = _named(call)
            factor *= _WIDENING.get(name, 2.0 if name in _QUOTING else 1.0)
        within[id(node)] = query, factor
        longest[query] = max(longest.get(query, 1.0), factor)
    return math.prod(longest.values())


def _rows_in_rows(nodes: list[exp.Expr]) -> int:
    """The deepest nesting of `ROW(...)` and `(a, b)`: written as text, each level doubles the quotes of the one inside.

    PostgreSQL wrote 30 of them for 11 seconds past its time limit, and `to_json` of `to_json` for 30.
    """
    depths: dict[int, int] = {}
    for node in nodes:  # parents come before their children
        above = depths.get(id(node.parent), 0) if node.parent is not None else 0
        is_row = isinstance(node, exp.Tuple) or (isinstance(node, exp.Func) and _named(node) in _ROWS)
        depths[id(node)] = above + is_row
    return max(depths.values(), default=0)


def _slow_or_doubling(nodes: list[exp.Expr]) -> str | None:
    """What DuckDB does not interrupt: the distance of two long texts, and a fold that doubles its value each time."""
    for node in nodes:
        if not isinstance(node, exp.Func):
            continue
        name = _named(node)
        if name in _DISTANCES and not _comparable(_arguments(_readings(node)[-1])[:2]):
            return (
                f"{name} of long texts cannot be stopped; compare left(x, {_SHORT}) of each, or with a text of at most "
                f"{_SHORT} characters"
            )
        if name in _REDUCING:
            for body in node.find_all(exp.Lambda):
                words = [each.name for each in body.this.find_all(exp.Identifier)]
                if any(words.count(parameter.name) > 1 for parameter in body.expressions):
                    return f"{name} may double its value with each element"
    return None


def _comparable(texts: list[exp.Expr]) -> bool:
    """Whether one of the texts is short as it is written, or all are cut: the time is the product of their lengths."""
    if any(_string(text) and len(str(text.this)) <= _SHORT for text in texts):
        return True
    return all(_cut_short(text) for text in texts)


def _cut_short(text: exp.Expr) -> bool:
    while isinstance(text, (exp.Lower, exp.Upper, exp.Trim, exp.Paren)):
        text = text.this
    if isinstance(text, (exp.Left, exp.Right)):
        size = _number(text.expression)
    elif isinstance(text, exp.Substring):
        size = _number(text.args.get("length"))
    else:
        size = len(str(text.this)) if _string(text) else None
    return size is not None and 0 <= size <= _SHORT


def _named(node: exp.Expr) -> str:
    return str(
        node.sql_name() if isinstance(node, exp.Func) and not isinstance(node, exp.Anonymous) else node.this
    ).lower()


def wide_format(nodes: list[exp.Expr], most: int) -> str | None:
    """The reason why a format string may make SQLite pad for minutes, or None.

    Padding goes on past the length limit and hears no interrupt (measured: `printf('%.*c', 2000000000, 'x')` took 50
    seconds to return NULL).

    Args:
        nodes: every node of the statement.
        most: the widest field.
    """
    for node in nodes:
        if not isinstance(node, exp.Func):
            continue
        name = _named(node)
        if name in _FORMATS:
            width = _format(node)
            if width is None:
                return f"the format of {name} has to be a plain string without *"
            if width > most:
                return f"{name} pads to more than {most} characters"
    return None


def _joined(node: exp.Expr) -> float:
    """Joining a column with itself doubles it; a chain of that in sub-queries is what this counts."""
    parts = node.expressions or [node.args.get("this"), node.args.get("expression")]
    grown = sum(1 for part in parts if isinstance(part, exp.Expr) and part.find(exp.Column) is not None)
    return max(1.0, float(grown))


def _sized(node: exp.Func, name: str) -> float | None:
    if name == "array_fill":
        return math.prod(max(1.0, _number(literal) or 1.0) for literal in node.find_all(exp.Literal))
    arguments = _arguments(node)[0 if name == "space" else 1 :]
    sizes = [number for argument in arguments if (number := _number(argument)) is not None]
    unknown = [argument for argument in arguments if _number(argument) is None and not _string(argument)]
    if unknown and not sizes:
        return None
    return max(sizes, default=1.0)


def _series(node: exp.Func) -> float | None:
    """A series in the FROM clause streams; as a value it is one list."""
    if isinstance(node.parent, (exp.Table, exp.TableFromRows, exp.From, exp.Join)):
        return 1.0
    numbers = [_number(argument) for argument in _arguments(node)]
    if all(number is not None for number in numbers):
        start, end = (0.0, numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])
        step = numbers[2] if len(numbers) > 2 else 1.0
        return abs((end or 0.0) - (start or 0.0)) / max(1e-9, abs(step or 1.0))
    for interval in node.find_all(exp.Interval):
        unit = str(interval.args.get("unit") or interval.this).lower()
        return 1.0 if any(word in unit for word in _LONG_UNITS) else None
    return None


def _format(node: exp.Func) -> float | None:
    pattern = _arguments(node)[0] if _arguments(node) else None
    if not _string(pattern) or _DYNAMIC.search(str(pattern.this if pattern else "")):
        return None
    quoting = 2.0 if _QUOTED_FIELD.search(str(pattern.this if pattern else "")) else 1.0
    return quoting * max((float(width) for width in _WIDTH.findall(str(pattern.this if pattern else ""))), default=1.0)


def _replacing(node: exp.Func) -> float:
    arguments = _arguments(node)
    if len(arguments) < 3:
        return 1.0
    new, old = arguments[2], arguments[1]
    if not _string(new):
        return _UNKNOWN
    return max(1.0, len(str(new.this)) / (max(1, len(str(old.this))) if _string(old) else 1))


def _arguments(node: exp.Expr) -> list[exp.Expr]:
    if isinstance(node, exp.Anonymous):
        return list(node.expressions)
    found: list[exp.Expr] = []
    for value in node.args.values():
        found += [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, exp.Expr)]
    return found


def _number(node: exp.Expr | None) -> float | None:
    if isinstance(node, exp.Neg):
        inner = _number(node.this)
        return None if inner is None else -inner
    if isinstance(node, exp.Literal) and not node.is_string:
        try:
            return float(str(node.this).replace("_", ""))
        except ValueError:
            return None
    return None


def _string(node: exp.Expr | None) -> bool:
    return isinstance(node, exp.Literal) and node.is_string


_SIZED = frozenset(
    {
        "repeat",
        "lpad",
        "rpad",
        "pad",
        "list_resize",
        "array_resize",
        "bitstring",
        "bar",
        "space",
        "list_pad",
        "array_fill",
    }
)
_SERIES = frozenset({"range", "generate_series", "generateseries", "generate_date_array", "generate_timestamp_array"})
_FORMATS = frozenset({"printf", "format"})
_REPLACING = frozenset({"replace", "regexp_replace", "str_replace"})
_JOINING = frozenset({"concat", "concat_ws", "list_concat", "list_cat", "array_concat", "array_cat"})
_LONG_UNITS = ("hour", "day", "week", "month", "quarter", "year", "decade")
_REDUCING = frozenset({"reduce", "list_reduce", "array_reduce"})
_DISTANCES = frozenset(
    {"levenshtein", "editdist3", "damerau_levenshtein", "jaro_similarity"}
    | {"jaro_winkler_similarity", "jarowinkler_similarity"}
)
_SHORT = 255  # characters; PostgreSQL takes no longer ones either
_ROWS = frozenset({"row", "struct", "struct_pack"})
_FEW_ROWS = 4  # a list of pairs, compared with pairs
_QUOTING = frozenset(
    {
        *(
            "quote",
            "quote_literal",
            "quote_ident",
            "quote_nullable",
            "to_json",
            "to_jsonb",
            "json_quote",
            "row_to_json",
        ),
        *(
            "json_build_array",
            "json_build_object",
            "jsonb_build_array",
            "jsonb_build_object",
            "json_array",
            "json_object",
        ),
        *("jsonb_object", "array_to_json", "xmlelement", "xmlforest"),
    }
)
_WIDENING = {
    **dict.fromkeys(("bin", "to_binary"), 8.0),
    **dict.fromkeys(("hex", "to_hex", "lowerhex", "lower_hex", "to_base64", "base64"), 2.0),
    **dict.fromkeys(("url_encode", "encode"), 4.0),
}
"""How many times longer a text written in digits is."""
_DYNAMIC = re.compile(r"\*|\{[^{}]*\{[^{}]*\}")
_QUOTED_FIELD = re.compile(r"%[\d$-]*[LI]")  # of PostgreSQL
_WIDTH = re.compile(r"\d+")
_UNKNOWN = 16.0
