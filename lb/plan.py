"""What the packet path should hold, computed from what is configured, known and ordered. Pure.

A real takes new connections when its health allows it (`lb.weights`), its neighbour is resolved and nobody drained
it. A real that goes down or is drained keeps the connections it has, unless its virtual is not quiescent: then it is
gone while it is down.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network

from lb.addresses import Address, with_port
from lb.errors import UsageError
from lb.health import Health
from lb.model import Cluster, Real, Virtual
from lb.service import LOCAL, LOCAL6, PROTOCOL_NUMBERS, Destination, Hop, Service, ServiceKey
from lb.weights import Standing, standing

Target = tuple[ServiceKey, Address]
"""One real of one virtual."""

HopOf = Callable[[Address, str], Hop]
"""What is known of the way to an address by a forwarding method."""


Healths = Mapping[Target, Health]
UNKNOWN = Health()


@dataclass(frozen=True, slots=True)
class Override:
    """What an operator ordered by hand for one real, until undone.

    weight: replaces the file's, None leaves it. drained: no new connections whatever the weight.
    """

    weight: int | None = None
    drained: bool = False


Overrides = Mapping[Target, Override]


def service_key(virtual: Virtual) -> ServiceKey:
    """What a virtual is called by: its own address and port."""
    return ServiceKey(virtual.address, virtual.port, PROTOCOL_NUMBERS[virtual.protocol])


def _further_keys(virtual: Virtual) -> tuple[ServiceKey, ...]:
    """What else its packets are sent to."""
    return tuple(ServiceKey(address, port, PROTOCOL_NUMBERS[protocol]) for address, port, protocol in virtual.pairs[1:])


def share(target: Target, real: Real, overrides: Overrides, health: Health) -> int:
    """The weight of a real while it serves: the operator's, else its own answer's, else the file's."""
    by_hand = overrides.get(target, Override()).weight
    return next(weight for weight in (by_hand, health.weight, real.weight) if weight is not None)


def ordered_weight(target: Target, real: Real, overrides: Overrides, health: Health) -> int:
    """The weight that is wanted whatever the health's state: 0 while drained."""
    return 0 if overrides.get(target, Override()).drained else share(target, real, overrides, health)


def standings(cluster: Cluster, healths: Healths, overrides: Overrides, now_s: float) -> dict[ServiceKey, Standing]:
    """How the reals of each virtual stand. now_s: monotonic seconds."""
    return {service_key(virtual): _standing(virtual, healths, overrides, now_s) for virtual in cluster.virtuals}


def _standing(virtual: Virtual, healths: Healths, overrides: Overrides, now_s: float) -> Standing:
    targets = [(service_key(virtual), real.address) for real in virtual.reals]
    known = [healths.get(target, UNKNOWN) for target in targets]
    reals = zip(targets, virtual.reals, known, strict=True)
    return standing(virtual, known, [ordered_weight(t, real, overrides, health) for t, real, health in reals], now_s)


def desired(
    cluster: Cluster,
    healths: Healths,
    overrides: Overrides,
    hop_of: HopOf,
    stand: Mapping[ServiceKey, Standing],
) -> tuple[Service, ...]:
    """The services that the packet path should hold now, in the file's order.

    hop_of: what is known of the way to an address with a forwarding method. stand: what `standings` said of the same.
    """
    return tuple(_service(virtual, healths, overrides, hop_of, stand) for virtual in cluster.virtuals)


def _service(
    virtual: Virtual,
    healths: Healths,
    overrides: Overrides,
    hop_of: HopOf,
    stand: Mapping[ServiceKey, Standing],
) -> Service:
    key = service_key(virtual)

    def destination(real: Real, weight: int) -> Destination:
        target = (key, real.address)
        health = healths.get(target, UNKNOWN)
        whole = share(target, real, overrides, health)
        forward = virtual.forward_of(real)
        hop = hop_of(real.address, forward)
        return Destination(
            real.address,
            weight,
            hop.mac,
            whole,
            real.upper,
            real.lower,
            forward,
            hop.way,
            gone=health.state == "down" and not virtual.quiescent,
        )

    return Service(
        key,
        virtual.scheduler,
        tuple(map(destination, virtual.reals, stand[key].weights)),
        _fallback(virtual, hop_of),
        virtual.scheduler_flags,
        persistent_s=int(virtual.persistent),
        netmask=virtual.client_bits,
        expire_quiescent=virtual.expire_quiescent_template,
        one_packet=virtual.one_packet,
        expire_nodest=virtual.expire_nodest_conn,
        quiescent=virtual.quiescent,
        watched=virtual.check.passive > 0,
        also=_further_keys(virtual),
    )


def _fallback(virtual: Virtual, hop_of: HopOf) -> Destination | None:
    if virtual.fallback is None:
        return None
    address = virtual.fallback.address
    if address.is_loopback:
        return Destination(LOCAL if virtual.address.version == 4 else LOCAL6, 1)
    hop = hop_of(address, virtual.forward)
    return Destination(address, 1, hop.mac, forward=virtual.forward, way=hop.way)


def reached_by(cluster: Cluster, forward: str) -> frozenset[Address]:
    """The hosts that packets reach by this forwarding method."""
    return frozenset(host for v in cluster.virtuals for host, method in v.forwards if method == forward)


def tunnels(virtuals: Iterable[Virtual], local: Collection[Address]) -> tuple[tuple[int, int], ...]:
    """In which tunnels a host with these addresses gets packets of these: IP versions, of outer and inner packets."""
    pairs = {
        (host.version, virtual.address.version)
        for virtual in virtuals
        for host, forward in virtual.forwards
        if host in local and forward == "ipip"
    }
    return tuple(sorted(pairs))


def assign(
    known: Mapping[Target, Address], targets: Sequence[Target], networks: Mapping[int, IPv4Network | IPv6Network]
) -> dict[Target, Address]:
    """An address for each target, of the network of its virtual's family: the one it has, else one that nobody had."""
    kept = {target: known[target] for target in targets if target in known}
    taken = set(known.values())
    free = {
        family: (address for address in network.hosts() if address not in taken) for family, network in networks.items()
    }
    return {target: kept[target] if target in kept else next(free[target[0].address.version]) for target in targets}


def maintained(cluster: Cluster, files: Collection[str]) -> dict[Target, str]:
    """The reals that these names mean, each with one that does: ADDRESS, NAME, and either with :PORT of the virtual.

    files: in lower case.
    """
    if not files:
        return {}
    return {
        (service_key(virtual), real.address): name
        for virtual in cluster.virtuals
        for real in virtual.reals
        for host in (str(real.address), (real.name or "").lower())
        for name in (host, with_port(host, virtual.port))
        if name in files
    }


def find_reals(cluster: Cluster, words: str) -> tuple[Target, ...]:
    """The reals that an operator means by `VIRTUAL/REAL` or `REAL`; REAL is an address or a name of the file.

    Raises UsageError that lists the reals there are.
    """
    wanted_virtual, _, wanted_real = words.rpartition("/")
    found = tuple(
        (service_key(virtual), real.address)
        for virtual in cluster.virtuals
        if wanted_virtual in ("", virtual.name)
        for real in virtual.reals
        if wanted_real in (str(real.address), real.name)
    )
    if not found:
        known = ", ".join(f"{v.name}/{r.address}" for v in cluster.virtuals for r in v.reals) or "none"
        raise UsageError(f"{words!r} is no real of this cluster; there are: {known}")
    return found


def drain(overrides: Overrides, targets: tuple[Target, ...]) -> dict[Target, Override]:
    """No new connections to these."""
    return _changed(overrides, targets, lambda override: replace(override, drained=True))


def enable(overrides: Overrides, targets: tuple[Target, ...]) -> dict[Target, Override]:
    """Back to what the file says: neither drained nor weighted by hand."""
    return {target: override for target, override in overrides.items() if target not in targets}


def weigh(overrides: Overrides, targets: tuple[Target, ...], weight: int) -> dict[Target, Override]:
    """This weight instead of the file's."""
    return _changed(overrides, targets, lambda override: replace(override, weight=weight))


def _changed(
    overrides: Overrides, targets: tuple[Target, ...], change: Callable[[Override], Override]
) -> dict[Target, Override]:
    return {**overrides, **{target: change(overrides.get(target, Override())) for target in targets}}
