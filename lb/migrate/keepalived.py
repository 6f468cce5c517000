"""keepalived.conf (SEED_TABLES 7). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, ip_address

from lb import catalog
from lb.addresses import Address, with_port
from lb.migrate.blocks import Block, parse
from lb.migrate.checkers import CHECKERS, translate_checks
from lb.migrate.draft import Draft, Table, Virtual
from lb.migrate.ends import MARK, MASQ, PortOf, other_port, parse_port, prefix_length

Ends = list[tuple[Address, int]]

_FORWARDS = {"DR": "gate", "TUN": "ipip"}
_HA = "lbctl has its own failover: [ha] has its times, --node names the directors, lbctl authkeys makes the key"
_ALERTS = "[alerts] tells of all reals and virtuals"
_HINTS = {
    "alpha": "a real gets connections once its check passed",
    "omega": "connections outlive lbctl down on the other director",
    "quorum": "the fallback serves when no real is up; min_up says something else, see docs/configuration.md",
    "hysteresis": "there is no quorum",
    "quorum_up": "fallback_command is told", "quorum_down": "fallback_command is told",
    "notify_up": _ALERTS, "notify_down": _ALERTS, "smtp_alert": _ALERTS,
    "ha_suspend": "both directors check",
    "persistence_engine": "clients are known by their addresses",
    "nat_mask": "keepalived does not know it either",
    "include": "import that file too",
    "router_id": "nodes have names", "lvs_id": "keepalived does not know it either",
}  # fmt: skip
_OF_SERVERS = {
    *("delay_loop", "lb_algo", "lvs_sched", "lb_kind", "lvs_method", "protocol", "persistence_timeout", "virtualhost"),
    *(
        "persistence_granularity",
        "ops",
        "sorry_server",
        "inhibit_on_failure",
        "connect_timeout",
        "retry",
        "real_server",
    ),
    *catalog.FLAGS,
}
_OF_REALS = {"weight", "uthreshold", "lthreshold", "virtualhost", "delay_loop", "connect_timeout", "retry", *CHECKERS}


def translate(text: str, port_of: PortOf) -> Draft:
    """What the file comes to."""
    draft, blocks = Draft(), parse(text)
    groups = {block.value: block for block in blocks if block.key == "virtual_server_group"}
    for block in blocks:
        if block.key == "virtual_server":
            try:
                draft.virtuals.append(_virtual(draft, block, groups, port_of))
            except ValueError as error:
                draft.note(block.line, block.said, f"{error}; left out")
        elif block.key == "global_defs":
            _global(draft, block)
        elif block.key == "vrrp_instance":
            if interface := block.get("interface"):
                draft.cluster.setdefault("interface", interface.value)
            draft.note(block.line, block.said, _HA)
        elif block.key != "virtual_server_group":
            draft.note(block.line, block.said, _HA if block.key.startswith("vrrp_") else "is not needed, or not there")
    draft.notes.sort()
    return draft


def _global(draft: Draft, block: Block) -> None:
    for one in block.inside:
        if one.key == "notification_email":
            draft.alerts["email"] = draft.recipients(one.line, [name for line in one.inside for name in line.words])
        elif one.key == "notification_email_from":
            draft.alerts["email_from"] = one.value
        elif one.key == "smtp_server":
            draft.alerts["smtp"] = one.value.replace(" ", ":")
        else:
            draft.note(one.line, one.said, _HINTS.get(one.key, "is not needed, or not there"))


def _virtual(draft: Draft, block: Block, groups: Mapping[str, Block], port_of: PortOf) -> Virtual:
    """Raises ValueError that says why there can be none."""
    said = block.get("protocol")
    protocol = said.value.lower() if said else "tcp"
    if protocol not in catalog.PROTOCOLS:
        raise ValueError(f"protocol {protocol} is not there")
    ends = _ends(draft, block, groups, protocol, port_of)
    (address, port), *others = ends
    own: Table = {
        "name": draft.name(block.words[2] if block.words[1] == "group" else f"{protocol}-{port or 'all'}"),
        "address": str(address), "port": port, "protocol": protocol,
    }  # fmt: skip
    if others:
        own["also"] = [with_port(*end) for end in others]
    own |= _scheduling(draft, block)
    own |= _fallback(draft, block, port, port_of)
    reals = [real for real in block.inside if real.key == "real_server"]
    checks = [translate_checks(draft if n == 0 else Draft(), block, real) for n, real in enumerate(reals)]
    virtual = Virtual(own, *(checks[0] if checks else ({}, [])))
    if virtual.check.get("service") in ("http", "https") and (host := block.get("virtualhost")):
        virtual.check.setdefault("virtualhost", host.value)
    for real, check in zip(reals, checks, strict=True):
        if check != checks[0]:
            draft.note(real.line, real.said, "is asked as the first real of its virtual: all are asked the same")
        try:
            virtual.reals.append(_real(draft, real, port, len(ends) == 1, port_of))
        except ValueError as error:
            draft.note(real.line, real.said, f"{error}; left out")
    for one in block.inside:
        if one.key not in _OF_SERVERS:
            draft.note(one.line, one.said, _HINTS.get(one.key, "is not needed, or not there"))
    return virtual


def _ends(draft: Draft, block: Block, groups: Mapping[str, Block], protocol: str, port_of: PortOf) -> Ends:
    words = block.words[1:]
    if words[:1] == ("fwmark",):
        raise ValueError(MARK)
    if words[:1] != ("group",):
        return list(_pair(words, protocol, port_of))
    group = groups.get(words[1] if len(words) > 1 else "")
    if group is None:
        raise ValueError("there is no such virtual_server_group")
    ends: Ends = []
    for one in group.inside:
        if one.key == "fwmark":
            draft.note(one.line, one.said, "is a firewall mark: write the addresses and ports that are marked in also")
        else:
            ends += _pair(one.words, protocol, port_of)
    if not ends:
        raise ValueError("its group has no address")
    return ends


def _pair(words: tuple[str, ...], protocol: str, port_of: PortOf) -> Iterator[tuple[Address, int]]:
    """`ADDRESS [PORT]`, in a group also `192.0.2.3-10 80`. Raises ValueError."""
    if not words:
        raise ValueError("names no address")
    port = parse_port(words[1], protocol, port_of) if len(words) > 1 else 0
    first, _, last = words[0].partition("-")
    address = ip_address(first)
    yield address, port
    if last and isinstance(address, IPv4Address):
        yield from ((address + n, port) for n in range(1, int(last) - (int(address) & 0xFF) + 1))


def _scheduling(draft: Draft, block: Block) -> Table:
    own: Table = {"scheduler": "wlc"}
    if algorithm := block.get("lb_algo", "lvs_sched"):
        if algorithm.value in catalog.available(catalog.SCHEDULERS):
            own["scheduler"] = algorithm.value
        else:
            draft.note(algorithm.line, algorithm.said, "is not there; wlc is taken, as keepalived does")
    if flags := [flag.key for flag in block.inside if flag.key in catalog.FLAGS]:
        own["flags"] = flags
    method = block.get("lb_kind", "lvs_method")
    forward = _FORWARDS.get(method.words[1] if method and len(method.words) > 1 else "NAT")
    if forward == "ipip":
        own["forward"] = forward
    elif forward is None:
        at = method or block
        draft.note(at.line, at.said, MASQ)
    persistent = block.get("persistence_timeout")
    if persistent and persistent.value != "0":
        own["persistent"] = f"{persistent.value or 360}s"
        if mask := block.get("persistence_granularity"):
            own["netmask"] = prefix_length(mask.value)
    elif persistent:
        draft.note(persistent.line, persistent.said, "means no persistence, as keepalived takes it")
    if block.get("ops"):
        own["one_packet"] = True
    if not block.get("inhibit_on_failure"):
        own["quiescent"] = False
    return own


def _fallback(draft: Draft, block: Block, port: int, port_of: PortOf) -> Table:
    sorry = block.get("sorry_server")
    if sorry is None:
        return {}
    ((address, its_port),) = _pair(sorry.words[1:], "tcp", port_of)
    if its_port not in (0, port):
        draft.note(sorry.line, sorry.said, other_port("a fallback", port, its_port))
    return {"fallback": str(address)}


def _real(draft: Draft, block: Block, port: int, alone: bool, port_of: PortOf) -> Table:
    ((address, its_port),) = _pair(block.words[1:], "tcp", port_of)
    if alone and its_port not in (0, port):
        draft.note(block.line, block.said, other_port("the real", port, its_port))
    real: Table = {"address": str(address)}
    for key, ours in (("weight", "weight"), ("uthreshold", "upper"), ("lthreshold", "lower")):
        if found := block.get(key):
            real[ours] = int(found.value)
    for one in block.inside:
        if one.key not in _OF_REALS:
            draft.note(one.line, one.said, _HINTS.get(one.key, "is not needed, or not there"))
    return real
