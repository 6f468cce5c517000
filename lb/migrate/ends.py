"""Addresses, ports and masks as IPVS's programs write them, and what there is to say of them. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import NamedTuple

from lb.addresses import Address

PortOf = Callable[[str, str], int | None]
"""The number of a service's port by its name and protocol, as /etc/services has it."""

MARK = "is a firewall mark: write a [[virtual]] with the addresses and ports that are marked, all but one in also"
MASQ = (
    "masq is not there: with gate the real gets packets for the virtual address itself (lbctl realserver up), and "
    "answers the client without the director"
)

_END = re.compile(r"(?:\[([^\]]+)\]|([^:\s]+))(?::([\w-]+))?")
_MOST_IN_A_RANGE = 1024


def other_port(who: str, wanted: object, found: object) -> str:
    """What to say of a host that listens on another port than its virtual."""
    return f"packets keep the port that the client asked for: {who} must listen on {wanted}, not on {found}"


class End(NamedTuple):
    """port: None where none is written."""

    address: Address
    port: int | None


def parse_end(words: str, protocol: str, port_of: PortOf) -> End:
    """`192.0.2.1:80`, `192.0.2.1:http`, `[2001:db8::1]:80`, or without port. Raises ValueError that says why not."""
    found = _END.fullmatch(words)
    if found is None:
        raise ValueError(f"{words!r} is not an address with a port")
    host, port = found[1] or found[2], found[3]
    try:
        address = ip_address(host)
    except ValueError:
        raise ValueError(f"{host!r} is no address, and names are not looked up") from None
    return End(address, None if port is None else parse_port(port, protocol, port_of))


def parse_port(word: str, protocol: str, port_of: PortOf) -> int:
    """A number or a name. Raises ValueError."""
    number = int(word) if word.isdecimal() else port_of(word, protocol)
    if number is None or number > 65535:
        raise ValueError(f"{word!r} is not a port of {protocol}")
    return number


def parse_range(first: str, last: str) -> tuple[IPv4Address, ...]:
    """All addresses from one to another. Raises ValueError."""
    low, high = IPv4Address(first), IPv4Address(last)
    if not 0 <= int(high) - int(low) < _MOST_IN_A_RANGE:
        raise ValueError(f"{first} to {last} is no range of at most {_MOST_IN_A_RANGE} addresses, from lower to higher")
    return tuple(low + n for n in range(int(high) - int(low) + 1))


def prefix_length(mask: str) -> int:
    """Of `255.255.255.0`, or of `64`. Raises ValueError."""
    return int(mask) if mask.isdecimal() else IPv4Network(f"0.0.0.0/{mask}").prefixlen
