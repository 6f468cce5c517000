"""What must not be together in one configuration: each rule is a generator over the cluster, `RULES` is the list.

A finding names every place it looked at: where one of them is broken by itself already, the finding would only repeat
that, and is dropped (see `lb.config`). The first place is where it is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from typing import NamedTuple

from lb.model import Cluster, Endpoint, Real, Virtual, format_duration
from lb.positions import Path
from lb.service import LOCAL
from lb.wording import did_you_mean, show, show_path

BROADCAST = IPv4Address("255.255.255.255")
MOST_NODES = 2
CONTENT_KEYS = ("service", "request", "receive", "virtualhost", "method", "status")
"""Keys of a check that only `negotiate` reads."""


class Finding(NamedTuple):
    """places: what the rule looked at; the first is where it is reported."""

    places: tuple[Path, ...]
    message: str


Rule = Callable[[Cluster], Iterator[Finding]]


def _reals(cluster: Cluster) -> Iterator[tuple[Path, Real]]:
    for v, virtual in enumerate(cluster.virtuals):
        for r, real in enumerate(virtual.reals):
            yield ("virtual", v, "real", r), real


def _fallbacks(cluster: Cluster) -> Iterator[tuple[Path, Virtual, Endpoint]]:
    for v, virtual in enumerate(cluster.virtuals):
        if virtual.fallback is not None:
            yield ("virtual", v, "fallback"), virtual, virtual.fallback


def _checks(cluster: Cluster) -> Iterator[tuple[Path, Virtual]]:
    for v, virtual in enumerate(cluster.virtuals):
        yield ("virtual", v, "check"), virtual


def _nodes(cluster: Cluster) -> Iterator[Finding]:
    """At least one director, at most two; two need `[ha]`, so that nobody runs failover without having read it."""
    count = len(cluster.nodes)
    if count == 0:
        yield Finding((("node",),), "there is no director; add a [[node]] with name and address")
    if count > MOST_NODES:
        place: Path = ("node", MOST_NODES)
        yield Finding((place,), f"more than {MOST_NODES} directors are not available yet (there are {count})")
    if count > 1 and "ha" not in cluster.model_fields_set:
        yield Finding((("ha",),), 'is missing; several directors need it: add [ha] with authkeys = "authkeys"')


def _names(cluster: Cluster) -> Iterator[Finding]:
    """Nodes and reals share one name space, both are hosts; a real may serve several virtuals under its one name."""
    hosts: dict[str, tuple[object, Path]] = {}
    for n, node in enumerate(cluster.nodes):
        place: Path = ("node", n, "name")
        yield from _claim(hosts, node.name, place, place)
    for parent, real in _reals(cluster):
        if real.name is not None:
            yield from _claim(hosts, real.name, real.address, (*parent, "name"))
    services: dict[str, tuple[object, Path]] = {}
    for v, virtual in enumerate(cluster.virtuals):
        place = ("virtual", v, "name")
        yield from _claim(services, virtual.name, place, place)


def _claim(names: dict[str, tuple[object, Path]], name: str, owner: object, place: Path) -> Iterator[Finding]:
    holder, where = names.setdefault(name.lower(), (owner, place))
    if holder != owner:
        yield Finding((place, where), f"{show(name)} is already {show_path(where)}; choose another name")


def _addresses(cluster: Cluster) -> Iterator[Finding]:
    """Every address is one host's, and the virtual addresses nobody's but the active director's."""
    nodes: dict[IPv4Address, Path] = {}
    for n, node in enumerate(cluster.nodes):
        place: Path = ("node", n, "address")
        if node.address in nodes:
            message = f"{node.address} is already {show_path(nodes[node.address])}; each director has its own"
            yield Finding((place, nodes[node.address]), message)
        nodes.setdefault(node.address, place)
    reals: dict[IPv4Address, Path] = {}
    for parent, real in _reals(cluster):
        place = (*parent, "address")
        reals.setdefault(real.address, place)
        if real.address in nodes:
            yield Finding(
                (place, nodes[real.address]),
                f"{real.address} is {show_path(nodes[real.address])}, a director, which cannot be its own real; "
                'to serve from the directors while no real is up, write fallback = "127.0.0.1" in the [[virtual]]',
            )
    for v, virtual in enumerate(cluster.virtuals):
        place = ("virtual", v, "address")
        for owner in (nodes.get(virtual.address), reals.get(virtual.address)):
            if owner is not None:
                yield Finding(
                    (place, owner),
                    f"{virtual.address} is already {show_path(owner)}; a virtual address belongs to no host, "
                    "the active director takes it: choose a free one",
                )


def _virtuals(cluster: Cluster) -> Iterator[Finding]:
    """A packet belongs to one virtual, and a virtual names each real once."""
    seen: dict[object, int] = {}
    for v, virtual in enumerate(cluster.virtuals):
        key = (virtual.address, virtual.port, virtual.protocol)
        first = seen.setdefault(key, v)
        if first != v:
            yield Finding(
                tuple(("virtual", n, part) for n in (v, first) for part in ("address", "port", "protocol")),
                f"{virtual.protocol} {virtual.address}:{virtual.port} is already virtual[{first}]; "
                "put all its reals there",
            )
        reals: dict[IPv4Address, int] = {}
        for r, real in enumerate(virtual.reals):
            if reals.setdefault(real.address, r) != r:
                first = reals[real.address]
                yield Finding(
                    tuple(("virtual", v, "real", n, "address") for n in (r, first)),
                    f"{real.address} is already virtual[{v}].real[{first}]; for a larger share raise its weight",
                )


def _unicast(cluster: Cluster) -> Iterator[Finding]:
    """Hosts have unicast addresses. 127.0.0.1 means something as fallback only."""
    hosts: list[tuple[Path, IPv4Address]] = []
    hosts += ((("node", n, "address"), node.address) for n, node in enumerate(cluster.nodes))
    hosts += ((("ha", "ping", n), address) for n, address in enumerate(cluster.ha.ping))
    hosts += ((("virtual", v, "address"), virtual.address) for v, virtual in enumerate(cluster.virtuals))
    hosts += (((*parent, "address"), real.address) for parent, real in _reals(cluster))
    hosts += ((place, end.address) for place, _, end in _fallbacks(cluster) if end.address != LOCAL)
    for place, address in hosts:
        if kind := _not_unicast(address):
            about_self = kind == "loopback" and ("real" in place or "fallback" in place)
            hint = '; for the director itself write fallback = "127.0.0.1"' if about_self else ""
            yield Finding((place,), f"{address} is {kind}; write the address of one host{hint}")


def _not_unicast(address: IPv4Address) -> str:
    """What kind of address it is instead; empty for an ordinary one."""
    if int(address) >> 24 == 0:
        return "an unspecified address"
    if address.is_loopback:
        return "a loopback address"
    if address.is_multicast:
        return "a multicast address"
    if address == BROADCAST:
        return "the broadcast address"
    return "a reserved address" if address.is_reserved else ""


def _fallback(cluster: Cluster) -> Iterator[Finding]:
    """A sorry server answers on the virtual's own port, as reals do, and is none of the hosts that just failed."""
    nodes = {node.address: ("node", n, "address") for n, node in enumerate(cluster.nodes)}
    for place, virtual, end in _fallbacks(cluster):
        parent = place[:-1]
        if end.port is not None and end.port != virtual.port:
            own = f"{virtual.port}" if virtual.port else "every port"
            who = "127.0.0.1 is this director itself: it" if end.address == LOCAL else "the fallback"
            yield Finding(
                (place, (*parent, "port"), (*parent, "forward")),
                f"port {end.port} cannot be reached with forward 'gate': {who} is asked on the virtual's own port "
                f"({own}); write {show(str(end.address))}",
            )
        if end.address in nodes:
            yield Finding(
                (place, nodes[end.address]),
                f'{end.address} is a director; write "127.0.0.1", which is the active director itself',
            )
        if end.address == virtual.address:
            message = f'{end.address} is the virtual address itself; name another host, or "127.0.0.1"'
            yield Finding((place, (*parent, "address")), message)
        for r, real in enumerate(virtual.reals):
            if real.address == end.address:
                yield Finding(
                    (place, (*parent, "real", r, "address")),
                    f"{end.address} is real[{r}] of this virtual, and is down whenever the fallback is used; "
                    'name another host, or "127.0.0.1"',
                )


def _ha_times(cluster: Cluster) -> Iterator[Finding]:
    """heartbeat's own conditions (SEED_TABLES 3.2)."""
    ha = cluster.ha
    keepalive, deadtime = format_duration(ha.keepalive), format_duration(ha.deadtime)
    if ha.deadtime <= 2 * ha.keepalive:
        least = format_duration(2 * ha.keepalive)
        yield Finding(
            (("ha", "deadtime"), ("ha", "keepalive")),
            f"{deadtime} is too short for keepalive {keepalive}: one lost heartbeat would be a death; "
            f"accepted: more than {least}",
        )
    if ha.warntime is not None and ha.warntime > ha.deadtime:
        yield Finding(
            (("ha", "warntime"), ("ha", "deadtime")),
            f"{format_duration(ha.warntime)} is longer than deadtime, so nothing would ever be late; "
            f"accepted: up to {deadtime}",
        )
    if ha.initdead < ha.deadtime:
        yield Finding(
            (("ha", "initdead"), ("ha", "deadtime")),
            f"{format_duration(ha.initdead)} is shorter than deadtime; accepted: {deadtime} and more",
        )


def _ha_roles(cluster: Cluster) -> Iterator[Finding]:
    ha, names = cluster.ha, [node.name for node in cluster.nodes]
    name_places = [("node", n, "name") for n in range(len(names))]
    if ha.preferred is not None and ha.preferred not in names:
        yield Finding(
            (("ha", "preferred"), ("node",), *name_places),
            f"{show(ha.preferred)} is not a node ({', '.join(names)}){did_you_mean(ha.preferred, names)}",
        )
    if ha.auto_failback and ha.preferred is None:
        yield Finding(
            (("ha", "auto_failback"), ("ha", "preferred")),
            "true needs to know where to go back to; add preferred with a node's name",
        )


def _ping(cluster: Cluster) -> Iterator[Finding]:
    seen: dict[IPv4Address, int] = {}
    virtuals = {virtual.address: ("virtual", v, "address") for v, virtual in enumerate(cluster.virtuals)}
    for n, address in enumerate(cluster.ha.ping):
        place: Path = ("ha", "ping", n)
        if seen.setdefault(address, n) != n:
            message = f"{address} is already ping[{seen[address]}] and would count twice; remove one"
            yield Finding((place, ("ha", "ping", seen[address])), message)
        if address in virtuals:
            yield Finding(
                (place, virtuals[address]),
                f"{address} is a virtual address, which a director answers itself; name a gateway or a switch",
            )


def _not_yet(cluster: Cluster) -> Iterator[Finding]:
    """Keys whose other values later versions bring."""
    for v, virtual in enumerate(cluster.virtuals):
        place: Path = ("virtual", v)
        if virtual.persistent > 0:
            yield Finding(
                ((*place, "persistent"),),
                f"{format_duration(virtual.persistent)}: client affinity is not available yet (available: 0s); "
                'scheduler "sh" or "mh" keeps a client on one real',
            )
        if virtual.netmask != 32:
            message = f"{virtual.netmask}: client affinity is not available yet (available: 32)"
            yield Finding(((*place, "netmask"),), message)
        if not virtual.quiescent:
            yield Finding(
                ((*place, "quiescent"),),
                "false is not available yet (available: true): connections to a real that is down are kept",
            )


def _check_keys(cluster: Cluster) -> Iterator[Finding]:
    """Keys that the check's type would ignore, though their author relies on them."""
    for place, virtual in _checks(cluster):
        check = virtual.check
        kind = (*place, "type")
        if check.type == "connect":
            for key in CONTENT_KEYS:
                if key in check.model_fields_set:
                    yield Finding(
                        ((*place, key), kind),
                        "is not looked at by type 'connect', which only opens a connection; "
                        'write type = "negotiate", or remove this key',
                    )
        if check.type == "negotiate" and check.method == "HEAD" and check.receive is not None:
            yield Finding(
                ((*place, "receive"), (*place, "method"), kind),
                "nothing can be found in the answer to method 'HEAD', which has no body; write method = \"GET\"",
            )
        if check.type in ("connect", "negotiate") and virtual.check_port == 0:
            yield Finding(
                ((*place, "port"), (*place[:-1], "port"), kind),
                "is missing; the virtual has every port (0), so say which one is asked, like port = 80 in "
                "[virtual.check]",
            )


RULES: tuple[Rule, ...] = (
    _nodes,
    _names,
    _addresses,
    _virtuals,
    _unicast,
    _fallback,
    _ha_times,
    _ha_roles,
    _ping,
    _not_yet,
    _check_keys,
)


def contradictions(cluster: Cluster) -> Iterator[Finding]:
    """Everything in `cluster` that does not fit together."""
    for rule in RULES:
        yield from rule(cluster)
