"""A pair whose cable is cut and mended: real links, real namespaces."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.netns.conftest import ip
from tests.unit.ha_process import Process

PORT = 694
HOSTS = ("10.77.0.1", "10.77.0.2")


def test_after_a_partition_exactly_the_one_longer_in_service_stays(
    segment: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    async def scenario() -> None:
        names = ("lb1", "lb2")
        nodes = [
            await Process.start(name, PORT, HOSTS, "ip", "netns", "exec", where)
            for name, where in zip(names, segment, strict=True)
        ]
        one, two = nodes
        try:
            await one.says("active beside up standby in sync")
            await two.says("standby beside up active")
            cut_s = time.clock_gettime(time.CLOCK_MONOTONIC)
            ip("-n", segment[0], "link", "set", "eth0", "down")
            taken_s = await two.says("take", cut_s)
            await two.says("active beside down")
            await one.says("active beside down")
            mended_s = time.clock_gettime(time.CLOCK_MONOTONIC)
            ip("-n", segment[0], "link", "set", "eth0", "up")
            released_s = await two.says("release", mended_s)
            await one.says("announce", mended_s)
            await one.says("active beside up standby in sync", mended_s)
            await two.says("standby beside up active", mended_s)
            assert [word for at_s, word in one.words if at_s > cut_s and word in ("take", "release")] == []
            with capsys.disabled():
                took = f"taken {(taken_s - cut_s) * 1000:.0f} ms after the cut"
                print(f" [{took}, released {(released_s - mended_s) * 1000:.0f} ms after it was mended]", end="")
        finally:
            for node in nodes:
                await node.end()

    asyncio.run(scenario())
