"""What must not be together in one configuration: each rule is a generator over the cluster, `RULES` is the list.

A finding names every place it looked at: where one of them is broken by itself already, the finding would only repeat
that, and is dropped (see `lb.config`). The first place is where it is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import regex

from lb import hosts, questions
from lb.abi import DENY_LISTS_MAX
from lb.addresses import Address, with_port
from lb.catalog import SCHEDULERS, available
from lb.model import Cluster, Pair, format_duration
from lb.positions import Finding, Path
from lb.schedule import FEW_SCHEDULERS, list_limit
from lb.schedule import SCHEDULERS as IMPLEMENTED
from lb.wording import did_you_mean, show, show_path

MOST_NODES = 8
"""What the packet path has room for (OTHER_DIRECTORS in bpf/abi.h) and one besides."""

WEIGHING = ("wrr", "wlc", "sed", "nq", "lblc", "lblcr")
"""Schedulers that give a real with half the weight half the connections. (A hash's table would move clients.)"""

Rule = Callable[[Cluster], Iterator[Finding]]


def _nodes(cluster: Cluster) -> Iterator[Finding]:
    """At least one director, at most MOST_NODES; two need `[ha]`, so that nobody runs it without having read it."""
    count = len(cluster.nodes)
    if count == 0:
        yield Finding((("node",),), "there is no director; add a [[node]] with name and address")
    if count > MOST_NODES:
        place: Path = ("node", MOST_NODES)
        yield Finding((place,), f"there are {count} directors; accepted: at most {MOST_NODES}")
    if count > 1 and "ha" not in cluster.model_fields_set:
        yield Finding((("ha",),), 'is missing; several directors need it: add [ha] with authkeys = "authkeys"')


def _pairs(cluster: Cluster) -> Iterator[Finding]:
    """A packet belongs to one virtual."""
    seen: dict[Pair, tuple[Path, ...]] = {}
    for v, virtual in enumerate(cluster.virtuals):
        own: Path = ("virtual", v)
        for n, pair in enumerate(virtual.pairs):
            last = ((*own, "also", n - 1),) if n else ((*own, "address"), (*own, "port"))
            places = *last, (*own, "protocol")
            if (before := seen.setdefault(pair, places)) != places:
                owner = before[0][:2] if before[0][-1] == "address" else before[0]
                remedy = "remove it here" if n or "also" in owner else "put all its reals there"
                where = f"{pair.protocol} {with_port(pair.address, pair.port)}"
                yield Finding((*places, *before), f"{where} is already {show_path(owner)}; {remedy}")


def _reals(cluster: Cluster) -> Iterator[Finding]:
    """A virtual names each real once."""
    for v, virtual in enumerate(cluster.virtuals):
        reals: dict[Address, int] = {}
        for r, real in enumerate(virtual.reals):
            if reals.setdefault(real.address, r) != r:
                first = reals[real.address]
                yield Finding(
                    tuple(("virtual", v, "real", n, "address") for n in (r, first)),
                    f"{real.address} is already virtual[{v}].real[{first}]; for a larger share raise its weight",
                )


def _interfaces(cluster: Cluster) -> Iterator[Finding]:
    """Each of a director's interfaces is named once."""
    for n, node in enumerate(cluster.nodes):
        names = cluster.interfaces_of(node)
        for place, name in enumerate(names[1:], start=1):
            if name in names[:place]:
                inherited = node.real_interfaces is None
                owner: Path = ("cluster",) if inherited else ("node", n)
                own = ("node", n, "interface") if node.interface else ("cluster", "interface")
                yield Finding(
                    ((*owner, "real_interfaces", place - 1), own),
                    f"{show(name)} is already an interface of {node.name}; name others, on which only reals are",
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
    yield from _split_roles(cluster)
    if ha.auto_failback and ha.preferred is None and len(cluster.groups) == 1:
        yield Finding(
            (("ha", "auto_failback"), ("ha", "preferred")),
            "true needs to know where to go back to; add preferred with a node's name",
        )


GROUPS_MAX = 3
"""A heartbeat has a report for each preferred node, and must fit into one frame."""


def _split_roles(cluster: Cluster) -> Iterator[Finding]:
    names = [node.name for node in cluster.nodes]
    first: dict[Address, int] = {}
    for v, virtual in enumerate(cluster.virtuals):
        place = (("virtual", v, "preferred"), ("virtual", v))
        if virtual.preferred is not None and virtual.preferred not in names:
            known = f"({', '.join(names)}){did_you_mean(virtual.preferred, names)}"
            yield Finding(place, f"{show(virtual.preferred)} is not a node {known}")
        others = [first.setdefault(address, v) for address in virtual.addresses]
        for other in (o for o in others if cluster.group_of(cluster.virtuals[o]) != cluster.group_of(virtual)):
            yield Finding(
                place,
                f"virtual[{other}] has the same address and another preferred node; an address is on one director, so "
                "write the same for both",
            )
    if cluster.ha.virtual_mac and len(cluster.groups) > 1:
        yield Finding(
            (("ha", "virtual_mac"),),
            "several directors may be active, each for some virtuals, and would have the same MAC; remove it, or "
            "preferred of the virtuals",
        )
    if len(cluster.groups) > GROUPS_MAX:
        yield Finding(
            (("virtual",),),
            f"the virtuals prefer {len(cluster.groups)} different nodes; heartbeats have room for {GROUPS_MAX}",
        )


def _ping(cluster: Cluster) -> Iterator[Finding]:
    seen: dict[Address, int] = {}
    virtuals = {address: place for place, address in hosts.virtual_addresses(cluster)}
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


def _links(cluster: Cluster) -> Iterator[Finding]:
    """The n-th further address of every node is one link; interfaces are named once, and the group is one."""
    ha, first = cluster.ha, cluster.nodes[0] if cluster.nodes else None
    for n, node in enumerate(cluster.nodes[1:], 1):
        if first and len(node.links) != len(first.links):
            yield Finding(
                (("node", n, "links"), ("node", 0, "links"), ("node", n), ("node", 0)),
                f"{len(node.links)} addresses, and node[0] has {len(first.links)}; the first ones of all nodes are one "
                "link, the second ones another: write as many for every node",
            )
        for at, (mine, its) in enumerate(zip(first.links if first else (), node.links, strict=False)):
            if mine.version != its.version:
                yield Finding(
                    (("node", n, "links", at), ("node", 0, "links", at)),
                    f"{its} is IPv{its.version}, and {mine} of node[0] IPv{mine.version}; a link has one family",
                )
    for key, interfaces in (("broadcast", ha.broadcast), ("multicast", ha.multicast)):
        for at, interface in enumerate(interfaces):
            if interface in interfaces[:at]:
                yield Finding((("ha", key, at),), f"{show(interface)} is already in {key}; write it once")
    if not ha.group.is_multicast:
        message = f"{ha.group} is no multicast address; accepted: one like 239.255.6.94 or ff02::694"
        yield Finding((("ha", "group"),), message)


def _vlans(cluster: Cluster) -> Iterator[Finding]:
    ha = cluster.ha
    for n, vlan in enumerate(ha.vlans):
        if vlan in ha.vlans[:n]:
            yield Finding((("ha", "vlans", n),), f"{vlan} is already in vlans; write it once")
    if ha.vlans and ha.virtual_mac:
        yield Finding(
            (("ha", "virtual_mac"), ("ha", "vlans")),
            "the kernel answers for a virtual MAC in no VLAN, so nothing can be announced there; remove one of both",
        )


def _schedulers(cluster: Cluster) -> Iterator[Finding]:
    """Flags of another scheduler, thresholds the wrong way round, more reals than a scheduler can compare."""
    limit = list_limit([virtual.scheduler for virtual in cluster.virtuals])
    for v, virtual in enumerate(cluster.virtuals):
        place: Path = ("virtual", v)
        scheduler = (*place, "scheduler")
        for n, flag in enumerate(virtual.flags or ()):
            if not flag.startswith(f"{virtual.scheduler}-"):
                message = f"{show(flag)} means nothing to scheduler {show(virtual.scheduler)}; remove it"
                yield Finding(((*place, "flags", n), (*place, "flags"), scheduler), message)
        for r, real in enumerate(virtual.reals):
            if real.lower > real.upper:
                yield Finding(
                    tuple((*place, "real", r, key) for key in ("lower", "upper")),
                    f"{real.lower} is more than upper ({real.upper}); accepted: 0 to upper",
                )
        compares = IMPLEMENTED[virtual.scheduler].looks or any(real.upper for real in virtual.reals)
        if compares and len(virtual.reals) > limit:
            yield Finding(
                ((*place, "real"), scheduler),
                f"{len(virtual.reals)} reals are more than scheduler {show(virtual.scheduler)} can compare, or keep to "
                f"thresholds; accepted: {limit} (256 while the file has at most {FEW_SCHEDULERS} different schedulers, "
                "else 128); with more use rr, wrr, sh, dh or mh without upper",
            )


def _netmasks(cluster: Cluster) -> Iterator[Finding]:
    for v, virtual in enumerate(cluster.virtuals):
        if (virtual.netmask or 0) > virtual.address.max_prefixlen:
            yield Finding(
                (("virtual", v, "netmask"), ("virtual", v, "address")),
                f"{virtual.netmask} is longer than an IPv4 address; accepted: 1 to {virtual.address.max_prefixlen}",
            )


def _deny_lists(cluster: Cluster) -> Iterator[Finding]:
    """Each counts under its own name."""
    lists = cluster.limits.deny
    seen: dict[str, int] = {}
    for n, deny in enumerate(lists):
        if seen.setdefault(deny.name, n) != n:
            places = tuple(("limits", "deny", number, "name") for number in (n, seen[deny.name]))
            yield Finding(
                places, f"{show(deny.name)} is already limits.deny[{seen[deny.name]}]; put its prefixes there"
            )
    if len(lists) > DENY_LISTS_MAX:
        message = f"{len(lists)} lists; accepted: up to {DENY_LISTS_MAX}, with as many prefixes each as you like"
        yield Finding((("limits", "deny", DENY_LISTS_MAX),), message)


def _one_packet(cluster: Cluster) -> Iterator[Finding]:
    """Segments of one TCP connection must reach one real."""
    for v, virtual in enumerate(cluster.virtuals):
        others = [pair for pair in virtual.pairs if pair.protocol != "udp"] if virtual.one_packet else []
        if others:
            who = "this virtual" if virtual.protocol != "udp" else with_port(others[0].address, others[0].port)
            yield Finding(
                (("virtual", v, "one_packet"), ("virtual", v, "protocol"), ("virtual", v, "also")),
                f"each packet for itself is for udp, and {who} is {others[0].protocol}; remove this key",
            )


def _weights(cluster: Cluster) -> Iterator[Finding]:
    """What changes weights needs somebody who counts with them, and an answer that has one."""
    for v, virtual in enumerate(cluster.virtuals):
        place: Path = ("virtual", v)
        if virtual.slow_start and virtual.scheduler not in WEIGHING:
            yield Finding(
                ((*place, "slow_start"), (*place, "scheduler")),
                f"scheduler {show(virtual.scheduler)} cannot give a real less than its share for a while; "
                f"accepted with {', '.join(word for word in WEIGHING if word in available(SCHEDULERS))}",
            )
        check = virtual.check
        if not check.dynamic_weight or check.type == "external":
            continue
        if check.type != "negotiate" or check.receive is None or not regex.compile(check.receive).groups:
            yield Finding(
                ((*place, "check", "dynamic_weight"), (*place, "check", "receive"), (*place, "check", "type")),
                'needs type = "negotiate" and a receive whose first group (in parentheses) finds the weight, like '
                "receive = 'weight=([0-9]+)'",
            )


def _passive(cluster: Cluster) -> Iterator[Finding]:
    """Only TCP's clients say again what nobody answered, so that only they can be watched."""
    for v, virtual in enumerate(cluster.virtuals):
        if virtual.check.passive and virtual.protocol != "tcp":
            yield Finding(
                (("virtual", v, "check", "passive"), ("virtual", v, "protocol")),
                f"counts SYNs, which protocol {show(virtual.protocol)} has none of; remove it",
            )


def _alerts(cluster: Cluster) -> Iterator[Finding]:
    alerts = cluster.alerts
    for one, other in (("smtp_login", "smtp_passwd_file"), ("smtp_passwd_file", "smtp_login")):
        if getattr(alerts, one) is not None and getattr(alerts, other) is None:
            yield Finding((("alerts", one), ("alerts", other)), f"is of no use without {other}; add {other}")


RULES: tuple[Rule, ...] = (
    _nodes,
    hosts.names,
    hosts.addresses,
    hosts.families,
    _pairs,
    _reals,
    _interfaces,
    hosts.unicast,
    hosts.fallback,
    _ha_times,
    _ha_roles,
    _ping,
    _vlans,
    _links,
    _schedulers,
    _netmasks,
    _deny_lists,
    _one_packet,
    questions.rule,
    _weights,
    _passive,
    _alerts,
)


def contradictions(cluster: Cluster) -> Iterator[Finding]:
    """Everything in `cluster` that does not fit together."""
    for rule in RULES:
        yield from rule(cluster)
