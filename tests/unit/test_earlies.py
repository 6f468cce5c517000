"""Frames that wait for the first fragment of their datagram."""

from __future__ import annotations

from lb import abi
from lb.earlies import PATIENCE_S, Earlies


def test_they_are_taken_in_the_order_in_which_they_came() -> None:
    earlies = Earlies()
    for frame in (b"3", b"2"):
        earlies.hold(b"a", frame, 0.0)
    earlies.hold(b"b", b"9", 0.0)
    assert earlies.take(b"a") == (b"3", b"2")
    assert earlies.take(b"a") == ()
    assert earlies.take(b"b") == (b"9",)
    assert earlies.next_s is None
    assert earlies.given_up == 0


def test_patience_ends_and_begins_with_the_earliest() -> None:
    earlies = Earlies(patience_s=3.0)
    earlies.hold(b"a", b"1", 10.0)
    earlies.hold(b"b", b"2", 11.0)
    earlies.hold(b"a", b"3", 12.9)
    assert earlies.next_s == 13.0
    earlies.expire(12.9)
    assert earlies.given_up == 0
    earlies.expire(13.0)
    assert (earlies.given_up, earlies.next_s) == (2, 14.0)
    assert earlies.take(b"a") == ()
    assert earlies.take(b"b") == (b"2",)


def test_the_oldest_make_room() -> None:
    earlies = Earlies(most=3)
    earlies.hold(b"a", b"1", 0.0)
    earlies.hold(b"a", b"2", 0.0)
    earlies.hold(b"b", b"3", 1.0)
    earlies.hold(b"c", b"4", 2.0)
    assert earlies.given_up == 1
    assert [earlies.take(name) for name in (b"a", b"b", b"c")] == [(b"2",), (b"3",), (b"4",)]


def test_a_single_datagram_has_no_more_room_than_all() -> None:
    earlies = Earlies(most=2)
    for number in range(5):
        earlies.hold(b"a", bytes((number,)), 0.0)
    assert earlies.given_up == 3
    assert earlies.take(b"a") == (b"\3", b"\4")


def test_they_wait_as_long_as_the_packet_program_knows_of_them() -> None:
    assert PATIENCE_S == abi.FRAGMENT_TIMEOUT_S
