"""Telling the segment who holds an address now: gratuitous ARP, or an unsolicited neighbour advertisement of IPv6,
several times over the first seconds.

Neighbours and switches learn from one frame; the repeats are for those that were lost, and for the switch port
that is still learning. Both forms are sent: the request of RFC 5227 section 3 updates whoever has an entry, and
some routers heed only the unasked reply.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

import structlog

from ha import ndisc
from lb.addresses import Address
from lb.errors import NetworkError

log = structlog.get_logger(__name__)

ANNOUNCE_AT_S = (0.0, 0.05, 0.2, 0.5, 1.0, 2.0, 5.0)
"""When each round of announcements is due, in seconds after taking an address."""

TOO_LATE_S = 0.1
"""A round that is later was held up by a freeze, in which another director may have taken over: it is left out."""

_TAG = struct.Struct("!HH")
_ETHERTYPE_VLAN = 0x8100
_BROADCAST = b"\xff" * 6
_ETHERTYPE_ARP = 0x0806
# hardware type Ethernet, protocol type IPv4, their address lengths (RFC 826)
_ARP_ETHERNET_IPV4 = bytes.fromhex("0001 0800 06 04")
_REQUEST, _REPLY = 1, 2


def arp_announcement(operation: int, mac: bytes, address: IPv4Address) -> bytes:
    """A broadcast frame that says `address` is at `mac`; operation: 1 request, 2 reply.

    Sender and target protocol address are both the announced one, which is what makes it gratuitous; the
    target's hardware address is zero in a request (RFC 5227 section 1.1) and ours in a reply (RFC 5944 4.6).
    """
    return _broadcast(operation, mac, address, bytes(6) if operation == _REQUEST else mac, address)


def arp_probe(mac: bytes, address: IPv4Address) -> bytes:
    """A broadcast frame that asks who has `address`, without saying that we have any (RFC 5227 section 1.1)."""
    return _broadcast(_REQUEST, mac, IPv4Address(0), bytes(6), address)


def _broadcast(operation: int, mac: bytes, sender: IPv4Address, target_mac: bytes, target: IPv4Address) -> bytes:
    header = _BROADCAST + mac + _ETHERTYPE_ARP.to_bytes(2, "big")
    body = operation.to_bytes(2, "big") + mac + sender.packed + target_mac + target.packed
    return header + _ARP_ETHERNET_IPV4 + body


def announcement_frames(mac: bytes, address: Address) -> tuple[bytes, ...]:
    """The frames of one round for one address."""
    if isinstance(address, IPv6Address):
        return (ndisc.advertisement(mac, address),)
    return tuple(arp_announcement(operation, mac, address) for operation in (_REQUEST, _REPLY))


def tagged(frame: bytes, vlan: int) -> bytes:
    """The same in a VLAN (IEEE 802.1Q). vlan: 1 to 4094."""
    return frame[:12] + _TAG.pack(_ETHERTYPE_VLAN, vlan) + frame[12:]


class Announcer:
    """Announces addresses on one interface. mac: what they are at, six bytes. repeat_s: how often after the last round;
    None: not at all. vlans: in which besides; may be replaced.

    Must be made with a loop running. A frame that cannot be sent is logged and the later rounds still go out:
    an interface that has lost its carrier for a moment must not end the announcement.
    """

    def __init__(self, interface: str, mac: bytes, repeat_s: float | None = None) -> None:
        self._interface = interface
        self._repeat_s = repeat_s
        self._mac = mac
        self.vlans: tuple[int, ...] = ()
        self._rounds: list[asyncio.TimerHandle] = []
        self._repetition: asyncio.TimerHandle | None = None
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        try:
            self._socket.bind((interface, 0))  # protocol 0: this socket receives nothing
        except OSError as error:
            self._socket.close()
            raise NetworkError(f"cannot announce on {interface}: {error.strerror}; see `lbctl doctor`") from None

    def announce(self, addresses: Iterable[Address]) -> None:
        """Send the first round now and the others by and by. Another call starts anew with its addresses."""
        self.cancel()
        plain = [frame for address in addresses for frame in announcement_frames(self._mac, address)]
        frames = plain + [tagged(frame, vlan) for vlan in self.vlans for frame in plain]
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        self._send(frames)
        self._rounds = [
            loop.call_at(now_s + at_s, self._send_in_time, frames, now_s + at_s + TOO_LATE_S)
            for at_s in ANNOUNCE_AT_S[1:]
        ]
        if self._repeat_s is not None:
            self._repetition = loop.call_at(now_s + ANNOUNCE_AT_S[-1] + self._repeat_s, self.announce, addresses)

    def hush(self) -> None:
        """Leave out the rounds that are still to come; who repeats itself goes on with that."""
        for pending in self._rounds:
            pending.cancel()
        self._rounds = []

    def cancel(self) -> None:
        """Say nothing any more: the address has gone to somebody else."""
        self.hush()
        if self._repetition:
            self._repetition.cancel()
            self._repetition = None

    def close(self) -> None:
        """Cancel, and let go of the interface."""
        self.cancel()
        self._socket.close()

    def _send_in_time(self, frames: list[bytes], until_s: float) -> None:
        if asyncio.get_running_loop().time() < until_s:
            self._send(frames)

    def _send(self, frames: list[bytes]) -> None:
        for frame in frames:
            try:
                self._socket.send(frame)
            except OSError as error:
                reason = errno.errorcode.get(error.errno or 0, str(error))
                log.warning("an announcement was not sent", interface=self._interface, reason=reason)
                return
