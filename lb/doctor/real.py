"""What a real needs, as `lbctl realserver` knows it, and a service that takes what is sent to the virtual address."""

from __future__ import annotations

from collections.abc import Iterator

from lb import realserver
from lb.addresses import with_port
from lb.doctor.listeners import listens
from lb.doctor.verdict import Verdict, fail, ok, warn
from lb.model import Cluster
from lb.netif import link_names, own_addresses, tunnel


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
    """Can this kernel take packets out of a tunnel, where this host gets them in one?"""
    local = own_addresses()
    if realserver.is_tunnelled(realserver.served(cluster, local), local):
        yield judge_tunnel(tunnel.NAME in link_names(), tunnel.is_available())
    else:
        yield ok("none is needed")


def judge_tunnel(there: bool, available: bool) -> Verdict:
    """there: the device; available: the kernel makes such devices."""
    if there or available:
        return ok(f"{tunnel.NAME} is there" if there else "this kernel has ipip")
    return fail("this kernel has no ipip, and this host gets packets in a tunnel", "modprobe ipip, or another kernel")


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
