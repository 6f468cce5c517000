"""A lab's hosts as machines: built, switched on and off, and what runs on them.

A host is a network namespace on one cable to the lab's switch, which is a bridge in a namespace of its own without an
uplink. What a power cut takes from a real machine it takes here: the link first, so that no last word escapes, then
every process, then what lies in memory.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lb import namespaces, realserver
from lb.addresses import Network
from lb.errors import LabError
from lb.lab import services, tunnel_end
from lb.lab.state import Lab
from lb.lab.topology import Cable, Host, Topology
from lb.model import Cluster
from lb.netif import add_address, link_names, names, set_up, sysctl, wiring
from lb.rundir import RUN_DIR

BRIDGE = "switch"
LONGEST_LINK_NAME = 15
KILL_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Process:
    """Something that runs on a host."""

    pid: int
    command: str

    @property
    def service(self) -> str | None:
        """Which of the lab's services it belongs to."""
        return services.service_of(self.command)


def processes(hosts: Iterable[Host]) -> dict[str, list[Process]]:
    """What runs on each of these hosts, by name."""
    inodes = {number: host.name for host in hosts if (number := namespaces.inode(host.namespace))}
    found: dict[str, list[Process]] = {name: [] for name in inodes.values()}
    for number, pids in namespaces.processes(set(inodes)).items():
        for pid in sorted(pids):
            with contextlib.suppress(OSError):  # it ended meanwhile
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
                found[inodes[number]].append(Process(pid, command.decode(errors="replace").strip()))
    return found


def start_switch(lab: Lab) -> None:
    """Raise the switch, a bridge for each segment, if it is not there, or was not finished."""
    finished = lab.directory / "switch"
    name = lab.topology.switch
    if finished.exists():
        return
    names.remove(name)
    names.create(name)
    with namespaces.inside(name, "switch"):
        for segment in range(len(lab.topology.segments)):
            wiring.add_bridge(_bridge(segment))
            set_up(_bridge(segment))
    finished.touch()


def boot(lab: Lab, cluster: Cluster, host: Host) -> None:
    """Switch a host on, without its services. What an unfinished start left behind goes first."""
    cut_power(lab, host)
    lab.disk(host).mkdir(parents=True, exist_ok=True)
    names.create(host.namespace)
    _plug_in(lab.topology, host)
    with namespaces.inside(host.namespace, host.name):
        set_up("lo")
        for cable in host.cables:
            _configure(cable, lab.topology.segments[cable.segment])
        for route in host.routes:
            wiring.add_route(host.interface, route.network, route.gateway)
        if host.kind == "router":
            _forward()
        for end in services.missing_ends(host):
            tunnel_end.make_device(end.device)
        if host.kind == "real":
            realserver.up(cluster)
    lab.on_mark(host).touch()


def _configure(cable: Cable, networks: Iterable[Network]) -> None:
    """A host's end of a cable: all networks of its segment are reached directly, with or without an address there."""
    wiring.compute_checksums(cable.interface)
    set_up(cable.interface)
    for network in networks:
        own = [address for address in cable.addresses if address in network]
        for address in own:
            add_address(cable.interface, address, network.prefixlen)
        if not own:
            wiring.add_route(cable.interface, network)


def _forward() -> None:
    """Be a router, also for answers that come from where their sender is not: reals answer for virtual addresses."""
    for scope in ("all", *link_names()):
        sysctl.write(f"net/ipv4/conf/{scope}/rp_filter", "0")
    sysctl.write("net/ipv4/ip_forward", "1")
    sysctl.write("net/ipv6/conf/all/forwarding", "1")


def _bridge(segment: int) -> str:
    return f"{BRIDGE}_{segment}" if segment else BRIDGE


def _ports(topology: Topology, host: Host) -> tuple[str, ...]:
    """The switch's ends of a host's cables: the host's name where the kernel takes it; no host has `_` in its name."""
    usable = len(host.name) <= LONGEST_LINK_NAME and host.name not in (BRIDGE, "lo")
    number = topology.hosts.index(host)
    first = host.name if usable else f"port_{number}"
    return first, *(f"port_{number}_{n}" for n in range(1, len(host.cables)))


def _plug_in(topology: Topology, host: Host) -> None:
    fd = namespaces.open_fd(host.namespace)
    try:
        with namespaces.inside(topology.switch, "switch"):
            for cable, port in zip(host.cables, _ports(topology, host), strict=True):
                wiring.add_cable(_bridge(cable.segment), port, fd, cable.interface, cable.mac)
                if host.kind == "director":
                    _run_pass_program(port)
    finally:
        os.close(fd)


def _run_pass_program(port: str) -> None:
    """Frames that a veth's other end sends with XDP_TX vanish unless this end runs a program, too."""
    from lb import bpf

    program = bpf.load_xdp(bpf.XDP_PASS, jumbo=bpf.takes_jumbo())
    wiring.attach_xdp(port, program)
    os.close(program)


def cut_power(lab: Lab, host: Host) -> None:
    """Kill a host so that the others see nothing but silence."""
    if namespaces.exists(lab.topology.switch):
        with namespaces.inside(lab.topology.switch, "switch"):
            for port in set(_ports(lab.topology, host)).intersection(link_names()):
                wiring.delete(port)
    halt(lab, [host])


def halt(lab: Lab, hosts: Iterable[Host]) -> None:
    """End everything that runs on these hosts, and forget all that is not on their disks. Raises LabError."""
    there = {host: namespaces.inode(host.namespace) for host in hosts}
    _kill_all({number for number in there.values() if number is not None})
    for host in there:
        lab.on_mark(host).unlink(missing_ok=True)
        realserver.record_path(host.namespace).unlink(missing_ok=True)
        if host.kind == "director":
            _forget_director(host.name)
        names.remove(host.namespace)


def _forget_director(node: str) -> None:
    from lb.datapath import pins

    for pattern in (f"{node}.sock", f"{node}.lock", f"{node}.state.*"):
        for path in RUN_DIR.glob(pattern):
            path.unlink(missing_ok=True)
    if pins.home(node).exists():
        shutil.rmtree(pins.home(node))
    with contextlib.suppress(OSError):  # another director has something there, or nobody ever had
        pins.ROOT.rmdir()


def remove_switch(lab: Lab) -> None:
    """End the switch, and with it all cables."""
    (lab.directory / "switch").unlink(missing_ok=True)
    if number := namespaces.inode(lab.topology.switch):
        _kill_all({number})
    names.remove(lab.topology.switch)


def _kill_all(inodes: set[int]) -> None:
    """Kill until nobody is left: who was just forking has children that the first look missed.

    Except ourselves: `lbctl lab down` may be typed in a lab host's shell.
    """
    deadline = time.monotonic() + KILL_TIMEOUT_S
    while pids := [p for found in namespaces.processes(inodes).values() for p in found if p != os.getpid()]:
        if time.monotonic() > deadline:
            raise LabError(f"processes {', '.join(map(str, pids))} do not die; look at them with: ps -fp PID")
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)
