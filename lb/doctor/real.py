"""What a real needs, as `lbctl realserver` knows it, and a service that takes what is sent to the virtual address."""

from __future__ import annotations

from collections.abc import Iterator

from lb import plan, realserver
from lb.addresses import with_port
from lb.doctor.listeners import listens
from lb.doctor.verdict import Verdict, fail, ok, warn
from lb.model import Cluster
from lb.netif import link_names, own_addresses, tunnel
from lb.netif.tunnel import End


def look_at_host(cluster: Cluster) -> Iterator[Verdict]:
    """The virtual addresses on lo, and the settings that keep them quiet."""
    for item in realserver.status(cluster):
        yield judge_item(item, str(cluster.path))


def judge_item(item: realserver.Item, conf: str) -> Verdict:
    """conf: the file to name in the advice."""
    if item.ok:
        return ok(f"{item.name}: {item.found}")
    return fail(f"{item.name}: {item.found}, needed: {item.wanted}", f"lbctl realserver up {conf}")


def look_at_tunnel(cluster: Cluster) -> Iterator[Verdict]:
    """Can this kernel take packets out of the tunnels in which this host gets them?"""
    local = own_addresses()
    pairs = plan.tunnels(realserver.served(cluster, local), local)
    for outer, inner in pairs:
        end = tunnel.ENDS[outer, inner]
        there = end.device in link_names()
        yield judge_tunnel(end, outer, inner, there, there or tunnel.is_available(end))
    if not pairs:
        yield ok("none is needed")


def judge_tunnel(end: End, outer: int, inner: int, there: bool, available: bool) -> Verdict:
    """outer, inner: IP versions. there: the device; available: the kernel makes such devices."""
    what = f"IPv{inner} in IPv{outer}"
    if there or available:
        return ok(f"{what}: {end.device} is there" if there else f"{what}: this kernel has {end.module}")
    return fail(
        f"this kernel has no {end.module}, and this host gets {what}",
        f"modprobe {end.module}, or a kernel with {end.option}",
    )


def look_at_service(cluster: Cluster) -> Iterator[Verdict]:
    """Does somebody listen on the virtual's own address and port? Checks ask the real's address and cannot see it."""
    for virtual in realserver.served(cluster, own_addresses()):
        for pair in virtual.pairs:
            if not pair.port:
                continue
            where = f"{pair.protocol} {with_port(pair.address, pair.port)}"
            if listens(pair.protocol, pair.address, pair.port):
                yield ok(f"{virtual.name}: somebody listens on {where}")
            else:
                yield warn(
                    f"{virtual.name}: nobody listens on {where}: checks may pass, clients would be refused",
                    f"have the service listen on port {pair.port} of every address, or of {pair.address}",
                )
