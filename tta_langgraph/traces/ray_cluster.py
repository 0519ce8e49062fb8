"""A Ray cluster to scale offline work out on: one that is there, or one on this machine."""

from __future__ import annotations

import os
from typing import Any

from tta_langgraph.errors import TraceError


def import_ray() -> Any:
    """The module `ray`, quiet about its usage.

    Raises:
        TraceError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise TraceError(
            "ray is not installed", where="executor='ray'", remedy="Install it with: pip install 'tta-langgraph[ray]'"
        ) from None
    return ray


def start_cluster(ray: Any, *, cpus: int | None = None) -> None:
    """A cluster on this machine with a small object store (nothing but questions and figures travels).

    With `RAY_ADDRESS` in the environment, the cluster there. Ray gives its own processes half a minute to come up,
    which a busy machine does not always keep; so a start is tried again.

    Args:
        ray: the module.
        cpus: processors that the cluster counts with; None: those of the machine.

    Raises:
        TraceError: no cluster can be had.
    """
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "warning"}
    if not os.environ.get("RAY_ADDRESS"):
        options.update(include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, num_cpus=cpus)
    for attempt in range(START_ATTEMPTS):
        try:
            ray.init(**options)
        except Exception as error:
            ray.shutdown()
            if attempt + 1 == START_ATTEMPTS:
                raise TraceError(
                    f"no Ray cluster started: {error}",
                    where="executor='ray'",
                    remedy="Try again on a quieter machine",
                ) from error
        else:
            return


OBJECT_STORE_BYTES = 128 * 1024 * 1024
"""Memory of the object store of a cluster that is started here."""
START_ATTEMPTS = 3
