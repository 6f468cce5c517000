"""Who has which name and address: the rules about hosts. See `lb.rules`."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address

from lb.addresses import Address
from lb.model import Cluster, Endpoint, Real, Virtual
from lb.positions import Finding, Path
from lb.service import LOCAL, LOCAL6
from lb.wording import show, show_path

BROADCAST = IPv4Address("255.255.255.255")


def names(cluster: Cluster) -> Iterator[Finding]:
    """Nodes and reals share one name space, both are hosts; a real may serve several virtuals under its one name, and
    have an address of each family."""
    hosts: dict[int, dict[str, tuple[object, Path]]] = {4: {}, 6: {}}
    for n, node in enumerate(cluster.nodes):
        place: Path = ("node", n, "name")
        yield from _claim(hosts[4], node.name, place, place)
        hosts[6].setdefault(node.name.lower(), (place, place))
    for parent, real in _reals(cluster):
        if real.name is not None:
            yield from _claim(hosts[real.address.version], real.name, real.address, (*parent, "name"))
    services: dict[str, tuple[object, Path]] = {}
    for v, virtual in enumerate(cluster.virtuals):
        place = ("virtual", v, "name")
        yield from _claim(services, virtual.name, place, place)


def _claim(names: dict[str, tuple[object, Path]], name: str, owner: object, place: Path) -> Iterator[Finding]:
    holder, where = names.setdefault(name.lower(), (owner, place))
    if holder != owner:
        yield Finding((place, where), f"{show(name)} is already {show_path(where)}; choose another name")


def addresses(cluster: Cluster) -> Iterator[Finding]:
    """Every address is one host's, and the virtual addresses nobody's but the active director's."""
    nodes: dict[Address, Path] = {}
    for n, node in enumerate(cluster.nodes):
        place: Path = ("node", n, "address")
        if node.address in nodes:
            message = f"{node.address} is already {show_path(nodes[node.address])}; each director has its own"
            yield Finding((place, nodes[node.address]), message)
        nodes.setdefault(node.address, place)
    reals: dict[Address, Path] = {}
    for parent, real in _reals(cluster):
        place = (*parent, "address")
        reals.setdefault(real.address, place)
        if real.address in nodes:
            yield Finding(
                (place, nodes[real.address]),
                f"{real.address} is {show_path(nodes[real.address])}, a director, which cannot be its own real; "
                'to serve from the directors while no real is up, write fallback = "127.0.0.1" in the [[virtual]]',
            )
    for place, address in virtual_addresses(cluster):
        for owner in (nodes.get(address), reals.get(address)):
            if owner is not None:
                yield Finding(
                    (place, owner),
                    f"{address} is already {show_path(owner)}; a virtual address belongs to no host, "
                    "the active director takes it: choose a free one",
                )


def unicast(cluster: Cluster) -> Iterator[Finding]:
    """Hosts have unicast addresses. 127.0.0.1 means something as fallback only."""
    hosts: list[tuple[Path, Address]] = []
    hosts += ((("node", n, "address"), node.address) for n, node in enumerate(cluster.nodes))
    hosts += ((("ha", "ping", n), address) for n, address in enumerate(cluster.ha.ping))
    hosts += virtual_addresses(cluster)
    hosts += (((*parent, "address"), real.address) for parent, real in _reals(cluster))
    hosts += ((place, end.address) for place, _, end in _fallbacks(cluster) if not _is_self(end))
    for place, address in hosts:
        if kind := _not_unicast(address):
            about_self = "loopback" in kind and ("real" in place or "fallback" in place)
            hint = '; for the director itself write fallback = "127.0.0.1"' if about_self else ""
            yield Finding((place,), f"{address} is {kind}; write the address of one host{hint}")


def _not_unicast(address: Address) -> str:
    """What kind of address it is instead; empty for an ordinary one."""
    if address.is_unspecified or (address.version == 4 and int(address) >> 24 == 0):
        return "an unspecified address"
    if address.is_loopback:
        return "a loopback address"
    if address.is_multicast:
        return "a multicast address"
    if address == BROADCAST:
        return "the broadcast address"
    if address.version == 6 and address.is_link_local:
        return "a link-local address, which means nothing without an interface"
    return "a reserved address" if address.is_reserved else ""


def fallback(cluster: Cluster) -> Iterator[Finding]:
    """A sorry server answers on the virtual's own port, as reals do, and is none of the hosts that just failed."""
    nodes = {node.address: ("node", n, "address") for n, node in enumerate(cluster.nodes)}
    for place, virtual, end in _fallbacks(cluster):
        parent = place[:-1]
        if end.port is not None and end.port != virtual.port:
            own = f"{virtual.port}" if virtual.port else "every port"
            who = f"{end.address} is this director itself: it" if _is_self(end) else "the fallback"
            yield Finding(
                (place, (*parent, "port"), (*parent, "forward")),
                f"port {end.port} cannot be reached with forward {show(virtual.forward)}: {who} is asked on the "
                f"virtual's own port ({own}); write {show(str(end.address))}",
            )
        if end.address in nodes:
            yield Finding(
                (place, nodes[end.address]),
                f'{end.address} is a director; write "127.0.0.1", which is the active director itself',
            )
        if end.address in virtual.addresses:
            message = f'{end.address} is the virtual address itself; name another host, or "127.0.0.1"'
            yield Finding((place, (*parent, "address")), message)
        for r, real in enumerate(virtual.reals):
            if real.address == end.address and not _is_self(end):
                yield Finding(
                    (place, (*parent, "real", r, "address")),
                    f"{end.address} is real[{r}] of this virtual, and is down whenever the fallback is used; "
                    'name another host, or "127.0.0.1"',
                )


def families(cluster: Cluster) -> Iterator[Finding]:
    """With direct routing a real gets packets as they came, so it is of their family. A tunnel is of the real's."""
    for v, virtual in enumerate(cluster.virtuals):
        for n, pair in enumerate(virtual.also):
            if pair.address.version != virtual.address.version:
                yield Finding(
                    (("virtual", v, "also", n), ("virtual", v, "address")),
                    f"{pair.address} is IPv{pair.address.version}, the virtual's own address {virtual.address} "
                    f"IPv{virtual.address.version}; its reals can serve one: write a second [[virtual]] for the other",
                )
    for parent, real in _reals(cluster):
        virtual = cluster.virtuals[int(parent[1])]
        yield from _of_family(virtual, real.address, virtual.forward_of(real), parent[:2], (*parent, "address"))
    for place, virtual, end in _fallbacks(cluster):
        if not _is_self(end):
            yield from _of_family(virtual, end.address, virtual.forward, place[:2], place)


def _of_family(virtual: Virtual, address: Address, forward: str, parent: Path, place: Path) -> Iterator[Finding]:
    places = (place, (*parent, "address"), (*parent, "forward"))
    version = virtual.address.version
    if forward == "gate" and address.version != version:
        yield Finding(
            places,
            f"{address} is IPv{address.version}, its virtual address {virtual.address} IPv{version}; with forward "
            f"'gate' a host gets its packets as they came: write the host's IPv{version} address, or "
            'forward = "ipip"',
        )


def virtual_addresses(cluster: Cluster) -> Iterator[tuple[Path, Address]]:
    """Every place where the file says one, and which."""
    for v, virtual in enumerate(cluster.virtuals):
        yield ("virtual", v, "address"), virtual.address
        yield from ((("virtual", v, "also", n), pair.address) for n, pair in enumerate(virtual.also))


def _is_self(end: Endpoint) -> bool:
    """Does it mean the director itself?"""
    return end.address in (LOCAL, LOCAL6)


def _reals(cluster: Cluster) -> Iterator[tuple[Path, Real]]:
    for v, virtual in enumerate(cluster.virtuals):
        for r, real in enumerate(virtual.reals):
            yield ("virtual", v, "real", r), real


def _fallbacks(cluster: Cluster) -> Iterator[tuple[Path, Virtual, Endpoint]]:
    for v, virtual in enumerate(cluster.virtuals):
        if virtual.fallback is not None:
            yield ("virtual", v, "fallback"), virtual, virtual.fallback
