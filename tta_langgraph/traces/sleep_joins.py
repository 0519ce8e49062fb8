"""How the tables of a database hang together: the shortest chain of foreign keys between each two of them."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable

from tta_langgraph.sql.catalog import Catalog
from tta_langgraph.sql.names import located, spelled

Edge = tuple[str, str]
"""The other table, and the condition that joins it."""


def join_paths(catalog: Catalog, *, longest: int = 3, most: int = 40) -> tuple[str, ...]:
    """The conditions that join each pair of tables, one line each, short paths first.

    Args:
        catalog: the tables with their foreign keys.
        longest: most joins in a path.
        most: most lines.

    Returns:
        Lines such as `singer – concert: singer.id = appears.singer_id AND appears.concert_id = concert.id`.
    """
    edges = _edges(catalog)
    found: list[tuple[int, str]] = []
    names = [table.name for table in catalog.tables]
    for i, start in enumerate(names):
        paths = _paths(start, edges, longest)
        found += [
            (len(conditions), f"{start} – {end}: {' AND '.join(conditions)}")
            for end, conditions in paths.items()
            if end in names[i + 1 :]
        ]
    return tuple(line for _, line in sorted(found, key=lambda pair: pair[0])[:most])


def _edges(catalog: Catalog) -> dict[str, list[Edge]]:
    edges: dict[str, list[Edge]] = defaultdict(list)
    for table in catalog.tables:
        for key in table.foreign_keys:
            other = catalog.by_name.get(key.table.lower())
            if other is None or other.name == table.name or key.schema != other.schema:  # its namesake elsewhere
                continue
            referred = key.referred or other.primary_key
            if len(referred) != len(key.columns):
                continue
            pairs = zip(key.columns, referred, strict=True)
            here, there = (located(each.name, each.schema, catalog.dialect) for each in (table, other))
            condition = " AND ".join(
                f"{here}.{spelled(ours, catalog.dialect)} = {there}.{spelled(theirs, catalog.dialect)}"
                for ours, theirs in pairs
            )
            edges[table.name].append((other.name, condition))
            edges[other.name].append((table.name, condition))
    return edges


def _paths(start: str, edges: dict[str, list[Edge]], longest: int) -> dict[str, tuple[str, ...]]:
    """Breadth first: the first path to a table is a shortest one."""
    found: dict[str, tuple[str, ...]] = {start: ()}
    queue = deque([start])
    while queue:
        here = queue.popleft()
        if len(found[here]) == longest:
            continue
        for other, condition in _in_order(edges.get(here, ())):
            if other not in found:
                found[other] = (*found[here], condition)
                queue.append(other)
    del found[start]
    return found


def _in_order(edges: Iterable[Edge]) -> list[Edge]:
    """By name, so that the same schema gives the same lines."""
    return sorted(edges)
