"""Two directors' failover as processes: what only a process can suffer."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator

import pytest

from tests.unit.ha_pair import addresses, free_port
from tests.unit.ha_process import Process


@contextlib.asynccontextmanager
async def two_processes() -> AsyncIterator[tuple[Process, Process]]:
    """lb1 active, lb2 standby in sync."""
    port, hosts = free_port(), addresses()[:2]
    processes = [await Process.start(name, port, hosts) for name in ("lb1", "lb2")]
    try:
        await processes[0].says("active beside up standby in sync")
        await processes[1].says("standby beside up active")
        yield processes[0], processes[1]
    finally:
        for process in processes:
            await process.end()


def test_kill_is_seen_without_deadtime(capsys: pytest.CaptureFixture[str]) -> None:
    async def scenario() -> None:
        async with two_processes() as (one, two):
            killed_s = one.signal(signal.SIGKILL)
            taken_s = await two.says("take", killed_s)
            await two.says("active beside down")
            with capsys.disabled():
                print(f" [address taken {(taken_s - killed_s) * 1000:.1f} ms after SIGKILL]", end="")

    asyncio.run(scenario())


def test_a_frozen_active_is_replaced_and_yields_when_it_wakes(capsys: pytest.CaptureFixture[str]) -> None:
    async def scenario() -> None:
        async with two_processes() as (one, two):
            frozen_s = one.signal(signal.SIGSTOP)
            taken_s = await two.says("take", frozen_s)
            await two.says("active beside down")
            woken_s = one.signal(signal.SIGCONT)
            released_s = await one.says("release", woken_s)
            await one.says("standby beside up active", woken_s)
            await two.says("active beside up standby in sync", woken_s)
            assert [word for at_s, word in two.words if at_s > woken_s and word == "release"] == []
            with capsys.disabled():
                print(
                    f" [taken {(taken_s - frozen_s) * 1000:.0f} ms after SIGSTOP, deadtime 600;"
                    f" released {(released_s - woken_s) * 1000:.1f} ms after SIGCONT]",
                    end="",
                )

    asyncio.run(scenario())


def test_a_frozen_standby_disturbs_nobody() -> None:
    async def scenario() -> None:
        async with two_processes() as (one, two):
            two.signal(signal.SIGSTOP)
            await one.says("active beside down")
            woken_s = two.signal(signal.SIGCONT)
            await one.says("active beside up standby in sync", woken_s)
            assert [word for _, word in two.words if word == "take"] == []
            assert [word for _, word in one.words if word == "release"] == []

    asyncio.run(scenario())
