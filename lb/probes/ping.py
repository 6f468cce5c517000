"""`ping`: does the host answer an ICMP echo?

The kernel's own ping sockets are used where `net.ipv4.ping_group_range` lets us, which tell each probe its own answers
only; else raw sockets, connected, so that a probe hears its real alone and tells its answers by a number of its own.
An ICMP error about the echo is a failure at once. Source of the formats: RFC 792, RFC 4443.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import struct
from typing import NamedTuple

from lb.probes.base import NotAskedError, Seen, Target, Tools


class Echo(NamedTuple):
    """ICMP in one family. filter: socket option that lets a raw socket hear replies only: level, name, value."""

    protocol: int
    request: int
    reply: int
    filter: tuple[int, int, bytes]


_SOL_RAW, _ICMP_FILTER = 255, 1
_ICMP6_FILTER = 1


def _all_but(word: str, reply: int, words: int) -> bytes:
    """A bit for each type, set where it is not to be heard."""
    bits = ((1 << 32 * words) - 1) ^ (1 << reply)
    return b"".join(struct.pack(word, bits >> 32 * n & 0xFFFFFFFF) for n in range(words))


ECHO = {
    socket.AF_INET: Echo(socket.IPPROTO_ICMP, 8, 0, (_SOL_RAW, _ICMP_FILTER, _all_but("=I", 0, 1))),
    socket.AF_INET6: Echo(
        socket.IPPROTO_ICMPV6, 128, 129, (socket.IPPROTO_ICMPV6, _ICMP6_FILTER, _all_but("=I", 129, 8))
    ),
}
_HEAD = struct.Struct("!BBHHH")
"""Type, code, checksum, identifier, sequence number."""

_numbers = itertools.count(1)


async def probe(target: Target, _tools: Tools) -> Seen:
    """Send one echo request and wait for its reply."""
    echo = ECHO[target.family]
    payload = struct.pack("!QQ", os.getpid(), next(_numbers))
    loop = asyncio.get_running_loop()
    with _open(target.family, echo) as endpoint:
        endpoint.connect((str(target.address), 0))
        endpoint.send(_request(echo, payload))
        while True:
            answer = await loop.sock_recv(endpoint, 65536)
            if target.family == socket.AF_INET and endpoint.type == socket.SOCK_RAW:
                answer = answer[4 * (answer[0] & 15) :]
            if answer[:1] == bytes((echo.reply,)) and answer[_HEAD.size :] == payload:
                return Seen("echoed")


def _open(family: socket.AddressFamily, echo: Echo) -> socket.socket:
    try:
        return socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, echo.protocol)
    except PermissionError:
        pass
    try:
        raw = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, echo.protocol)
    except PermissionError:
        raise NotAskedError("no right to ping: net.ipv4.ping_group_range, or CAP_NET_RAW") from None
    raw.setsockopt(*echo.filter)
    return raw


def _request(echo: Echo, payload: bytes) -> bytes:
    """An echo request. The kernel writes a ping socket's identifier and all checksums but that of a raw IPv4 one."""
    identifier = os.getpid() & 0xFFFF
    head = _HEAD.pack(echo.request, 0, 0, identifier, 1)
    return _HEAD.pack(echo.request, 0, _checksum(head + payload), identifier, 1) + payload


def _checksum(data: bytes) -> int:
    """The Internet checksum of an even number of bytes (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
