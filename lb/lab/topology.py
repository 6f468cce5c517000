"""What the lab of a configuration consists of: hosts, their addresses, and what each serves. Pure.

    client ── switch ── directors, reals ── router ── switch ── reals

The first segment holds every address that has to be on it, in as few networks as is sensible; each host reaches all of
them directly. The client also has the addresses of `[ha] ping` that no other host has. Reals that get their packets in
a tunnel, and whose addresses are not in those networks, are behind a router, in networks of their own; where directors
have `real_interfaces`, these are there, too, and so may be reals that get theirs by `gate`.

Reals of one name are one host. Directors and the client have an address in each network of IPv6, too, unless the file
gives them one.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Literal
from urllib.parse import unquote, urlsplit

import regex
from pydantic import BaseModel, ConfigDict

from lb import plan
from lb.addresses import Address, Network, by_family
from lb.errors import LabError
from lb.model import Cluster, Node, Question, Virtual

NARROWEST_PREFIX = 24
WIDEST_PREFIX = 8
IPV6_PREFIX = 64
DEFAULT_PORT = 80
"""What is served for a virtual of every port (0)."""
HTTPS_PORT = 443
"""Speaks TLS unless a check asks there for plain HTTP."""
WEB = ("http", "https")

Example = Callable[[str], str]
"""Makes up a text in which a regular expression should be found."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class Page(_Value):
    """An answer to a check.

    path: decoded, as a web server compares it. passes: what the checks of this path want to receive is found in body.
    """

    path: str
    status: int
    body: str
    passes: bool = True


class Server(_Value):
    """A web server's port. `/` is the host's name unless it is one of the pages."""

    port: int
    tls: bool
    pages: tuple[Page, ...] = ()


class Cable(_Value):
    """A host's link to a segment. interface: the host's name for it. segment: its place in the topology's."""

    interface: str
    addresses: tuple[Address, ...]
    segment: int = 0

    @property
    def mac(self) -> bytes:
        """Made of its first address, so that it is the same after a reboot and can be read in a trace."""
        first = self.addresses[0]
        return bytes((2, 0 if first.version == 4 else 6)) + first.packed[-4:]


class Route(_Value):
    """A network that is reached by a router."""

    network: Network
    gateway: Address


class Host(_Value):
    """A machine of the lab. name: also of its namespace, `lbctl-NAME`. udp_ports: where it echoes its name.

    tunnel: it gets packets in one.
    """

    name: str
    kind: Literal["client", "director", "real", "router"]
    cables: tuple[Cable, ...]
    routes: tuple[Route, ...] = ()
    servers: tuple[Server, ...] = ()
    udp_ports: tuple[int, ...] = ()
    tunnel: bool = False

    @property
    def namespace(self) -> str:
        """Its network namespace."""
        return f"lbctl-{self.name}"

    @property
    def interface(self) -> str:
        """Its first."""
        return self.cables[0].interface

    @property
    def addresses(self) -> tuple[Address, ...]:
        """On all its interfaces."""
        return tuple(address for cable in self.cables for address in cable.addresses)


class Topology(_Value):
    """The whole lab. switch: the name of its namespace; segments: the networks on each."""

    cluster: str
    switch: str
    segments: tuple[tuple[Network, ...], ...]
    hosts: tuple[Host, ...]

    @property
    def networks(self) -> tuple[Network, ...]:
        """Of the directors' segment."""
        return self.segments[0]

    def host(self, name: str) -> Host:
        """The host of that name. Raises LabError that lists those there are."""
        for host in self.hosts:
            if host.name == name:
                return host
        names = ", ".join(host.name for host in self.hosts)
        raise LabError(f"the lab of {self.cluster} has no host {name!r}; it has {names}")

    @property
    def client(self) -> Host:
        """The host that stands for everybody else."""
        return self.hosts[0]

    @property
    def directors(self) -> tuple[Host, ...]:
        """The hosts that balance."""
        return tuple(host for host in self.hosts if host.kind == "director")

    @property
    def unanswered(self) -> tuple[tuple[Host, str], ...]:
        """Hosts and paths of checks that their page does not satisfy, because none could be made up."""
        return tuple((host, p.path) for host in self.hosts for s in host.servers for p in s.pages if not p.passes)


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
    own = _take_free(cluster.nodes[0].address, used, "client")
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
            **_serving(name, [v for v in cluster.virtuals if set(addresses) & set(v.hosts)], example, addresses),
        )

    directors = tuple(
        Host(
            name=node.name,
            kind="director",
            cables=(
                Cable(
                    interface=cluster.interface_of(node),
                    addresses=(node.address, *_in_each(wide, node.address, used, node.name)),
                ),
                *_inward(cluster, node, behind, used),
            ),
            routes=() if len(cluster.interfaces_of(node)) > 1 else outward,
            **_serving(node.name, _sorry_virtuals(cluster), example),
        )
        for node in cluster.nodes
    )
    client = Host(
        name=_unique(client_name, taken),
        kind="client",
        cables=(
            Cable(interface=cluster.cluster.interface, addresses=(own, *_in_each(wide, own, used, "client"), *pings)),
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
        addresses = tuple(_take_free(near, used, node.name) for near in networks)
        yield Cable(interface=name, addresses=addresses, segment=int(bool(behind)))


def _router(cluster: Cluster, used: set[Address], behind: frozenset[Address], taken: set[str]) -> Host:
    """Between the two segments, with the first free address from above in each network."""
    near = _take_free(cluster.nodes[0].address, used, "router")
    far = tuple(_take_free(network.network_address, used, "router") for network in _far(behind))
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


def _take_free(near: Address, used: set[Address], whose: str) -> Address:
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


def _in_each(networks: Iterable[Network], own: Address, used: set[Address], whose: str) -> tuple[Address, ...]:
    """An address in each of these in which a host has none by itself."""
    return tuple(_take_free(network.network_address, used, whose) for network in networks if own not in network)


def _sorry_virtuals(cluster: Cluster) -> list[Virtual]:
    """Those whose fallback is the director itself."""
    return [v for v in cluster.virtuals if v.fallback and v.fallback.address.is_loopback]


def _serving(
    name: str, virtuals: Sequence[Virtual], example: Example, addresses: Collection[Address] = ()
) -> dict[str, object]:
    """A host's `servers` and `udp_ports`. addresses: at which it answers the checks of these virtuals, too."""
    tls: dict[int, bool] = {}
    asked: dict[int, list[Question]] = {}
    udp = {virtual.port or DEFAULT_PORT for virtual in virtuals if virtual.protocol == "udp"}
    for virtual in virtuals:
        for question in _questions_at(virtual, addresses) if addresses else ():
            port = virtual.port_of(question) or DEFAULT_PORT
            if not question.kind.transports:
                continue
            if virtual.protocol_of(question) == "udp":
                udp.add(port)
            else:
                tls.setdefault(port, _in_tls(question, port))
                asked.setdefault(port, []).append(question)
    for virtual in virtuals:
        if virtual.protocol == "tcp":
            tls.setdefault(virtual.port or DEFAULT_PORT, virtual.port == HTTPS_PORT)
    return {
        "udp_ports": tuple(sorted(udp)),
        "servers": tuple(
            Server(port=port, tls=tls[port], pages=_pages(name, asked.get(port, []), example)) for port in sorted(tls)
        ),
    }


def _questions_at(virtual: Virtual, addresses: Collection[Address]) -> tuple[Question, ...]:
    """What the host of these addresses is asked."""
    real = next((real for real in virtual.reals if real.address in addresses), None)
    return (virtual.check_of(real) if real else virtual.check).questions


def _in_tls(question: Question, port: int) -> bool:
    return question.encrypted if question.type == "negotiate" else port == HTTPS_PORT


def _pages(name: str, asked: Iterable[Question], example: Example) -> tuple[Page, ...]:
    """What the checks of one port ask for, each path once. (Nothing but the web is served in a lab.)"""
    by_path: dict[str, list[Question]] = {}
    for question in asked:
        if question.type == "negotiate" and question.service in WEB:
            by_path.setdefault(page_path(question.request or "/"), []).append(question)
    return tuple(_page(name, path, asking, example) for path, asking in by_path.items())


def _page(name: str, path: str, asking: Sequence[Question], example: Example) -> Page:
    """A page in which every pattern is found, and the host's name in its first line wherever they allow that."""
    patterns = tuple(dict.fromkeys(check.receive for check in asking if check.receive))
    text = "\n".join(example(pattern) for pattern in patterns)
    bodies = (f"{name}\n", f"{name}\n{text}\n", f"{name}\n{text}", f"{text}\n{name}\n", f"{text}\n", text)
    fitting = next((body for body in bodies if all(regex.search(p, body) for p in patterns)), None)
    status = asking[0].status
    return Page(
        path=path,
        status=200 if not status or 200 in status else status[0],
        body=bodies[1] if fitting is None else fitting,
        passes=fitting is not None,
    )


def page_path(request: str) -> str:
    """The path of a check's request as a web server sees it: no query, decoded, dots resolved."""
    path = unquote(urlsplit(request).path)
    resolved = "/" + posixpath.normpath("/" + path).lstrip("/")
    return resolved + "/" if path.endswith("/") and resolved != "/" else resolved
