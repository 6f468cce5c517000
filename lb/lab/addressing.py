"""The networks and free addresses of a lab. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from lb.addresses import Address, Network, by_family
from lb.errors import LabError

NARROWEST_PREFIX = 24
WIDEST_PREFIX = 8
IPV6_PREFIX = 64


def covering(addresses: Iterable[Address]) -> tuple[Network, ...]:
    """The smallest networks, from /24 to /8, that hold all these: one for each first byte that occurs. Of IPv6 /64.

    In its network an address is a host's, neither the network's own number nor its broadcast (except for a /8's).
    """
    every = sorted(addresses, key=by_family)
    groups: dict[int, list[IPv4Address]] = {}
    for address in every:
        if address.version == 4:
            groups.setdefault(address.packed[0], []).append(address)
    old = (_around(group[0], group[-1]) for group in groups.values())
    wide = (IPv6Network((address, IPV6_PREFIX), strict=False) for address in every if address.version == 6)
    return *old, *dict.fromkeys(wide)


def _around(low: IPv4Address, high: IPv4Address) -> IPv4Network:
    network = IPv4Network((low, NARROWEST_PREFIX), strict=False)
    while network.prefixlen > WIDEST_PREFIX:
        if high in network and network.network_address != low and network.broadcast_address != high:
            break
        network = network.supernet()
    return network


def take_free(near: Address, used: set[Address], whose: str) -> Address:
    """The highest address that nobody has in the /24 of this one, which its network includes; of IPv6 in the last 254
    of a /64. It is used then."""
    if near.version == 4:
        block: Network = IPv4Network((near, NARROWEST_PREFIX), strict=False)
    else:
        block = IPv6Network((int(IPv6Network((near, IPV6_PREFIX), strict=False).broadcast_address) & ~0xFF, 120))
    candidates = (block[place] for place in range(254, 0, -1))
    address = next((address for address in candidates if address not in used), None)
    if address is None:
        raise LabError(f"no address of {block} is left for the lab's {whose}; leave one out of the file")
    used.add(address)
    return address


def in_each(networks: Iterable[Network], own: Address, used: set[Address], whose: str) -> tuple[Address, ...]:
    """An address in each of these in which a host has none by itself."""
    return tuple(take_free(network.network_address, used, whose) for network in networks if own not in network)
