"""Raising a lab, looking at it, and taking it down, from whatever state it is in."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from lb import client, config, rundir
from lb.datapath import load
from lb.errors import LabError, LbctlError, NotRunningError
from lb.lab import design, machines, services, state, webserver
from lb.lab.examples import example
from lb.lab.state import Lab
from lb.lab.topology import Host
from lb.model import Cluster

Say = Callable[[str], None]
"""Tells the user what is being done, one short line."""

START_S = load.TIMEOUT_S + 60.0
"""How long directors may take beyond the times in their configuration: compiling and loading on an emulated CPU. One
that ends is noticed at once."""


def up(cluster: Cluster, hosts_only: bool, new_authkeys: Callable[[], str], say: Say) -> tuple[Lab, list[str]]:
    """Raise the lab of a configuration, or what is missing of it; returns it and the hosts that needed something.

    new_authkeys: makes an authkeys file's text, for a configuration without one. Waits until a director is active and
    has checked its reals. What was raised is taken down again if that fails. Raises LabError and others.
    """
    with state.lock():
        before = state.find(cluster.cluster.name)
        lab = _planned(cluster, hosts_only, before)
        _refuse_conflicts(lab, before)
        state.save(lab)
        missing = [host for host in lab.topology.hosts if not lab.alive(host)]
        try:
            if not lab.authkeys.exists():
                _write_secret(lab.authkeys, new_authkeys())
            webserver.write_download(lab.directory / "download")
            machines.start_switch(lab)
            started = _start(lab, cluster, missing, lab.topology.hosts, say)
        except BaseException:
            say("taking down what was raised")
            if before is None:
                _remove(lab)
            else:
                machines.halt(lab, missing)
            raise
        return lab, started


def _planned(cluster: Cluster, hosts_only: bool, before: Lab | None) -> Lab:
    plan = design.build(cluster, example, before.topology.client.name if before else _free_client(cluster))
    given = cluster.authkeys_path
    own = state.LAB_DIR / plan.cluster / "authkeys"
    return Lab(conf=cluster.path, authkeys=given if given.exists() else own, hosts_only=hosts_only, topology=plan)


def _free_client(cluster: Cluster) -> str:
    """Every lab has a client; where another lab has the usual name this one's is told apart by the cluster's."""
    used = {lab.topology.client.name for lab in state.labs()}
    return f"client-{cluster.cluster.name}" if "client" in used else "client"


def _refuse_conflicts(lab: Lab, before: Lab | None) -> None:
    if before and (before.conf, before.topology) != (lab.conf, lab.topology):
        other = "another version of this file" if before.conf == lab.conf else str(before.conf)
        raise LabError(f"the lab of {lab.name} is up from {other}; take it down first: lbctl lab down {before.conf}")
    mine = {host.name for host in lab.topology.hosts}
    for other_lab in state.labs():
        if other_lab.name != lab.name and (both := mine & {host.name for host in other_lab.topology.hosts}):
            raise LabError(
                f"the lab of {other_lab.name} ({other_lab.conf}) already has {', '.join(sorted(both))}; "
                f"take it down first: lbctl lab down {other_lab.conf}"
            )
    for host in lab.topology.directors:
        with contextlib.suppress(NotRunningError):
            if not lab.alive(host) and rundir.find_director(host.name):
                raise LabError(
                    f"a director {host.name} runs on this machine outside any lab; "
                    f"stop it first: lbctl down --node {host.name}"
                )


def _write_secret(path: Path, text: str) -> None:
    draft = path.with_suffix(".new")
    draft.touch(mode=0o600)
    draft.write_text(text)
    draft.replace(path)


def start(name: str, say: Say) -> bool:
    """Switch a host on, or start what does not run on it any more; False if nothing was missing. Raises LabError."""
    with state.lock():
        lab, host = state.of_host(name)
        dead = not lab.alive(host)
        machines.start_switch(lab)
        return bool(_start(lab, config.load(lab.conf), [host] if dead else [], [host], say))


def _start(lab: Lab, cluster: Cluster, dead: Sequence[Host], hosts: Sequence[Host], say: Say) -> list[str]:
    """Boot the dead, start what does not run on any of the hosts, wait for the directors; returns who needed it."""
    for host in dead:
        say(f"{host.name}: {host.kind}, {', '.join(map(str, host.addresses))}")
        machines.boot(lab, cluster, host)
    running = machines.processes(hosts)
    missing = {h: services.wanted(lab, h) - {p.service for p in running[h.name]} for h in hosts}
    directors: dict[Host, services.Process] = {}
    for host, names in missing.items():
        if names:
            say(f"{host.name}: starting {', '.join(sorted(names))}")
            if director := services.start(lab, host, names):
                directors[host] = director
    if directors:
        _wait_for_directors(lab, cluster, directors, say)
    return [host.name for host in hosts if host in dead or missing[host]]


def _wait_for_directors(lab: Lab, cluster: Cluster, directors: dict[Host, services.Process], say: Say) -> None:
    """Until these have a role and the active one has checked its reals. Raises LabError with the end of a log."""
    checks = [v.check.timeout + v.check.interval * v.check.failures for v in cluster.virtuals]
    deadline = time.monotonic() + START_S + cluster.ha.initdead + cluster.ha.deadtime + max(checks, default=0)
    say("waiting for the directors")
    while problem := _unready(lab, directors):
        ended = [host for host, process in directors.items() if process.poll() is not None]
        if ended or time.monotonic() > deadline:
            host = ended[0] if ended else next(iter(directors))
            log = services.director_log(lab, host)
            tail = log.read_text(errors="replace").splitlines()[-15:]
            what = f"lbctl ended on {host.name} with status {directors[host].returncode}" if ended else problem
            raise LabError("\n".join((f"the directors did not come up: {what}; the end of {host.name}'s log:", *tail)))
        time.sleep(0.05)


def _unready(lab: Lab, directors: Iterable[Host]) -> str | None:
    """What is still missing, in words; None when all is well."""
    documents = {host.name: _status(host.name) for host in lab.topology.directors}
    for host in directors:
        if documents[host.name].get("role", "init") == "init":
            return f"{host.name} has no role yet"
    active = [document for document in documents.values() if document.get("role") == "active"]
    if not active:
        return "no director is active"
    unknown = [r for v in active[0]["virtuals"] for r in v["reals"] if r["health"] == "unknown"]
    return f"{unknown[0]['address']} has not been checked" if unknown else None


def _status(node: str) -> dict[str, Any]:
    try:
        document: dict[str, Any] = client.call(node, "GET", "/status", timeout_s=2.0)
    except LbctlError:
        return {}
    return document


def kill(name: str) -> bool:
    """Cut a host's power; False if it was off already. Raises LabError and NotRunningError."""
    with state.lock():
        lab, host = state.of_host(name)
        was_alive = lab.alive(host)
        machines.cut_power(lab, host)
        return was_alive


def nginx(name: str, wanted: bool) -> bool:
    """Start or stop a host's web server by hand; False if it was so already. Raises LabError."""
    with state.lock():
        lab, host = state.running_host(name)
        if not host.servers:
            raise LabError(f"{name} is the lab's {host.kind} and has no web server")
        there = [p for p in machines.processes([host])[host.name] if p.service == "nginx"]
        if bool(there) == wanted:
            return False
        if wanted:
            services.start(lab, host, {"nginx"})
        else:
            webserver.stop([process.pid for process in there])
        return True


def down(cluster: str | None) -> list[str]:
    """Take a lab down, or all of this machine; returns their names. Raises LabError."""
    with state.lock():
        found = [lab for lab in state.labs() if cluster in (None, lab.name)]
        for lab in found:
            _remove(lab)
        return [lab.name for lab in found]


def _remove(lab: Lab) -> None:
    """lab.json goes last: as long as anything is left, `down` finds it."""
    machines.halt(lab, lab.topology.hosts)
    machines.remove_switch(lab)
    for path in lab.directory.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "lab.json":
            path.unlink()
    shutil.rmtree(lab.directory)
    with contextlib.suppress(OSError):  # another lab is there
        state.LAB_DIR.rmdir()


def status(lab: Lab) -> dict[str, Any]:
    """The document of `lbctl lab status`."""
    running = machines.processes(lab.topology.hosts)
    return {
        "cluster": lab.name,
        "conf": str(lab.conf),
        "directory": str(lab.directory),
        "hosts": [
            {
                "name": host.name,
                "kind": host.kind,
                "namespace": host.namespace,
                "interface": host.interface,
                "addresses": [str(address) for address in host.addresses],
                "state": "up" if lab.alive(host) else "dead",
                "disk": str(lab.disk(host)),
                "processes": [
                    {"pid": process.pid, "service": process.service, "command": process.command}
                    for process in running.get(host.name, [])
                ],
            }
            for host in lab.topology.hosts
        ],
    }
