"""SYNs that come again: counted for the real that left them unanswered, where a service is watched."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lb.service import Service
from tests.packet.world import TCP6_KEY, TCP_KEY, World, real, real6, tcp, tcp6

WATCHED = Service(TCP_KEY, "rr", (real(1), real(2)), watched=True)


def repeats(world: World) -> dict[int, int]:
    """By number of the real, since the last call."""
    first = {4: int(real(0).address), 6: int(real6(0).address)}
    return {int(address) - first[address.version]: count for (_, address), count in world.data.repeats().items()}


def held(world: World) -> list[int]:
    """In all, of each real of the first service."""
    return [destination.repeats for destination in world.data.held()[0].destinations]


def test_each_is_counted_once_for_its_real(again: World) -> None:
    again.apply(WATCHED)
    home = again.real_of(tcp("S", 1))
    assert repeats(again) == {}, "a first one is none"
    for _ in range(3):
        assert again.real_of(tcp("S", 1)) == home
    assert repeats(again) == {home: 3}
    assert repeats(again) == {}
    other = again.real_of(tcp("S", 2))
    again.send(tcp("S", 2))
    assert repeats(again) == {other: 1}
    assert sorted(held(again)) == [1, 3]


@pytest.mark.parametrize("flags", ["A", "PA", "FA", "R", "SR"])
def test_no_other_segment_counts(again: World, flags: str) -> None:
    again.apply(WATCHED)
    for segment in ("S", flags, flags):
        again.send(tcp(segment, 1))
    assert repeats(again) == {}


def test_nor_a_syn_that_opens_anew(again: World) -> None:
    again.apply(WATCHED)
    for segments in (("S", "A", "FA", "S"), ("S", "A", "S"), ("S", "A", "R", "S")):
        for segment in segments:
            again.send(tcp(segment, 1))
        again.send(tcp("A", 1))
    assert repeats(again) == {}


def test_over_ipv6(again: World) -> None:
    again.apply(Service(TCP6_KEY, "rr", (real6(1),), watched=True))
    for _ in range(3):
        again.send(tcp6("S", 1))
    assert repeats(again) == {1: 2}


def test_who_is_not_watched_is_not_told(again: World) -> None:
    again.apply(replace(WATCHED, watched=False))
    for _ in range(3):
        again.send(tcp("S", 1))
    assert repeats(again) == {}
    assert held(again) == [0, 0], "there is no such code in the program"


def test_what_came_before_does_not_count_and_what_was_not_read_does(again: World) -> None:
    again.apply(WATCHED)
    home = again.real_of(tcp("S", 1))
    again.send(tcp("S", 1))
    again.apply(replace(WATCHED, destinations=(real(1), real(2), real(3))))
    assert repeats(again) == {home: 1}, "another real does not make us forget"
    again.send(tcp("S", 1))
    again.apply(replace(WATCHED, watched=False))
    again.apply(WATCHED)
    assert repeats(again) == {}


def test_a_row_that_another_real_gets_begins_at_none(again: World) -> None:
    again.apply(replace(WATCHED, destinations=(real(1),)))
    for _ in range(3):
        again.send(tcp("S", 1))
    again.apply(replace(WATCHED, destinations=()))
    again.forget()
    again.apply(replace(WATCHED, destinations=(real(2),)))
    assert held(again) == [0]
    assert repeats(again) == {}
