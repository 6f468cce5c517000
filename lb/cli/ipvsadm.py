"""ipvsadm's tables (SEED_TABLES 6.2, 6.3) from what the data plane holds, so that old eyes and old scripts find
their columns. Pure: documents in, text out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Any

import numpy as np

from lb.addresses import Address, by_family, with_port
from lb.connections import CONNECTION6, Rows
from lb.datapath.view import HeldDestination, HeldService
from lb.service import LOCAL, LOCAL6, PROTOCOL_NAMES, ServiceKey
from lb.tcp import State

Document = list[dict[str, Any]]
"""One service a dictionary, its reals under "reals"; what `lbctl list --json` prints."""

_RATES = {"conns": "connections", "packets": "packets", "bytes": "bytes"}


def services(held: Sequence[HeldService]) -> Document:
    """The services in ipvsadm's order: protocol, address, port."""
    return [_service(service) for service in sorted(held, key=_place)]


def _place(service: HeldService) -> tuple[int, int, int, int]:
    return service.key.protocol, *by_family(service.key.address), service.key.port


def _pair(key: ServiceKey) -> dict[str, Any]:
    return {"protocol": PROTOCOL_NAMES[key.protocol], "address": str(key.address), "port": key.port}


def _service(service: HeldService) -> dict[str, Any]:
    shown = [real for real in service.destinations if not real.gone]
    if service.fallback and service.fallback_active:
        shown.append(service.fallback)
    return {
        "protocol": PROTOCOL_NAMES[service.key.protocol],
        "address": str(service.key.address),
        "port": service.key.port,
        "also": [_pair(key) for key in service.also],
        "scheduler": service.scheduler,
        "flags": list(service.flags),
        "persistent_s": service.persistent_s,
        "netmask": service.netmask,
        "one_packet": service.one_packet,
        "fallback_active": service.fallback_active,
        "reals": [_real(service, real) for real in shown],
    }


def _real(service: HeldService, real: HeldDestination) -> dict[str, Any]:
    """Of a group with several ports the port is 0, as ipvsadm has it for services by firewall mark."""
    ports = {key.port for key in (service.key, *service.also)}
    return {
        "address": str(real.address),
        "port": service.key.port if len(ports) == 1 else 0,
        "forward": "local" if real.local else real.forward,
        "weight": real.weight,
        "active": real.active,
        "inactive": real.inactive,
        "persistent": real.persistent,
        "upper": real.upper,
        "lower": real.lower,
        "connections": real.connections,
        "packets": real.packets,
        "bytes": real.bytes,
    }


def rates(before: Sequence[HeldService], after: Sequence[HeldService], seconds: float) -> Document:
    """As `services`, with what happened a second between two readings instead of the totals."""
    old = {_identity(s, r): r for s in services(before) for r in s["reals"]}
    document = services(after)
    for service in document:
        for real in service["reals"]:
            was = old.get(_identity(service, real), {})
            for name in _RATES.values():
                real[name] = round(max(0, real[name] - was.get(name, real[name])) / seconds)
    return document


def _identity(service: dict[str, Any], real: dict[str, Any]) -> tuple[Any, ...]:
    return service["protocol"], service["address"], service["port"], real["address"]


def format_services(document: Document) -> str:
    """`ipvsadm -L -n`."""
    return _lines(
        document,
        [
            "Prot LocalAddress:Port Scheduler Flags",
            "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn",
        ],
        lambda s: f"{_name(s)} {s['scheduler']}{_flags(s)}",
        lambda r: f" {_FORWARDS[r['forward']]:<7} {r['weight']:<6d} {r['active']:<10d} {r['inactive']:<10d}",
    )


def format_stats(document: Document) -> str:
    """`ipvsadm -L -n --stats`."""
    head = f"{'Prot LocalAddress:Port':<33} {'Conns':>8} {'InPkts':>8} {'OutPkts':>8} {'InBytes':>8} {'OutBytes':>8}"

    def numbers(conns: int, packets: int, size: int) -> str:
        return "".join(big(n) for n in (conns, packets, 0, size, 0))

    return _lines(
        document,
        [head, "  -> RemoteAddress:Port"],
        lambda s: f"{_name(s):<33}{numbers(*_totals(s))}",
        lambda r: numbers(r["connections"], r["packets"], r["bytes"]),
    )


def format_rates(document: Document) -> str:
    """`ipvsadm -L -n --rate`."""
    head = f"{'Prot LocalAddress:Port':<33} {'CPS':>8} {'InPPS':>8} {'OutPPS':>8} {'InBPS':>8} {'OutBPS':>8}"

    def numbers(conns: int, packets: int, size: int) -> str:
        return f" {conns:8d} {packets:8d} {0:8d}{big(size)}{big(0)}"

    return _lines(
        document,
        [head, "  -> RemoteAddress:Port"],
        lambda s: f"{_name(s):<33}{numbers(*_totals(s))}",
        lambda r: numbers(r["connections"], r["packets"], r["bytes"]),
    )


def format_thresholds(document: Document) -> str:
    """`ipvsadm -L -n --thresholds`."""
    head = f"{'Prot LocalAddress:Port':<33} {'Uthreshold':<10} {'Lthreshold':<10} {'ActiveConn':<10} {'InActConn':<10}"
    return _lines(
        document,
        [head, "  -> RemoteAddress:Port"],
        _name,
        lambda r: "".join(f" {r[name]:<10d}" for name in ("upper", "lower", "active", "inactive")),
    )


_FORWARDS = {"gate": "Route", "local": "Local", "ipip": "Tunnel", "masq": "Masq"}


def _name(service: dict[str, Any]) -> str:
    return f"{service['protocol'].upper():<4} {with_port(service['address'], service['port'])}"


def _flags(service: dict[str, Any]) -> str:
    words = [f"({','.join(service['flags'])})"] if service["flags"] else []
    if service["persistent_s"]:
        words.append(f"persistent {service['persistent_s']}")
        if ":" in service["address"]:
            words += [f"mask {service['netmask']}"] * (service["netmask"] != 128)
        elif service["netmask"] != 32:
            words.append(f"mask {IPv4Network((0, service['netmask'])).netmask}")
    if service["one_packet"]:
        words.append("ops")
    return "".join(f" {word}" for word in words)


def _totals(service: dict[str, Any]) -> tuple[int, int, int]:
    connections, packets, size = (sum(r[k] for r in service["reals"]) for k in ("connections", "packets", "bytes"))
    return connections, packets, size


def _lines(
    document: Document,
    heads: Iterable[str],
    service_line: Callable[[dict[str, Any]], str],
    real_columns: Callable[[dict[str, Any]], str],
) -> str:
    lines = ["lbctl data plane", *heads]
    for service in document:
        lines.append(service_line(service))
        lines += [f"   + {_name(pair)}" for pair in service["also"]]
        for real in service["reals"]:
            remote = with_port(real["address"], real["port"])
            lines.append(f"  -> {remote:<28}{real_columns(real)}")
    return "\n".join(lines)


def big(number: int) -> str:
    """ipvsadm's big number: nine places, then thousands (K), millions (M), thousand millions (G), T."""
    if number < 100_000_000:
        return f"{number:9d}"
    for limit, size, unit in ((10**9, 10**3, "K"), (10**11, 10**6, "M"), (10**14, 10**9, "G")):
        if number < limit:
            return f"{number // size:8d}{unit}"
    return f"{number // 10**12:8d}T"


def connections(rows: Rows, timeouts_s: Iterable[int]) -> list[dict[str, Any]]:
    """One dictionary a connection or template. timeouts_s: seconds until an idle one is forgotten, one each."""
    documents = []
    address, local = (_address6, LOCAL6) if rows.dtype == CONNECTION6 else (IPv4Address, LOCAL)
    for row, timeout_s in zip(rows.tolist(), timeouts_s, strict=True):
        client, virtual, real, client_port, virtual_port, protocol, state, idle_s = row
        documents.append(
            {
                "protocol": PROTOCOL_NAMES.get(protocol, str(protocol)),
                "expires_s": max(0, timeout_s - idle_s),
                "state": "NONE" if state == State.TEMPLATE else State(state).name,
                "template": state == State.TEMPLATE,
                "client": with_port(address(client), client_port),
                "virtual": with_port(address(virtual), virtual_port),
                "real": with_port(address(real) if np.any(real) else local, virtual_port),
            }
        )
    return documents


def _address6(words: Sequence[int]) -> Address:
    high, low = map(int, words)
    address = IPv6Address(high << 64 | low)
    return address.ipv4_mapped or address


def format_connections(documents: Iterable[dict[str, Any]]) -> str:
    """`ipvsadm -L -n -c`."""
    lines = ["lbctl connection entries", "pro expire state       source             virtual            destination"]
    lines += [
        f"{d['protocol'].upper():<3} {d['expires_s'] // 60:02d}:{d['expires_s'] % 60:02d}  {d['state']:<11} "
        f"{d['client']:<18} {d['virtual']:<18} {d['real']}"
        for d in documents
    ]
    return "\n".join(lines)
