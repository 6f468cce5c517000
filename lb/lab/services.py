"""What runs on a lab's hosts: nginx, the UDP echo, a tunnel's end if the kernel has none; on directors, lbctl."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from lb import namespaces
from lb.lab import tunnel_end, udp_echo, webserver
from lb.lab.state import Lab
from lb.lab.topology import Host
from lb.netif import tunnel

Process = subprocess.Popen[bytes]


def wanted(lab: Lab, host: Host) -> set[str]:
    """The services that should run on a host."""
    rows = {
        "nginx": bool(host.servers),
        "udp-echo": bool(host.udp_ports),
        "tunnel-end": bool(missing_ends(host)),
        "lbctl": host.kind == "director" and not lab.hosts_only,
    }
    return {name for name, here in rows.items() if here}


def missing_ends(host: Host) -> set[tunnel.End]:
    """The ends of tunnels that a host needs and this kernel does not have."""
    return {end for end in {tunnel.ENDS[pair] for pair in host.tunnels} if not tunnel.is_available(end)}


def service_of(command: str) -> str | None:
    """Which of these services a command line belongs to."""
    words = command.split()
    if words[:1] == ["nginx:"]:
        return "nginx"
    if any(word.endswith("udp_echo.py") for word in words):
        return "udp-echo"
    if any(word.endswith("tunnel_end.py") for word in words):
        return "tunnel-end"
    ours = any(word == "lb" or word.endswith("/lbctl") for word in words)
    return "lbctl" if ours and "up" in words and "lab" not in words else None


def director_log(lab: Lab, host: Host) -> Path:
    """Where a director's output goes."""
    return lab.disk(host) / "lbctl.log"


def start(lab: Lab, host: Host, names: Collection[str]) -> Process | None:
    """Start these services on a living host; returns the director's process if it is among them. Raises LabError."""
    disk = lab.disk(host)
    env = lab.environment(host)
    director = None
    with namespaces.inside(host.namespace, host.name):
        if "nginx" in names:
            webserver.prepare(host, disk, lab.directory / "download")
            webserver.start(disk, env)
        if "udp-echo" in names:
            _start_udp_echo(host, disk, env)
        if "tunnel-end" in names:
            _start_tunnel_end(host, disk, env)
        if "lbctl" in names:
            command = [sys.executable, "-m", "lb", "up", str(lab.conf), "--node", host.name]
            director = _spawn(command, director_log(lab, host), env)
    return director


def _start_udp_echo(host: Host, disk: Path, env: Mapping[str, str]) -> None:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(made) for port in host.udp_ports for made in udp_echo.bind(port)]
        bound = [made.fileno() for made in sockets]
        command = [sys.executable, udp_echo.__file__, host.name, *map(str, bound)]
        _spawn(command, disk / "udp-echo.log", env, bound)


def _start_tunnel_end(host: Host, disk: Path, env: Mapping[str, str]) -> None:
    command, fds = [sys.executable, tunnel_end.__file__], []
    with contextlib.ExitStack() as stack:
        devices = {}
        for end in missing_ends(host):
            devices[end] = tunnel_end.open_device(end.device)
            stack.callback(os.close, devices[end])
        for outer, inner in host.tunnels:
            end = tunnel.ENDS[outer, inner]
            if end in devices:
                raw = stack.enter_context(tunnel_end.open_socket(outer, inner))
                command += [str(outer), str(raw.fileno()), str(devices[end])]
                fds += [raw.fileno(), devices[end]]
        _spawn(command, disk / "tunnel-end.log", env, fds)


def _spawn(command: list[str], log: Path, env: Mapping[str, str], fds: Iterable[int] = ()) -> Process:
    with log.open("ab") as file:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=env, pass_fds=tuple(fds),
            start_new_session=True,
        )  # fmt: skip
