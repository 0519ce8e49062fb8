"""A database's address, as it may stand in an error, a log or a report."""

from __future__ import annotations

import re

from sqlalchemy import URL


def shown(url: URL) -> str:
    """The address without its secrets, wherever drivers let one write them: before the host, or as a parameter.

    Args:
        url: any SQLAlchemy URL.

    Returns:
        The URL as text, with `***` for the password and for parameters such as `?password=` and `?sslpassword=`.
    """
    secrets = {name: "***" for name in url.query if _SECRET.search(name)}
    return url.update_query_dict(secrets).render_as_string(hide_password=True).replace("=%2A%2A%2A", "=***")


_SECRET = re.compile(r"pass|pwd|secret|token|credential|api_?key|private", re.I)
