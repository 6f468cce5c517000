"""Finds what would not work here and says how to mend it. Looks only: it sends no packet and changes nothing.

Three tables: what every director's machine needs, what a director of a cluster needs, what a real of it needs. A row is
a name and a function that yields verdicts; a new look is a function and a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from lb.doctor import director, machine, real
from lb.doctor.director import Site
from lb.doctor.verdict import Level, Verdict, fail
from lb.errors import LbctlError, UsageError
from lb.model import Cluster
from lb.netif import own_addresses
from lb.realserver import served

MACHINE: tuple[tuple[str, Callable[[], Iterator[Verdict]]], ...] = (
    ("rights", machine.look_at_rights),
    ("bcc", machine.look_at_bcc),
    ("headers", machine.look_at_headers),
    ("kernel", machine.look_at_kernel),
    ("bpf", machine.look_at_bpf),
    ("bpf file system", machine.look_at_bpffs),
    ("bpf jit", machine.look_at_jit),
    ("clock", machine.look_at_clock),
)

DIRECTOR: tuple[tuple[str, Callable[[Site], Iterator[Verdict]]], ...] = (
    ("interface", director.look_at_interface),
    ("address", director.look_at_address),
    ("mtu", director.look_at_mtu),
    ("driver", director.look_at_driver),
    ("queue limits", director.look_at_queue_limits),
    ("vlan tags", director.look_at_tags),
    ("segment", director.look_at_segment),
    ("routes", director.look_at_routes),
    ("virtual addresses", director.look_at_virtuals),
    ("fallback", director.look_at_fallbacks),
    ("heartbeat port", director.look_at_ha_port),
    ("firewall", director.look_at_firewall),
    ("authkeys", director.look_at_keys),
    ("open files", director.look_at_files),
    ("checks", director.look_at_checks),
)

REAL: tuple[tuple[str, Callable[[Cluster], Iterator[Verdict]]], ...] = (
    ("tunnel", real.look_at_tunnel),
    ("real", real.look_at_host),
    ("service", real.look_at_service),
)


class Finding(NamedTuple):
    """A verdict and the look that found it."""

    look: str
    level: Level
    seen: str
    mend: str


def examine_machine() -> Iterator[Finding]:
    """Could a director run on this machine at all?"""
    for name, look in MACHINE:
        yield from _findings(name, look)


def examine_director(site: Site) -> Iterator[Finding]:
    """Could this director of the cluster?"""
    for name, look in DIRECTOR:
        yield from _findings(name, lambda look=look: look(site))  # type: ignore[misc]


def examine_real(cluster: Cluster) -> Iterator[Finding]:
    """Is this host, which is a real of the cluster, ready for it?"""
    for name, look in REAL:
        yield from _findings(name, lambda look=look: look(cluster))  # type: ignore[misc]


def is_real(cluster: Cluster) -> bool:
    """Is this host a real of the cluster, by its addresses?"""
    try:
        return bool(served(cluster, own_addresses()))
    except UsageError:
        return False


def _findings(name: str, look: Callable[[], Iterable[Verdict]]) -> Iterator[Finding]:
    """What a look finds; that it could not look is a finding too."""
    try:
        for verdict in look():
            yield Finding(name, *verdict)
    except (LbctlError, OSError) as error:
        yield Finding(name, *fail(str(error), "mend that first, then run lbctl doctor again"))
