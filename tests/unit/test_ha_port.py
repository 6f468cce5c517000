"""One link's sockets in a running loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Iterator

import pytest

from ha.counters import Counters
from ha.port import Port
from ha.ways import Way
from tests.servers import open_files
from tests.unit.ha_pair import addresses, free_port, until


@contextlib.contextmanager
def room_for(descriptors: int) -> Iterator[None]:
    """So many more may be opened."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.dup(0)
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe + descriptors, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("descriptors", [1, 2, 3], ids=["no map", "one map", "no program"])
def test_where_the_kernel_cannot_sort_heartbeats_come_with_all_the_rest(
    descriptors: int, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scenario() -> None:
        host, peer, _ = addresses()
        number, received = free_port(), list[bytes]()
        with room_for(descriptors):
            port = Port(Way("unicast", "unicast", host, peers={"lb2": peer}), number, received.append, Counters())
        with contextlib.closing(port), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            assert not port.steers
            sender.bind((peer, 0))
            sender.sendto(b"a heartbeat", (host, number))
            await until(lambda: received == [b"a heartbeat"])

    before = open_files()
    asyncio.run(scenario())
    assert open_files() <= before, "what could be opened is closed again"
    said = capsys.readouterr().out
    assert "heartbeats and floods share sockets" in said
    assert "Too many open files" in said
