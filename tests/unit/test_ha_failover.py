"""Two real directors' failover in one loop: real UDP and TCP on loopback, the main things under both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
import uvloop

from ha import failover
from ha.authkeys import AuthKeys
from ha.links import MAX_GREETING
from ha.rows import MAX_ROWS
from lb.errors import FailoverError, NetworkError
from tests.unit.ha_pair import KEYS, Pair, Running, a_cluster, a_pair, both, until
from tests.unit.test_ha_sync import some_rows


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Runs a scenario to its end."""
    return request.param  # type: ignore[no-any-return]


def test_a_pair_comes_up_and_the_standby_gets_200_000_connections(run: Callable[[Any], None]) -> None:
    table = some_rows(200_000)

    async def scenario() -> None:
        async with both(table) as (_, one, two):
            assert len(two.hooks.rows) == len(table)
            assert (two.hooks.rows == table).all()
            assert max(len(rows) for rows in two.hooks.installed) <= MAX_ROWS
            assert (one.hooks.calls, two.hooks.holds) == (["take"], False)
            status = one.failover.status()
            assert status.role == "active"
            assert status.peers[0]["state"] == "up"
            assert status.sync["state"] == two.failover.status().sync["state"] == "in-sync"
            assert status.sync["connections"] == 200_000
            assert status.warnings == []

    run(scenario())


def test_what_a_stranger_holds_is_not_claimed(monkeypatch: pytest.MonkeyPatch, run: Callable[[Any], None]) -> None:
    monkeypatch.setattr(failover, "LOOK_S", 0.02)

    async def scenario() -> None:
        async with a_pair(initdead=1.0) as pair:
            one = pair.start("lb1")
            one.hooks.stranger = "192.0.2.1 is held by 02:00:00:00:00:01"
            heartbeats = 2 * pair.cluster.ha.initdead / pair.cluster.ha.keepalive
            await until(lambda: one.count("heartbeat_sent") > heartbeats)
            assert (one.role, one.hooks.calls) == ("init", [])
            (warning,) = one.failover.status().warnings
            assert warning.startswith(one.hooks.stranger)
            one.hooks.stranger = ""
            await until(lambda: one.role == "active")
            assert one.failover.status().warnings == []

    run(scenario())


def test_increments_arrive(run: Callable[[Any], None]) -> None:
    async def scenario() -> None:
        async with both() as (_, one, two):
            rows = some_rows(10_000)
            for piece in np.array_split(rows, 100):
                one.failover.push(piece)
            await until(lambda: len(two.hooks.rows) == len(rows))
            assert (two.hooks.rows == rows).all()

    run(scenario())


def test_lost_events_are_made_good_by_a_snapshot() -> None:
    async def scenario() -> None:
        async with both(some_rows(10)) as (_, one, two):
            one.hooks.table = some_rows(20, seed=1)
            one.failover.resync()
            await until(lambda: len(two.hooks.rows) == 30)
            await until(lambda: two.role == "standby" and one.failover.status().sync["state"] == "in-sync")

    uvloop.run(scenario())


def test_who_kept_its_table_is_told_and_tells_what_differs() -> None:
    """Both processes have just begun, and owe each other whatever the ones before them may not have told."""
    rows = some_rows(20_000)

    async def scenario() -> None:
        async with a_pair() as pair:
            one, two = pair.start("lb1", rows[1:]), pair.start("lb2", rows[:-1])
            await until(lambda: rows[0] in one.hooks.rows and rows[-1] in two.hooks.rows)
            await until(lambda: one.failover.status().peers[0]["able"])
            assert max(len(one.hooks.rows), len(two.hooks.rows)) < 50

    uvloop.run(scenario())


def test_a_table_that_cannot_take_rows_is_not_in_sync() -> None:
    async def scenario() -> None:
        async with both() as (_, one, two):
            two.hooks.fails.add("install")
            one.failover.push(some_rows(1))
            await until(lambda: two.failover.status().sync["state"] == "syncing")
            await until(lambda: not one.failover.status().peers[0]["in_sync"])
            with pytest.raises(FailoverError, match="lb2 is not in sync"):
                await one.failover.standby()
            two.hooks.fails.clear()
            one.hooks.table = some_rows(3)
            await until(lambda: len(two.hooks.rows) == 3)

    uvloop.run(scenario())


def test_connections_of_an_unknown_real_are_counted_and_asked_for_again_when_it_may_be_known() -> None:
    """The files differ for a while; nothing else suffers from that."""

    async def scenario() -> None:
        rows = some_rows(300)
        stranger = int(rows["real"][0])
        async with both() as (pair, one, two):
            two.hooks.unknown = (stranger,)
            one.hooks.table = rows
            one.failover.push(rows)
            missing = int((rows["real"] == stranger).sum())
            await until(lambda: two.count("sync_unknown") == missing)
            assert len(two.hooks.rows) == len(rows) - missing
            assert two.failover.status().sync["state"] == "in-sync"
            two.hooks.unknown = ()
            two.hooks.table = two.hooks.rows
            two.failover.reconfigure(pair.cluster)
            await until(lambda: stranger in two.hooks.rows["real"])
            assert two.count("sync_unknown") == missing

    uvloop.run(scenario())


def test_standby_and_takeover_move_the_address_and_the_sync_turns_round(run: Callable[[Any], None]) -> None:
    async def scenario() -> None:
        async with both(some_rows(10)) as (_, one, two):
            await one.failover.standby()
            assert (one.role, two.role) == ("standby", "active")
            assert (one.hooks.holds, two.hooks.holds) == (False, True)
            two.failover.push(some_rows(5))
            await until(lambda: len(one.hooks.rows) == 5)
            await until(lambda: two.failover.status().peers[0]["in_sync"])
            await one.failover.takeover()
            assert one.role == "active"
            await until(lambda: two.role == "standby" and not two.hooks.holds)
            await one.failover.takeover()  # is active already

    run(scenario())


def test_standby_is_refused_with_nobody_there() -> None:
    async def scenario() -> None:
        async with a_pair() as pair:
            one = pair.start("lb1")
            await until(lambda: one.role == "active")
            with pytest.raises(FailoverError, match=r"lb1: lb2 is not heard"):
                await one.failover.standby()
            assert one.role == "active"

    uvloop.run(scenario())


def test_a_process_that_ends_without_a_word_is_missed_at_once(run: Callable[[Any], None]) -> None:
    async def scenario() -> None:
        async with both(deadtime=30.0, initdead=60.0) as (pair, one, two):  # silence cannot be what is noticed
            await one.stop()
            await until(lambda: two.role == "active" and two.hooks.holds)
            new = pair.start("lb1")
            await until(lambda: new.role == "standby")
            assert new.hooks.calls == ["release"], "what the kernel kept of the first life"

    run(scenario())


def test_the_other_side_misses_it_at_once_too() -> None:
    async def scenario() -> None:
        async with both(deadtime=30.0, initdead=60.0) as (_, one, two):
            await one.failover.standby()
            await two.stop()
            await until(lambda: one.role == "active" and one.hooks.holds)

    uvloop.run(scenario())


def test_an_address_that_cannot_be_taken_is_not_claimed() -> None:
    async def scenario() -> None:
        async with both() as (_, one, two):
            two.hooks.fails.add("take")
            with pytest.raises(FailoverError, match="lb1 stays active: lb2"):
                await one.failover.standby()
            assert (one.role, one.hooks.holds) == ("active", True)
            assert two.hooks.calls[-1] == "release"
            two.hooks.fails.clear()
            await until(lambda: one.failover.status().peers[0]["able"])
            await one.failover.standby()
            assert two.hooks.holds

    uvloop.run(scenario())


def test_an_address_that_cannot_be_released_is_tried_again() -> None:
    async def scenario() -> None:
        async with both() as (_, one, two):
            one.hooks.fails.add("release")
            handing = asyncio.create_task(one.failover.standby())
            await until(lambda: one.hooks.calls.count("release") == 2)
            assert two.role == "active"
            one.hooks.fails.clear()
            await handing

    uvloop.run(scenario())


def test_auto_failback() -> None:
    async def scenario() -> None:
        async with both(auto_failback=True) as (pair, one, two):
            await one.stop()
            await until(lambda: two.role == "active")
            new = pair.start("lb1")
            await until(lambda: new.role == "active")
            await until(lambda: two.role == "standby" and not two.hooks.holds)

    uvloop.run(scenario())


def test_reload() -> None:
    async def scenario() -> None:
        async with both() as (pair, one, two):
            slower = pair.cluster.model_copy(update={"ha": pair.cluster.ha.model_copy(update={"deadtime": 5.0})})
            one.failover.reconfigure(slower)
            await until(lambda: any("differs" in warning for warning in two.failover.status().warnings))
            two.failover.reconfigure(slower, AuthKeys(2, {**KEYS.keys, 2: b"another key, another day"}))
            await until(lambda: one.failover.status().counters["heartbeat_key"] > 0)
            one.failover.reconfigure(slower, AuthKeys(2, {**KEYS.keys, 2: b"another key, another day"}))
            await until(lambda: one.failover.status().warnings == two.failover.status().warnings == [])
            assert (one.role, two.role) == ("active", "standby")
            moved = slower.model_copy(update={"ha": slower.ha.model_copy(update={"port": 1})})
            with pytest.raises(FailoverError, match="lbctl down"):
                one.failover.reconfigure(moved)

    uvloop.run(scenario())


def test_a_port_that_is_taken() -> None:
    async def scenario() -> None:
        async with both() as (pair, _, _):
            again = pair.start("lb1")
            with pytest.raises(NetworkError, match=f"port {pair.port}"):
                await again.task

    uvloop.run(scenario())


# ----------------------------------------------------------------------------------------------------- attacks


def udp(pair: Pair, target: int, *datagrams: bytes) -> None:
    """Send them from the stranger to lb1 (0) or lb2 (1)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for datagram in datagrams:
            sock.sendto(datagram, (pair.hosts[target], pair.port))


async def tcp(pair: Pair, source: int | None, *pieces: bytes) -> None:
    """Connect to lb1 from the stranger or from a peer's address, send, and wait for the other end to close."""
    host = pair.stranger if source is None else pair.hosts[source]
    reader, writer = await asyncio.open_connection(pair.hosts[0], pair.port, local_addr=(host, 0))
    with contextlib.suppress(OSError):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        while await reader.read(1000):
            pass
    writer.transport.abort()


async def unshaken(one: Running, two: Running) -> None:
    """They are what they were, and still talk."""
    assert (one.role, two.role) == ("active", "standby")
    assert (one.hooks.calls.count("take"), two.hooks.calls.count("take")) == (1, 0)
    rows = some_rows(3)
    before = len(two.hooks.rows)
    one.failover.push(rows)
    await until(lambda: len(two.hooks.rows) == before + 3)


def test_wrong_key() -> None:
    async def scenario() -> None:
        async with a_pair() as pair:
            one = pair.start("lb1")
            two = pair.start("lb2", keys=AuthKeys(1, {1: b"this is not the cluster's key"}))
            await until(lambda: one.count("heartbeat_key") > 3 and two.count("heartbeat_key") > 3)
            await until(lambda: one.count("sync_key") > 0)
            await until(lambda: one.role == two.role == "active")  # they are not one cluster
            assert one.failover.status().peers[0]["state"] == "unknown"

    uvloop.run(scenario())


def test_replayed_heartbeats() -> None:
    """A wiretap in front of lb1 records what lb2 says; then it is said again, in this life and to the next one."""

    async def scenario() -> None:
        async with both() as (pair, one, two):
            recorded: list[bytes] = []
            ports = one.failover._ports
            assert ports

            def tapped(data: bytes, link: str) -> None:
                recorded.append(data)
                one.failover.received(data, link)

            ports._received = tapped
            await until(lambda: len(recorded) >= 5)
            udp(pair, 0, *recorded[:5])
            await until(lambda: one.count("heartbeat_replayed") >= 5)
            await unshaken(one, two)
            await two.stop()
            await one.stop()
            again = pair.start("lb1")
            await until(lambda: again.count("heartbeat_sent") > 0)
            udp(pair, 0, *recorded)
            await until(lambda: again.role == "active")
            await until(lambda: again.count("heartbeat_replayed") >= len(recorded))
            assert again.failover.status().peers[0]["state"] == "unknown"

    uvloop.run(scenario())


def test_random_bytes_at_the_heartbeat_port() -> None:
    async def scenario() -> None:
        async with both() as (pair, one, two):
            chance = random.Random(5)
            junk = [chance.randbytes(chance.randrange(1, 1500)) for _ in range(100)]
            udp(pair, 0, b"", *junk)
            udp(pair, 1, *junk)
            await until(lambda: one.count("heartbeat_malformed") == 101 and two.count("heartbeat_malformed") == 100)
            await unshaken(one, two)

    uvloop.run(scenario())


def test_a_flood_of_strangers_takes_no_room_from_the_peer() -> None:
    """More than can be read in time: the rest is thrown away by the kernel, and all of it is counted."""

    async def scenario() -> None:
        async with both() as (pair, one, two):
            stop = threading.Event()
            sent = asyncio.get_running_loop().run_in_executor(None, flood, pair, stop)
            try:
                await until(lambda: one.count("heartbeat_unread") > 1000)
                heard = one.count("heartbeat_received")
                await until(lambda: one.count("heartbeat_received") >= heard + 10)
            finally:
                stop.set()
            counted = ("heartbeat_unread", "heartbeat_malformed")
            whole = await sent
            udp(pair, 0, b"the last one")
            await until(lambda: sum(one.count(name) for name in counted) > whole)
            assert one.count("heartbeat_received") > heard
            await unshaken(one, two)

    uvloop.run(scenario())


def flood(pair: Pair, stop: threading.Event) -> int:
    """Noise to lb1 from a stranger until told to stop; how much."""
    count = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((pair.stranger, 0))
        while not stop.is_set():
            sock.sendto(b"noise" * 20, (pair.hosts[0], pair.port))
            count += 1
    return count


@pytest.mark.parametrize(
    ("source", "data", "counter"),
    [
        (None, b"", "sync_stranger"),
        (1, b"GET / HTTP/1.0\r\n\r\n", "sync_malformed"),
        (1, b"LBSY\x09\x00\x10", "sync_version"),
        (1, b"LBSY\x01\xff\xff", "sync_oversized"),
        (1, b"LBSY\x01\x00\x04junk", "sync_malformed"),
    ],
    ids=["stranger", "http", "version", "oversized", "junk"],
)
def test_garbage_at_the_sync_port(source: int | None, data: bytes, counter: str) -> None:
    async def scenario() -> None:
        async with both() as (pair, one, two):
            await tcp(pair, source, data)
            await until(lambda: one.count(counter) == 1)
            await unshaken(one, two)

    uvloop.run(scenario())


def test_many_slow_connections_from_the_peers_address() -> None:
    """Slow-loris: the session that exists goes on, no more than a few are kept waiting, and all are counted."""

    async def scenario() -> None:
        async with both() as (pair, one, two):
            crowd = [asyncio.create_task(tcp(pair, 1, b"L", b"B")) for _ in range(MAX_GREETING + 10)]
            await until(lambda: one.count("sync_crowded") == 10)
            await unshaken(one, two)
            await asyncio.gather(*crowd)
            assert one.count("sync_timeout") == MAX_GREETING

    uvloop.run(scenario())


def test_an_oversized_frame_in_an_open_session() -> None:
    """A peer whose stream goes wrong is closed on, counted, and synced anew."""

    async def scenario() -> None:
        async with both(some_rows(10)) as (_, one, two):
            channel = next(iter(two.failover._links.links.values()))._channel
            channel._writer.write(b"\xff" * 100)
            await until(lambda: one.count("sync_oversized") == 1)
            await until(lambda: one.count("sync_opened") == 2 and two.role == "standby")
            await until(lambda: one.failover.status().sync["state"] == "in-sync")
            await unshaken(one, two)

    uvloop.run(scenario())


# ------------------------------------------------------------------------------------------------ its own troubles


def test_heartbeats_that_cannot_be_sent_are_lost_and_counted() -> None:
    """As while a link is down: here a peer for which loopback has no route."""

    async def scenario() -> None:
        async with a_pair() as pair:
            unreachable = a_cluster(pair.port, (pair.hosts[0], "203.0.113.9"))
            one = pair.start("lb1", cluster=unreachable)
            await until(lambda: one.count("heartbeat_unsent") > 2)
            await until(lambda: one.role == "active")

    uvloop.run(scenario())


def test_an_error_that_must_not_happen_ends_it_instead_of_silencing_it() -> None:
    async def scenario() -> None:
        async with both() as (_, one, _):
            one.failover._member.handle_timer = None  # type: ignore[assignment, method-assign]
            with pytest.raises(ExceptionGroup) as raised:
                await one.task
            assert raised.group_contains(TypeError)

    uvloop.run(scenario())


def test_who_fell_silent_is_named_to_the_one_that_takes_over() -> None:
    async def scenario() -> None:
        async with both() as (_, one, two):
            ports = two.failover._ports
            assert ports
            ports._received = lambda _data, _link: None
            await until(lambda: two.role == "active")
            assert two.hooks.silent == ["lb1"]
            assert one.hooks.silent == [""]

    uvloop.run(scenario())


def test_a_process_that_ended_is_not_silent() -> None:
    async def scenario() -> None:
        async with both() as (_, one, two):
            await one.stop()
            await until(lambda: two.role == "active")
            assert two.hooks.silent == [""]
            assert two.hooks.roles == ["standby", "active"]

    uvloop.run(scenario())


def test_what_is_shared_is_told_at_first_and_whenever_it_changes() -> None:
    async def scenario() -> None:
        async with a_pair() as pair:
            one, two = pair.start("lb1"), pair.start("lb2")
            one.hooks.given = [b"first", b"second"]
            await until(lambda: two.hooks.heard == [b"first", b"second"])
            two.hooks.given = [b"third"]
            two.failover.share()
            await until(lambda: b"third" in one.hooks.heard)

    uvloop.run(scenario())
