"""Who listens here, from /proc/thread-self/net. Nothing is asked over the network."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

from lb.model import Protocol

_WAITING = {"tcp": "0A", "udp": "07"}
"""Protocol → the state, in /proc/net, of a socket that takes whoever comes (TCP_LISTEN, TCP_CLOSE)."""
_WILDCARD = IPv4Address("0.0.0.0")
_MAPPED = "0000000000000000FFFF0000"
"""::ffff:0:0/96 as /proc/net/tcp6 writes it."""


def listens(protocol: Protocol, address: IPv4Address, port: int) -> bool:
    """Would a socket of this network namespace take what comes to the address and port?"""
    found = sockets(protocol)
    return (address, port) in found or (_WILDCARD, port) in found


def sockets(protocol: Protocol) -> set[tuple[IPv4Address, int]]:
    """Every address and port that is listened on; IPv6's wildcard takes IPv4 too and counts as 0.0.0.0."""
    found: set[tuple[IPv4Address, int]] = set()
    for name in (protocol, f"{protocol}6"):
        table = Path("/proc/thread-self/net") / name
        if table.exists():  # no tcp6 where IPv6 is switched off
            found.update(parse(table.read_text(), _WAITING[protocol]))
    return found


def parse(table: str, waiting: str) -> Iterator[tuple[IPv4Address, int]]:
    """The listening sockets of /proc/net/tcp, udp, tcp6 or udp6. waiting: their state."""
    for line in table.splitlines()[1:]:
        _, local, _, state, *_ = line.split()
        address, _, port = local.partition(":")
        if state == waiting:
            if address.strip("0") == "":
                yield _WILDCARD, int(port, 16)
            elif len(address) == 8 or address.startswith(_MAPPED):
                yield IPv4Address(bytes.fromhex(address[-8:])[::-1]), int(port, 16)
