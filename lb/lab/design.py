"""The lab that suits a configuration: which hosts, where, with which addresses. Pure.

    client ── switch ── directors, reals ── router ── switch ── reals

The first segment holds every address that has to be on it, in as few networks as is sensible; each host reaches all of
them directly. The client also has the addresses of `[ha] ping` that no other host has. Reals that get their packets in
a tunnel, and whose addresses are not in those networks, are behind a router, in networks of their own; where directors
have `real_interfaces`, these are there, too, and so may be reals that get theirs by `gate`.

Reals of one name are one host. Directors and the client have an address in each network of IPv6, too, unless the file
gives them one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network

from lb import plan
from lb.addresses import Address
from lb.lab.addressing import NARROWEST_PREFIX, covering, in_each, take_free
from lb.lab.pages import Example, serving
from lb.lab.topology import Cable, Host, Route, Topology
from lb.model import Cluster, Node, Virtual


def build(cluster: Cluster, example: Example, client_name: str = "client") -> Topology:
    """The lab of a configuration, the same for the same file. Raises LabError."""
    taken = {node.name for node in cluster.nodes}
    names = _real_names(cluster, taken)
    nodes = {node.address for node in cluster.nodes}
    tunnels = plan.reached_by(cluster, "ipip")
    gates = plan.reached_by(cluster, "gate")
    both = any(len(cluster.interfaces_of(node)) > 1 for node in cluster.nodes)
    near = {*cluster.addresses, *nodes, *cluster.ha.ping, *(a for a in gates if a.version == 6 or not both)}
    networks = covering(near)
    behind = frozenset(a for a in tunnels | gates if not any(a in network for network in networks))
    pings = tuple(address for address in cluster.ha.ping if address not in {*cluster.addresses, *names, *nodes})
    used = {*near, *names}
    own = take_free(cluster.nodes[0].address, used, "client")
    wide = [network for network in networks if network.version == 6]
    router = _router(cluster, used, behind, taken) if behind else None
    outward = tuple(Route(network=network, gateway=router.addresses[0]) for network in _far(behind)) if router else ()

    def real(name: str, addresses: tuple[Address, ...]) -> Host:
        address = addresses[0]
        cable = Cable(interface=cluster.cluster.interface, addresses=addresses, segment=int(address in behind))
        return Host(
            name=name,
            kind="real",
            cables=(cable,),
            routes=_default(router, address) if router and address in behind else outward,
            tunnel=address in tunnels,
            **serving(name, [v for v in cluster.virtuals if set(addresses) & set(v.hosts)], example, addresses),
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
                *_inward(cluster, node, behind, used),
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
        segments=(networks, *([_far(behind)] if behind else [])),
        hosts=(client, *directors, *([router] if router else []), *reals),
    )


def _far(behind: Iterable[Address]) -> tuple[IPv4Network, ...]:
    """The networks of the segment behind the router."""
    return tuple(sorted({IPv4Network((address, NARROWEST_PREFIX), strict=False) for address in behind}))


def _inward(cluster: Cluster, node: Node, behind: frozenset[Address], used: set[Address]) -> Iterator[Cable]:
    """A director's further interfaces, where the reals behind the router are; with free addresses, used from now on."""
    networks: list[Address] = [network.network_address for network in _far(behind)] or [node.address]
    for name in cluster.interfaces_of(node)[1:]:
        addresses = tuple(take_free(near, used, node.name) for near in networks)
        yield Cable(interface=name, addresses=addresses, segment=int(bool(behind)))


def _router(cluster: Cluster, used: set[Address], behind: frozenset[Address], taken: set[str]) -> Host:
    """Between the two segments, with the first free address from above in each network."""
    near = take_free(cluster.nodes[0].address, used, "router")
    far = tuple(take_free(network.network_address, used, "router") for network in _far(behind))
    cables = Cable(interface="eth0", addresses=(near,)), Cable(interface="eth1", addresses=far, segment=1)
    return Host(name=_unique("router", taken), kind="router", cables=cables)


def _default(router: Host, address: Address) -> tuple[Route, ...]:
    """Everything by the router's address in the network of this one."""
    (network,) = _far([address])
    gateway = next(own for own in router.cables[1].addresses if own in network)
    return (Route(network=IPv4Network("0.0.0.0/0"), gateway=gateway),)


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
