"""Events reach their reader, though few of them wake it."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable

from lb.datapath.listener import Listener
from tests.packet.world import World, tcp

DEADLINE_S = 5.0


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


def test_every_event_is_read_soon_and_then_there_is_quiet(world: World) -> None:
    for port in range(1, 301):
        world.send(tcp("S", port))
    frames = [tcp("A", port) for port in range(1, 301)]
    heard: list[int] = []

    def read() -> bool:
        events = world.events()
        heard.extend(events["client_port"].tolist())
        return len(events) > 0

    def send(some: list[bytes]) -> None:
        for frame in some:
            world.send(frame)

    def has_heard(count: int) -> bool:
        return len(heard) == count

    async def go() -> None:
        fd = world.data.event_fd
        assert fd is not None
        listener = Listener(fd, read)
        try:
            for begin, end in ((0, 100), (100, 101), (101, 299)):
                await asyncio.to_thread(send, frames[begin:end])
                await until(functools.partial(has_heard, end))
                await until(lambda: listener._again is None)
        finally:
            listener.close()
        send(frames[299:])
        await asyncio.sleep(0)
        assert len(heard) == 299
        assert len(world.events()) == 1

    asyncio.run(go())
    assert heard == list(range(1, 300))
