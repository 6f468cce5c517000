"""`connect`: is anybody listening?

TCP: the three-way handshake, then an orderly close. UDP: an empty datagram; an ICMP error within half the timeout is a
failure and silence is not, as in keepalived's UDP_CHECK. A UDP real whose whole host is gone is silent too, but it
loses its neighbour entry, and without that the packet path gives it no connections.
"""

from __future__ import annotations

import asyncio
import socket

from lb.probes.base import Target, Tools
from lb.service import PROTOCOL_NUMBERS


async def probe(target: Target, _tools: Tools) -> str:
    """Connect as the virtual's protocol does."""
    if target.service.protocol == PROTOCOL_NUMBERS["udp"]:
        return await _udp(target)
    return await _tcp(target)


async def _tcp(target: Target) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
        await asyncio.get_running_loop().sock_connect(connection, (str(target.address), target.port))
    return "connected"


class _Listener(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, _addr: object) -> None:
        if not self.answer.done():
            self.answer.set_result(f"answered {len(data)} bytes")

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


async def _udp(target: Target) -> str:
    loop = asyncio.get_running_loop()
    transport, listener = await loop.create_datagram_endpoint(
        _Listener, remote_addr=(str(target.address), target.port)
    )
    try:
        transport.sendto(b"")
        return await asyncio.wait_for(listener.answer, target.check.timeout / 2)
    except TimeoutError:
        return "no refusal"
    finally:
        transport.abort()
