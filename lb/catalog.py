"""Every word a configuration may choose from, and whether this version can do it yet.

One row a word. What is known but not available is refused by name ("not available yet") instead of as a typing
mistake. The implementations register under the same names (`lb.schedule.SCHEDULERS`, `lb.probes.PROBES`), and a test
holds both lists together. Names and meanings are IPVS's and ldirectord's.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the configuration. summary: one line for help texts."""

    summary: str
    available: bool = True


SCHEDULERS: dict[str, Word] = {
    "rr": Word("round robin: each real in turn"),
    "wrr": Word("weighted round robin: each real in turn, weight times"),
    "lc": Word("least connections"),
    "wlc": Word("least connections for its weight"),
    "sed": Word("shortest expected delay"),
    "nq": Word("never queue: an idle real first, else shortest expected delay"),
    "sh": Word("source hash: the same client to the same real"),
    "dh": Word("destination hash: the same virtual address to the same real"),
    "lblc": Word("locality-based least connections: a destination stays with its real until that is overloaded"),
    "lblcr": Word("the same with a set of reals for each destination"),
    "mh": Word("Maglev hash of the source: like sh, and few clients move when reals come and go"),
    "fo": Word("failover: the highest weight"),
    "ovf": Word("overflow: the highest weight that is not full"),
}

FLAGS: dict[str, Word] = {
    "sh-fallback": Word("a client whose real takes nobody goes to another one"),
    "sh-port": Word("the client's port counts too"),
    "mh-fallback": Word("as sh-fallback"),
    "mh-port": Word("as sh-port"),
}
"""Of the scheduler that their name begins with."""

FORWARDS: dict[str, Word] = {
    "gate": Word("direct routing: rewrite the MAC addresses"),
    "ipip": Word("IP-in-IP tunnel: the packet inside another one, also to reals behind routers"),
    "masq": Word("network address translation", available=False),
}

PROTOCOLS: dict[str, Word] = {"tcp": Word("TCP"), "udp": Word("UDP")}

CHECKS: dict[str, Word] = {
    "negotiate": Word("ask the service and look at the answer"),
    "connect": Word("open a TCP connection; for UDP, send an empty datagram that nobody refuses"),
    "ping": Word("ICMP echo"),
    "external": Word("run a program"),
    "on": Word("always up"),
    "off": Word("never brought up"),
    "all": Word("several questions, every one of which must be answered well"),
    "any": Word("several questions, one of which must be answered well"),
}

SERVICES: dict[str, Word] = {
    "http": Word("GET or HEAD, status and body"),
    "https": Word("the same over TLS"),
    "http2": Word("the same over HTTP/2, with or without TLS"),
    "http_proxy": Word("a page through the real as proxy"),
    "grpc": Word("gRPC's health service"),
    "ftp": Word("login, and a file's content"),
    "smtp": Word("greeting, EHLO, login"),
    "pop": Word("POP3: greeting, login"),
    "imap": Word("greeting, login"),
    "nntp": Word("greeting"),
    "ldap": Word("bind, and an entry"),
    "ldaps": Word("the same over TLS"),
    "mysql": Word("a statement's first row, also of MariaDB"),
    "postgresql": Word("a statement's first row"),
    "redis": Word("a command's answer"),
    "dns": Word("a record, over UDP or TCP"),
    "sip": Word("OPTIONS, over UDP or TCP"),
    "radius": Word("is a user let in"),
    "simpletcp": Word("send and expect, over TCP"),
    "simpleudp": Word("send and expect, over UDP"),
}


FORMERLY: dict[str, str] = {
    "pgsql": '"postgresql"',
    "submission": '"smtp" with tls = "starttls"',
    "smtps": '"smtp" with tls = "on"',
    "pops": '"pop" with tls = "on"',
    "imaps": '"imap" with tls = "on"',
    "none": 'type = "on"',
    "external-perl": '"external", which runs any program',
    "oracle": 'type = "external" with a program of yours',
    "udp": '"connect" with protocol = "udp"',
    "tcp": '"connect"',
    "script": '"external"',
}
"""What ldirectord and others call a type or service of checks, and how it is written here."""


def available(words: dict[str, Word]) -> tuple[str, ...]:
    """The names this version can do, in the catalogue's order."""
    return tuple(name for name, word in words.items() if word.available)
