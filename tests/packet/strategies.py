"""Hypothesis: configurations, and the stories that a director may live through."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_network
from itertools import chain
from typing import Any

from hypothesis import strategies as st

from lb import abi, catalog
from lb.connections import Ours
from lb.limits import DenyList, Limits
from lb.reference.maps import address_of
from lb.schedule import LOCALITY_S, SCHEDULERS
from lb.service import LOCAL6, Destination, Service, ServiceKey, Way
from lb.tcp import TIMEOUTS_S
from tests.packet import orders as told
from tests.packet import steps
from tests.packet.frames import ICMP, TCP, UDP, Shape
from tests.packet.frames6 import DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ICMPV6, ROUTING
from tests.packet.pair import MAC, VIRTUAL_MAC
from tests.packet.world import VIRTUAL, VIRTUAL6, limited, local, mac_of, real, real6

STORY_PARTS = 8
"""A story is so many lists of steps: Hypothesis keeps a single one short."""

TWIN6 = VIRTUAL6 + (1 << 80)
"""Differs from the first IPv6 virtual address in its high half only."""

Choice = st.SearchStrategy[steps.Step]


def either(*choices: Choice) -> Choice:
    """One of these, each as likely: `st.one_of` would take the choices within them for its own."""
    return st.integers(0, len(choices) - 1).flatmap(choices.__getitem__)


# -------------------------------------------------------------------- configurations

weights = st.sampled_from((1, 1, 1, 2, 3, 10, 0, 65_535))
shares = st.sampled_from((None, None, 1, 5))
macs = st.one_of(st.just("own"), st.just("own"), st.just(None), st.integers(1, 9).map(mac_of))


limits = st.sampled_from(((0, 0), (0, 0), (0, 0), (1, 0), (2, 1), (4, 0), (5, 2), (9, 9)))
"""Upper and lower."""


def _real(
    number: int,
    weight: int,
    mac: bytes | str | None,
    share: int | None,
    limits: tuple[int, int] = (0, 0),
    gone: bool = False,
) -> Destination:
    plain = real(number, weight, share=share)
    return Destination(plain.address, weight, plain.mac if isinstance(mac, str) else mac, share, *limits, gone=gone)


def _tunnelled(
    number: int, mtu: int, weight: int, mac: bytes | str | None, interface: int = 0, wide: bool = False
) -> Destination:
    """Of the same addresses as the others, so that a real may move behind a router and back. wide: of IPv6."""
    made = replace(_routed(number, mtu, weight, mac, interface), forward="ipip")
    if not wide:
        return made
    way = made.way and replace(made.way, source=IPv6Address("2001:db8:5::1"))
    return replace(made, address=real6(number).address, way=way)


def _routed(number: int, mtu: int, weight: int, mac: bytes | str | None, interface: int) -> Destination:
    """By an interface, which means something to a director that has several."""
    plain = real(number, weight)
    known = plain.mac if isinstance(mac, str) else mac
    way = Way(IPv4Address("192.0.2.1"), mtu, interface, mac_of(16 + interface)) if known else None
    return replace(plain, mac=known, way=way)


mtus = st.sampled_from((1500, 1500, 1320, 1300, 80, 100, 68, 0))
"""Of ways: most packets here are of 47 bytes and more, without the outer header. 0: nobody said."""
interfaces = st.sampled_from((0, 1, 7, 7))
"""By which ways leave: 1 is that by which all packets come in here."""
tunnelled = st.builds(_tunnelled, st.integers(1, 6), mtus, weights, macs, interfaces, st.booleans())
routed = st.builds(_routed, st.integers(1, 6), mtus, weights, macs, interfaces)
reals = st.builds(_real, st.integers(1, 4), weights, macs, shares, limits, st.sampled_from((False, False, True)))
unlimited = st.builds(_real, st.integers(1, 4), weights, macs, shares)
destinations = st.one_of(reals, reals, reals, unlimited, unlimited, routed, tunnelled, tunnelled, st.builds(local))
fallbacks = st.one_of(st.none(), st.builds(local), st.builds(_real, st.integers(5, 9), st.just(1), macs, st.none()))
keys = st.builds(
    ServiceKey,
    st.sampled_from((VIRTUAL, VIRTUAL, VIRTUAL + 1, VIRTUAL + 256, VIRTUAL6, VIRTUAL6, VIRTUAL6 + 1, TWIN6)),
    st.sampled_from((80, 443, 53, 0, 65_535)),
    st.sampled_from((TCP, TCP, UDP)),
)

schedulers = st.sampled_from(tuple(SCHEDULERS))
flag_sets = st.sets(st.sampled_from(tuple(catalog.FLAGS))).map(tuple)
"""Also another scheduler's, which mean nothing."""


def _service(
    key: ServiceKey,
    scheduler: str,
    reals: tuple[Destination, ...],
    spare: Destination | None,
    flags: tuple[str, ...],
) -> Service:
    destinations = tuple(told.of_family(key, real) for real in reals)
    return Service(key, scheduler, destinations, spare and told.of_family(key, spare), flags)


plain_services = st.builds(
    _service,
    keys,
    schedulers,
    st.lists(destinations, max_size=6, unique_by=lambda real: real.address).map(tuple),
    fallbacks,
    flag_sets,
)


def _with_options(service: Service, eighths: int, **options: Any) -> Service:
    """eighths: of the address's length, its netmask."""
    made = replace(service, netmask=service.key.address.max_prefixlen * eighths // 8, **options)
    reals = (replace(real, gone=real.gone and not made.quiescent) for real in made.destinations)
    return replace(made, destinations=tuple(reals))


services = st.builds(
    _with_options,
    plain_services,
    st.sampled_from((8, 8, 6, 1)),
    persistent_s=st.sampled_from((0, 0, 0, 1, 20, 300)),
    expire_quiescent=st.booleans(),
    one_packet=st.sampled_from((False, False, True)),
    expire_nodest=st.booleans(),
    quiescent=st.booleans(),
    watched=st.sampled_from((False, False, False, True)),
)
further = st.one_of(st.just(()), st.lists(keys, max_size=3).map(tuple))
grouped = st.builds(lambda service, also: replace(service, also=also), services, further)
configurations = st.lists(grouped, max_size=7, unique_by=lambda service: service.key).map(tuple).map(told.disjoint)

# -------------------------------------------------------------------- frames

LIVES = ((2, 16, 24, 17, 16), (2, 16, 20, 2), (2, 16, 17, 2, 16), (2, 2, 16), (16, 24, 17), (2, 16))
"""Flags, one segment after the other."""

ORDERS = ((0, 1, 2), (2, 1, 0), (1, 0, 2), (0, 1, 2, 3), (3, 0, 1))
"""Of fragments."""

bytes_ = st.integers(0, 255)
some_flags = st.sampled_from((0x02, 0x02, 0x10, 0x10, 0x18, 0x11, 0x04, 0x14, 0x12, 0x06, 0x01, 0x00, 0xC2))
flags = st.one_of(some_flags, some_flags, bytes_)
numbers = st.sampled_from((0, 0, 0, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9))
"""Of services, reals, connections: mostly the same few."""
places = st.one_of(numbers, st.integers(10, 20), st.integers(10, 62))
"""Of services in START, too, and with numbers of 21 and more, of what else belongs to a group."""
targets = st.builds(
    steps.Target,
    service=places,
    client=st.integers(0, len(steps.CLIENTS) - 1),
    client_port=st.integers(0, len(steps.CLIENT_PORTS) - 1),
    port=st.one_of(st.none(), st.none(), st.none(), st.integers(0, len(steps.ODD_PORTS) - 1)),
)
usual = st.builds(steps.Target, service=places, client=st.integers(0, 1), client_port=st.integers(0, 1))
elsewhere = st.builds(
    steps.Target,
    service=st.integers(0, 6),
    stranger=st.one_of(st.none(), st.none(), st.integers(0, len(steps.STRANGERS) - 1)),
    protocol=st.sampled_from((None, TCP, UDP, UDP, ICMP, ICMPV6, 132)),
    mac=st.sampled_from((0, 0, 0, *range(1, len(steps.MACS)))),
)
shapes = st.builds(Shape, flags=flags)
extensions = st.tuples(
    st.sampled_from((HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS, DESTINATION_OPTIONS)),
    st.sampled_from((0, 0, 1, 2, 5)),
    st.sampled_from((0, 0, 0, 0, 1, 2, 6, 8)),
)
large = st.builds(Shape, flags=flags, payload=st.sampled_from((1_220, 1_221, 1_240, 1_241, 1_400, 1_401, 1_420, 1_421)))
"""Around what IPv6 always carries, and around what goes through tunnels over 1,500 bytes."""
odd_shapes = st.builds(
    Shape,
    extensions=st.one_of(st.just([]), st.lists(extensions, max_size=3), st.lists(extensions, max_size=8)).map(tuple),
    flags=flags,
    ip_words=st.integers(0, 10),
    tcp_words=st.integers(0, 10),
    fragment=st.sampled_from((0, 0, 0, 0, 0, 0, 0x4000, 0x8000, 0x2000, 0x0001, 0x1FFF)),
    payload=st.integers(0, 40),
    padding=st.integers(0, 20),
)
edits = st.lists(st.tuples(st.integers(0, 80), bytes_), max_size=4).map(tuple)
cuts = st.one_of(st.just(0), st.integers(0, 60))
tags = st.one_of(st.just(0), st.integers(0, len(steps.TAGS) - 1))
odd_packets = st.builds(steps.Send, targets, odd_shapes, edits, cuts, tags)
no_edits = st.just(())
kinds = st.one_of(st.sampled_from((3, 3, 4, 11, 12, 0, 5, 8, 13, 1, 2)), bytes_)
codes, routers, quoted = st.sampled_from((4, 0, 1, 3)), st.integers(0, len(steps.ROUTERS) - 1), st.integers(4, 40)
errors = st.builds(
    steps.Error, usual, shapes, no_edits, st.just(0), tags, st.just(3), codes, routers, st.sampled_from((8, 20, 40))
)
odd_errors = st.builds(steps.Error, targets, odd_shapes, edits, cuts, tags, kinds, codes, routers, quoted)
fragment_shapes = st.builds(
    Shape,
    flags=flags,
    ip_words=st.sampled_from((0, 0, 1)),
    id=st.integers(1, 3),
    extensions=st.one_of(st.just([]), st.just([]), st.lists(extensions, max_size=2)).map(tuple),
)
pieces = st.builds(
    steps.Pieces,
    st.one_of(usual, usual, targets, elsewhere),
    st.one_of(st.sampled_from(ORDERS), st.lists(st.integers(0, 3), max_size=6).map(tuple)),
    fragment_shapes,
    st.integers(1, 4),
    st.sampled_from((1, 3, 3, 3, 260)),
    tags,
    st.sampled_from((0, 0, 0, 1, 2)),
)
sent = st.one_of(
    st.builds(steps.Send, usual, shapes),
    st.builds(steps.Send, targets, odd_shapes),
    odd_packets,
    st.builds(steps.Send, usual, shapes, no_edits, st.just(0), tags),
    st.builds(steps.Send, usual, large, no_edits, st.just(0), tags),
    errors,
    errors,
    pieces,
    pieces,
    odd_errors,
    st.builds(steps.Echo, st.one_of(usual, elsewhere), odd_shapes, edits, cuts, tags, kinds),
    st.builds(steps.Send, elsewhere, shapes),
    st.builds(steps.Send, elsewhere, odd_shapes),
    st.builds(steps.Life, usual, st.lists(flags, max_size=8).map(tuple)),
    st.builds(steps.Life, usual, st.sampled_from(LIVES)),
    st.builds(steps.Life, usual, st.sampled_from(LIVES)),
    st.builds(steps.TooMany, usual),
    st.builds(steps.Crowd, targets, st.integers(1, 40), st.sampled_from((1, 256, 0x01010101)), some_flags),
    st.builds(steps.EveryFlags, usual, st.lists(some_flags, max_size=3).map(tuple), st.integers(0, 3)),
    st.builds(steps.Variations, st.builds(steps.Send, targets, odd_shapes), st.just("cuts")),
    st.builds(steps.Variations, either(errors, st.builds(steps.Echo, usual)), st.sampled_from(("cuts", "flips"))),
    st.builds(steps.Variations, st.builds(steps.Send, usual, shapes, no_edits, st.just(0), tags), st.just("cuts")),
    st.builds(steps.Variations, st.builds(steps.Send, targets, odd_shapes), st.just("lengths")),
    st.builds(
        steps.Variations,
        st.builds(steps.Send, usual, odd_shapes),
        st.just("flips"),
        st.one_of(st.sampled_from((0x01, 0x80, 0xFF)), bytes_),
    ),
    st.builds(steps.Ask, targets, st.sampled_from((1, 1, 1, 2, 0, 256)), edits, st.sampled_from((0, 0, 18, 19, 40))),
    st.builds(steps.Ask, elsewhere),
    st.builds(steps.Ask, usual, st.just(1), no_edits, st.just(0), tags),
    st.builds(
        steps.Claim,
        usual,
        st.one_of(usual, elsewhere),
        st.integers(0, len(steps.MACS) - 1),
        st.sampled_from((1, 1, 2)),
        edits,
    ),
    st.builds(steps.OverIpv6, usual),
    st.builds(steps.Noise, st.binary(max_size=60), st.sampled_from((0x0800, 0x0806, 0x86DD))),
)

# -------------------------------------------------------------------- time and user space

edges_t = sorted({abi.ticks(s) + d for s in TIMEOUTS_S.values() for d in (-1, 0, 1)})
days_t = [abi.ticks(LOCALITY_S) + d for d in (0, 1)]
refreshes_t = [abi.ticks(abi.SYNC_REFRESH_S) + d for d in (-1, 0, 1)]
time = either(
    st.builds(
        steps.Elapse,
        st.one_of(st.integers(0, 3), st.sampled_from(refreshes_t), st.sampled_from(edges_t), st.sampled_from(days_t)),
        st.sampled_from((0, 0, 0, 0, 1, 500_000_000)),
        st.sampled_from((0, 4_000_000, 1 << abi.TICK_SHIFT)),
    ),
    st.builds(steps.ToTheEnd, st.sampled_from((-1, -1, 0, 1, 2, 5)), st.integers(-1, 1)),
    st.builds(steps.ToTheLeasesEnd, st.integers(-1, 1), st.booleans()),
)
reports = st.builds(
    told.Report,
    st.one_of(usual, targets),
    st.integers(0, 7),
    st.one_of(st.none(), st.none(), st.just(12), st.integers(0, 12), bytes_),
    st.one_of(st.integers(0, 5), st.integers(0, 5), st.sampled_from((10, 60, 120, 300, 900, 901, 65_535))),
)
refers = st.builds(
    told.Refer,
    st.integers(0, len(steps.DIRECTORS) - 1),
    st.sampled_from((60.0, 60.0, 1000.0, 3.0, 0)),
    st.sampled_from((1000.0, 1000.0, 3.0, None, None)),
)
orders = st.one_of(
    st.builds(told.Lease, st.sampled_from((0, 0.000000001, 3.0, 60.0, 1000.0))),
    refers,
    refers,
    st.builds(told.Sweep, st.integers(1, 3)),
    st.builds(told.Set, places, destinations),
    st.builds(told.Set, places, destinations),
    st.builds(told.Remove, places, numbers),
    st.builds(told.Remove, places, numbers),
    st.builds(told.Fallback, places, fallbacks),
    st.builds(told.Install, st.lists(reports, max_size=8).map(tuple), st.sampled_from(Ours)),
    st.builds(told.Install, st.lists(reports, max_size=8).map(tuple), st.sampled_from(Ours)),
    st.builds(told.Lose, numbers, st.booleans()),
    st.builds(told.Flap, places, numbers, st.lists(st.integers(0, 2), min_size=1, max_size=4).map(tuple)),
)
prefixes = st.builds(
    lambda address, eighths: ip_network((address, address.max_prefixlen * eighths // 8), strict=False),
    st.sampled_from([address_of(number) for number in (*steps.CLIENTS, *steps.CLIENTS6)]),
    st.integers(0, 8),
)
deny_lists = st.builds(
    DenyList, st.sampled_from(("client", "some")), st.lists(prefixes, max_size=3, unique=True).map(tuple)
)
some_limits = st.builds(
    Limits,
    st.sampled_from((1, 1_000_000, 1_500_000_000)),
    st.sampled_from((0, 1, 2, 30)),
    st.lists(deny_lists, max_size=2, unique_by=lambda deny: deny.name).map(tuple),
)
swaps = st.one_of(
    st.builds(told.Reschedule, places, schedulers, flag_sets),
    st.builds(told.Restart),
    st.builds(told.Limit, some_limits),
    st.builds(told.Place, st.sampled_from((b"", VIRTUAL_MAC))),
    st.builds(told.Group, places, further),
    st.builds(
        told.Swap,
        configurations,
        st.sampled_from((None, MAC, bytes.fromhex("020000000007"), bytes.fromhex("02ff00ff00ff"))),
        st.sampled_from(((), (("established", 10.0),), (("fin", 1.0), ("udp", 2.0)))),
    ),
)
"""These compile: a second or more each."""


def _through(events: Choice, most: int) -> Choice:
    first, then = st.sampled_from(LIVES), st.lists(flags, min_size=1, max_size=3).map(tuple)
    return st.builds(told.Through, usual, first, st.lists(events, min_size=1, max_size=most).map(tuple), then)


_clients = st.builds(
    steps.Target, st.sampled_from((8, 29, 50, 11, 32, 53, 12, 13, 15)), st.integers(0, 1), st.integers(0, 1)
)
_sweeps = either(
    st.builds(steps.Elapse, st.sampled_from((1, 4, 5, 18, 19, 20, 55, 56, 57))), st.builds(told.Sweep), orders
)
affinity = st.builds(
    told.Through,
    _clients,
    st.sampled_from(((2,), (2, 16), (2, 16, 17))),
    st.lists(_sweeps, min_size=2, max_size=6).map(tuple),
    st.just((2, 16)),
)
"""A client of a persistent service, while time goes by and what ran out is swept away, or is not."""


def _departures(service: int) -> Choice:
    """Reals of a service go down, come back and are removed while one of its connections lives."""
    events = either(
        st.builds(told.Lose, st.just(service), st.just(True)),
        st.builds(told.Set, st.just(service), reals),
        st.builds(told.Remove, st.just(service), numbers),
    )
    client = st.builds(steps.Target, st.just(service), st.integers(0, 1), st.integers(0, 1))
    then = st.lists(st.sampled_from((2, 16, 16, 17)), min_size=1, max_size=3).map(tuple)
    lives = st.sampled_from(((2,), (2, 16), (2, 16, 17)))
    return st.builds(told.Through, client, lives, st.lists(events, min_size=1, max_size=3).map(tuple), then)


departures = either(_departures(0), _departures(14), _departures(12))


def _lose_neighbours(target: steps.Target, first: tuple[int, ...]) -> steps.Step:
    return told.Through(target, first, (told.Lose(target.service),), (16,))


lonely = st.builds(_lose_neighbours, usual, st.sampled_from(LIVES))
some_swap = st.integers(0, 5).flatmap(lambda number: st.just([]) if number else st.tuples(_through(swaps, 1)).map(list))
_lives = either(_through(either(orders, time), 3), _through(refers, 1), lonely, affinity, departures)
_gentle = either(sent, sent, sent, time, orders, _lives)
stories = st.tuples(
    some_swap,
    *[st.lists(_gentle)] * (STORY_PARTS // 2),
    some_swap,
    *[st.lists(_gentle)] * (STORY_PARTS - STORY_PARTS // 2),
).map(lambda parts: list(chain.from_iterable(parts)))
"""Lists of steps."""

START = (
    Service(ServiceKey(VIRTUAL, 80, TCP), "rr", (real(1), real(2), _tunnelled(3, 80, 1, "own", 7)), quiescent=False),
    Service(ServiceKey(VIRTUAL6, 80, TCP), "rr", (real6(1), real6(2), _tunnelled(4, 1300, 1, "own", 0, True))),
    Service(ServiceKey(VIRTUAL, 53, UDP), "wrr", (real(1, 3), real(2), real(3, 2))),
    Service(ServiceKey(VIRTUAL, 443, TCP), "sh", (real(1), real(2, 2), real(3)), local(), ("sh-fallback",)),
    Service(
        ServiceKey(VIRTUAL + 1, 0, TCP),
        "mh",
        (real(1), _tunnelled(5, 80, 1, "own"), real(6, 2), _tunnelled(4, 100, 1, "own", 0, True)),
        None,
        ("mh-fallback", "mh-port"),
        watched=True,
    ),
    Service(ServiceKey(VIRTUAL + 1, 80, TCP), "wrr", (real(1), local())),
    Service(ServiceKey(VIRTUAL + 256, 0, UDP), "mh", (), real(9)),
    Service(ServiceKey(VIRTUAL6, 53, UDP), "mh", (real6(1), real6(5), real6(6, 2)), Destination(LOCAL6, 1)),
    Service(
        ServiceKey(TWIN6, 0, TCP),
        "sh",
        (real6(1), real6(2, 2), _tunnelled(3, 1500, 1, "own")),
        persistent_s=20,
        netmask=64,
        also=(ServiceKey(VIRTUAL6 + 1, 443, TCP), ServiceKey(TWIN6, 53, UDP)),
    ),
    Service(ServiceKey(VIRTUAL + 256, 65_535, UDP), "rr", ()),
    Service(
        ServiceKey(VIRTUAL + 2, 80, TCP),
        "wlc",
        (limited(1, 4, 2), real(2, 3), limited(3, 1, 0)),
        also=(ServiceKey(VIRTUAL + 2, 443, TCP),),
    ),
    Service(
        ServiceKey(VIRTUAL + 3, 0, TCP),
        "rr",
        (real(1), real(2), real(3)),
        local(),
        (),
        20,
        24,
        also=(ServiceKey(VIRTUAL + 4, 80, TCP), ServiceKey(VIRTUAL + 4, 0, UDP)),
    ),
    Service(
        ServiceKey(VIRTUAL + 3, 53, UDP),
        "rr",
        (real(1), real(2), limited(3, 2, 1)),
        None,
        (),
        300,
        32,
        True,
        False,
        True,
    ),
    Service(ServiceKey(VIRTUAL + 3, 54, UDP), "rr", (real(1), real(2)), one_packet=True),
    Service(ServiceKey(VIRTUAL + 3, 443, TCP), "mh", (real(1), real(2)), expire_nodest=True, quiescent=False),
    Service(ServiceKey(VIRTUAL + 3, 55, UDP), "wlc", (real(1), real(2)), None, (), 5, 1, one_packet=True),
    *(
        Service(ServiceKey(VIRTUAL + 2, 1000 + number, TCP), name, (real(1, 3), real(2), limited(3, 2, 1), real(4, 2)))
        for number, name in enumerate(("wrr", "nq", "dh", "lblcr", "ovf"))
    ),
)
"""What every story starts with. Its services may become any others; only their schedulers take another program."""
