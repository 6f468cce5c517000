"""`connect`: is anybody listening?

TCP: the three-way handshake, then an orderly close. UDP: an empty datagram; an ICMP error within half the timeout is a
failure and silence is not, as in keepalived's UDP_CHECK. A UDP real whose whole host is gone is silent too, but it
loses its neighbour entry, and without that the packet path gives it no connections.
"""

from __future__ import annotations

import asyncio
import socket

from lb.probes.base import Seen, Target, Tools, connecting
from lb.probes.datagram import endpoint
from lb.service import PROTOCOL_NUMBERS


async def probe(target: Target, _tools: Tools) -> Seen:
    """Connect as the check says, else as the virtual's protocol does."""
    protocol = target.check.protocol
    udp = protocol == "udp" if protocol else target.service.protocol == PROTOCOL_NUMBERS["udp"]
    return Seen(await (_udp(target) if udp else _tcp(target)))


async def _tcp(target: Target) -> str:
    with socket.socket(target.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
        async with connecting(target.check):
            await asyncio.get_running_loop().sock_connect(connection, (str(target.address), target.port))
    return "connected"


async def _udp(target: Target) -> str:
    with endpoint(target) as connected:
        connected.send(b"")
        heard = asyncio.get_running_loop().sock_recv(connected, 65536)
        try:
            answer = await asyncio.wait_for(heard, target.check.timeout / 2)
        except TimeoutError:
            return "no refusal"
    return f"answered {len(answer)} bytes"
