"""Numbers to start with before there are traces; `tta fit` replaces them. From the literature and from small models."""

from __future__ import annotations

from collections.abc import Mapping

TRANSITION_PRIORS: Mapping[str, tuple[float, float]] = {
    # A failed query cannot get worse. Small models repeat it (2-22% repaired, measured on 0.5B and 1.5B models).
    "reflect|failed": (0.12, 0.0),
    # A query that ran is mostly confirmed or repeated; changing a right one is as likely as mending a wrong one.
    "reflect|ran": (0.05, 0.03),
    "reflect": (0.10, 0.04),
    # Without feedback models rather talk themselves out of right answers (Huang et al. 2024, arXiv 2310.01798).
    "reflect:none|failed": (0.06, 0.0),
    "reflect:none": (0.05, 0.06),
    "reflect:judge|failed": (0.10, 0.0),
    "reflect:judge": (0.10, 0.05),
    # A larger model starts afresh and outvotes the small one.
    "escalate|failed": (0.45, 0.0),
    "escalate": (0.35, 0.06),
}
"""(p_fix, p_break) by `action|state` or `action`."""

PARTITION_PRIORS: Mapping[str, Mapping[str, float]] = {
    "sql": {"alpha": 0.45, "beta": 0.35, "spread": 1.2, "fail": 0.6},
    # Free answers do not fail, and wrong ones are more varied.
    "text": {"alpha": 0.5, "beta": 0.35, "spread": 2.0, "fail": 0.05},
}
"""Prior of the agreement model by task."""

DEFAULT_ACTIONS: Mapping[str, tuple[str, ...]] = {
    "sql": ("reflect", "resample(1)", "resample(2)", "resample(4)"),
    "text": ("reflect", "resample(1)", "resample(2)", "resample(4)"),
}
"""What a policy may do by task."""
