"""Rates between two readings."""

from __future__ import annotations

from ipaddress import IPv4Address

from lb.rates import NONE, Rates
from lb.service import ServiceKey

WEB = ServiceKey(IPv4Address("192.168.1.105"), 80, 6)
ONE, TWO = (WEB, IPv4Address("192.168.1.101")), (WEB, IPv4Address("192.168.1.102"))


def test_the_difference_by_time() -> None:
    rates = Rates()
    rates.read({ONE: (10, 100, 1000)}, 5.0)
    assert rates.of(ONE) == NONE
    rates.read({ONE: (30, 140, 5000), TWO: (7, 7, 7)}, 7.0)
    assert rates.of(ONE) == (10.0, 20.0, 2000.0)
    assert rates.of(TWO) == NONE


def test_totals_that_begin_anew_are_no_negative_rate() -> None:
    rates = Rates()
    rates.read({ONE: (10, 100, 1000)}, 5.0)
    rates.read({ONE: (2, 3, 4)}, 6.0)
    assert rates.of(ONE) == NONE


def test_a_real_that_left_has_none_and_two_readings_at_once_do_no_harm() -> None:
    rates = Rates()
    rates.read({ONE: (10, 100, 1000)}, 5.0)
    rates.read({ONE: (20, 200, 2000)}, 5.0)
    assert rates.of(ONE) == NONE
    rates.read({}, 6.0)
    assert rates.of(ONE) == NONE
