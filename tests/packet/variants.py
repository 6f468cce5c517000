"""Every kind of program that configurations lead to, in so few that every two of the choices below meet in one. Pure.

Kernels check what is loaded: what a choice adds to the text, and what it makes of the others' paths through it. That no
choice is missing here, tests/unit/test_variants.py holds against the constants that `lb.datapath.source` writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import combinations, product
from typing import Any

from lb import abi, catalog
from lb.addresses import Address
from lb.datapath.source import Configuration
from lb.limits import DenyList, Limits
from lb.model import Connections
from lb.options import Options
from lb.schedule import Scheduling, list_limit
from lb.service import PROTOCOL_NUMBERS, Destination, Service, ServiceKey, Way

SETTINGS = Connections(max=4_096)
_VIRTUAL: Mapping[int, Address] = {4: IPv4Address("192.0.2.10"), 6: IPv6Address("2001:db8::10")}
_FIRST: Mapping[int, Address] = {4: IPv4Address("10.0.0.2"), 6: IPv6Address("2001:db8:1::2")}
"""Of the reals."""

Choice = Any
CHOICES: Mapping[str, tuple[Choice, ...]] = {
    "scheduler": (*catalog.available(catalog.SCHEDULERS), "several"),
    "families": ((4,), (6,), (4, 6)),
    "every port": (False, True),
    "thresholds": (False, True),
    "most reals": (False, True),
    "persistent": (0, 24, 32),
    "expire quiescent": (False, True),
    "quiescent": (True, False),
    "expire nodest": (False, True),
    "one packet": (False, True),
    "watched": (False, True),
    "group": (False, True),
    "tunnels": ((), (4,), (6,), (4, 6)),
    "interfaces": (1, 2),
    "deny": (False, True),
    "limit": (False, True),
    "virtual MAC": (False, True),
    "jumbo": (False, True),
    "cache": (True, False),
    "told": (True, False),
}
"""What a configuration may want of a program, and how much of it. 24: a client is a network."""

SEVERAL = ("wlc", "sed", "lblc", "lblcr")
"""Those with the longest loops. With 256 reals each and everything else at once in both families, they are more than
kernels check (lbctl says so then), and so are all schedulers in one file."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A program. name: its choices other than the first."""

    name: str
    configuration: Configuration


def variants() -> list[Variant]:
    """The plainest, the fullest, and between them as many as it takes."""
    return [Variant(_name(row), _configuration(row)) for row in _rows()]


def _rows() -> Iterator[dict[str, Choice]]:
    """Rows of choices in which every two of different kinds meet; each new one takes, choice by choice, what meets most
    of the others for the first time. The same ones every time."""
    plainest = {kind: choices[0] for kind, choices in CHOICES.items()}
    fullest = {kind: choices[-1] for kind, choices in CHOICES.items()} | {"persistent": 32}
    wanted = {
        _pair(first, one, second, two)
        for first, second in combinations(CHOICES, 2)
        for one, two in product(CHOICES[first], CHOICES[second])
    }
    for row in (plainest, fullest):
        yield row
        wanted -= _met(row)
    while wanted:
        # Begins with one that is still wanted, so that each row helps.
        row = dict(min(wanted, key=lambda pair: sorted((kind, repr(choice)) for kind, choice in pair)))
        for kind in CHOICES:
            if kind not in row:
                row[kind] = max(CHOICES[kind], key=lambda choice: len(wanted & _met(row | {kind: choice})))
        yield row
        wanted -= _met(row)


def _pair(first: str, one: Choice, second: str, two: Choice) -> frozenset[tuple[str, Choice]]:
    return frozenset(((first, one), (second, two)))


def _met(row: Mapping[str, Choice]) -> set[frozenset[tuple[str, Choice]]]:
    return {frozenset(pair) for pair in combinations(row.items(), 2)}


def _name(row: Mapping[str, Choice]) -> str:
    words = [str(row["scheduler"]), "IPv" + "+".join(map(str, row["families"]))]
    for kind, choices in CHOICES.items():
        if kind in ("scheduler", "families") or row[kind] == choices[0]:
            continue
        words.append(f"not {kind}" if row[kind] is False else kind if row[kind] is True else f"{kind} {row[kind]}")
    return ", ".join(words)


def _configuration(row: Mapping[str, Choice]) -> Configuration:
    """What `DataPath` makes of such services."""
    services = tuple(_services(row))
    bits = abi.cache_set_bits(SETTINGS.max, 2) if row["cache"] else 0
    return Configuration(
        services=tuple((service.key, service.scheduler) for service in services),
        macs=tuple(bytes((2, 0, 0, 0, 0, number)) for number in range(row["interfaces"])),
        connections=SETTINGS.max,
        timeouts_s=tuple(abi.timeouts_s(SETTINGS).items()),
        cache_set_bits=bits,
        cpus=2,
        embryo_set_bits=abi.embryo_set_bits(SETTINGS.max),
        told=row["told"],
        tunnels=frozenset(row["tunnels"]),
        scheduling=Scheduling.of(services),
        options=Options.of(services),
        limits=_limits(row),
        virtual_mac=bytes.fromhex("00005e000133") if row["virtual MAC"] else b"",
        jumbo=row["jumbo"],
    )


def _limits(row: Mapping[str, Choice]) -> Limits:
    prefixes = (IPv4Network("198.51.100.0/24"), IPv6Network("2001:db8:bad::/48"))
    deny = (DenyList("bad", prefixes),) if row["deny"] else ()
    return Limits(interval_ns=10_000_000, burst=100, deny=deny) if row["limit"] else Limits(deny=deny)


def _services(row: Mapping[str, Choice]) -> Iterator[Service]:
    """For each family and scheduler one of TCP and one of UDP."""
    schedulers = SEVERAL if row["scheduler"] == "several" else (row["scheduler"],)
    count = list_limit(schedulers) if row["most reals"] and len(schedulers) == 1 else 2
    for family in row["families"]:
        reals = tuple(_real(number, family, row) for number in range(count))
        for number, scheduler in enumerate(schedulers):
            for name, protocol in PROTOCOL_NUMBERS.items():
                key = ServiceKey(_VIRTUAL[family] + number, 0 if row["every port"] else 80, protocol)
                yield Service(
                    key,
                    scheduler,
                    reals,
                    persistent_s=300 if row["persistent"] else 0,
                    netmask=key.address.max_prefixlen - 32 + (row["persistent"] or 32),
                    expire_quiescent=row["expire quiescent"],
                    one_packet=row["one packet"] and name == "udp",
                    expire_nodest=row["expire nodest"],
                    quiescent=row["quiescent"],
                    watched=row["watched"],
                    also=(key._replace(address=key.address + 100),) if row["group"] else (),
                )


def _real(number: int, family: int, row: Mapping[str, Choice]) -> Destination:
    """The first ones are behind the tunnels, by that one's IP version."""
    tunnels = row["tunnels"][number : number + 1]
    version = tunnels[0] if tunnels else family
    first = _FIRST[version]
    real = Destination(first + number, 1, bytes((2, 0, 0, 1, number >> 8, number & 255)))
    if row["thresholds"]:
        real = replace(real, upper=100)
    return replace(real, forward="ipip", way=Way(first - 1, 1500)) if tunnels else real
