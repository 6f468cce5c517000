"""Who listens here, from /proc/thread-self/net. Nothing is asked over the network."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from lb.addresses import Address
from lb.model import Protocol

_WAITING = {"tcp": "0A", "udp": "07"}
"""Protocol → the state, in /proc/net, of a socket that takes whoever comes (TCP_LISTEN, TCP_CLOSE)."""
_WILDCARD, _WILDCARD6 = IPv4Address(0), IPv6Address(0)
"""The second one takes IPv4 too, unless its owner asked for IPv6 alone, which cannot be seen."""


def listens(protocol: Protocol, address: Address, port: int) -> bool:
    """Would a socket of this network namespace take what comes to the address and port?"""
    found = sockets(protocol)
    wildcards = (_WILDCARD, _WILDCARD6) if address.version == 4 else (_WILDCARD6,)
    return any((listening, port) in found for listening in (address, *wildcards))


def sockets(protocol: Protocol) -> set[tuple[Address, int]]:
    """Every address and port that is listened on."""
    found: set[tuple[Address, int]] = set()
    for name in (protocol, f"{protocol}6"):
        table = Path("/proc/thread-self/net") / name
        if table.exists():  # no tcp6 where IPv6 is switched off
            found.update(parse(table.read_text(), _WAITING[protocol]))
    return found


def parse(table: str, waiting: str) -> Iterator[tuple[Address, int]]:
    """The listening sockets of /proc/net/tcp, udp, tcp6 or udp6. waiting: their state."""
    for line in table.splitlines()[1:]:
        _, local, _, state, *_ = line.split()
        address, _, port = local.partition(":")
        if state == waiting:
            words = [bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8)]
            if len(words) == 1:
                yield IPv4Address(words[0]), int(port, 16)
            else:
                number = IPv6Address(b"".join(words))
                yield number.ipv4_mapped or number, int(port, 16)
