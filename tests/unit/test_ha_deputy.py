"""Heartbeats in time although the director's loop is late: the process that sends them, and what it may not do."""

from __future__ import annotations

import math
import select
import socket
import time
from collections.abc import Iterator

import pytest
import uvloop

from ha.deputy import Deputy, Spare, now
from tests.unit.ha_pair import PATIENCE_S, Pair, a_pair, both, until

AHEAD_S = 0.05
FAR_S = 3600.0


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two sockets for datagrams on loopback: whom to send to, and what to send over."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as to, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as by:
        for end in (to, by):
            end.bind(("127.0.0.1", 0))
            end.settimeout(PATIENCE_S)
        yield to, by


@pytest.fixture
def deputy() -> Iterator[Deputy]:
    """A process that was given nothing yet."""
    made = Deputy()
    yield made
    made.close()


def spare(to: socket.socket, data: bytes, after_s: float, for_s: float = FAR_S, *, late: bool = True) -> Spare:
    """One datagram."""
    return now() + after_s, now() + after_s + for_s, late, [(0, to.getsockname(), data)]


def test_each_at_its_time_over_the_directors_own_socket(
    deputy: Deputy, ends: tuple[socket.socket, socket.socket]
) -> None:
    to, by = ends
    due = [spare(to, b"one", AHEAD_S), spare(to, b"two", 2 * AHEAD_S)]
    deputy.entrust(due, [by])
    for (due_s, *_), data in zip(due, (b"one", b"two"), strict=True):
        assert to.recvfrom(100) == (data, by.getsockname())
        assert now() >= due_s
    deadline_s = time.monotonic() + PATIENCE_S
    while not (sent := deputy.entrust([], [])):
        assert time.monotonic() < deadline_s
    assert 1 <= sent <= 2


def test_those_that_are_always_left_to_it_are_not_counted(
    deputy: Deputy, ends: tuple[socket.socket, socket.socket]
) -> None:
    to, by = ends
    deputy.entrust([spare(to, b"one", 0.0, late=False), spare(to, b"two", 0.0), spare(to, b"three", 0.0)], [by])
    assert [to.recv(100) for _ in range(3)] == [b"one", b"two", b"three"]
    deputy._control.shutdown(socket.SHUT_WR)
    deputy._process.wait(PATIENCE_S)
    assert [deputy._control.recv(1) for _ in range(3)] == [b"\1", b"\1", b""]


def test_what_was_entrusted_before_is_void(deputy: Deputy, ends: tuple[socket.socket, socket.socket]) -> None:
    to, by = ends
    deputy.entrust([spare(to, b"old", 4 * AHEAD_S)], [by])
    deputy.entrust([spare(to, b"new", 8 * AHEAD_S)], [by])
    assert to.recv(100) == b"new"


def test_nothing_is_sent_after_its_time(deputy: Deputy, ends: tuple[socket.socket, socket.socket]) -> None:
    to, by = ends
    deputy.entrust([spare(to, b"late", -2.0, 1.0), spare(to, b"in time", -2.0)], [by])
    assert to.recv(100) == b"in time"


def test_it_ends_with_its_director_and_sends_nothing_more(ends: tuple[socket.socket, socket.socket]) -> None:
    """As the kernel closes the director's end when that dies."""
    to, by = ends
    deputy = Deputy()
    deputy.entrust([spare(to, b"posthumous", FAR_S)], [by])
    deputy._control.close()
    assert deputy._process.wait(PATIENCE_S) == 0
    assert not select.select([to], [], [], 0)[0]


def test_a_dead_deputy_is_noticed(deputy: Deputy, ends: tuple[socket.socket, socket.socket]) -> None:
    deputy._process.kill()
    deputy._process.wait()
    with pytest.raises(OSError, match=r"Broken pipe|reset"):
        deputy.entrust([spare(ends[0], b"x", FAR_S)], [ends[1]])


def test_a_late_loop_delays_no_heartbeat_and_nobody_is_taken_for_dead() -> None:
    """Both stand still at once, several times, for two thirds of a keepalive after the time of a heartbeat."""

    async def scenario() -> None:
        async with both(keepalive=0.3, deadtime=4.0) as (_, one, two):
            for _ in range(5):
                was = one.count("heartbeat_sent")
                await until(lambda: one.count("heartbeat_sent") > was)  # noqa: B023
                time.sleep(0.5)  # noqa: ASYNC251 - that is the point
            await until(lambda: one.count("heartbeat_deputised") > 0 and two.count("heartbeat_deputised") > 0)
            assert (one.role, two.role) == ("active", "standby")

    uvloop.run(scenario())


def test_a_hung_director_falls_silent() -> None:
    """What its deputy has is all that is heard of it, however long it hangs."""

    async def scenario() -> None:
        async with a_pair(keepalive=0.1, deadtime=1.0) as pair:
            with peer_of(pair) as peer:
                one = pair.start("lb1")
                await until(lambda: one.count("heartbeat_sent") > 3)
                drain(peer)
                time.sleep(1.0)  # noqa: ASYNC251 - that is the point
                spares = math.ceil(1.0 / 4 / 0.1)
                assert 1 <= drain(peer) <= spares
                await until(lambda: one.count("heartbeat_deputised") > 0)

    uvloop.run(scenario())


def test_a_deputy_that_died_is_replaced() -> None:
    async def scenario() -> None:
        async with a_pair() as pair:
            one = pair.start("lb1")
            await until(lambda: one.count("heartbeat_sent") > 3)
            ports = one.failover._ports
            assert ports is not None
            assert ports._deputy is not None
            first = ports._deputy
            first._process.kill()
            await until(lambda: ports._deputy not in (None, first))

    uvloop.run(scenario())


def peer_of(pair: Pair) -> socket.socket:
    """What hears in place of lb2."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((pair.hosts[1], pair.port))
    sock.setblocking(False)
    return sock


def drain(sock: socket.socket) -> int:
    """How many datagrams had come."""
    count = 0
    try:
        while sock.recv(2048):
            count += 1
    except BlockingIOError:
        return count
    return count
