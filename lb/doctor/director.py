"""What a director needs beyond its machine: its interface, its neighbours, its peers, its keys."""

from __future__ import annotations

import errno
import os
import platform
import resource
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lb import bpf, plan, rundir
from lb.addresses import Address, Interface, Network, by_family
from lb.datapath.attach import NATIVE_MTU
from lb.doctor.devices import device, judge_device, judge_queue_limits
from lb.doctor.drivers import SEVERAL_BUFFERS, driver_of, takes_tags_off, vlans_on
from lb.doctor.listeners import listens
from lb.doctor.verdict import Verdict, fail, ok, warn
from lb.errors import ConfigError, NetworkError
from lb.model import Cluster, Node
from lb.netif import FAMILIES, Link, Route, addresses, link, route
from lb.obstacles import obstacles
from lb.wording import show_path

LEAST_IPV6_MTU = 1280
OUTER_BYTES = {4: 20, 6: 40}
"""What a tunnel takes of each packet."""
SPARE_FILES = 256
"""Descriptors for everything but checks."""


@dataclass(frozen=True, slots=True)
class Site:
    """A director's place. weak_keys: reads the authkeys file at a path, gives the ids of keys that are too short to be
    safe, and raises ConfigError for a file that cannot be used."""

    cluster: Cluster
    node: Node
    keys_path: Path
    weak_keys: Callable[[Path], Iterable[int]]

    @property
    def interfaces(self) -> tuple[str, ...]:
        """All that it balances on."""
        return self.cluster.interfaces_of(self.node)

    @property
    def interface(self) -> str:
        """Where this director balances."""
        return self.cluster.interface_of(self.node)


def look_at_interface(site: Site) -> Iterator[Verdict]:
    """Is it there and connected?"""
    for name in site.interfaces:
        yield judge_interface(link(name))


def judge_interface(found: Link) -> Verdict:
    """Up and with a carrier?"""
    if not found.up:
        return fail(f"{found.name} is down", f"ip link set {found.name} up")
    if not found.carrier:
        return fail(f"{found.name} has no carrier", "plug the cable in, or switch the port on at the other end")
    return ok(f"{found.name} is up, {found.mac.hex(':')}")


def look_at_address(site: Site) -> Iterator[Verdict]:
    """Is this director where its peers look for it?"""
    yield judge_address(site.node, site.interface, addresses())


def judge_address(node: Node, interface: str, here: Sequence[tuple[str, Interface]]) -> Verdict:
    """here: this host's addresses and their interfaces."""
    holders = {name for name, address in here if address.ip == node.address}
    if interface in holders:
        return ok(f"{interface} has {node.name}'s address {node.address}")
    if holders:
        return warn(
            f"{node.name}'s address {node.address} is on {', '.join(sorted(holders))}, not on {interface}",
            f"right if heartbeats have a network of their own; else correct `interface` of node {node.name!r}",
        )
    return fail(
        f"{node.name}'s address {node.address} is not on this host",
        f"ip addr add {node.address}/PREFIX dev {interface}, or correct `address` of node {node.name!r}",
    )


def look_at_mtu(site: Site) -> Iterator[Verdict]:
    """Do frames fit XDP's buffers?"""
    for name in site.interfaces:
        yield judge_mtu(link(name), driver_of(name), bpf.takes_jumbo())


def judge_mtu(found: Link, driver: str, jumbo: bool) -> Verdict:
    """Small enough for native XDP? jumbo: the kernel shows XDP frames in several buffers, if the driver does."""
    if found.mtu <= NATIVE_MTU:
        return ok(f"{found.mtu} bytes")
    if jumbo and driver in SEVERAL_BUFFERS:
        return ok(f"{found.mtu} bytes, in several buffers, of which {driver} knows")
    lacking = f"{driver or 'the driver'} may know" if jumbo else "Linux before 5.18 has"
    return warn(
        f"{found.mtu} bytes: {lacking} no XDP in several buffers, and packets then take the slower generic way",
        f"ip link set {found.name} mtu {NATIVE_MTU}, or accept it",
    )


def look_at_driver(site: Site) -> Iterator[Verdict]:
    """Will the driver run the program itself?"""
    for name in site.interfaces:
        yield judge_device(device(name), os.cpu_count() or 1, site.cluster.cluster.attach)


def look_at_queue_limits(site: Site) -> Iterator[Verdict]:
    """Do byte queue limits cost packets?"""
    for name in site.interfaces:
        yield judge_queue_limits(device(name), site.cluster.cluster.attach, platform.release())


def look_at_tags(site: Site) -> Iterator[Verdict]:
    """Will the program see VLAN tags where there are VLANs?"""
    config = Path("/proc/thread-self/net/vlan/config")
    for name in site.interfaces:
        vlans = vlans_on(name, config.read_text()) if config.exists() else []
        yield judge_tags(name, vlans, takes_tags_off(name))


def judge_tags(interface: str, vlans: Sequence[str], taken_off: bool) -> Verdict:
    """vlans: the VLAN interfaces above it. taken_off: tags come beside the frames, not in them."""
    if not vlans:
        return ok(f"no VLAN interface is above {interface}")
    names = ", ".join(vlans)
    if taken_off:
        return warn(
            f"{interface} takes the tags of {names} off before the program sees them: what is balanced leaves without",
            f"ethtool -K {interface} rxvlan off",
        )
    return ok(f"frames of {names} keep their tags")


def look_at_segment(site: Site) -> Iterator[Verdict]:
    """Are the reals where a rewritten MAC address reaches them?"""
    networks = [address.network for name, address in addresses() if name in site.interfaces]
    gates = sorted(plan.reached_by(site.cluster, "gate"), key=by_family)
    yield from judge_segment(" or ".join(site.interfaces), networks, gates, site.cluster.addresses)


def judge_segment(
    interface: str, networks: list[Network], reals: Sequence[Address], virtuals: Sequence[Address]
) -> Iterator[Verdict]:
    """networks: those of the interface's addresses."""
    known = ", ".join(map(str, networks)) or "no network"
    beyond = [address for address in reals if not any(address in network for network in networks)]
    if beyond:
        yield fail(
            f"{', '.join(map(str, beyond))} not in {known} of {interface}: gate reaches neighbours only",
            f'write forward = "ipip" for reals behind routers, move them to the segment of {interface}, or give '
            f"{interface} an address in theirs",
        )
    else:
        yield ok(f"all {len(reals)} reals and fallbacks are neighbours in {known}")
    routed = [address for address in virtuals if not any(address in network for network in networks)]
    if routed:
        yield warn(
            f"virtual {', '.join(map(str, routed))} not in {known}: no neighbour asks for it",
            f"have the router send it to {interface}'s segment",
        )


def look_at_routes(site: Site) -> Iterator[Verdict]:
    """Do the tunnels leave by an interface on which this director balances?"""
    tunnels = sorted(plan.reached_by(site.cluster, "ipip"), key=str)
    if not tunnels:
        yield ok("no real is in a tunnel")
    for address in tunnels:
        try:
            inner = max(v.address.version for v in site.cluster.virtuals if (address, "ipip") in v.forwards)
            yield judge_route(site.interfaces, address, route(address), inner)
        except NetworkError as error:
            yield fail(str(error), f"ip route add {address}/{address.max_prefixlen} via ROUTER dev {site.interface}")


def judge_route(interfaces: Sequence[str], address: Address, found: Route, inner: int = 4) -> Verdict:
    """found: the kernel's route to a real behind a tunnel. inner: the highest IP version of what goes through it."""
    by = f"by {found.gateway}" if found.gateway else "on the link"
    if found.interface not in interfaces:
        return fail(
            f"{address} is reached by {found.interface}, not {' or '.join(interfaces)}: its packets go nowhere",
            f"ip route add {address}/{address.max_prefixlen} via ROUTER dev {interfaces[0]}, or "
            f'real_interfaces = ["{found.interface}"]',
        )
    most = found.mtu - OUTER_BYTES[address.version]
    if inner == 6 and most < LEAST_IPV6_MTU:
        return warn(
            f"{address} {by}: IPv6 packets of up to {LEAST_IPV6_MTU} bytes must get through, and only {most} fit",
            f"a way of {LEAST_IPV6_MTU + OUTER_BYTES[address.version]} bytes to it: ip route change … mtu …",
        )
    return ok(f"{address} {by}, packets of {most} bytes at most")


def look_at_virtuals(site: Site) -> Iterator[Verdict]:
    """Are the virtual addresses where they may be?"""
    running = rundir.runs_here(site.node.name)
    yield from judge_virtuals(site.interface, site.cluster.addresses, addresses(), running)


def judge_virtuals(
    interface: str, virtuals: Sequence[Address], here: Sequence[tuple[str, Interface]], running: bool
) -> Iterator[Verdict]:
    """A virtual address belongs to the active director's interface and, on a director, nowhere else."""
    held = [(name, address.ip) for name, address in here if address.ip in virtuals]
    for name, address in held:
        if name != interface:
            yield fail(
                f"virtual {address} is on {name}: this director would take its packets also as standby",
                "lbctl realserver down CONF" if name == "lo" else f"ip addr del {address}/PREFIX dev {name}",
            )
        elif not running:
            yield warn(
                f"virtual {address} is on {name} although no director runs here",
                f"ip addr del {address}/{address.max_prefixlen} dev {name}, if 'lbctl up' is not about to take it back",
            )
    if not held:
        yield ok("none of them is on this host yet")
    elif running and all(name == interface for name, _ in held):
        yield ok(f"{interface} holds {', '.join(str(address) for _, address in held)}")


def look_at_fallbacks(site: Site) -> Iterator[Verdict]:
    """Does anybody listen where this director is to serve itself?"""
    for virtual in site.cluster.virtuals:
        if not virtual.fallback or not virtual.fallback.address.is_loopback:
            continue
        for pair in virtual.pairs:
            if not pair.port:
                continue
            if listens(pair.protocol, pair.address, pair.port):
                yield ok(f"{virtual.name}: somebody listens on {pair.protocol} port {pair.port}")
            else:
                yield warn(
                    f"{virtual.name}: nobody listens on {pair.protocol} port {pair.port} of {pair.address}",
                    f"start the sorry server here, listening on port {pair.port} of every address",
                )


def look_at_ha_port(site: Site) -> Iterator[Verdict]:
    """Can heartbeats be received?"""
    port = site.cluster.ha.port
    if rundir.runs_here(site.node.name):
        yield ok(f"port {port} is used by {site.node.name}, which runs")
        return
    for kind, word in ((socket.SOCK_DGRAM, "UDP"), (socket.SOCK_STREAM, "TCP")):
        with socket.socket(FAMILIES[site.node.address.version], kind) as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(kind == socket.SOCK_STREAM))
            try:
                attempt.bind((str(site.node.address), port))
            except OSError as error:
                yield _refused_port(site, word, port, error)
            else:
                yield ok(f"{word} port {port} is free")


def _refused_port(site: Site, word: str, port: int, error: OSError) -> Verdict:
    if error.errno == errno.EADDRINUSE:
        return fail(f"{word} port {port} is taken by another program", "stop it (heartbeat?), or set another [ha] port")
    if error.errno == errno.EACCES:
        return fail(f"{word} port {port}: {error.strerror}", "run it as root")
    return fail(f"{word} port {port} of {site.node.address}: {error.strerror}", "see the finding on the address")


def look_at_firewall(site: Site) -> Iterator[Verdict]:
    """Is there one that could keep the peers out?"""
    tables = Path("/proc/thread-self/net/ip_tables_names")
    legacy = tables.read_text().split() if tables.exists() else []
    yield judge_firewall(site, legacy, Path("/sys/module/nf_tables").exists())


def judge_firewall(site: Site, legacy: Sequence[str], nftables: bool) -> Verdict:
    """legacy: the iptables tables in use. nftables: is the module there? Its rules are not looked at."""
    found = [f"iptables ({', '.join(legacy)})"] * bool(legacy) + ["nftables"] * nftables
    if not found:
        return ok("none is loaded")
    peers = ", ".join(str(peer.address) for peer in site.cluster.peers_of(site.node.name)) or "no peer"
    return warn(
        f"{' and '.join(found)} may filter; what it filters was not looked at",
        f"let UDP and TCP port {site.cluster.ha.port} of {peers} in; the packets of the virtuals pass before it",
    )


def look_at_keys(site: Site) -> Iterator[Verdict]:
    """Are the shared keys there, closed to others and long enough?"""
    try:
        weak = [str(key_id) for key_id in site.weak_keys(site.keys_path)]
    except ConfigError as error:
        for line in error.lines():
            yield fail(line, f"lbctl authkeys {site.keys_path}, the same file on every node, chmod 600")
        return
    if weak:
        yield warn(
            f"key {', '.join(weak)} of {site.keys_path} is short enough to be guessed",
            "lbctl authkeys - makes a long one",
        )
    else:
        yield ok(f"{site.keys_path}")


def look_at_files(site: Site) -> Iterator[Verdict]:
    """May all checks run at once?"""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield judge_files(soft, hard, sum(len(virtual.reals) for virtual in site.cluster.virtuals))


def judge_files(soft: int, hard: int, checks: int) -> Verdict:
    """soft, hard: the limits of open files. checks: each may hold one."""
    needed = checks + SPARE_FILES
    if soft >= needed:
        return ok(f"{soft} allowed, at most {needed} needed")
    mend = f"ulimit -n {needed}" if hard >= needed else f"LimitNOFILE={needed} in the systemd unit"
    return fail(f"{soft} allowed, up to {needed} needed when {checks} reals hang together", mend)


def look_at_checks(site: Site) -> Iterator[Verdict]:
    """Are the libraries, files and programs there that they need?"""
    missing = list(obstacles(site.cluster))
    for finding in missing:
        yield fail(f"{show_path(finding.places[0])}: {finding.message}", "put it there: lbctl up refuses without it")
    if not missing:
        yield ok("nothing is missing for them")
