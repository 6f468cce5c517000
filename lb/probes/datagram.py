"""One datagram there, one back. An ICMP error is heard, because the socket is connected: it becomes an OSError."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

from lb.probes.base import Target


async def exchange(target: Target, request: bytes, fits: Callable[[bytes], bool] = lambda _answer: True) -> bytes:
    """Send `request` and return the first answer that fits it: one to an earlier question may still be under way."""
    with endpoint(target) as connected:
        connected.send(request)
        while True:
            answer = await asyncio.get_running_loop().sock_recv(connected, 65536)
            if fits(answer):
                return answer


@contextlib.contextmanager
def endpoint(target: Target) -> Iterator[socket.socket]:
    """A UDP socket that sends to the real and hears nobody else."""
    with socket.socket(target.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as opened:
        opened.connect((str(target.address), target.port))
        yield opened
