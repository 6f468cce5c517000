"""What is legal in a configuration and yet probably not meant: warnings, never errors."""

from __future__ import annotations

from collections.abc import Iterator

from lb.kinds import KINDS
from lb.model import Cluster, Question, Virtual, format_duration
from lb.positions import Finding, Path
from lb.wording import show

SERVICE_OF_PORT = {port: service for (_, service), kind in KINDS.items() for port in kind.ports if service}
"""What a negotiate check expects on a well-known port."""
ANYWHERE = ("http2", "grpc", "simpletcp", "simpleudp")
"""Services that are at home on any port."""
IN_CLEAR = ("ftp", "smtp", "pop", "imap", "ldap", "redis")
"""Services that send a password as it is."""


def warnings(cluster: Cluster) -> Iterator[Finding]:
    """Every warning about `cluster`, which is valid."""
    yield from _ha(cluster)
    yield from _alerts(cluster)
    if cluster.limits.burst and not cluster.limits.new_connections:
        yield Finding((("limits", "burst"),), "has no effect without new_connections")
    if not cluster.virtuals:
        yield Finding(((),), "there is no [[virtual]]: nothing would be balanced")
    for v, virtual in enumerate(cluster.virtuals):
        place: Path = ("virtual", v)
        yield from _reals(virtual, place)
        yield from _persistence(virtual, place)
        yield from _check(virtual, (*place, "check"))
    yield from _real_names(cluster)


def _ha(cluster: Cluster) -> Iterator[Finding]:
    ha = cluster.ha
    if ha.late_s < ha.keepalive:
        yield Finding(
            (("ha", "warntime"),),
            f"{format_duration(ha.late_s)} is shorter than keepalive ({format_duration(ha.keepalive)}): "
            "every heartbeat would be late",
        )
    nodes = {node.address: node.name for node in cluster.nodes}
    for n, address in enumerate(ha.ping):
        if address in nodes:
            message = f"{address} is {nodes[address]}, which always sees itself; a gateway or a switch tells more"
            yield Finding((("ha", "ping", n),), message)


def _alerts(cluster: Cluster) -> Iterator[Finding]:
    alerts, place = cluster.alerts, ("alerts",)
    written = alerts.model_fields_set - {"email", "command", "webhook"}
    if written and not (alerts.email or alerts.command or alerts.webhook):
        yield Finding((place,), "tells nobody; add email, command or webhook")
    if alerts.smtp_login and alerts.smtp_tls == "off":
        yield Finding(
            ((*place, "smtp_login"),), "login and password go over the network in clear; add smtp_tls if the server can"
        )


def _reals(virtual: Virtual, place: Path) -> Iterator[Finding]:
    otherwise = f"only the fallback {virtual.fallback} serves" if virtual.fallback else "nothing serves"
    if not virtual.reals:
        yield Finding((place,), f"has no [[virtual.real]]: {otherwise}")
    elif not any(real.weight for real in virtual.reals):
        yield Finding((place,), f"every real has weight 0: {otherwise}")
    if virtual.reals and virtual.min_up in (f"{100}%", len(virtual.reals)):
        yield Finding(
            ((*place, "min_up"),),
            f"{show(virtual.min_up)} is all of them: a real that is down would go on getting connections",
        )


def _persistence(virtual: Virtual, place: Path) -> Iterator[Finding]:
    if not virtual.persistent:
        for key in {"netmask", "expire_quiescent_template"} & virtual.model_fields_set:
            yield Finding(((*place, key),), "has no effect without persistent")


def _check(virtual: Virtual, place: Path) -> Iterator[Finding]:
    check = virtual.check
    if check.type in ("on", "off"):
        ignored = sorted(check.model_fields_set - {"type"})
        if ignored:
            yield Finding(((*place, "type"),), f"{show(check.type)} asks nobody and ignores {', '.join(ignored)}")
        return
    if check.dynamic_weight and virtual.scheduler == "rr":
        yield Finding(
            ((*place, "dynamic_weight"),),
            "scheduler 'rr' looks at weight 0 and no other; 'wrr' gives each real its share",
        )
    if check.connect_timeout and check.connect_timeout > check.timeout:
        yield Finding(
            ((*place, "connect_timeout"),),
            f"{format_duration(check.connect_timeout)} is longer than timeout ({format_duration(check.timeout)}), "
            "which is for the whole check",
        )
    if check.timeout > check.interval:
        yield Finding(
            ((*place, "timeout"),),
            f"{format_duration(check.timeout)} is longer than interval ({format_duration(check.interval)}): "
            "a real that hangs is asked less often than interval says",
        )
    for p, asked in enumerate(check.questions):
        yield from _question(virtual, asked, (*place, "part", p) if check.parts else place)


def _question(virtual: Virtual, asked: Question, place: Path) -> Iterator[Finding]:
    port = virtual.port_of(asked)
    expected = SERVICE_OF_PORT.get(port, asked.service)
    if asked.type == "negotiate" and asked.service not in (expected, *ANYWHERE):
        yield Finding(((*place, "service"),), f"{show(asked.service)} on port {port}, which is usually {expected}")
    protocol = virtual.protocol_of(asked)
    if asked.kind.transports and virtual.protocol != protocol and (asked.port or virtual.check.port) is None:
        yield Finding(
            ((*place, "type"),),
            f"a {virtual.protocol} service, but {show(asked.type)} asks {protocol.upper()} port {virtual.port}; "
            "say port in [virtual.check]",
        )
    if asked.name in IN_CLEAR and (asked.passwd or asked.passwd_file) and not asked.encrypted:
        yield Finding(((*place, "login"),), "the password goes over the network in clear; add tls if the server can")


def _real_names(cluster: Cluster) -> Iterator[Finding]:
    names: dict[object, str] = {}
    for v, virtual in enumerate(cluster.virtuals):
        for r, real in enumerate(virtual.reals):
            if real.name is not None and names.setdefault(real.address, real.name) != real.name:
                message = f"{show(real.name)}: {real.address} is {show(names[real.address])} elsewhere in this file"
                yield Finding((("virtual", v, "real", r, "name"),), message)
