"""The lab that suits a configuration: which hosts, where, with which addresses. Pure.

    client ── switch ── directors, reals ── router ── switch ── reals

The first segment holds every address that has to be on it, in as few networks as is sensible; each host reaches all of
them directly. The client also has the addresses of `[ha] ping` that no other host has. Reals that get their packets in
a tunnel, and whose addresses are not in those networks, are behind a router, in networks of their own; where directors
have `real_interfaces`, these are there, too, and so may be reals that get theirs by `gate`.

Reals of one name are one host, which is on one segment. Directors and the client have an address in each network of
IPv6, too, unless the file gives them one; a real has one of each family that it answers clients of.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_network

from lb import plan
from lb.addresses import Address, Network, by_family
from lb.lab.addressing import IPV6_PREFIX, NARROWEST_PREFIX, covering, in_each, take_free
from lb.lab.pages import Example, serving
from lb.lab.topology import Cable, Host, Route, Topology
from lb.model import Cluster, Node, Virtual

_TRANSIT: dict[int, Address] = {4: IPv4Address("203.0.113.1"), 6: IPv6Address("2001:db8:ffff:1::1")}
_BEYOND: dict[int, Address] = {4: IPv4Address("198.51.100.1"), 6: IPv6Address("2001:db8:ffff:2::1")}
"""Where networks are, of each family, that a segment must have and the file does not name."""
_EVERYWHERE: dict[int, Network] = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}


def build(cluster: Cluster, example: Example, client_name: str = "client") -> Topology:
    """The lab of a configuration, the same for the same file. Raises LabError."""
    taken = {node.name for node in cluster.nodes}
    names = _real_names(cluster, taken)
    nodes = {node.address for node in cluster.nodes}
    near = _near(cluster, names)
    far = _networks(address for address in names if address not in near)
    far += tuple(_networks([_BEYOND[version]])[0] for version in _answered(cluster, set(names) - near) - _versions(far))
    transit = {_TRANSIT[version] for version in _versions(far) - {address.version for address in near}}
    networks = covering(near | transit)
    pings = tuple(address for address in cluster.ha.ping if address not in {*cluster.addresses, *names, *nodes})
    used = {*near, *transit, *names}
    own = take_free(cluster.nodes[0].address, used, "client")
    wide = [network for network in networks if network.version == 6 or any(a in network for a in transit)]
    router = _router(networks, far, own, used, taken) if far else None
    outward = tuple(_by(router.cables[0], network, network) for network in far) if router else ()

    def real(name: str, addresses: tuple[Address, ...]) -> Host:
        virtuals = [v for v in cluster.virtuals if set(addresses) & set(v.hosts)]
        segment = int(addresses[0] not in near)
        missing = {v.address.version: v.address for v in virtuals if v.address.version not in _versions(addresses)}
        beside = {network.version: network.network_address for network in reversed(far)} if segment else missing
        all_of_it = *addresses, *(take_free(beside[version], used, name) for version in sorted(missing))
        homeward = (_by(router.cables[1], _EVERYWHERE[a.version], *_networks([a])) for a in all_of_it) if router else ()
        return Host(
            name=name,
            kind="real",
            cables=(Cable(interface=cluster.cluster.interface, addresses=all_of_it, segment=segment),),
            routes=tuple(dict.fromkeys(homeward)) if segment else outward,
            tunnels=plan.tunnels(virtuals, addresses),
            **serving(name, virtuals, example, addresses),
        )

    directors = tuple(
        Host(
            name=node.name,
            kind="director",
            cables=(
                Cable(
                    interface=cluster.interface_of(node),
                    addresses=(node.address, *in_each(wide, node.address, used, node.name)),
                ),
                *_inward(cluster, node, far, used),
            ),
            routes=() if len(cluster.interfaces_of(node)) > 1 else outward,
            **serving(node.name, _sorry_virtuals(cluster), example),
        )
        for node in cluster.nodes
    )
    client = Host(
        name=_unique(client_name, taken),
        kind="client",
        cables=(
            Cable(interface=cluster.cluster.interface, addresses=(own, *in_each(wide, own, used, "client"), *pings)),
        ),
        routes=outward,
    )
    reals = (
        real(name, tuple(address for address, its in names.items() if its == name))
        for name in dict.fromkeys(names.values())
    )
    return Topology(
        cluster=cluster.cluster.name,
        switch=f"lbctl-{_unique(f'switch-{cluster.cluster.name}', taken)}",
        segments=(networks, *([far] if far else [])),
        hosts=(client, *directors, *([router] if router else []), *reals),
    )


def _near(cluster: Cluster, names: dict[Address, str]) -> set[Address]:
    """The addresses on the first segment: those that must be, and all of hosts that have one in their networks."""
    both = any(len(cluster.interfaces_of(node)) > 1 for node in cluster.nodes)
    near = {*cluster.addresses, *(node.address for node in cluster.nodes), *cluster.ha.ping}
    near |= set() if both else plan.reached_by(cluster, "gate")
    networks = covering(near)
    hosts = {name for address, name in names.items() if any(address in network for network in networks)}
    return near | {address for address, name in names.items() if name in hosts}


def _versions(of: Iterable[Address | Network]) -> set[int]:
    return {one.version for one in of}


def _answered(cluster: Cluster, hosts: Collection[Address]) -> set[int]:
    """The families of the clients that these serve."""
    return {virtual.address.version for virtual in cluster.virtuals if set(virtual.hosts) & set(hosts)}


def _networks(addresses: Iterable[Address]) -> tuple[Network, ...]:
    """The narrowest networks of these, in which they are behind the router."""
    prefixes: dict[int, int] = {4: NARROWEST_PREFIX, 6: IPV6_PREFIX}
    every = sorted(addresses, key=by_family)
    return tuple(dict.fromkeys(ip_network((a, prefixes[a.version]), strict=False) for a in every))


def _by(router: Cable, network: Network, within: Network) -> Route:
    """To a network by the router's address on this cable: the one within another network, else of that family."""
    own = [address for address in router.addresses if address.version == network.version]
    return Route(network=network, gateway=next((address for address in own if address in within), own[0]))


def _inward(cluster: Cluster, node: Node, far: Sequence[Network], used: set[Address]) -> Iterator[Cable]:
    """A director's further interfaces, where the reals behind the router are; with free addresses, used from now on."""
    networks: list[Address] = [network.network_address for network in far] or [node.address]
    for name in cluster.interfaces_of(node)[1:]:
        addresses = tuple(take_free(near, used, node.name) for near in networks)
        yield Cable(interface=name, addresses=addresses, segment=int(bool(far)))


def _router(
    networks: Sequence[Network], far: Sequence[Network], own: Address, used: set[Address], taken: set[str]
) -> Host:
    """Between the two segments, with the first free address from above in each network, on the first in one of each
    family. own: the client's."""
    beside: dict[int, Address] = {network.version: network.network_address for network in reversed(networks)}
    beside[own.version] = own
    near = tuple(take_free(beside[version], used, "router") for version in sorted(_versions(far)))
    beyond = tuple(take_free(network.network_address, used, "router") for network in far)
    cables = Cable(interface="eth0", addresses=near), Cable(interface="eth1", addresses=beyond, segment=1)
    return Host(name=_unique("router", taken), kind="router", cables=cables)


def _unique(name: str, taken: set[str]) -> str:
    """`name`, or with a number behind it, which is taken from now on."""
    candidates = (name, *(f"{name}-{n}" for n in range(2, len(taken) + 3)))
    free = next(candidate for candidate in candidates if candidate not in taken)
    taken.add(free)
    return free


def _real_names(cluster: Cluster, taken: set[str]) -> dict[Address, str]:
    """Every real's and fallback host's name: the file's own, else of its first appearance."""
    reals = [(virtual, real) for virtual in cluster.virtuals for real in virtual.reals]
    given = {real.address: real.name for _, real in reversed(reals) if real.name}
    taken.update(given.values())
    names: dict[Address, str] = {}
    for virtual, real in reals:
        if real.address not in names:
            names[real.address] = given.get(real.address) or _unique(virtual.real_name(real), taken)
    for virtual in cluster.virtuals:
        for address in virtual.hosts:
            if address not in names:
                names[address] = _unique(f"{virtual.name}-fallback", taken)
    return names


def _sorry_virtuals(cluster: Cluster) -> list[Virtual]:
    """Those whose fallback is the director itself."""
    return [v for v in cluster.virtuals if v.fallback and v.fallback.address.is_loopback]
