"""Preparing a real server: it must accept the virtual address and never answer ARP for it.

Of IPv6 the address on `lo` is all: a kernel answers neighbour discovery for addresses of the interface that was asked
only (RFC 4861; unless it is told to be a proxy), and takes packets on whichever interface they come.

The address goes on `lo`, where no switch sees it. arp_ignore 1 answers ARP only for addresses of the interface that
was asked, arp_announce 2 never tells the virtual address as a sender's, and strict rp_filter, which drops what comes
in by another way than the answer goes out, is lifted. The settings come first: an address without them could be
announced at once. A real whose packets come in tunnels has their ends, too (`lb.netif.tunnel`); these go up last, when
all is ready for what comes out of them.

What was changed is remembered before it is changed, so that `down` restores it exactly, also after a crash.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from ipaddress import ip_address
from pathlib import Path

from lb import namespaces, plan
from lb.addresses import Address, by_family
from lb.errors import UsageError
from lb.model import Cluster, Virtual
from lb.netif import add_address, addresses, link, link_names, remove_address, set_up, sysctl, tunnel
from lb.netif.tunnel import End
from lb.rundir import RUN_DIR

_CONF = "net/ipv4/conf"


@dataclass(frozen=True, slots=True)
class Item:
    """One thing a real needs. name: a setting's path or an address on lo; wanted, found: its values."""

    name: str
    wanted: str
    found: str

    @property
    def ok(self) -> bool:
        """Is it as it should be?"""
        return self.wanted == self.found


@dataclass(slots=True)
class Record:
    """What we changed here. sysctls: their values before; addresses: those we put on lo; links: those we set up."""

    sysctls: dict[str, str] = field(default_factory=dict)
    addresses: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)


def served(cluster: Cluster, local: Iterable[Address]) -> tuple[Virtual, ...]:
    """The virtuals that a host with these addresses is a real of, in the file's order.

    Raises UsageError, which lists the reals, if there is none.
    """
    own = set(local)
    found = tuple(virtual for virtual in cluster.virtuals if own.intersection(virtual.hosts))
    if not found:
        reals = dict.fromkeys(str(host) for virtual in cluster.virtuals for host in virtual.hosts)
        mine = ", ".join(str(a) for a in sorted(own, key=by_family) if not a.is_loopback and not a.is_link_local)
        raise UsageError(
            f"this host ({mine or 'without an address'}) is no real of {cluster.path}; "
            f"its reals are {', '.join(reals) or 'none'}"
        )
    return found


@dataclass(frozen=True, slots=True)
class Needs:
    """What this host must have as a real. sysctls: setting and value; addresses: to be on lo; ends: of tunnels, up.

    The settings of a link that is not there yet are missing. mixed: IPv6's tunnels carry IPv4, too.
    """

    sysctls: dict[str, str]
    addresses: tuple[Address, ...]
    ends: tuple[End, ...] = ()
    mixed: bool = False

    @property
    def links(self) -> tuple[str, ...]:
        """The ends' names."""
        return tuple(end.device for end in self.ends)


def needs(cluster: Cluster) -> Needs:
    """What this host, by its addresses, needs as a real of `cluster`. Raises UsageError."""
    here = addresses()
    local = {address.ip for _, address in here}
    virtuals = served(cluster, local)
    asked = {host for virtual in virtuals for host in virtual.hosts if virtual.address.version == 4}
    interfaces = tuple(dict.fromkeys(name for name, address in here if address.ip in asked))
    scopes = ("all", *interfaces) if interfaces else ()
    sysctls = {f"{_CONF}/{scope}/arp_ignore": "1" for scope in scopes}
    sysctls |= {f"{_CONF}/{scope}/arp_announce": "2" for scope in scopes}
    pairs = plan.tunnels(virtuals, local)
    carrying = {tunnel.ENDS[outer, inner].device for outer, inner in pairs if inner == 4}
    for interface in (*interfaces, *sorted(carrying.intersection(link_names()))):
        sysctls |= _loose_reverse_path(interface)
    ends = tuple(dict.fromkeys(tunnel.ENDS[pair] for pair in pairs))
    on_lo = tuple(dict.fromkeys(vip for virtual in virtuals for vip in virtual.addresses))
    return Needs(sysctls, on_lo, ends, (6, 4) in pairs)


def _loose_reverse_path(interface: str) -> dict[str, str]:
    """The rp_filter settings as they are, but 0 where they make the interface strict.

    The larger of `all` and the interface's own is in force: 1 is strict, 2 is loose and does no harm.
    """
    found = {name: sysctl.read(name) for name in (f"{_CONF}/{s}/rp_filter" for s in ("all", interface))}
    return dict.fromkeys(found, "0") if max(found.values()) == "1" else found


def status(cluster: Cluster) -> tuple[Item, ...]:
    """Everything this host needs as a real of `cluster`, with what it has. Raises UsageError."""
    needed = needs(cluster)
    on_lo = _addresses_on_lo()
    return (
        *(Item(name, wanted, sysctl.read(name)) for name, wanted in needed.sysctls.items()),
        *(Item(name, "up", _state(name)) for name in needed.links),
        *(Item(f"mode of {tunnel.IP6TNL.device}", "any", _mode()) for _ in range(needed.mixed)),
        *(Item(f"{_host(vip)} on lo", "there", "there" if vip in on_lo else "missing") for vip in needed.addresses),
    )


def _state(name: str) -> str:
    if name not in link_names():
        return "missing"
    return "up" if link(name).up else "down"


def _mode() -> str:
    return "any" if tunnel.takes_any() else "ipv6"


def _host(address: Address) -> str:
    return f"{address}/{address.max_prefixlen}"


def _addresses_on_lo() -> set[Address]:
    return {address.ip for name, address in addresses() if name == "lo"}


def up(cluster: Cluster) -> list[str]:
    """Make this host a real of `cluster`; returns what had to be changed, nothing the second time.

    Virtual addresses of an earlier `up` that this file does not have any more are taken away.
    Raises UsageError and NetworkError.
    """
    for end in needs(cluster).ends:
        tunnel.create(end)
    needed = needs(cluster)
    before = {name: sysctl.read(name) for name in needed.sysctls}
    settings = {name: wanted for name, wanted in needed.sysctls.items() if before[name] != wanted}
    on_lo = _addresses_on_lo()
    missing = [vip for vip in needed.addresses if vip not in on_lo]
    record = _load()
    obsolete = [vip for vip in map(ip_address, record.addresses) if vip not in needed.addresses]
    for name in settings:
        record.sysctls.setdefault(name, before[name])
    record.addresses = list(dict.fromkeys((*record.addresses, *map(str, missing))))
    down_links = [name for name in needed.links if not link(name).up]
    record.links = list(dict.fromkeys((*record.links, *down_links)))
    _save(record)
    for name, wanted in settings.items():
        sysctl.write(name, wanted)
    for vip in missing:
        add_address("lo", vip)
    turned = needed.mixed and not tunnel.takes_any()
    if turned:
        tunnel.take_any()
    for name in down_links:
        set_up(name)
    for old in obsolete:
        remove_address("lo", old)
        record.addresses.remove(str(old))
    unused = [name for name in record.links if name not in needed.links]
    for name in unused:
        _set_down(name)
        record.links.remove(name)
    _save(record)
    return [
        *(f"{name}: {before[name]} → {wanted}" for name, wanted in settings.items()),
        *(f"{_host(vip)} added to lo" for vip in missing),
        *(f"{tunnel.IP6TNL.device}: mode ipv6 → any" for _ in range(turned)),
        *(f"{name} set up" for name in down_links),
        *(f"{_host(old)} removed from lo" for old in obsolete),
        *(f"{name} set down" for name in unused),
    ]


def _set_down(name: str) -> None:
    if name in link_names():
        set_up(name, False)


def down() -> list[str]:
    """Undo what `up` did here, tunnels and addresses first; returns what was changed. Raises NetworkError.

    A tunnel's device goes down and stays, in the mode it has: it is the kernel's own.
    """
    record = _load()
    for name in record.links:
        _set_down(name)
    on_lo = [ip_address(vip) for vip in record.addresses]
    for vip in on_lo:
        remove_address("lo", vip)
    there = {name: value for name, value in record.sysctls.items() if sysctl.exists(name)}
    for name, value in there.items():
        sysctl.write(name, value)
    record_path(namespaces.current()).unlink(missing_ok=True)
    return [
        *(f"{name} set down" for name in record.links),
        *(f"{_host(vip)} removed from lo" for vip in on_lo),
        *(f"{name}: restored to {value}" for name, value in there.items()),
    ]


def record_path(namespace: str | None) -> Path:
    """Where the record of a host lies. namespace: its name in `ip netns`, as lab hosts have one; they share /run."""
    return RUN_DIR / (f"realserver-{namespace}.json" if namespace else "realserver.json")


def _load() -> Record:
    try:
        return Record(**json.loads(record_path(namespaces.current()).read_text()))
    except FileNotFoundError:
        return Record()


def _save(record: Record) -> None:
    path = record_path(namespaces.current())
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(asdict(record), indent=2))
    draft.replace(path)
