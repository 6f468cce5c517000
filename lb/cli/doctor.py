"""`lbctl doctor`: what would not work here."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from ha import authkeys
from lb import config, rundir
from lb.cli.options import node_option
from lb.cli.output import json_option, out, print_json
from lb.doctor import Finding, examine_director, examine_machine, examine_real, is_real
from lb.doctor.director import Site
from lb.errors import UsageError
from lb.model import Cluster, Node
from lb.netif import own_addresses

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@click.argument("conf", type=click.Path(path_type=Path), required=False)
@node_option("Which director of CONF this machine is; default: by host name, else by address.")
@json_option
def doctor(conf: Path | None, node: str | None, as_json: bool) -> None:
    """Find what would not work here and say how to mend it. Looks only: sends no packet, changes nothing.

    \b
    lbctl doctor                            could a director run on this machine?
    lbctl doctor /etc/lbctl/cluster.toml    could this director, or this real, of the cluster?

    Exit status: 0 if nothing fails (warnings are allowed), else 1; 2 for a CONF that is wrong.
    """
    findings = list(_examine(config.load(conf) if conf else None, node))
    failed = any(finding.level == "fail" for finding in findings)
    if as_json:
        print_json({"ok": not failed, "findings": [finding._asdict() for finding in findings]})
    else:
        _show(findings)
    sys.exit(1 if failed else 0)


def _examine(cluster: Cluster | None, asked: str | None) -> Iterator[Finding]:
    """All that concerns this host: as a machine unless it is only a real, as a director, as a real."""
    if cluster is None:
        yield from examine_machine()
        return
    real = is_real(cluster)
    me = _director(cluster, asked, real)
    if me:
        yield from examine_machine()
        keys = rundir.authkeys_path(cluster)
        yield from examine_director(Site(cluster, me, keys, lambda path: authkeys.load(path).short))
    if real:
        yield from examine_real(cluster)


def _director(cluster: Cluster, asked: str | None, real: bool) -> Node | None:
    """Which director this host is; None for a real that is none. Raises UsageError for a host that is neither."""
    try:
        return config.which_node(cluster, asked, socket.gethostname(), own_addresses())
    except UsageError:
        if real and asked is None:
            return None
        raise


def _show(findings: list[Finding]) -> None:
    """One line a finding, and below it how to mend it."""
    width = max(len(finding.look) for finding in findings)
    for finding in findings:
        colour = COLOURS[finding.level]
        out.print(f"[{colour}]{finding.level:4}[/]  {finding.look:{width}}  ", end="")
        out.print(finding.seen, markup=False)
        if finding.mend:
            out.print(f"      {'':{width}}  → {finding.mend}", markup=False)
