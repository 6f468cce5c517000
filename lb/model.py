"""The cluster as its one configuration file describes it: frozen values, no behaviour beyond look-ups.

`lb.config.load` makes these from TOML; everything else reads them. Durations are seconds (float), whatever the file
wrote them as. DESIGN section 2 names every key.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Protocol = Literal["tcp", "udp"]

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*")


def parse_duration(value: Any) -> float:
    """Seconds from `"100ms"`, `"2s"`, `"5m"`, `"1h"`, `"1d"` or a number of seconds.

    Raises ValueError for anything else; a duration is never negative.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if 0 <= value < float("inf"):
            return float(value)
    elif isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        return float(match[1]) * _UNITS[match[2]]
    raise ValueError(f"{value!r} is not a duration; write \"100ms\", \"2s\", \"5m\" or a number of seconds")


def format_duration(seconds: float) -> str:
    """The shortest spelling that `parse_duration` reads back: 0.1 -> '100ms', 300 -> '5m'."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:g}ms"
    for unit in ("d", "h", "m"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{seconds / _UNITS[unit]:g}{unit}"
    return f"{seconds:g}s"


Duration = Annotated[float, BeforeValidator(parse_duration)]
Port = Annotated[int, Field(ge=1, le=65535)]
Weight = Annotated[int, Field(ge=0, le=65535)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Endpoint(_Frozen):
    """An address and, where one was given, a port."""

    address: IPv4Address
    port: Port | None = None

    def __str__(self) -> str:
        return f"{self.address}:{self.port}" if self.port else str(self.address)


class ClusterSettings(_Frozen):
    """`[cluster]`"""

    name: str = "lbctl"
    interface: str
    attach: Literal["auto", "native", "generic"] = "auto"


class Node(_Frozen):
    """`[[node]]`: a director."""

    name: str
    address: IPv4Address
    interface: str | None = None


class Ha(_Frozen):
    """`[ha]`: heartbeats and failover. The directives are heartbeat's (SEED_TABLES 3.2)."""

    keepalive: Duration = 0.1
    warntime: Duration | None = None
    deadtime: Duration = 0.5
    initdead: Duration = 3.0
    auto_failback: bool = False
    preferred: str | None = None
    ping: tuple[IPv4Address, ...] = ()
    authkeys: str = "authkeys"
    port: Port = 694

    @property
    def late_s(self) -> float:
        """Silence that is worth a warning: warntime, by default half of deadtime."""
        return self.deadtime / 2 if self.warntime is None else self.warntime


class Connections(_Frozen):
    """`[connections]`: size and timeouts of the connection table; the defaults are IPVS's (SEED_TABLES 5.4)."""

    max: Annotated[int, Field(ge=1024, le=16_777_216)] = 1_048_576
    established: Duration = 900.0
    fin: Duration = 120.0
    udp: Duration = 300.0


class Check(_Frozen):
    """`[virtual.check]`: how the reals of a virtual are asked whether they are well."""

    type: str = "connect"
    service: str = "http"
    port: Port | None = None
    request: str = "/"
    receive: str | None = None
    virtualhost: str | None = None
    method: Literal["GET", "HEAD"] = "GET"
    status: tuple[int, ...] = ()
    interval: Duration = 2.0
    timeout: Duration = 1.0
    failures: Annotated[int, Field(ge=1, le=1000)] = 2
    rises: Annotated[int, Field(ge=1, le=1000)] = 1


class Real(_Frozen):
    """`[[virtual.real]]`: a real server. weight 0 drains it. name: for people and the lab."""

    address: IPv4Address
    weight: Weight = 1
    name: str | None = None


class Virtual(_Frozen):
    """`[[virtual]]`: a virtual service. port 0 is every port of the address."""

    name: str
    address: IPv4Address
    port: Annotated[int, Field(ge=0, le=65535)]
    protocol: Protocol = "tcp"
    scheduler: str = "rr"
    forward: str = "gate"
    persistent: Duration = 0.0
    netmask: Annotated[int, Field(ge=1, le=32)] = 32
    quiescent: bool = True
    fallback: Endpoint | None = None
    check: Check = Check()
    reals: tuple[Real, ...] = Field(default=(), alias="real")

    @property
    def check_port(self) -> int:
        """Where the reals are asked: the check's port, else the virtual's; 0 where neither says."""
        return self.check.port or self.port

    def real_name(self, real: Real) -> str:
        """What the lab calls the host of `real`: its name, else the virtual's name and its place in the list."""
        return real.name or f"{self.name}{1 + [r.address for r in self.reals].index(real.address)}"


class Cluster(_Frozen):
    """The whole file. path: where it was read, absolute."""

    path: Path
    cluster: ClusterSettings
    nodes: tuple[Node, ...] = Field(alias="node")
    ha: Ha = Ha()
    connections: Connections = Connections()
    virtuals: tuple[Virtual, ...] = Field(default=(), alias="virtual")

    def node(self, name: str) -> Node:
        """The director of that name. Raises KeyError."""
        return next((n for n in self.nodes if n.name == name), None) or _missing(name)

    def peers_of(self, name: str) -> tuple[Node, ...]:
        """The other directors, in the file's order."""
        return tuple(n for n in self.nodes if n.name != name)

    def interface_of(self, node: Node) -> str:
        """The interface a director balances on."""
        return node.interface or self.cluster.interface

    @property
    def addresses(self) -> tuple[IPv4Address, ...]:
        """The virtual addresses, each once, in the file's order."""
        return tuple(dict.fromkeys(v.address for v in self.virtuals))

    @property
    def authkeys_path(self) -> Path:
        """Where the shared keys lie: next to the file unless absolute."""
        return self.path.parent / self.ha.authkeys


def _missing(name: str) -> Node:
    raise KeyError(name)
