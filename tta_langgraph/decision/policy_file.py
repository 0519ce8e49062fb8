"""The policy file: one JSON object with format and version; no pickle, nothing executed on reading."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tta_langgraph.errors import PolicyError

FORMAT = "tta-policy"
VERSION = 1
"""Raised when an older reader would misread a file."""


def write_policy_file(path: Path, policy: Mapping[str, Any]) -> Path:
    """Writes atomically: readers see the old file or the new one, never half of one.

    Raises:
        PolicyError: the policy holds something that JSON cannot say (NaN, infinity), or the file cannot be written.
    """
    try:
        text = json.dumps({"format": FORMAT, "version": VERSION, **policy}, allow_nan=False, separators=(",", ":"))
    except (ValueError, TypeError) as error:
        raise PolicyError(f"the policy cannot be written as JSON: {error}", where=str(path)) from error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                out.write(text + "\n")
                out.flush()
                os.fsync(out.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise PolicyError(
            f"the policy file cannot be written: {error.strerror or error}",
            where=str(path),
            remedy="Choose another path",
        ) from error
    return path


def read_policy_file(path: Path) -> dict[str, Any]:
    """Reads and checks the envelope.

    Raises:
        PolicyError: no such file, not JSON, not a policy, an unknown version, or a number that is not finite.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PolicyError(
            f"the policy file cannot be read: {error.strerror or error}",
            where=str(path),
            remedy="Give the path of a file that Policy.save or tta fit wrote",
        ) from error
    except UnicodeDecodeError:
        raise PolicyError("not a policy file: not UTF-8 text", where=str(path), remedy=_REMEDY) from None
    try:
        data = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"not a policy file: {error}", where=str(path), remedy=_REMEDY) from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise PolicyError("not a policy file", where=str(path), remedy=_REMEDY)
    if type(data.get("version")) is not int or data["version"] != VERSION:  # true equals 1
        raise PolicyError(
            f"policy version {data.get('version')!r} is unknown here; this release reads version {VERSION}",
            where=str(path),
            remedy="Fit it again with this release, or install the release that wrote it",
        )
    return data


_REMEDY = "Give a file that Policy.save or tta fit wrote"


def _refuse(constant: str) -> float:
    raise ValueError(f"it holds {constant}, which is not a number to decide with")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"it holds {text}, which is too large")
    return number


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
