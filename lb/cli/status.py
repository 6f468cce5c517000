"""`lbctl status`: what a director knows."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from lb import rundir
from lb.addresses import with_port
from lb.cli.options import node_option
from lb.cli.output import Uncut, json_option, out, print_json, state
from lb.client import call

_HARMLESS = {
    "heartbeat_sent", "heartbeat_received", "heartbeat_posthumous", "sync_opened",
    "rx_packets", "tx_packets", "passed", "redirected", "referred", "too_big", "set_aside", "arp_no_lease",
    "checks_early",
}  # fmt: skip
"""Counters of what is as it should be."""

STATUS_TIMEOUT_S = 5.0
"""A director that answers later hangs: to read a table of a million connections takes it 0.3 s."""

WATCH_INTERVAL_S = 1.0


@click.command()
@click.argument("real", required=False)
@node_option()
@json_option
@click.option("-w", "--watch", is_flag=True, help="Refresh every second until Ctrl-C, with rates.")
def status(real: str | None, node: str | None, as_json: bool, watch: bool) -> None:
    """Show role, peer, and each virtual and real with health, weight, connections and rates.

    With REAL, which is VIRTUAL/ADDRESS or ADDRESS or a name: one real, and what happened to it last.

    \b
    lbctl status
    lbctl status web/192.168.1.101
    lbctl status --watch
    lbctl status --json | jq '.virtuals[].reals[] | select(.health != "up")'

    Exit status 3 if no director runs here.
    """
    name = rundir.find_director(node)

    def ask() -> dict[str, Any]:
        path, parameters = ("/reals", {"real": real}) if real else ("/status", {})
        document: dict[str, Any] = call(name, "GET", path, STATUS_TIMEOUT_S, **parameters)
        return document

    def shown() -> Group:
        return render_reals(ask()) if real else render(ask())

    if as_json:
        print_json(ask())
    elif watch:
        with contextlib.suppress(KeyboardInterrupt):
            _watch(shown)
    else:
        out.print(shown())


def _watch(shown: Callable[[], Group]) -> None:
    with Live(console=out, screen=out.is_terminal, auto_refresh=False) as live:
        while True:
            live.update(shown(), refresh=True)
            time.sleep(WATCH_INTERVAL_S)


def render_reals(document: dict[str, Any]) -> Group:
    """Some reals with what happened to them, for people."""
    parts: list[Any] = []
    for real in document["reals"]:
        latency = f", {real['latency_ms']:g} ms" if real["latency_ms"] is not None else ""
        name = f" ({real['name']})" if real["name"] else ""
        parts += [
            *([""] if parts else []),
            f"[bold]{real['virtual']}/{real['address']}[/]{name}  {state(real['health'])} "
            f"for {_span(timedelta(seconds=real['for_s'] or 0))}  weight {real['weight']}",
            Text(f"  {real['asked']}: {real['reason']}{latency}"),
        ]
        if real["warning"]:
            parts.append(Text(f"  warning: {real['warning']}", style="yellow"))
        if real["maintenance"]:
            parts.append(Text(f"  in maintenance by the file {real['maintenance']}"))
        if real["history"]:
            parts.append(_history(real["history"]))
    return Group(*parts)


def _history(entries: list[dict[str, Any]]) -> Uncut:
    """The newest first, in this machine's time."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for name in ("  when", "what", "after", "reason"):
        table.add_column(name, no_wrap=True)
    for entry in entries:
        when = datetime.fromisoformat(entry["at"]).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        after = f"{_span(timedelta(seconds=entry['lasted_s']))} {entry['was']}" if entry["was"] else ""
        table.add_row(f"  {when}", state(entry["state"]), after, escape(entry["reason"]))
    return Uncut(table)


def render(document: dict[str, Any]) -> Group:
    """The status document for people."""
    parts: list[Any] = [
        _head(document),
        *_roles(document["roles"]),
        *(_peer(peer, document["sync"]) for peer in document["peers"]),
    ]
    for virtual in document["virtuals"]:
        parts += ["", _virtual_head(virtual), _reals(virtual["reals"])]
    refused = {**_refusals(document["heartbeat"]), **_refusals(document["packets"]), **_refusals(document["monitor"])}
    if refused:
        parts += ["", "noted: " + ", ".join(f"{name} {count}" for name, count in refused.items())]
    denied = {name: count for name, count in document["denied"].items() if count}
    if denied:
        parts.append("denied: " + ", ".join(f"{name} {count}" for name, count in denied.items()))
    parts += [Text(f"warning: {warning}", style="yellow") for warning in document["warnings"]]
    return Group(*parts)


def _head(document: dict[str, Any]) -> str:
    interfaces = ", ".join(f"{name} ({mode} XDP)" for name, mode in document["interfaces"].items())
    since = datetime.fromisoformat(document["since"])
    return (
        f"[bold]{document['node']}[/]  {state(document['role'])} for {_span(datetime.now(UTC) - since)}"
        f"  cluster {document['cluster']}  {interfaces}"
    )


def _roles(roles: list[dict[str, Any]]) -> list[str]:
    """Where virtuals prefer different nodes, a line for each."""
    return [
        f"{', '.join(map(escape, role['addresses'])) or 'no address'}  {state(role['role'])}"
        f"  active: {role['active'] or 'nobody'}" + (f", preferred: {role['preferred']}" if role["preferred"] else "")
        for role in roles
        if len(roles) > 1
    ]


def _peer(peer: dict[str, Any], sync: dict[str, Any]) -> str:
    lag = f", lag {sync['lag_ms']:g} ms" if sync["state"] == "in-sync" else ""
    return (
        f"peer [bold]{peer['name']}[/]  {state(peer['state'])}  {state(str(peer['role']))}"
        f"  sync {state(sync['state'])}, {sync['connections']} connections{lag}{_links(peer['links'])}"
    )


def _links(links: list[dict[str, Any]]) -> str:
    """The ways of its heartbeats, where there are several."""
    return "".join(f"\n  {link['name']}  {state(link['state'])}" for link in links) if len(links) > 1 else ""


def _virtual_head(virtual: dict[str, Any]) -> str:
    fallback = ""
    if virtual["fallback"]:
        active = "[red]active[/]" if virtual["fallback_active"] else "idle"
        fallback = f"  fallback {escape(virtual['fallback'])} ({active})"
    overruled = "  [red]fewer than min_up are well: all get traffic[/]" if virtual["overruled"] else ""
    pairs = " + ".join(_pair(pair) for pair in (virtual, *virtual["also"]))
    return f"[bold]{virtual['name']}[/]  {pairs}  {virtual['scheduler']}{fallback}{overruled}"


def _pair(pair: dict[str, Any]) -> str:
    return f"{pair['protocol']} {escape(with_port(pair['address'], pair['port']))}"


def _reals(reals: list[dict[str, Any]]) -> Uncut:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("  real", no_wrap=True)
    table.add_column("health", no_wrap=True)
    for name in ("weight", "active", "inactive", "total", "conns/s", "packets/s"):
        table.add_column(name, justify="right", no_wrap=True)
    remarks = [", ".join(_remarks(real)) for real in reals]
    if any(remarks):
        table.add_column("")
    for real, remark in zip(reals, remarks, strict=True):
        counts = [real[name] for name in ("weight", "active", "inactive", "connections")]
        rates = [round(real["rates"][name]) for name in ("connections", "packets")]
        label = f"  {real['name'] or real['address']}"
        cells = (label, state(real["health"]), *map(str, (*counts, *rates)))
        table.add_row(*cells, *([escape(remark)] if any(remarks) else []))
    return Uncut(table)


def _remarks(real: dict[str, Any]) -> Iterator[str]:
    """What there is to say of a real besides its numbers."""
    if real["maintenance"]:
        yield f"in maintenance by the file {real['maintenance']}"
    if real["check"] != "up":
        yield real["reason"]
    elif real["warning"]:
        yield real["warning"]
    if real["starts_slowly"]:
        yield "starts slowly"


def _refusals(counters: dict[str, int]) -> dict[str, int]:
    """What was turned away, of all counters."""
    return {name: count for name, count in counters.items() if count and name not in _HARMLESS}


def _span(delta: Any) -> str:
    seconds = int(delta.total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
