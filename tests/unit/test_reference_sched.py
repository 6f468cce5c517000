"""The schedulers' specification (lb.reference.sched, candidate, locality, load), by hand."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from lb.reference import control, sched
from lb.reference.frame import Packet
from lb.reference.load import mark_full
from lb.reference.locality import LOCALITY_T
from lb.reference.maps import Configuration, ConnectionKey, Load, Maps
from lb.reference.sched import schedule_connection
from lb.schedule import SCHEDULERS
from lb.service import Destination, Service, ServiceKey

KEY = ServiceKey(IPv4Address("192.0.2.10"), 80, 6)
MAC = bytes.fromhex("020000000101")
NOW_T = 1000


class Busy:
    """A service whose reals have (weight, active, inactive); those at the places in `full` are."""

    def __init__(self, name: str, *rows: tuple[int, int, int], full: tuple[int, ...] = ()) -> None:
        reals = tuple(
            Destination(IPv4Address("10.0.0.1") + n, weight, MAC, upper=10**6) for n, (weight, _, _) in enumerate(rows)
        )
        service = Service(KEY, name, reals, None, (f"{name}-fallback",))
        self.configuration, self.maps = Configuration((service,), MAC), Maps()
        control.apply(self.maps, self.configuration)
        self.loads = [real.load for real in self.maps.reals.values()]
        for n, (load, (_, active, inactive)) in enumerate(zip(self.loads, rows, strict=True)):
            load.active, load.inactive, load.full = active, inactive, n in full

    def next(self, after_t: int = 0, client: int = 0x0A000001) -> int | None:
        """The place of the real that gets the next connection."""
        packet = Packet(ConnectionKey(client, int(KEY.address), 1000, KEY.port, KEY.protocol), 2, 40)
        chosen = schedule_connection(self.maps, self.configuration, 0, packet, NOW_T + after_t)
        return None if chosen is None else list(self.maps.reals).index(chosen)

    def members(self) -> set[int]:
        """Of the address's set."""
        (locality,) = self.maps.schedules[0].localities.values()
        return locality.members


def test_there_is_one_for_each_scheduler() -> None:
    assert tuple(sched.SCHEDULERS) == tuple(SCHEDULERS)


@pytest.mark.parametrize(
    ("name", "rows", "chosen"),
    [
        ("lc", [(1, 3, 0), (9, 2, 255), (1, 2, 256)], 1),
        ("lc", [(1, 1, 0), (1, 0, 256)], 0),
        ("lc", [(1, 1, 0), (1, 0, 255)], 1),
        ("wlc", [(1, 10, 0), (3, 29, 0), (2, 21, 0)], 1),
        ("wlc", [(2, 4, 0), (1, 2, 0)], 0),
        ("wlc", [(0, 0, 0), (1, 9, 9)], 1),
        ("sed", [(1, 0, 0), (3, 1, 0)], 1),
        ("sed", [(1, 0, 0), (3, 2, 0)], 0),
        ("sed", [(1, 0, 9), (2, 0, 0)], 1),
        ("nq", [(100, 1, 0), (1, 0, 0), (50, 0, 0)], 1),
        ("nq", [(1, 1, 0), (3, 2, 0)], 1),
        ("fo", [(1, 0, 0), (5, 900, 0), (5, 0, 0)], 1),
        ("ovf", [(5, 5, 0), (9, 10, 0), (4, 0, 0)], 0),
        ("ovf", [(5, 6, 0), (9, 10, 0)], None),
    ],
)
def test_formulas(name: str, rows: list[tuple[int, int, int]], chosen: int | None) -> None:
    assert Busy(name, *rows).next() == chosen


@pytest.mark.parametrize("name", SCHEDULERS)
def test_nobody_goes_to_a_full_real(name: str) -> None:
    busy = Busy(name, (9, 0, 0), (1, 0, 0), full=(0,))
    if name == "dh":  # has no fallback, and one address
        assert busy.next() in (None, 1)
    else:
        assert {busy.next(client=n * 7919) for n in range(50)} == {1}
    busy.loads[1].full = True
    assert busy.next() is None


def test_lblc_stays_while_nobody_is_less_than_half_used() -> None:
    busy = Busy("lblc", (4, 0, 0), (4, 0, 0))
    assert busy.next() == 0
    busy.loads[0].active, busy.loads[1].active = 5, 2
    assert busy.next(1) == 0, "overloaded, but the other one has half of its weight"
    busy.loads[1].active = 1
    assert busy.next(2) == 1
    busy.loads[1].active = 4
    assert busy.next(3) == 1, "it stays where it is now"
    busy.loads[0].active = 0
    assert busy.next(3 + LOCALITY_T) == 1
    assert busy.next(4 + 2 * LOCALITY_T) == 0, "forgotten after a day"


def test_lblcr_grows_and_shrinks() -> None:
    busy = Busy("lblcr", (4, 0, 0), (4, 0, 0), (4, 0, 0))
    assert busy.next() == 0
    busy.loads[0].active = 5
    assert busy.next(1) == 1
    assert busy.members() == {0, 1}
    busy.loads[1].active = 1
    assert busy.next(2) == 1, "the least loaded of the set"
    assert busy.next(1 + LOCALITY_T) == 1
    assert busy.members() == {0, 1}
    assert busy.next(2 + LOCALITY_T) == 1
    assert busy.members() == {1}


@pytest.mark.parametrize(
    ("upper", "lower", "totals", "full"),
    [
        (4, 2, [3, 4, 3, 2, 1], [False, True, True, True, False]),
        (5, 4, [5, 4, 3], [True, True, False]),
        (0, 0, [10**6], [False]),
    ],
)
def test_thresholds(upper: int, lower: int, totals: list[int], full: list[bool]) -> None:
    load = Load(upper=upper, lower=lower)
    seen = []
    for total in totals:
        load.active, load.inactive = total // 2, total - total // 2
        mark_full(load)
        seen.append(load.full)
    assert seen == full


@pytest.mark.parametrize(("upper", "lower", "in_force"), [(8, 0, 6), (5, 0, 4), (1, 0, 1), (8, 2, 2)])
def test_a_lower_threshold_of_0_is_three_quarters_of_the_upper(upper: int, lower: int, in_force: int) -> None:
    maps = Maps()
    real = Destination(IPv4Address("10.0.0.1"), 1, MAC, None, upper, lower)
    control.apply(maps, Configuration((Service(KEY, "rr", (real,)),), MAC))
    assert [(real.load.upper, real.load.lower) for real in maps.reals.values()] == [(upper, in_force)]
