"""A configuration in words: what `lbctl check` prints."""

from __future__ import annotations

from collections.abc import Iterator

from lb.addresses import with_port
from lb.model import Alerts, Check, Cluster, Node, Question, Real, Virtual, format_duration
from lb.service import LOCAL, LOCAL6


def summary(cluster: Cluster) -> Iterator[str]:
    """Line by line what would run."""
    settings = cluster.cluster
    yield f"cluster {settings.name}: XDP on {settings.interface}, {_ATTACH[settings.attach]}"
    yield from _aligned("director", (_director(cluster, node) for node in cluster.nodes))
    if len(cluster.nodes) > 1:
        yield from _failover(cluster)
    table = cluster.connections
    yield (
        f"connections: up to {table.max}, forgotten after {format_duration(table.established)} of silence, "
        f"{format_duration(table.fin)} when closing, {format_duration(table.udp)} for udp"
    )
    yield from _limits(cluster)
    if told := _told(cluster.alerts):
        yield f"alerts: {told}"
    for name, own in cluster.own_alerts.items():
        yield f"alerts about {name}: {_told(own) or 'none'}"
    for virtual in cluster.virtuals:
        yield from _virtual(virtual)


def _told(alerts: Alerts) -> str:
    ways = [f"mail to {', '.join(alerts.email)} by {alerts.smtp}"] * bool(alerts.email)
    ways += [alerts.command] if alerts.command else []
    ways += [f"webhook at {alerts.webhook_host}"] * bool(alerts.webhook)
    often = f", at most every {format_duration(alerts.every)}"
    again = f", again every {format_duration(alerts.repeat)} while down" if alerts.repeat else ""
    return "; ".join(ways) + often + again if ways else ""


_ATTACH = {
    "auto": "native where the driver can, else generic",
    "native": "native only",
    "generic": "generic",
}


def _director(cluster: Cluster, node: Node) -> tuple[str, ...]:
    return (
        node.name,
        str(node.address),
        ", ".join(cluster.interfaces_of(node)),
        "preferred" if node.name == cluster.ha.preferred else "",
    )


def _failover(cluster: Cluster) -> Iterator[str]:
    ha = cluster.ha
    yield (
        f"failover: heartbeat every {format_duration(ha.keepalive)}, late after {format_duration(ha.late_s)}, "
        f"dead after {format_duration(ha.deadtime)} ({format_duration(ha.initdead)} after a start), "
        f"UDP and TCP port {ha.port}"
    )
    back = f"goes back to {ha.preferred} when it returns" if ha.auto_failback else "stays where it is"
    yield f"  after a failover the service {back}"
    yield f"  witnesses: {', '.join(map(str, ha.ping)) or 'none'}; keys: {cluster.authkeys_path}"


def _limits(cluster: Cluster) -> Iterator[str]:
    limits = cluster.limits
    if limits.new_connections:
        burst = limits.burst or limits.new_connections
        yield f"limits: {limits.new_connections} new connections a second and client, {burst} at once"
    for deny in limits.deny:
        yield f"denied: {deny.name}, {len(deny.prefixes)} prefixes"


def _virtual(virtual: Virtual) -> Iterator[str]:
    where = with_port(virtual.address, virtual.port or "every port")
    yield (
        f"virtual {virtual.name}: {virtual.protocol} {where}, "
        f"scheduler {' '.join((virtual.scheduler, *virtual.scheduler_flags))}, forward {virtual.forward}"
    )
    for pair in virtual.pairs[1:]:
        yield f"  also      {pair.protocol} {with_port(pair.address, pair.port or 'every port')}"
    yield f"  check     {check_in_words(virtual)}"
    yield f"  fallback  {_fallback(virtual)}"
    if virtual.fallback_command:
        yield f"  command   {virtual.fallback_command}: told when the last real is lost, and when there is one again"
    if virtual.persistent:
        one = f", each /{virtual.netmask} as one" if virtual.netmask else ""
        yield f"  clients   stay with their real for {format_duration(virtual.persistent)}{one}"
    if virtual.one_packet:
        yield "  packets   are scheduled each for itself"
    if not virtual.quiescent:
        yield "  down      a real that is down leaves until it is up again"
    if virtual.expire_nodest_conn:
        yield "  leaving   connections end with the real that leaves"
    if virtual.min_up:
        yield f"  min_up    {virtual.min_up}: with fewer up, those that are down get connections too"
    if virtual.slow_start:
        yield f"  rising    weight grows for {format_duration(virtual.slow_start)}"
    yield from _aligned("  real     ", (_real(r) for r in virtual.reals))


def _real(real: Real) -> tuple[str, ...]:
    forward = f"forward {real.forward}" * bool(real.forward)
    limits = f"full at {real.upper}, until below {real.lower or real.upper - real.upper // 4}" if real.upper else ""
    return real.name or "", str(real.address), f"weight {real.weight}{_own(real)}", forward, limits


def check_in_words(virtual: Virtual) -> str:
    """What a check asks, when it is content, and how often."""
    check = virtual.check
    if check.type == "on":
        return "none: the reals count as up"
    if check.type == "off":
        return "none: the reals are never brought up"
    asks = "; ".join(_asks(virtual, question) for question in check.questions)
    if check.parts:
        asks = f"{check.type} of: {asks}"
    asks += ", which gives the weight" if check.dynamic_weight else ""
    return f"{asks}; {', '.join(_timing(check))}"


def _timing(check: Check) -> Iterator[str]:
    yield f"every {format_duration(check.interval)}"
    if check.down_interval:
        yield f"{format_duration(check.down_interval)} while down"
    yield f"timeout {format_duration(check.timeout)}"
    if check.connect_timeout:
        yield f"{format_duration(check.connect_timeout)} of it to connect"
    yield f"down after {_times(check.failures, 'failure')}"
    yield f"up after {_times(check.rises, 'success')}"
    if check.flaps:
        yield f"held down after {_times(check.flaps, 'fall')} within {format_duration(check.flap_window)}"
    if check.passive:
        yield f"at once after {_times(check.passive, 'repeated SYN')}"


def _asks(virtual: Virtual, question: Question) -> str:
    where = f"{virtual.protocol_of(question).upper()} port {virtual.port_of(question)}"
    if question.type == "connect":
        return f"connect to {where}"
    if question.type == "ping":
        return "ping"
    if question.type == "external":
        return f"run {' '.join(question.command)}"
    if question.service in ("http", "https"):
        status = ", ".join(map(str, question.status)) or "2xx"
        asks = f"{question.method} {question.service}://REAL:{virtual.port_of(question)}{question.request or '/'}"
        asks += f" as {question.virtualhost}" if question.virtualhost else ""
        return asks + f", status {status}" + (f", body matches {question.receive!r}" if question.receive else "")
    tls = {"off": "", "on": " in TLS", "starttls": " with STARTTLS"}[question.tls]
    asks = f"{question.service} at {where}{tls}"
    asks += f" as {question.login}" if question.login else ""
    return (
        asks
        + (f", {question.request!r}" if question.request else "")
        + (f", answer matches {question.receive!r}" if question.receive else "")
    )


def _own(real: Real) -> str:
    asked = f", asked for {real.request}" if real.request else ""
    return asked + (f", answers {real.receive!r}" if real.receive else "")


def _times(count: int, what: str) -> str:
    plural = "es" if what.endswith("s") else "s"
    return f"{count} {what}{plural if count != 1 else ''}"


def _fallback(virtual: Virtual) -> str:
    if virtual.fallback is None:
        return "none: while no real is up, new connections are dropped"
    itself = " (the active director itself)" if virtual.fallback.address in (LOCAL, LOCAL6) else ""
    return f"{virtual.fallback}{itself}"


def _aligned(head: str, rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        yield f"{head} " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
