"""What an in-process vLLM engine says about itself: requests in flight and tokens processed."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["EngineStats", "StatsRecorder"]


@dataclass(frozen=True, kw_only=True)
class EngineStats:
    """A snapshot of the engine's own counters, cumulative since its start."""

    running: int
    """Sequences being computed now (`n` samples are `n` sequences)."""
    waiting: int
    """Sequences queued now."""
    prompt_tokens: int
    """Prompt tokens of all sequences that finished prefill, cached ones included."""
    cached_prompt_tokens: int
    """Of these, tokens served from the prefix cache."""
    completion_tokens: int
    """Tokens sampled, aborted requests included."""
    finished: Mapping[str, int] = field(default_factory=dict)
    """Sequences finished, by reason (`stop`, `length`, `abort`, ...)."""
    kv_cache_usage: float = 0.0
    """Share of the KV cache in use, 0 to 1."""


class StatsRecorder:
    """Collects the engine's statistics; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = self._waiting = self._prompt = self._cached = self._completion = 0
        self._usage = 0.0
        self._finished: Counter[str] = Counter()
        self.steps = 0
        """How often the engine has reported; it does so after every step."""

    def snapshot(self) -> EngineStats:
        """The counters now."""
        with self._lock:
            return EngineStats(
                running=self._running,
                waiting=self._waiting,
                prompt_tokens=self._prompt,
                cached_prompt_tokens=self._cached,
                completion_tokens=self._completion,
                finished=dict(self._finished),
                kv_cache_usage=self._usage,
            )

    def record(self, scheduler: Any, iteration: Any) -> None:
        """Adds one engine step; either part may be None."""
        with self._lock:
            self.steps += 1
            if scheduler is not None:
                self._running = scheduler.num_running_reqs
                self._waiting = scheduler.num_waiting_reqs
                self._usage = scheduler.kv_cache_usage
            if iteration is not None:
                self._prompt += iteration.prompt_token_stats.total
                self._cached += iteration.prompt_token_stats.cached_tokens
                self._completion += iteration.num_generation_tokens
                self._finished.update(str(one.finish_reason) for one in iteration.finished_requests)

    def factory(self) -> Any:
        """A stat logger for `AsyncLLM`; the base class exists only where vllm is installed."""
        from vllm.v1.metrics.loggers import StatLoggerBase

        recorder = self

        class _Logger(StatLoggerBase):  # type: ignore[misc,unused-ignore]
            def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
                pass

            def record(self, scheduler_stats: Any, iteration_stats: Any, *args: Any, **kwargs: Any) -> None:
                recorder.record(scheduler_stats, iteration_stats)

            def log_engine_initialized(self) -> None:
                pass

        return _Logger
