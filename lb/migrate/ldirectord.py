"""ldirectord.cf (SEED_TABLES 2.3 to 2.5). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from lb import catalog
from lb.addresses import with_port
from lb.migrate.checks import KEYS, SERVICES, content, keys_read, translate_check
from lb.migrate.draft import Draft, Table, Virtual
from lb.migrate.ends import (
    MARK,
    MASQ,
    End,
    PortOf,
    other_port,
    parse_end,
    parse_range,
    prefix_length,
)
from lb.migrate.entries import Entry, Section, read

_REAL = re.compile(r"(\S+(?:\s*->\s*\S+)?)\s+(gate|masq|ipip)\b\s*(.*)")
_PAIR = re.compile(r'"([^"]*)"(?:\s*,\s*"([^"]*)")?')
_YES = ("yes", "true")

_NOT_NEEDED = {
    "autoreload": "lbctl reload applies a changed file",
    "callback": "who calls lbctl reload knows",
    "checkcount": "a ping that is not answered within timeout has failed; raise failures",
    "cleanstop": "lbctl down takes all away, and without it all goes on in the kernel",
    "comment": "alerts name the virtual and the real",
    "execute": "import that file too",
    "fork": "all reals are asked at the same time",
    "load": "ldirectord ignores it",
    "logfile": "the log goes to standard error, and so to the journal",
    "monitorfile": "lbctl status REAL has the history",
    "readdquiescent": "a quiescent real stays in its virtual",
    "supervised": "lbctl up runs in the foreground",
}
_ALERTS = {"emailalert", "emailalertfrom", "emailalertfreq", "emailalertstatus", "smtp"}
_INHERITED = {
    *("checktimeout", "negotiatetimeout", "checkinterval", "failurecount"),
    *("quiescent", "fallback", "fallback6", "fallbackcommand"),
}
"""Directives of both places; the section's goes before."""
_OF_SECTIONS = {
    *("real", "real6", "checktype", "service", "checkcommand", "scheduler", "schedflags", "persistent", "netmask"),
    *("protocol", "ops", "servicename", *KEYS),
}


def translate(text: str, port_of: PortOf) -> Draft:
    """What the file comes to."""
    draft, lines = Draft(), read(text)
    general = {entry.key: entry for entry in lines.general}
    for entry in (*lines.general, *lines.others):
        _global(draft, entry)
    for section in lines.sections:
        try:
            draft.virtuals.append(_virtual(draft, section, general, port_of))
        except ValueError as error:
            draft.note(section.head.line, section.head.said, f"{error}; the whole section is left out")
    draft.notes.sort()
    return draft


def _global(draft: Draft, entry: Entry) -> None:
    line, key, value = entry
    if key in _ALERTS:
        _alert(draft, draft.alerts, entry)
    elif key == "fallbackcommand":
        draft.cluster["fallback_command"] = value
    elif key == "maintenancedir":
        draft.cluster["maintenance"] = value
    elif key not in _INHERITED:
        draft.note(line, entry.said, _NOT_NEEDED.get(key, "is no directive of ldirectord's outside of a section"))


def _alert(draft: Draft, alerts: Table, entry: Entry) -> None:
    """alerts: those of all virtuals, or of one."""
    line, key, value = entry
    if key == "emailalert":
        alerts["email"] = draft.recipients(line, [name.strip().strip('"') for name in value.split(",")])
    elif key == "emailalertfrom":
        alerts["email_from"] = value
    elif key == "smtp":
        alerts["smtp"] = value
    elif key == "emailalertfreq":
        alerts["repeat"] = f"{value}s"
    elif phases := [phase for phase in ("starting", "running", "reloading") if phase in value]:
        alerts["phases"] = phases
    elif value != "all":
        draft.note(line, entry.said, "who wants no mail leaves email out of [alerts]")


def _virtual(draft: Draft, section: Section, general: Mapping[str, Entry], port_of: PortOf) -> Virtual:
    """Raises ValueError that says why there can be none."""
    value = section.head.value
    if value.isdecimal():
        raise ValueError(MARK)
    said = section.get("protocol")
    guessed = "udp" if value.endswith((":53", ":domain")) else "tcp"
    protocol = said.value if said and said.value in ("tcp", "udp") else guessed
    end = parse_end(value, protocol, port_of)
    if end.port is None:
        raise ValueError("has no port, so that ldirectord takes it for a firewall mark")
    own: Table = {"name": _name(draft, section, end, protocol), "address": str(end.address), "port": end.port}
    own["protocol"] = protocol
    own["scheduler"] = _scheduler(draft, section)
    own |= _clients(section, protocol)
    if not _is_quiescent(draft, section, general):
        own["quiescent"] = False
    own |= _fallback(draft, section, general, end, port_of)
    check = translate_check(draft, section, general, end.port)
    virtual = Virtual(own, check)
    for entry in section.entries:
        if entry.key in ("real", "real6"):
            try:
                virtual.reals += _reals(draft, entry, end, check, port_of)
            except ValueError as error:
                draft.note(entry.line, entry.said, f"{error}; left out")
        elif entry.key in _ALERTS - {"emailalertfrom"}:
            _alert(draft, virtual.alerts, entry)
        else:
            _remark(draft, section, entry, own)
    return virtual


def _name(draft: Draft, section: Section, end: End, protocol: str) -> str:
    label, service = section.get("servicename"), section.get("service")
    if label:
        return draft.name(label.value)
    said = service.value if service and service.value in catalog.SERVICES else SERVICES.get(end.port or 0)
    return draft.name(said or f"{protocol}-{end.port or 'all'}")


def _scheduler(draft: Draft, section: Section) -> str:
    entry = section.get("scheduler")
    if entry is None or entry.value in catalog.available(catalog.SCHEDULERS):
        return entry.value if entry else "wrr"
    draft.note(entry.line, entry.said, "is not there; wlc is taken instead")
    return "wlc"


def _clients(section: Section, protocol: str) -> Table:
    own: Table = {}
    if flags := section.get("schedflags"):
        own["flags"] = [flag for flag in re.split(r"[,\s]+", flags.value) if flag in catalog.FLAGS]
    if persistent := section.get("persistent"):
        own["persistent"] = f"{persistent.value}s"
        if netmask := section.get("netmask"):
            own["netmask"] = prefix_length(netmask.value)
    if (ops := section.get("ops")) and ops.value in _YES and protocol == "udp":
        own["one_packet"] = True
    return own


def _is_quiescent(draft: Draft, section: Section, general: Mapping[str, Entry]) -> bool:
    entry = section.get("quiescent") or general.get("quiescent")
    if entry is None:
        why = "is nowhere said: the program removes reals that are down, other than its manual says; so it is here"
        draft.note(section.head.line, section.head.said, f"quiescent {why}")
    return entry is not None and entry.value in _YES


def _fallback(draft: Draft, section: Section, general: Mapping[str, Entry], end: End, port_of: PortOf) -> Table:
    key = "fallback6" if end.address.version == 6 else "fallback"
    entry, command = section.get(key) or general.get(key), section.get("fallbackcommand")
    own: Table = {"fallback_command": command.value} if command else {}
    if entry is None:
        return own
    try:
        to = parse_end(entry.value.split()[0], "tcp", port_of)
    except (ValueError, IndexError) as error:
        draft.note(entry.line, entry.said, f"{error}; left out")
        return own
    if to.port not in (None, end.port):
        draft.note(entry.line, entry.said, other_port("a fallback", end.port, to.port))
    return {"fallback": str(to.address), **own}


def _reals(draft: Draft, entry: Entry, end: End, check: Table, port_of: PortOf) -> Iterable[Table]:
    """Raises ValueError that says why there can be none."""
    found = _REAL.fullmatch(entry.value)
    if found is None:
        raise ValueError('is not: address, port, gate, masq or ipip, weight, "request", "receive"')
    where, forward, rest = found.groups()
    first, _, last = (part.strip() for part in where.rpartition("->"))
    until = parse_end(last, "tcp", port_of)
    addresses = parse_range(first, str(until.address)) if first else (until.address,)
    if forward == "masq":
        draft.note(entry.line, entry.said, MASQ)
    if until.port not in (None, 0, end.port):
        draft.note(entry.line, entry.said, other_port("the real", end.port, until.port))
    details = _details(forward, rest, check)
    return [{"address": str(address), **details} for address in addresses]


def _details(forward: str, rest: str, check: Table) -> Table:
    real: Table = {}
    pair = _PAIR.search(rest)
    for word in _PAIR.sub(" ", rest).split():
        if word.isdecimal():
            real["weight"] = int(word)
        elif word[:2] in ("l:", "u:") and word[2:].isdecimal():
            real["lower" if word[0] == "l" else "upper"] = int(word[2:])
        else:
            raise ValueError(f"{word!r} is not understood")
    if forward == "ipip":
        real["forward"] = "ipip"
    for key, value in zip(("request", "receive"), pair.groups() if pair else (), strict=False):
        if value and key in keys_read(check):
            real[key] = content(check, key, value)
    return real


def _remark(draft: Draft, section: Section, entry: Entry, own: Table) -> None:
    """Say what became of a directive, if nothing in the result shows it."""
    line, key, value = entry
    if key == "netmask" and not section.get("persistent"):
        draft.note(line, entry.said, "means nothing without persistent")
    elif key == "protocol" and value != own["protocol"]:
        draft.note(line, entry.said, f"is taken for {own['protocol']}")
    elif key == "servicename" and own["name"] != value:
        draft.note(line, entry.said, f"is called {own['name']} here")
    elif key == "ops" and value in _YES and "one_packet" not in own:
        draft.note(line, entry.said, "is for udp")
    elif key in _NOT_NEEDED:
        draft.note(line, entry.said, _NOT_NEEDED[key])
    elif key not in _OF_SECTIONS | _INHERITED:
        where = with_port(str(own["address"]), str(own["port"]))
        draft.note(line, entry.said, f"is no directive of ldirectord's; left out of {where}")
