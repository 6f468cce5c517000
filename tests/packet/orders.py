"""What user space does meanwhile, each a value: steps, like those that tests.packet.steps has for frames and time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from lb.connections import Ours
from lb.limits import Limits
from lb.reference.control import Told
from lb.reference.maps import IPV6, ConnectionKey
from lb.service import LOCAL6, Destination, Service, ServiceKey
from lb.tcp import State
from tests.packet import frames
from tests.packet.pair import Pair
from tests.packet.steps import DIRECTORS, Life, Step, Target
from tests.packet.world import real, real6


@dataclass(frozen=True)
class Lease:
    """Renewed, or given up with 0."""

    seconds: float

    def run(self, pair: Pair) -> None:
        """Renews it."""
        pair.lease(self.seconds)


@dataclass(frozen=True)
class Refer:
    """To the first of some DIRECTORS, or no more with 0.

    lease_s: with a new lease, as after a takeover; None: it stays as it is.
    """

    directors: int
    seconds: float
    lease_s: float | None = None

    def run(self, pair: Pair) -> None:
        """Says so."""
        if self.lease_s is not None:
            pair.lease(self.lease_s)
        pair.refer(DIRECTORS[self.directors], self.seconds)


@dataclass(frozen=True)
class Sweep:
    """One or more."""

    times: int = 1

    def run(self, pair: Pair) -> None:
        """Sweeps."""
        for _ in range(self.times):
            pair.sweep()


@dataclass(frozen=True)
class Restart:
    """Of the process."""

    def run(self, pair: Pair) -> None:
        """Ends it and starts it."""
        pair.restart()


@dataclass(frozen=True)
class Set:
    """One real of a service becomes this: it is added, drained, weighed, moved to another MAC, loses it, comes back."""

    service: int
    real: Destination

    def run(self, pair: Pair) -> None:
        """Applies it."""

        def edit(service: Service) -> Service:
            real = of_family(service.key, self.real)
            return _with(service, replace(real, gone=real.gone and not service.quiescent))

        _edit(pair, self.service, edit)


@dataclass(frozen=True)
class Remove:
    """One real leaves its service."""

    service: int
    real: int

    def run(self, pair: Pair) -> None:
        """Applies it."""

        def without(service: Service) -> Service:
            reals = service.destinations
            place = self.real % max(1, len(reals))
            return replace(service, destinations=reals[:place] + reals[place + 1 :])

        _edit(pair, self.service, without)


@dataclass(frozen=True)
class Fallback:
    """A service gets another fallback, or none."""

    service: int
    real: Destination | None

    def run(self, pair: Pair) -> None:
        """Applies it."""
        real = self.real
        _edit(
            pair,
            self.service,
            lambda service: replace(service, fallback=None if real is None else of_family(service.key, real)),
        )


@dataclass(frozen=True)
class Lose:
    """All reals of a service are unresolved neighbours from now on, or down."""

    service: int
    health: bool = False

    def run(self, pair: Pair) -> None:
        """Applies it."""

        def lost(service: Service, real: Destination) -> Destination:
            return replace(real, weight=0, gone=not service.quiescent) if self.health else replace(real, mac=None)

        def edit(service: Service) -> Service:
            return replace(service, destinations=tuple(lost(service, real) for real in service.destinations))

        _edit(pair, self.service, edit)


@dataclass(frozen=True)
class Flap:
    """A real leaves its service, for so many sweeps each time, and comes back in between; it is gone in the end."""

    service: int
    real: int
    sweeps: tuple[int, ...]

    def run(self, pair: Pair) -> None:
        """Applies each."""
        before = pair.configuration.services
        for times in self.sweeps:
            pair.change(before)
            Remove(self.service, self.real).run(pair)
            Sweep(times).run(pair)


@dataclass(frozen=True)
class Reschedule:
    """A service gets another scheduler and flags, so that there is another program."""

    service: int
    scheduler: str
    flags: tuple[str, ...] = ()

    def run(self, pair: Pair) -> None:
        """Applies it."""
        _edit(pair, self.service, lambda service: replace(service, scheduler=self.scheduler, flags=self.flags))


@dataclass(frozen=True)
class Group:
    """A service is for these too, as far as they are nobody's and of its family; so that there is another program."""

    service: int
    also: tuple[ServiceKey, ...]

    def run(self, pair: Pair) -> None:
        """Applies it."""
        services = list(pair.configuration.services)
        if services:
            place = self.service % len(services)
            services[place] = replace(services[place], also=self.also)
            pair.change(disjoint(tuple(services)))


@dataclass(frozen=True)
class Limit:
    """Clients are denied, or limited, in another way."""

    limits: Limits

    def run(self, pair: Pair) -> None:
        """Applies it."""
        pair.change(limits=self.limits)


@dataclass(frozen=True)
class Place:
    """The virtual addresses are at another MAC; empty: at that of the interface."""

    virtual_mac: bytes

    def run(self, pair: Pair) -> None:
        """Applies it."""
        pair.change(virtual_mac=self.virtual_mac)


@dataclass(frozen=True)
class Swap:
    """Quite another configuration."""

    services: tuple[Service, ...]
    mac: bytes | None = None
    timeouts: tuple[tuple[str, float], ...] = ()

    def run(self, pair: Pair) -> None:
        """Applies it."""
        pair.change(self.services, self.mac, None, None, **dict(self.timeouts))


@dataclass(frozen=True)
class Report:
    """A connection as a peer tells it. real: a destination of the service by its place, or an unknown address.
    state: None is what fits the protocol."""

    target: Target
    real: int
    state: int | None
    idle_s: int


@dataclass(frozen=True)
class Install:
    """What a peer tells, each connection at most once."""

    reports: tuple[Report, ...]
    ours: Ours = Ours.LATER

    def run(self, pair: Pair) -> None:
        """Installs it."""
        told = {}
        for report in self.reports:
            ends = report.target.ends(pair)
            services = pair.configuration.services
            reals = services[report.target.service % len(services)].destinations if services else ()
            known = {place: real.address for place, real in enumerate(reals)}
            address = known.get(report.real, real6(1).address if ends.virtual & IPV6 else real(1).address)
            fitting = State.ESTABLISHED if ends.protocol == frames.TCP else State.UDP
            state = fitting if report.state is None else report.state
            template = state == State.TEMPLATE
            port = 0 if template else ends.client_port
            key = ConnectionKey(ends.client, ends.virtual, port, ends.virtual_port, ends.protocol, int(template))
            told[key] = Told(key, address, state, report.idle_s)
        pair.install(tuple(told.values()), self.ours)


@dataclass(frozen=True)
class Through:
    """A connection that lives through something: its real stays, or it ran out."""

    target: Target
    first: tuple[int, ...]
    steps: tuple[Step, ...]
    then: tuple[int, ...]

    def run(self, pair: Pair) -> None:
        """All of it."""
        Life(self.target, self.first).run(pair)
        for step in self.steps:
            step.run(pair)
        Life(self.target, self.then).run(pair)


def disjoint(services: tuple[Service, ...]) -> tuple[Service, ...]:
    """Without further keys that are another service's already, or of another family."""
    taken = {service.key for service in services}
    apart = []
    for service in services:
        version = service.key.address.version
        keys = tuple(key for key in service.also if key not in taken and key.address.version == version)
        taken |= set(keys)
        apart.append(replace(service, also=tuple(dict.fromkeys(keys))))
    return tuple(apart)


def of_family(key: ServiceKey, destination: Destination) -> Destination:
    """The same host, by its address of the service's family; of whichever family there is a tunnel to it."""
    if key.address.version == 4 or destination.tunnelled:
        return destination
    if destination.local:
        return replace(destination, address=LOCAL6)
    address = real6((int(destination.address) & 0xFF) - 100).address
    return replace(destination, address=address, forward="gate", way=None)


def _with(service: Service, real: Destination) -> Service:
    reals = service.destinations
    others = tuple(real if other.address == real.address else other for other in reals)
    return replace(service, destinations=others if real in others else (*reals, real))


def _edit(pair: Pair, number: int, edit: Callable[[Service], Service]) -> None:
    services = list(pair.configuration.services)
    if services:
        place = number % len(services)
        services[place] = edit(services[place])
        pair.change(tuple(services))
