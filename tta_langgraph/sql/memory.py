"""How much memory this process holds: the only bound on what SQLite builds without counting it.

`json_group_array` and its kin grow their text outside of `SQLITE_LIMIT_LENGTH`, which is looked at when it is done.
"""

from __future__ import annotations

import os
import sys


def held() -> int:
    """Resident bytes of this process; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return _peak()


def _peak() -> int:
    """The most it ever held: it only grows, and so says less."""
    if sys.platform == "win32":
        return 0
    import resource

    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


class Watch:
    """Whether the process has grown by more than a statement may make it grow.

    Args:
        most: bytes; what other threads hold meanwhile counts, so it is generous.
    """

    def __init__(self, most: int) -> None:
        self._most = held() + most
        self.full = False
        """Whether it has."""

    def look(self) -> bool:
        """Looks, and returns `full`."""
        self.full = self.full or held() > self._most
        return self.full
