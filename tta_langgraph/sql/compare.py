"""When two results are the same answer: the canonical key, and the exact comparison.

The key is a hash of the multiset of rows under a canonical column order, found by colour refinement of rows and
columns (Weisfeiler and Leman 1968): a column is told by its values and by the rows they sit in. Equal keys are equal
results. Distinct keys are distinct results, but for tables so regular that refinement cannot tell two unequal
columns apart; `same_result` settles those by trying the few orders that remain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import islice, permutations, product
from typing import TYPE_CHECKING, Any, Literal

from tta_langgraph.sql.cells import fold

if TYPE_CHECKING:
    from tta_langgraph.sql.result import ExecutionResult

Semantics = Literal["spider", "bird", "strict"]
"""Which difference counts.

`spider`: duplicates count, column order is free, row order counts only where the reference orders (execution match of
Spider, *Semantic Evaluation for Text-to-SQL with Distilled Test Suites*, arXiv 2010.02840). `bird`: sets of rows,
column order counts, row order never does (*Can LLM Already Serve as a Database Interface?*, arXiv 2305.03111).
`strict`: duplicates and column order count, row order where the reference orders.
"""

Rows = Sequence[Sequence[Any]]


def result_key(result: ExecutionResult | Rows, *, ordered: bool | None = None) -> str | None:
    """The canonical key of a result, for voting and for comparison across processes.

    Args:
        result: a result, or plain rows.
        ordered: whether row order counts; None takes it from the statement (plain rows: no).

    Returns:
        `rows:<hash>`, `list:<hash>` where order counts, `empty` when nothing was found, with a `cut<n>:` prefix when
        rows were cut at n; None for an error.
    """
    if isinstance(result, Sequence):
        return key_of(result, ordered=bool(ordered), truncated=False)
    if result.error is not None:
        return None
    if ordered is None or ordered == result.ordered:
        return result.key
    return key_of(result.rows, ordered=ordered, truncated=result.truncated)


def same_result(
    a: ExecutionResult | Rows,
    b: ExecutionResult | Rows,
    ordered: bool | None = None,
    *,
    semantics: Semantics = "spider",
) -> bool:
    """Whether `a` answers the question as the reference `b` does.

    Args:
        a: what is judged: a result or plain rows.
        b: the reference, which says whether row order counts.
        ordered: overrides that; ignored by `bird`, where order never counts.
        semantics: which differences count.

    Returns:
        False when either side is an error. When a side was cut at a cap, the comparison is of what is held, and both
        must have been cut.

    Example:
        ```python
        same_result([("Ann", 3)], [(3.0, "Ann")])                        # True: column order and number type are free
        same_result([(1,), (1,)], [(1,)])                                # False: duplicates count
        same_result([(1,), (1,)], [(1,)], semantics="bird")              # True: sets
        ```
    """
    if semantics not in ("spider", "bird", "strict"):
        raise ValueError(f"semantics={semantics!r}: use 'spider', 'bird' or 'strict'")
    if ordered is None:
        ordered = not isinstance(b, Sequence) and b.ordered
    left, right = _rows(a), _rows(b)
    if left is None or right is None or _cut(a) != _cut(b):
        return False
    if semantics == "bird":
        return set(_folded(left)) == set(_folded(right))
    if len(left) != len(right):
        return False
    if not left:
        return True
    if len(left[0]) != len(right[0]):
        return False
    x, y = _folded(left), _folded(right)
    if semantics == "strict":
        return x == y if ordered else sorted(x) == sorted(y)
    return _same_up_to_columns(x, y, ordered)


def key_of(rows: Rows, *, ordered: bool, truncated: bool) -> str:
    """The key of plain rows; `truncated` puts the cap into it, since what was cut is unknown."""
    cap = f"cut{len(rows)}:" if truncated else ""
    if not rows:
        return f"{cap}empty"
    ordered = ordered and len(rows) > 1
    folded = _folded(rows)
    order = _column_order(folded, ordered)
    lines = [_SEPARATOR.join([row[i] for i in order]) for row in folded]
    digest = blake2b(digest_size=16)
    for line in lines if ordered else sorted(lines):
        digest.update(line.encode("utf-8", "surrogatepass"))
        digest.update(b"\x1e")
    return f"{cap}{'list' if ordered else 'rows'}:{digest.hexdigest()}"


def _same_up_to_columns(x: list[tuple[str, ...]], y: list[tuple[str, ...]], ordered: bool) -> bool:
    columns_x, columns_y = _colours(x, ordered), _colours(y, ordered)
    if sorted(columns_x) != sorted(columns_y):
        return False
    target = x if ordered else sorted(x)
    for order in islice(_matchings(columns_x, columns_y, list(zip(*y, strict=True))), _MAX_ORDERS):
        moved = [tuple([row[i] for i in order]) for row in y]
        if (moved if ordered else sorted(moved)) == target:
            return True
    return False


def _matchings(x: list[bytes], y: list[bytes], columns: list[tuple[str, ...]]) -> Iterator[tuple[int, ...]]:
    """Orders of y's columns whose colours line up with x's, the few that refinement leaves open.

    Args:
        x: the colours of the one side.
        y: the colours of the other.
        columns: the cells of the other, by column.
    """
    places: dict[bytes, list[int]] = {}
    for place, colour in enumerate(x):
        places.setdefault(colour, []).append(place)
    sources: dict[bytes, list[int]] = {}
    for source, colour in enumerate(y):
        sources.setdefault(colour, []).append(source)
    # the product holds all that it is made of, so each part is cut
    parts = (islice(_arrangements(sources[colour], columns), _MAX_ORDERS) for colour in places)
    for choice in product(*parts):
        order = [0] * len(x)
        for ours, picked in zip(places.values(), choice, strict=True):
            for place, source in zip(ours, picked, strict=True):
                order[place] = source
        yield tuple(order)


def _arrangements(sources: list[int], columns: list[tuple[str, ...]]) -> Iterator[list[int]]:
    """Each order of some columns in which they look different, once: equal columns are not exchanged.

    A dozen columns of NULL have 479 million orders, and one arrangement.
    """
    alike: dict[tuple[str, ...], list[int]] = {}
    for source in sources:
        alike.setdefault(columns[source], []).append(source)
    if len(alike) == len(sources):
        yield from map(list, permutations(sources))
        return
    kinds = [kind for kind, group in enumerate(alike.values()) for _ in group]
    while True:
        left = [iter(group) for group in alike.values()]
        yield [next(left[kind]) for kind in kinds]
        # the next arrangement in lexicographic order (Narayana Pandita)
        i = next((i for i in reversed(range(len(kinds) - 1)) if kinds[i] < kinds[i + 1]), None)
        if i is None:
            return
        j = next(j for j in reversed(range(len(kinds))) if kinds[i] < kinds[j])
        kinds[i], kinds[j] = kinds[j], kinds[i]
        kinds[i + 1 :] = reversed(kinds[i + 1 :])


def _column_order(rows: list[tuple[str, ...]], ordered: bool) -> list[int]:
    if len(rows[0]) == 1:
        return [0]
    colours = _colours(rows, ordered)
    return sorted(range(len(colours)), key=colours.__getitem__)


def _colours(rows: list[tuple[str, ...]], ordered: bool) -> list[bytes]:
    """One colour per column: what it holds and, refined, beside what it holds it."""
    columns = list(zip(*rows, strict=True))
    if ordered:  # the place of a row is known, so a column's values in order say it all
        return [_hash(column) for column in columns]
    colours = [_hash(sorted(column)) for column in columns]
    for _ in range(_REFINEMENTS):
        if len(set(colours)) == len(colours):
            break
        row_colours = [
            _hash(sorted([c.hex() + cell for c, cell in zip(colours, row, strict=True)])).hex() for row in rows
        ]
        colours = [_hash(sorted([r + cell for r, cell in zip(row_colours, column, strict=True)])) for column in columns]
    return colours


def _hash(parts: Sequence[str]) -> bytes:
    return blake2b(_SEPARATOR.join(parts).encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _rows(side: ExecutionResult | Rows) -> Rows | None:
    if isinstance(side, Sequence):
        return side
    return side.rows if side.error is None else None


def _cut(side: ExecutionResult | Rows) -> bool:
    return not isinstance(side, Sequence) and side.truncated


def _folded(rows: Rows) -> list[tuple[str, ...]]:
    return [tuple([fold(cell) for cell in row]) for row in rows]


_SEPARATOR = "\x1f"
_REFINEMENTS = 2
_MAX_ORDERS = 720  # six columns alike that are not equal: beyond that the tables are told apart
