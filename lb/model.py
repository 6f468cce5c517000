"""The cluster as its one configuration file describes it: frozen values, no behaviour beyond look-ups.

`lb.config.load` makes these from TOML; everything else reads them. Durations are seconds (float), whatever the file
wrote them as. DESIGN section 2 names every key. What one value alone may be is said here, in the types of
`lb.fields`; what values must not be together is in `lb.rules`.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field

from lb import catalog, fields
from lb.asking import Check as Check
from lb.asking import Question as Question
from lb.ends import Also, Fallback
from lb.ends import Endpoint as Endpoint
from lb.ends import Pair as Pair
from lb.ends import Protocol as Protocol
from lb.fields import Address, Duration, Frozen, Interface, Name, Port, Span, Weight
from lb.fields import format_duration as format_duration
from lb.fields import parse_duration as parse_duration

OWN_KEYS = ("request", "receive")
"""Keys of a check that a real may have for itself."""


class ClusterSettings(Frozen):
    """`[cluster]`"""

    name: Name = "lbctl"
    interface: Interface
    real_interfaces: Annotated[tuple[Interface, ...], Field(strict=False)] = ()
    attach: Literal["auto", "native", "generic"] = "auto"
    fallback: Fallback | None = None
    fallback_command: fields.Program | None = None
    maintenance: fields.Directory | None = None


class Node(Frozen):
    """`[[node]]`: a director."""

    name: Name
    address: Address
    interface: Interface | None = None
    real_interfaces: Annotated[tuple[Interface, ...] | None, Field(strict=False)] = None
    links: Annotated[tuple[Address, ...], Field(strict=False)] = ()


class Ha(Frozen):
    """`[ha]`: heartbeats and failover. The directives are heartbeat's (SEED_TABLES 3.2)."""

    keepalive: Span = 0.1
    warntime: Span | None = None
    deadtime: Span = 0.5
    initdead: Span = 3.0
    auto_failback: bool = False
    preferred: str | None = None
    ping: Annotated[tuple[Address, ...], Field(strict=False)] = ()
    broadcast: Annotated[tuple[Interface, ...], Field(strict=False)] = ()
    multicast: Annotated[tuple[Interface, ...], Field(strict=False)] = ()
    group: Address = IPv4Address("239.255.6.94")
    resources: Annotated[tuple[fields.Command, ...], Field(strict=False)] = ()
    notify: Annotated[tuple[fields.Command, ...], Field(strict=False)] = ()
    fence: fields.Command | None = None
    virtual_mac: fields.Mac | None = None
    vlans: Annotated[tuple[fields.VlanId, ...], Field(strict=False)] = ()
    watchdog: fields.WholePath | None = None
    authkeys: fields.FilePath = "authkeys"
    port: Port = 694

    @property
    def virtual_mac_bytes(self) -> bytes:
        """Six, or none where the virtual addresses are at the interface's MAC."""
        return bytes.fromhex((self.virtual_mac or "").replace(":", ""))

    @property
    def late_s(self) -> float:
        """Silence that is worth a warning: warntime, by default half of deadtime."""
        return self.deadtime / 2 if self.warntime is None else self.warntime


class Connections(Frozen):
    """`[connections]`: size and timeouts of the connection table; the defaults are IPVS's (SEED_TABLES 5.4)."""

    max: Annotated[int, fields.within(1024, 16_777_216)] = 1_048_576
    established: Span = 900.0
    fin: Span = 120.0
    udp: Span = 300.0


class Alerts(Frozen):
    """`[alerts]`: who is told that reals come and go. The mail's directives are ldirectord's (SEED_TABLES 2.3)."""

    email: Annotated[tuple[fields.Mailbox, ...], Field(strict=False)] = ()
    email_from: fields.Mailbox | None = None
    smtp: fields.MailServer = "localhost"
    smtp_tls: Literal["off", "starttls", "on"] = "off"
    smtp_login: str | None = None
    smtp_passwd_file: fields.WholePath | None = None
    command: fields.Program | None = None
    webhook: fields.Url | None = None
    states: Annotated[tuple[Literal["up", "down"], ...], Field(strict=False)] = ("up", "down")
    phases: Annotated[tuple[Literal["starting", "running", "reloading"], ...], Field(strict=False)] = (
        "starting", "running", "reloading",
    )  # fmt: skip
    every: Span = 10.0
    repeat: Duration = 0.0

    @property
    def smtp_server(self) -> tuple[str, int | None]:
        """Host and port of the mail server."""
        return fields.parse_host_port(self.smtp)

    @property
    def webhook_host(self) -> str:
        """What may be said of the webhook's address, whose path is often a secret."""
        return urlsplit(self.webhook or "").netloc.rpartition("@")[2]


class DenyList(Frozen):
    """`[[limits.deny]]`: clients whose packets are dropped."""

    name: Name
    prefixes: Annotated[tuple[fields.Prefix, ...], Field(strict=False)]


class Limits(Frozen):
    """`[limits]`: what a client may. 0: no limit; burst 0: one second's connections."""

    new_connections: Annotated[int, fields.within(0, 1_000_000)] = 0
    burst: Annotated[int, fields.within(0, 1_000_000)] = 0
    deny: Annotated[tuple[DenyList, ...], Field(strict=False)] = ()


class OwnAlerts(Frozen):
    """`[virtual.alerts]`: what is otherwise for one virtual; the rest is as `[alerts]` says."""

    email: Annotated[tuple[fields.Mailbox, ...] | None, Field(strict=False)] = None
    smtp: fields.MailServer | None = None
    command: fields.Program | None = None
    webhook: fields.Url | None = None
    states: Annotated[tuple[Literal["up", "down"], ...] | None, Field(strict=False)] = None
    phases: Annotated[tuple[Literal["starting", "running", "reloading"], ...] | None, Field(strict=False)] = None
    every: Span | None = None
    repeat: Duration | None = None


class Real(Frozen):
    """`[[virtual.real]]`: a real server. weight 0 drains it. name: for people and the lab.

    forward: instead of the virtual's. request, receive: instead of the check's own.
    upper, lower: IPVS's thresholds (SEED_TABLES 5.3); 0 is none.
    """

    address: Address
    weight: Weight = 1
    forward: fields.Forward | None = None
    upper: fields.Threshold = 0
    lower: fields.Threshold = 0
    name: Name | None = None
    request: fields.Text | None = None
    receive: fields.Pattern | None = None


class Virtual(Frozen):
    """`[[virtual]]`: a virtual service. port 0 is every port of the address. also: further pairs, scheduled as one."""

    name: Name
    address: Address
    port: Annotated[int, fields.within(0, 65535)]
    protocol: Protocol = "tcp"
    also: Also = ()
    preferred: str | None = None
    scheduler: fields.Scheduler = "rr"
    flags: Annotated[tuple[fields.SchedulerFlag, ...] | None, Field(strict=False)] = None
    forward: fields.Forward = "gate"
    persistent: fields.Affinity = 0.0
    netmask: Annotated[int, fields.within(1, 128)] | None = None
    one_packet: bool = False
    quiescent: bool = True
    expire_nodest_conn: bool = False
    expire_quiescent_template: bool = False
    fallback: Fallback | None = None
    fallback_command: fields.Program | None = None
    min_up: fields.MinUp = 0
    slow_start: Duration = 0.0
    alerts: OwnAlerts | None = None
    check: Check = Check()
    reals: Annotated[tuple[Real, ...], Field(strict=False)] = Field(default=(), alias="real")

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """What its packets are sent to, its own address and port first."""
        further = (Pair(pair.address, pair.port, pair.protocol or self.protocol) for pair in self.also)
        return Pair(self.address, self.port, self.protocol), *further

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Its addresses, each once."""
        return tuple(dict.fromkeys(pair.address for pair in self.pairs))

    @property
    def scheduler_flags(self) -> tuple[str, ...]:
        """The flags in force: unless the file says which, sh and mh fall back (docs/configuration.md says why)."""
        if self.flags is not None:
            return tuple(dict.fromkeys(self.flags))
        return tuple(flag for flag in (f"{self.scheduler}-fallback",) if flag in catalog.FLAGS)

    @property
    def client_bits(self) -> int:
        """The leading bits of addresses that count as one client."""
        return self.netmask or self.address.max_prefixlen

    @property
    def check_port(self) -> int:
        """Where the reals are asked: the check's port, else the virtual's; 0 where neither says."""
        return self.port_of(self.check)

    @property
    def check_protocol(self) -> str:
        """How the reals are asked there."""
        return self.protocol_of(self.check)

    def check_of(self, real: Real) -> Check:
        """How that real is asked: as all are, but for what it says itself."""
        own = {key: value for key in OWN_KEYS if (value := getattr(real, key)) is not None}
        return self.check.model_copy(update=own) if own else self.check

    def port_of(self, question: Question) -> int:
        """Where a question of the check is asked: at its own port, else the check's, else the virtual's; 0: none."""
        return question.port or self.check.port or self.port

    def protocol_of(self, question: Question) -> str:
        """Over what a question of the check is asked: what it says, what alone can carry it, else the virtual's own."""
        carriers = question.kind.transports
        if question.protocol in carriers:
            return str(question.protocol)
        return self.protocol if self.protocol in carriers else (*carriers, "tcp")[0]

    @property
    def hosts(self) -> tuple[Address, ...]:
        """Who answers its clients: the reals, and a fallback that is not the director itself."""
        reals = tuple(real.address for real in self.reals)
        fallback = self.fallback
        return reals if fallback is None or fallback.address.is_loopback else (*reals, fallback.address)

    def forward_of(self, real: Real) -> str:
        """How its packets reach `real`."""
        return real.forward or self.forward

    @property
    def forwards(self) -> tuple[tuple[Address, str], ...]:
        """Each of `hosts` and how packets reach it: the fallback as the virtual says."""
        reals = tuple((real.address, self.forward_of(real)) for real in self.reals)
        return reals + tuple((host, self.forward) for host in self.hosts[len(reals) :])

    def real_name(self, real: Real) -> str:
        """What the lab calls the host of `real`: its name, else the virtual's name and its place in the list."""
        return real.name or f"{self.name}{1 + [r.address for r in self.reals].index(real.address)}"


class Cluster(Frozen):
    """The whole file. path: where it was read, absolute."""

    path: Annotated[Path, Field(exclude=True)]
    cluster: ClusterSettings
    nodes: Annotated[tuple[Node, ...], Field(strict=False)] = Field(alias="node")
    ha: Ha = Ha()
    connections: Connections = Connections()
    alerts: Alerts = Alerts()
    limits: Limits = Limits()
    virtuals: Annotated[tuple[Virtual, ...], Field(strict=False)] = Field(default=(), alias="virtual")

    def inherited(self) -> Cluster:
        """The same with `[cluster]`'s fallback and fallback_command in every virtual that has none of its own."""
        general = {
            key: value for key in ("fallback", "fallback_command") if (value := getattr(self.cluster, key)) is not None
        }
        if not general:
            return self
        virtuals = tuple(
            v.model_copy(update={key: value for key, value in general.items() if getattr(v, key) is None})
            for v in self.virtuals
        )
        return self.model_copy(update={"virtuals": virtuals})

    @property
    def asks_as_virtual(self) -> frozenset[int]:
        """The IP versions of the virtuals whose checks go to their own address."""
        return frozenset(virtual.address.version for virtual in self.virtuals if virtual.check.via == "virtual")

    @property
    def own_alerts(self) -> dict[str, Alerts]:
        """Who is told about the virtuals of which others are told than about the rest, by their names."""
        return {
            virtual.name: self.alerts.model_copy(update=virtual.alerts.model_dump(exclude_none=True))
            for virtual in self.virtuals
            if virtual.alerts
        }

    def node(self, name: str) -> Node:
        """The director of that name. Raises KeyError."""
        return {node.name: node for node in self.nodes}[name]

    def peers_of(self, name: str) -> tuple[Node, ...]:
        """The other directors, in the file's order."""
        return tuple(n for n in self.nodes if n.name != name)

    def interface_of(self, node: Node) -> str:
        """The interface a director has the virtual addresses on."""
        return node.interface or self.cluster.interface

    def interfaces_of(self, node: Node) -> tuple[str, ...]:
        """All that a director balances on, that one first."""
        further = self.cluster.real_interfaces if node.real_interfaces is None else node.real_interfaces
        return self.interface_of(node), *further

    def group_of(self, virtual: Virtual) -> str:
        """Which role its address follows: the name of its preferred node, empty if it names none but that of `[ha]`."""
        return "" if virtual.preferred in (None, self.ha.preferred) else virtual.preferred or ""

    @property
    def groups(self) -> dict[str, tuple[Address, ...]]:
        """The virtual addresses by the role that they follow; that of "" is always there, and first."""
        found: dict[str, dict[Address, None]] = {"": {}}
        for virtual in self.virtuals:
            found.setdefault(self.group_of(virtual), {}).update(dict.fromkeys(virtual.addresses))
        return {group: tuple(addresses) for group, addresses in found.items()}

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The virtual addresses, each once, in the file's order."""
        return tuple(dict.fromkeys(address for v in self.virtuals for address in v.addresses))

    @property
    def authkeys_path(self) -> Path:
        """Where the shared keys lie: next to the file unless absolute."""
        return self.path.parent / self.ha.authkeys
