"""Who else has an address of ours: asked for by ARP probe (RFC 5227 section 2.1.1) or, of IPv6, as duplicate address
detection asks (RFC 4862), and heard while we hold it. Edge.

Heartbeats settle who holds an address among those that hear each other. This is for the others: a director with
another key, one whose heartbeats are filtered, a stranger. A claim that we hear starts a round a second: probe, then
tell. It ends with the first probe that nobody answers, so the last round tells after the rival has gone.
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address
from typing import Final

import structlog

from ha import ndisc
from ha.takeover import arp_probe
from lb.addresses import Address
from lb.errors import NetworkError

log = structlog.get_logger(__name__)

PROBE_S: Final = 0.1
"""How long an answer may take: one segment, and kernels that answer by themselves."""

ROUND_S: Final = 0.8
"""From hearing a rival to doing something about it: a handover is over by then, its heir announced the address, too.
Between two of our own announcements (`ha.takeover.ANNOUNCE_AT_S`), which keep a rival's packet path from answering."""

_ETHERTYPE_ARP: Final = 0x0806
_FRAMES_A_TURN: Final = 64
_SO_ATTACH_FILTER: Final = 26

Holder = tuple[Address, bytes]
"""An address and the MAC that answers for it."""


def _claim_in_arp(frame: bytes) -> Holder | None:
    return (IPv4Address(frame[28:32]), frame[22:28]) if len(frame) >= 42 else None


_READERS: Final[dict[int, Callable[[bytes], Holder | None]]] = {4: _claim_in_arp, 6: ndisc.claim_in}
"""By IP version: who says in a frame that he has an address."""

_ACCEPT_ALL: Final = ((0x06, 0, 0, 0xFFFF),)
_ACCEPT_ICMPV6_DISCOVERY: Final = (
    (0x30, 0, 0, 20),  # the byte of IPv6's next header
    (0x15, 0, 4, 58),
    (0x30, 0, 0, 54),  # ICMPv6's type
    (0x15, 1, 0, ndisc.SOLICITATION),
    (0x15, 0, 1, ndisc.ADVERTISEMENT),
    (0x06, 0, 0, 0xFFFF),
    (0x06, 0, 0, 0),
)
"""Classic BPF: load a byte, jump if equal, return so many bytes. All other packets stay in the kernel."""

_HEARD: Final = {4: (_ETHERTYPE_ARP, _ACCEPT_ALL), 6: (ndisc.ETHERTYPE, _ACCEPT_ICMPV6_DISCOVERY)}


def _attach_filter(opened: socket.socket, instructions: tuple[tuple[int, int, int, int], ...]) -> None:
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
    memory = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", len(instructions), ctypes.addressof(memory))
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


class Rivals:
    """Listens on one interface; must be made with a loop running. mac: our own, six bytes.

    on_claim(): another host has just said that it has a virtual address, which has ended our lease (bpf/arp.h).
    on_rival(address, mac): it did, a round ago; it may have gone meanwhile, or given up.
    rival: who answered the last probe for one of them, None if nobody did.
    """

    def __init__(
        self,
        interface: str,
        mac: bytes,
        on_claim: Callable[[], None],
        on_rival: Callable[[Address, bytes], None],
    ) -> None:
        self.rival: Holder | None = None
        self._mac = mac
        self._on_claim, self._on_rival = on_claim, on_rival
        self._defended: frozenset[Address] = frozenset()
        self._virtual: frozenset[Address] = frozenset()
        self._answers: dict[Address, asyncio.Future[Holder]] = {}
        self._round: asyncio.TimerHandle | asyncio.Task[None] | None = None
        self._sockets: dict[int, socket.socket] = {}
        try:
            for version, (ethertype, accept) in _HEARD.items():
                opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
                self._sockets[version] = opened
                _attach_filter(opened, accept)
                opened.bind((interface, ethertype))
        except OSError as error:
            self._close_sockets()
            raise NetworkError(
                f"cannot listen to ARP and neighbour discovery on {interface}: {error.strerror}; see `lbctl doctor`"
            ) from None
        for version, opened in self._sockets.items():
            asyncio.get_running_loop().add_reader(opened, self._on_readable, opened, _READERS[version])

    def defend(self, addresses: Iterable[Address], virtual: Iterable[Address]) -> None:
        """These are ours from now on; none: we hold nothing. virtual: all of the cluster, also those of others."""
        self._defended = frozenset(addresses)
        self._virtual = frozenset(virtual) if self._defended else frozenset()
        if not self._defended:
            self._rest()

    async def holder(self, addresses: Iterable[Address]) -> Holder | None:
        """Ask for each of these; the first answer, None if there is none in time. One call at a time an address."""
        answer: asyncio.Future[Holder] = asyncio.get_running_loop().create_future()
        asked = tuple(addresses)
        self._answers.update((address, answer) for address in asked)
        try:
            for address in asked:
                if isinstance(address, IPv4Address):
                    probe = arp_probe(self._mac, address)
                else:
                    probe = ndisc.probe(self._mac, address)
                self._sockets[address.version].send(probe)
            async with asyncio.timeout(PROBE_S):
                return await answer
        except (OSError, TimeoutError):  # nobody can be asked, nobody answers
            return None
        finally:
            for address in asked:
                self._answers.pop(address, None)

    def close(self) -> None:
        """Listen no more."""
        self._rest()
        for opened in self._sockets.values():
            asyncio.get_running_loop().remove_reader(opened)
        self._close_sockets()

    def _close_sockets(self) -> None:
        for opened in self._sockets.values():
            opened.close()

    def _rest(self) -> None:
        self.rival = None
        if self._round:
            self._round.cancel()
        self._round = None

    def _on_readable(self, opened: socket.socket, read: Callable[[bytes], Holder | None]) -> None:
        for _ in range(_FRAMES_A_TURN):
            try:
                claim = read(opened.recv(128))
            except OSError:  # no more, or the interface is down for now
                return
            if claim and claim[1] != self._mac:
                self._heard(*claim)

    def _heard(self, address: Address, mac: bytes) -> None:
        answer = self._answers.get(address)
        if answer and not answer.done():
            answer.set_result((address, mac))
        if address in self._virtual:
            self._on_claim()
        if address in self._defended and self._round is None:
            self._round = asyncio.get_running_loop().call_later(ROUND_S, self._begin_round, address, mac)

    def _begin_round(self, address: Address, mac: bytes) -> None:
        self._round = asyncio.get_running_loop().create_task(self._go_round(address, mac))

    async def _go_round(self, address: Address, mac: bytes) -> None:
        self.rival = await self.holder([address])
        self._on_rival(address, mac)
        self._round = None
        if self.rival:
            self._heard(*self.rival)
