"""IP addresses of both families: their types, and how they are written next to a port. Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network


def by_family(address: Address) -> tuple[int, int]:
    """To sort by: IPv4 first."""
    return address.version, int(address)


def with_port(address: Address | str, port: int | str) -> str:
    """`192.0.2.1:80`, `[2001:db8::1]:80`."""
    return f"[{address}]:{port}" if ":" in str(address) else f"{address}:{port}"
