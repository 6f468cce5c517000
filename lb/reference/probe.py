"""Checks that go to the virtual's address: what the two programs of bpf/probe.c do with a frame. Pure.

Addresses are numbers of 128 bits, IPv4's mapped into IPv6.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

ETHERTYPES = {0x0800: False, 0x86DD: True}
"""Is it IPv6?"""
TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
CHECKSUM_AT = {TCP: 16, UDP: 6, ICMPV6: 2}
ERRORS = {ICMP: (3, 11, 12), ICMPV6: (1, 2, 3, 4)}
_ETHERNET = 14
_ICMP_HEADER = 8
_MAPPED = 0xFFFF << 32
_SYN = 0x02


class Verdict(IntEnum):
    """The kernel's actions of traffic control: go on as if we were not there, or drop."""

    UNSPEC = -1
    SHOT = 2


class Asked(NamedTuple):
    """A connection under way, as its answers show it."""

    virtual: int
    virtual_port: int
    own_port: int
    protocol: int


@dataclass(slots=True)
class Probes:
    """What both programs know. probes: virtual and MAC by probe address. asked: probe address by connection."""

    probes: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    asked: dict[Asked, int] = field(default_factory=dict)


class Seen(NamedTuple):
    """A packet, or what an ICMP error quotes of one. ip, inner: where its headers begin. ports: of TCP and UDP."""

    ip: int
    inner: int
    ipv6: bool
    source: int
    destination: int
    protocol: int
    ports: tuple[int, int] | None


class _TooShort(Exception):  # noqa: N818 - the kernel's helper says so by a number
    """There is no such checksum in the frame."""


def ask(tables: Probes, frame: bytes) -> tuple[Verdict, bytes]:
    """Leaving: to a probe address, to its real under the virtual's."""
    seen = _read_packet(frame)
    if seen is None or seen.ports is None:
        return Verdict.UNSPEC, frame
    own_port, virtual_port = seen.ports
    if seen.destination not in tables.probes:
        if _begins(frame, seen):
            tables.asked.pop(Asked(seen.destination, virtual_port, own_port, seen.protocol), None)
        return Verdict.UNSPEC, frame
    virtual, mac = tables.probes[seen.destination]
    tables.asked[Asked(virtual, virtual_port, own_port, seen.protocol)] = seen.destination
    return _rewritten(mac + frame[6:], [(seen, seen, False, virtual)])


def answer(tables: Probes, frame: bytes) -> tuple[Verdict, bytes]:
    """Arriving: from a virtual's address, to the probe address that was asked."""
    seen = _read_packet(frame)
    if seen is None:
        return Verdict.UNSPEC, frame
    if _is_error(frame, seen):
        return _answer_error(tables, frame, seen)
    if seen.ports is None:
        return Verdict.UNSPEC, frame
    virtual_port, own_port = seen.ports
    address = tables.asked.get(Asked(seen.source, virtual_port, own_port, seen.protocol))
    return (Verdict.UNSPEC, frame) if address is None else _rewritten(frame, [(seen, seen, True, address)])


def _answer_error(tables: Probes, frame: bytes, error: Seen) -> tuple[Verdict, bytes]:
    """It quotes a packet to the virtual's address, and may come from there."""
    quoted = _read_ip(frame, error.inner + _ICMP_HEADER, error.ipv6)
    if quoted is None or quoted.ports is None:
        return Verdict.UNSPEC, frame
    own_port, virtual_port = quoted.ports
    address = tables.asked.get(Asked(quoted.destination, virtual_port, own_port, quoted.protocol))
    if address is None:
        return Verdict.UNSPEC, frame
    changes = [(error, quoted, False, address)]
    if error.source == quoted.destination:
        changes.append((error, error, True, address))
    return _rewritten(frame, changes)


def _read_packet(frame: bytes) -> Seen | None:
    kind = int.from_bytes(frame[12:14], "big")
    return _read_ip(frame, _ETHERNET, ETHERTYPES[kind]) if kind in ETHERTYPES else None


def _read_ip(frame: bytes, at: int, ipv6: bool) -> Seen | None:
    """The headers at this offset, where they are of those that are looked at."""
    length = 40 if ipv6 else 20
    header = frame[at : at + length]
    if len(header) < length or header[0] >> 4 != (6 if ipv6 else 4):
        return None
    if not ipv6 and (header[0] & 15 != 5 or int.from_bytes(header[6:8], "big") & 0x3FFF):
        return None
    size = 16 if ipv6 else 4
    protocol = header[6 if ipv6 else 9]
    source, destination = (
        int.from_bytes(header[place : place + size], "big") | (0 if ipv6 else _MAPPED)
        for place in (length - 2 * size, length - size)
    )
    ports = frame[at + length : at + length + 4] if protocol in (TCP, UDP) else b""
    pair = (int.from_bytes(ports[:2], "big"), int.from_bytes(ports[2:], "big")) if len(ports) == 4 else None
    return Seen(at, at + length, ipv6, source, destination, protocol, pair)


def _begins(frame: bytes, seen: Seen) -> bool:
    """Does this host begin something with it? A datagram may be the first of many."""
    return seen.protocol == UDP or bool(frame[seen.inner + 13 : seen.inner + 14] and frame[seen.inner + 13] & _SYN)


def _is_error(frame: bytes, seen: Seen) -> bool:
    protocol = ICMPV6 if seen.ipv6 else ICMP
    return seen.protocol == protocol and frame[seen.inner : seen.inner + 1] in [bytes((n,)) for n in ERRORS[protocol]]


def _rewritten(frame: bytes, changes: list[tuple[Seen, Seen, bool, int]]) -> tuple[Verdict, bytes]:
    """With other addresses. changes: the packet whose checksum covers one, the headers it is in, is it their source's,
    and the new one."""
    out = bytearray(frame)
    try:
        for whole, headers, is_source, address in changes:
            _write(out, whole, headers, is_source, address)
    except _TooShort:
        return Verdict.SHOT, frame
    return Verdict.UNSPEC, bytes(out)


def _write(out: bytearray, whole: Seen, headers: Seen, is_source: bool, address: int) -> None:
    size = 16 if headers.ipv6 else 4
    at = headers.inner - size * (2 if is_source else 1)
    old, new = bytes(out[at : at + size]), address.to_bytes(16, "big")[-size:]
    if whole.protocol in CHECKSUM_AT:
        _mend(out, whole.inner + CHECKSUM_AT[whole.protocol], old, new, optional=whole.protocol == UDP)
    if not headers.ipv6:
        _mend(out, headers.ip + 10, old, new, optional=False)
    out[at : at + size] = new


def _mend(out: bytearray, at: int, old: bytes, new: bytes, optional: bool) -> None:
    """A checksum after a change (RFC 1624, equation 3). optional: 0 is none, and none becomes 0 (RFC 768)."""
    held = out[at : at + 2]
    if len(held) < 2:
        raise _TooShort
    if optional and not any(held):
        return
    words = [0xFFFF ^ int.from_bytes(held, "big"), 0xFFFF]
    for place in range(0, len(old), 2):
        words += [0xFFFF ^ int.from_bytes(old[place : place + 2], "big"), int.from_bytes(new[place : place + 2], "big")]
    mended = 0xFFFF ^ ((sum(words) - 1) % 0xFFFF + 1)
    out[at : at + 2] = (mended or (0xFFFF if optional else 0)).to_bytes(2, "big")
