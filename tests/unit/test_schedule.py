"""lb.schedule: tables against IPVS's own loops written out plainly, and what each scheduler promises."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv4Address
from itertools import islice
from math import gcd

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb import catalog
from lb.reference.sched import hash_mh, hash_sh
from lb.schedule import NOBODY, SCHEDULERS, plan_of
from lb.schedule.maglev import MH_SLOTS, maglev
from lb.schedule.tables import WRR_SLOTS, dh_table, mh_table, rr_table, sh_table, wrr_table
from lb.service import LOCAL, Destination, Service, ServiceKey

KEY = ServiceKey(IPv4Address("192.0.2.10"), 80, 6)
MAC = b"\2\0\0\0\0\1"

weights = st.integers(min_value=0, max_value=12)
destination_lists = st.lists(st.tuples(weights, st.booleans(), st.none() | weights), min_size=1, max_size=12).map(
    lambda rows: tuple(
        Destination(IPv4Address("10.0.0.1") + n, weight, MAC if resolved else None, share)
        for n, (weight, resolved, share) in enumerate(rows)
    )
)


def reals(*weights: int) -> tuple[Destination, ...]:
    """One a weight, all resolved."""
    return tuple(Destination(IPv4Address("10.0.0.1") + n, weight, MAC) for n, weight in enumerate(weights))


def down(destinations: tuple[Destination, ...], *which: int) -> tuple[Destination, ...]:
    """These at weight 0, their share kept."""
    return tuple(
        Destination(d.address, 0 if n in which else d.weight, d.mac, d.weight) for n, d in enumerate(destinations)
    )


def test_every_scheduler_of_the_catalogue_is_here() -> None:
    assert tuple(SCHEDULERS) == catalog.available(catalog.SCHEDULERS)


@pytest.mark.parametrize("name", SCHEDULERS)
@given(destinations=destination_lists)
def test_tables_hold_all_usable_destinations_and_no_others(name: str, destinations: tuple[Destination, ...]) -> None:
    table = SCHEDULERS[name].build(destinations, True)
    usable = {n for n, d in enumerate(destinations) if d.usable}
    assert table.dtype == np.uint32
    assert set(table.tolist()) <= usable | ({NOBODY} if name == "dh" else set())
    if name in ("rr", "wrr"):
        assert set(table.tolist()) == usable


def test_rr() -> None:
    assert rr_table(reals(1, 0, 5)).tolist() == [0, 2]


def ipvs_wrr(weights: list[int]) -> Iterator[int]:
    """IPVS's loop, step by step: a mark that goes down by the common divisor, a walk through the list for each."""
    divisor = gcd(*weights)
    top = max(weights) - (divisor - 1)
    mark = top
    while True:
        for position, weight in enumerate(weights):
            if weight >= mark:
                yield position
        mark -= divisor
        if mark <= 0:
            mark = top


@given(st.lists(st.integers(min_value=1, max_value=40), min_size=1, max_size=8))
def test_wrr_is_ipvs_sequence(weights: list[int]) -> None:
    table = wrr_table(reals(*weights)).tolist()
    assert len(table) == sum(weights) // gcd(*weights)
    assert table * 2 == list(islice(ipvs_wrr(weights), 2 * len(table)))


def test_wrr_in_bursts_by_weight() -> None:
    assert wrr_table(reals(3, 2, 1)).tolist() == [0, 0, 1, 0, 1, 2]
    assert wrr_table(reals(4, 2)).tolist() == [0, 0, 1]


def test_wrr_leaves_drained_ones_out_of_the_divisor() -> None:
    assert wrr_table(reals(4, 0, 2)).tolist() == [0, 0, 2]


def test_wrr_scales_a_long_turn_down() -> None:
    table = wrr_table(reals(65_535, 65_534, 1))
    counts = Counter(table.tolist())
    assert len(table) <= WRR_SLOTS + 3
    assert counts[2] == 1
    assert abs(counts[0] / counts[1] - 65_535 / 65_534) < 1e-3


def ipvs_sh(destinations: tuple[Destination, ...], client: int) -> int | None:
    """IPVS's buckets, hash and sh-fallback, step by step."""
    buckets: list[int] = []
    position = count = 0
    while len(buckets) < 256:
        buckets.append(position)
        share = destinations[position].share
        count += 1
        if count >= (destinations[position].weight if share is None else share):
            position, count = (position + 1) % len(destinations), 0

    def hash_key(offset: int) -> int:
        return (offset + ((client * 0x61C88647 & 0xFFFFFFFF) >> 24)) & 255

    first = hash_key(0)
    if destinations[buckets[first]].usable:
        return buckets[first]
    for offset in range(256):
        candidate = buckets[hash_key((offset + first) % 256)]
        if destinations[candidate].usable:
            return candidate
    return None


@given(destination_lists, st.lists(st.integers(min_value=0, max_value=2**32 - 1), min_size=1, max_size=20))
def test_sh_is_ipvs_with_fallback(destinations: tuple[Destination, ...], clients: list[int]) -> None:
    table = sh_table(destinations)
    for client in clients:
        ours = int(table[hash_sh(client) % len(table)]) if len(table) else None
        assert ours == ipvs_sh(destinations, client)


def test_mh_is_the_same_on_every_node_and_in_every_run() -> None:
    """A change here moves clients between directors of two versions."""
    digest = hashlib.sha256(mh_table(reals(1, 2, 3)).tobytes()).hexdigest()[:16]
    assert digest == "8ab793d053c0dcf8"


@pytest.mark.parametrize("count", [2, 3, 10, 100])
def test_mh_is_even(count: int) -> None:
    counts = Counter(mh_table(reals(*[1] * count)).tolist())
    assert max(counts.values()) - min(counts.values()) <= 1


def test_mh_honours_weights() -> None:
    counts = Counter(mh_table(reals(1, 10, 5)).tolist())
    assert abs(counts[1] - 10 * MH_SLOTS / 16) < 1
    assert abs(counts[2] - 5 * MH_SLOTS / 16) < 1


@given(st.lists(st.integers(min_value=1, max_value=1000), min_size=1, max_size=60))
def test_mh_is_exact_to_within_a_slot(weights: list[int]) -> None:
    counts, total = Counter(mh_table(reals(*weights)).tolist()), sum(weights)
    exact = [MH_SLOTS * weight / total for weight in weights]
    assert sum(counts.values()) == MH_SLOTS
    assert all(counts[n] >= 1 for n in range(len(weights)))
    if min(exact) >= 1:
        assert all(abs(counts[n] - share) < 1 for n, share in enumerate(exact))


@pytest.mark.parametrize("weights", [(10, 1, 1, 5, 3), tuple(range(1, 21)), (100, 1), (7,) * 50])
def test_mh_moves_hardly_more_than_it_must_when_a_weighted_real_leaves(weights: tuple[int, ...]) -> None:
    names = tuple(bytes((10, 0, 0, n)) for n in range(len(weights)))
    before, after = maglev(names, weights), maglev(names[:-1], weights[:-1])
    others = before != len(weights) - 1
    assert (before[others] != after[others]).mean() < 0.15


@pytest.mark.parametrize(("before", "after"), [(10, 11), (1, 2), (5, 4)])
def test_mh_moves_few_when_a_weight_changes(before: int, after: int) -> None:
    names = tuple(bytes((10, 0, 0, n)) for n in range(10))
    old, new = (maglev(names, (first, *[5] * 9)) for first in (before, after))
    must = abs((old == 0).sum() - (new == 0).sum())
    assert (old != new).sum() < must + 0.15 * MH_SLOTS


def test_mh_moves_nobody_else_while_a_real_is_down() -> None:
    well = reals(2, 1, 3, 1)
    before, during = mh_table(well), mh_table(down(well, 2))
    others = before != 2
    assert (during[others] == before[others]).all()
    assert set(during[~others].tolist()) == {0, 1, 3}
    assert mh_table(well).tolist() == before.tolist()


def test_mh_gives_the_slots_of_a_real_that_is_down_to_the_next() -> None:
    well = reals(1, 1, 1)
    before, during = mh_table(well).tolist(), mh_table(down(well, 0)).tolist()
    for slot, owner in enumerate(before):
        following = (before[(slot + step) % MH_SLOTS] for step in range(1, MH_SLOTS))
        expected = owner if owner else next(o for o in following if o)
        assert during[slot] == expected


def test_mh_moves_few_when_a_real_is_removed() -> None:
    names = tuple(bytes((10, 0, 0, n)) for n in range(20))
    before, after = maglev(names, (1,) * 20), maglev(names[:-1], (1,) * 19)
    stayed = (before == after) | (before == 19)
    assert stayed.mean() > 0.85


def test_mh_hashes_clients_evenly() -> None:
    table = mh_table(reals(1, 1, 1, 1))
    counts = Counter(int(table[hash_mh(0x0A000000 + n) % len(table)]) for n in range(20_000))
    assert all(abs(count - 5000) < 400 for count in counts.values())


def test_mh_with_weights_beyond_the_table() -> None:
    counts = Counter(mh_table(reals(65_535, 1)).tolist())
    assert counts[1] >= 1
    assert counts[0] > 4000


FALLBACK = Destination(LOCAL, 1)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_fallback_is_for_when_nobody_else_can(name: str) -> None:
    def table(*destinations: Destination, fallback: Destination | None = FALLBACK) -> tuple[list[int], bool]:
        plan = plan_of(Service(KEY, name, destinations, fallback))
        positions = {*plan.table.tolist(), *(c.position for c in plan.candidates)} - {NOBODY}
        return sorted(positions), plan.fallback

    unresolved = Destination(IPv4Address("10.0.0.9"), 1)
    assert table(*reals(1, 0)) == ([0], False)
    assert table(*reals(0, 0)) == ([2], True)
    assert table(unresolved) == ([1], True)
    assert table() == ([0], True)
    assert table(fallback=None) == ([], False)
    assert table(unresolved, fallback=unresolved) == ([], False)


def test_sh_and_mh_without_fallback_refuse_the_clients_of_a_real_that_is_down() -> None:
    for build in (sh_table, mh_table):
        well = build(reals(1, 1, 1), False)
        during = build(down(reals(1, 1, 1), 1), False)
        assert (during[well == 1] == NOBODY).all()
        assert (during[well != 1] == well[well != 1]).all()


def test_dh_ignores_weights_and_never_falls_back() -> None:
    assert dh_table(reals(5, 1, 0))[:6].tolist() == [0, 1, NOBODY, 0, 1, NOBODY]
