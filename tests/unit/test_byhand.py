"""Orders by hand: told in any order, any number of times, they come to the same."""

from __future__ import annotations

import itertools
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb import byhand
from lb.byhand import AT_ONCE, Order
from lb.plan import Override, Target
from lb.service import ServiceKey

WEB = ServiceKey(IPv4Address("192.168.1.105"), 80, 6)


def real(number: int) -> Target:
    return (WEB, IPv4Address(0x0A000000 + number))


ORDERS = st.builds(
    Order,
    st.builds(Override, st.one_of(st.none(), st.integers(0, 65535)), st.booleans()),
    st.integers(0, 3),
)
BOOKS = st.dictionaries(st.integers(0, 3).map(real), ORDERS)


def test_what_is_in_force() -> None:
    book = {real(1): Order(Override(drained=True), 5), real(2): Order(Override(), 6)}
    assert byhand.overrides(book) == {real(1): Override(drained=True)}


def test_only_what_changed_gets_a_time() -> None:
    book = byhand.written({}, {real(1): Override(weight=3)}, 10)
    book = byhand.written(book, {real(1): Override(weight=3), real(2): Override(drained=True)}, 20)
    assert book == {real(1): Order(Override(weight=3), 10), real(2): Order(Override(drained=True), 20)}


def test_an_order_undone_is_told_too_and_is_later_whatever_the_clock_says() -> None:
    book = byhand.written({}, {real(1): Override(drained=True)}, 1_000)
    undone = byhand.written(book, {}, 7)
    assert undone == {real(1): Order(Override(), 1_001)}
    assert byhand.overrides(byhand.merged(book, undone)) == {}


@given(st.lists(BOOKS, min_size=1, max_size=3))
def test_the_order_of_telling_does_not_matter(books: list[dict[Target, Order]]) -> None:
    results = []
    for told in itertools.permutations(books):
        book: dict[Target, Order] = {}
        for other in (*told, *told):
            book = byhand.merged(book, other)
        results.append(book)
    assert all(result == results[0] for result in results)


@given(BOOKS)
def test_read_back_as_written(book: dict[Target, Order]) -> None:
    read: dict[Target, Order] = {}
    for payload in byhand.encode(book):
        read |= byhand.decode(payload)
    assert read == book


def test_a_large_book_goes_in_parts() -> None:
    book = {real(n): Order(Override(drained=True), n) for n in range(2 * AT_ONCE + 1)}
    parts = list(byhand.encode(book))
    assert len(parts) == 3
    assert max(map(len, parts)) < 1 << 17


@given(st.one_of(st.binary(max_size=40), st.just(b"\x91\x97\xa1x\x00\x00\xa1y\xc0\xc2\x00")))
def test_nonsense_is_refused(payload: bytes) -> None:
    try:
        assert byhand.decode(payload) == {}
    except ValueError:
        return


@pytest.mark.parametrize("payload", [b"\x91\x97\xa1x\x00\x00\xa1y\xc0\xc2\x00", b"\xc1", b"\x81\x01\x02"])
def test_nonsense_says_so(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"no orders|address"):
        byhand.decode(payload)
