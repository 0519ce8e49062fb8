"""Virtual time: long waits take none, the order of events stays, and a deadlock is an error."""

from __future__ import annotations

import asyncio

import pytest

from tta_langgraph.testing import DeadlockError, VirtualClock


def test_tasks_wake_in_the_order_of_virtual_time() -> None:
    clock = VirtualClock()
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        woken.append((name, clock()))

    async def main() -> None:
        await asyncio.gather(sleeper("day", 86_400), sleeper("hour", 3_600), sleeper("now", 0))

    clock.run(main())
    assert [name for name, _ in woken] == ["now", "hour", "day"]
    assert [at for _, at in woken] == pytest.approx([0, 3_600, 86_400])


def test_a_timeout_strikes_at_its_virtual_deadline() -> None:
    clock = VirtualClock(start=100)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(1_000), timeout=30)

    clock.run(main())
    assert clock() == pytest.approx(130)


def test_a_run_in_which_everybody_waits_for_ever_is_a_deadlock() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError):
        VirtualClock().run(main())


def test_threads_may_call_back_into_virtual_time() -> None:
    async def main() -> int:
        return await asyncio.to_thread(lambda: 42)

    assert VirtualClock().run(main()) == 42


def test_advance_moves_the_clock_by_hand_and_never_back() -> None:
    clock = VirtualClock()
    clock.advance(2.5)
    assert clock.monotonic() == 2.5
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)
