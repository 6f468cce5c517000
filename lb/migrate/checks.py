"""How ldirectord asks the reals of a section (SEED_TABLES 2.4, 2.6, 2.7), as `[virtual.check]`. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from lb import catalog
from lb.kinds import kind_of
from lb.migrate.draft import Draft, Table
from lb.migrate.entries import Entry, Section

SERVICES = {
    21: "ftp", 25: "smtp", 53: "dns", 80: "http", 110: "pop", 119: "nntp", 143: "imap", 389: "ldap", 443: "https",
    587: "submission", 636: "ldaps", 993: "imaps", 995: "pops", 1521: "oracle", 1812: "radius", 3128: "http_proxy",
    3306: "mysql", 5060: "sip", 5432: "pgsql",
}  # fmt: skip
"""What a check asks for where the section does not say it."""

KEYS = {
    "checkport": "port", "request": "request", "receive": "receive", "virtualhost": "virtualhost",
    "login": "login", "passwd": "passwd", "database": "database", "secret": "secret", "httpmethod": "method",
}  # fmt: skip
"""Keys that are only called otherwise here."""

_RENAMED: Mapping[str, Table] = {
    "submission": {"service": "smtp", "tls": "starttls"},
    "pops": {"service": "pop", "tls": "on"},
    "imaps": {"service": "imap", "tls": "on"},
    "pgsql": {"service": "postgresql"},
}
_CHECKTIMEOUT_S, _NEGOTIATETIMEOUT_S, _CHECKINTERVAL_S = 5, 30, 10
_TIMED_BY_CHECKTIMEOUT = ("ldap", "ldaps", "radius")
_WITHOUT_SLASH = ("simpletcp", "dns", "ldap", "ldaps", "mysql", "postgresql")
"""Services of which ldirectord takes away the slash with which it begins every request."""

_CONNECTS = "now a real is asked whether it takes connections"


def translate_check(draft: Draft, section: Section, general: Mapping[str, Entry], port: int) -> Table:
    """`[virtual.check]` of a section. port: the virtual's. general: what stands outside of sections."""
    check = _type(draft, section, port)
    reads = keys_read(check)
    for key, ours in KEYS.items():
        entry = section.get(key)
        if entry is None or not entry.value:
            continue
        if ours not in reads:
            name = check.get("service", check["type"])
            draft.note(entry.line, entry.said, f"a check of {name} does not read it")
        else:
            check[ours] = int(entry.value) if ours == "port" else content(check, ours, entry.value)
    if check["type"] not in ("on", "off"):
        _times(check, section, general)
    return check


def keys_read(check: Table) -> frozenset[str]:
    """The keys that a check of this kind looks at."""
    return kind_of(str(check["type"]), str(check.get("service", "http"))).keys


def content(check: Table, key: str, value: str) -> str:
    """A value as it is written here."""
    service = check.get("service")
    if key == "method":
        return value.upper()
    if key == "request" and service in ("http", "https") and "://" not in value:
        return "/" + value.lstrip("/")
    if key == "request" and service in _WITHOUT_SLASH:
        return value.removeprefix("/").replace("\\n", "\n")
    return value


def _type(draft: Draft, section: Section, port: int) -> Table:
    entry = section.get("checktype")
    said = entry.value if entry else "negotiate"
    if said == "negotiate" or said.isdecimal():
        if entry and said.isdecimal():
            draft.note(entry.line, entry.said, "every check asks the service now")
        return _service(draft, section, port)
    if said in ("external", "external-perl"):
        if entry and said == "external-perl":
            draft.note(entry.line, entry.said, "the program is run by itself for each check: it must be executable")
        command = section.get("checkcommand")
        return {"type": "external", "command": (command.value if command else "/bin/true").split()}
    if said in ("connect", "ping", "on", "off"):
        return {"type": said}
    draft.note(entry.line if entry else 0, f"checktype={said}", f"is not there; {_CONNECTS}")
    return {"type": "connect"}


def _service(draft: Draft, section: Section, port: int) -> Table:
    entry = section.get("service")
    said = entry.value if entry else SERVICES.get(port, "none")
    if said == "none":
        return {"type": "on"}
    if said in _RENAMED:
        return {"type": "negotiate", **_RENAMED[said]}
    if said in catalog.SERVICES:
        return {"type": "negotiate", "service": said}
    why = f'is not there; {_CONNECTS}: to ask more, write type = "external" with a program'
    draft.note(entry.line if entry else section.head.line, f"service={said}", why)
    return {"type": "connect"}


def _times(check: Table, section: Section, general: Mapping[str, Entry]) -> None:
    mine, other, usual_s = "checktimeout", "negotiatetimeout", _CHECKTIMEOUT_S
    if check["type"] == "negotiate" and check["service"] not in _TIMED_BY_CHECKTIMEOUT:
        mine, other, usual_s = other, mine, _NEGOTIATETIMEOUT_S
    said = section.get(mine) or section.get(other) or general.get(mine) or general.get(other)
    interval = section.get("checkinterval") or general.get("checkinterval")
    failures = section.get("failurecount") or general.get("failurecount")
    check["interval"] = f"{interval.value if interval else _CHECKINTERVAL_S}s"
    check["timeout"] = f"{said.value if said else usual_s}s"
    check["failures"] = int(failures.value) if failures else 1
