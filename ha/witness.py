"""Which of the ping nodes answer: heartbeat's ping nodes, for whoever decides by them. Edge: a raw ICMP socket."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from typing import Final

import structlog

from lb.addresses import Address
from lb.errors import NetworkError

log = structlog.get_logger(__name__)

_ECHO_REPLY: Final = 0
_ECHO_REQUEST: Final = 8
_ICMP: Final = struct.Struct("!BBHHH")
_PAYLOAD: Final = b"lbctl witness"


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of `data`, whose length is made even with a zero byte."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def echo_request(identifier: int, sequence: int) -> bytes:
    """An ICMP echo request (RFC 792) with its checksum."""
    head = _ICMP.pack(_ECHO_REQUEST, 0, 0, identifier, sequence)
    return _ICMP.pack(_ECHO_REQUEST, 0, checksum(head + _PAYLOAD), identifier, sequence) + _PAYLOAD


def answers(packet: bytes, identifier: int) -> bool:
    """Is this IPv4 packet, as a raw socket gives it, an echo reply to us? Never raises."""
    header = (packet[0] & 0x0F) * 4 if packet else 0
    if header < 20 or len(packet) < header + _ICMP.size:
        return False
    kind, code, _, theirs, _ = _ICMP.unpack_from(packet, header)
    return (kind, code, theirs) == (_ECHO_REPLY, 0, identifier)


class Witnesses:
    """Pings each address three times a deadtime; one that answered within deadtime counts.

    changed: called with the number of those that count, whenever it changes. clock: monotonic seconds.
    """

    def __init__(self, source: Address, clock: Callable[[], float], changed: Callable[[int], None]) -> None:
        self._source = source
        self._clock = clock
        self._changed = changed
        self._addresses: tuple[Address, ...] = ()
        self._deadtime_s = 1.0
        self._answered_s: dict[str, float] = {}
        self._identifier = int.from_bytes(os.urandom(2))
        self._sequence = 0
        self._count = 0
        self._wake = asyncio.Event()

    def configure(self, addresses: tuple[Address, ...], deadtime_s: float) -> None:
        """Whom to ask, from now on."""
        self._addresses = addresses
        self._deadtime_s = deadtime_s
        self._answered_s = {a: s for a, s in self._answered_s.items() if a in map(str, addresses)}
        self._wake.set()

    @property
    def silent(self) -> tuple[Address, ...]:
        """Those that do not answer."""
        now_s = self._clock()
        return tuple(a for a in self._addresses if not self._answers(str(a), now_s))

    def _answers(self, address: str, now_s: float) -> bool:
        answered_s = self._answered_s.get(address)
        return answered_s is not None and now_s < answered_s + self._deadtime_s

    async def run(self) -> None:
        """Ask for ever. Raises NetworkError where raw sockets are not allowed."""
        loop = asyncio.get_running_loop()
        while not self._addresses:
            self._wake.clear()
            await self._wake.wait()
        with self._open() as sock:
            loop.add_reader(sock, self._read, sock)
            try:
                while True:
                    self._ask(sock)
                    await asyncio.sleep(self._deadtime_s / 3)
                    self._tell()
            finally:
                loop.remove_reader(sock)

    def _open(self) -> socket.socket:
        try:
            sock = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMP)
            sock.bind((str(self._source), 0))
        except OSError as error:
            raise NetworkError(f"cannot ping from {self._source}: {error.strerror}; lbctl must run as root") from None
        return sock

    def _ask(self, sock: socket.socket) -> None:
        self._sequence = (self._sequence + 1) & 0xFFFF
        for address in self._addresses:
            try:
                sock.sendto(echo_request(self._identifier, self._sequence), (str(address), 0))
            except OSError as error:
                log.debug("a ping was not sent", address=str(address), reason=error.strerror)

    def _read(self, sock: socket.socket) -> None:
        for _ in range(256):
            try:
                packet, (address, _) = sock.recvfrom(1500)
            except OSError:
                break
            if answers(packet, self._identifier) and address in map(str, self._addresses):
                self._answered_s[address] = self._clock()
        self._tell()

    def _tell(self) -> None:
        count = len(self._addresses) - len(self.silent)
        if count != self._count:
            self._count = count
            log.info("witnesses", answer=count, of=len(self._addresses), silent=[str(a) for a in self.silent])
            self._changed(count)
