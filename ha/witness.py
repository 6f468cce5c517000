"""Which of the ping nodes answer: heartbeat's ping nodes, for whoever decides by them. Edge: raw ICMP sockets."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final, NamedTuple

import structlog

from lb.addresses import Address
from lb.errors import NetworkError

log = structlog.get_logger(__name__)

_ICMP: Final = struct.Struct("!BBHHH")
_PAYLOAD: Final = b"lbctl witness"
_ICMP6_FILTER: Final = 1
_PACKETS_A_TURN: Final = 256

PATIENCE_S: Final = 0.5
"""So long at least a ping node is thought to be there after an answer."""


class _Family(NamedTuple):
    """How a family is pinged. request, reply: types of messages (RFC 792, RFC 4443)."""

    family: socket.AddressFamily
    protocol: int
    request: int
    reply: int


_FAMILIES: Final = {
    4: _Family(socket.AF_INET, socket.IPPROTO_ICMP, 8, 0),
    6: _Family(socket.AF_INET6, socket.IPPROTO_ICMPV6, 128, 129),
}


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of `data`, whose length is made even with a zero byte."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def echo_request(version: int, identifier: int, sequence: int) -> bytes:
    """An echo request; that of ICMPv6 without its checksum, which covers addresses and is the kernel's to fill in."""
    kind = _FAMILIES[version].request
    head = _ICMP.pack(kind, 0, 0, identifier, sequence)
    filled = checksum(head + _PAYLOAD) if version == 4 else 0
    return _ICMP.pack(kind, 0, filled, identifier, sequence) + _PAYLOAD


def answers(version: int, packet: bytes, identifier: int) -> bool:
    """Is this an echo reply to us? packet: as a raw socket gives it, of IPv4 with its header. Never raises."""
    header = 0
    if version == 4:
        header = (packet[0] & 0x0F) * 4 if packet else 0
        if header < 20:
            return False
    if len(packet) < header + _ICMP.size:
        return False
    kind, code, _, theirs, _ = _ICMP.unpack_from(packet, header)
    return (kind, code, theirs) == (_FAMILIES[version].reply, 0, identifier)


def _open(version: int, source: Address) -> socket.socket:
    """A socket that asks from `source`, where that is of this family. Raises NetworkError."""
    how = _FAMILIES[version]
    try:
        sock = socket.socket(how.family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, how.protocol)
    except OSError as error:
        raise NetworkError(f"cannot ping over IPv{version}: {error.strerror}; lbctl must run as root") from None
    try:
        if version == 6:  # all other messages, as those of neighbour discovery, stay in the kernel
            blocked = ((1 << 256) - 1 ^ 1 << how.reply).to_bytes(32, "little")
            sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, blocked)
        if source.version == version:
            sock.bind((str(source), 0))
    except OSError as error:
        sock.close()
        raise NetworkError(f"cannot ping from {source}: {error.strerror}; it must be an address of this host") from None
    return sock


class Witnesses:
    """Pings each address three times a deadtime; one that answered within deadtime counts. PATIENCE_S at least stands
    for deadtime: routers answer pings when they have nothing else to do.

    changed: called with the number of those that count, whenever it changes. clock: monotonic seconds.
    """

    def __init__(self, source: Address, clock: Callable[[], float], changed: Callable[[int], None]) -> None:
        self._source = source
        self._clock = clock
        self._changed = changed
        self._addresses: tuple[Address, ...] = ()
        self._patience_s = PATIENCE_S
        self._answered_s: dict[Address, float] = {}
        self._identifier = int.from_bytes(os.urandom(2))
        self._sequence = 0
        self._count = 0
        self._wake = asyncio.Event()
        self._sockets: dict[int, socket.socket] = {}

    def configure(self, addresses: tuple[Address, ...], deadtime_s: float) -> None:
        """Whom to ask, from now on."""
        self._addresses = addresses
        self._patience_s = max(deadtime_s, PATIENCE_S)
        self._answered_s = {a: s for a, s in self._answered_s.items() if a in addresses}
        self._wake.set()

    @property
    def silent(self) -> tuple[Address, ...]:
        """Those that do not answer."""
        now_s = self._clock()
        return tuple(a for a in self._addresses if not self._answers(a, now_s))

    def _answers(self, address: Address, now_s: float) -> bool:
        answered_s = self._answered_s.get(address)
        return answered_s is not None and now_s < answered_s + self._patience_s

    async def run(self) -> None:
        """Ask for ever. Raises NetworkError where raw sockets are not allowed."""
        while not self._addresses:
            self._wake.clear()
            await self._wake.wait()
        try:
            while True:
                self._ask()
                await asyncio.sleep(self._patience_s / 3)
                self._tell()
        finally:
            for sock in self._sockets.values():
                asyncio.get_running_loop().remove_reader(sock)
                sock.close()

    def _ask(self) -> None:
        self._sequence = (self._sequence + 1) & 0xFFFF
        for address in self._addresses:
            request = echo_request(address.version, self._identifier, self._sequence)
            try:
                self._socket(address.version).sendto(request, (str(address), 0))
            except OSError as error:
                log.debug("a ping was not sent", address=str(address), reason=error.strerror)

    def _socket(self, version: int) -> socket.socket:
        if version not in self._sockets:
            self._sockets[version] = _open(version, self._source)
            asyncio.get_running_loop().add_reader(self._sockets[version], self._read, version)
        return self._sockets[version]

    def _read(self, version: int) -> None:
        for _ in range(_PACKETS_A_TURN):
            try:
                packet, (host, *_) = self._sockets[version].recvfrom(1500)
            except OSError:
                break
            address = ip_address(host)
            if answers(version, packet, self._identifier) and address in self._addresses:
                self._answered_s[address] = self._clock()
        self._tell()

    def _tell(self) -> None:
        count = len(self._addresses) - len(self.silent)
        if count != self._count:
            self._count = count
            log.info("witnesses", answer=count, of=len(self._addresses), silent=[str(a) for a in self.silent])
            self._changed(count)
