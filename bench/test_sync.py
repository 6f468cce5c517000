"""Connection sync: rows to bytes and back, and rows a second from one director to the other over loopback TCP."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any

import msgpack
import numpy as np
import pytest
import uvloop

from ha import rows as codec
from ha.authkeys import AuthKeys
from ha.channel import Channel, greet
from ha.link import Link
from ha.session import NONCE_BYTES, Greeting, Session
from lb.connections import CONNECTION, Rows, empty

ROWS = 10_000
KEYS = AuthKeys(1, {1: secrets.token_bytes(32)})
MILLION = 1_000_000


def some_rows(count: int) -> Rows:
    """Valid rows."""
    random = np.random.default_rng(1)
    rows = np.empty(count, CONNECTION)
    for name in CONNECTION.names or ():
        rows[name] = random.integers(0, 1 << 8 * CONNECTION[name].itemsize, count)
    rows["protocol"] = 6
    rows["state"] = 1
    return rows


def chunks(rows: Rows) -> list[Rows]:
    """As they go over."""
    return [rows[n : n + codec.MAX_ROWS] for n in range(0, len(rows), codec.MAX_ROWS)]


@pytest.mark.benchmark(group="sync codec, 10,000 rows")
def test_encode(benchmark: Any) -> None:
    pieces = chunks(some_rows(ROWS))
    benchmark.extra_info["rows"] = ROWS
    benchmark(lambda: [msgpack.packb(codec.encode(piece)) for piece in pieces])


@pytest.mark.benchmark(group="sync codec, 10,000 rows")
def test_decode(benchmark: Any) -> None:
    messages = [msgpack.packb(codec.encode(piece)) for piece in chunks(some_rows(ROWS))]
    benchmark.extra_info["rows"] = ROWS
    benchmark(lambda: [codec.decode(msgpack.unpackb(message)) for message in messages])


async def a_session() -> tuple[Channel, Channel]:
    """Both ends of an authenticated session over TCP."""
    accepted: asyncio.Future[Channel | None] = asyncio.get_running_loop().create_future()
    me = [Greeting("bench", name, 1, secrets.token_bytes(NONCE_BYTES)) for name in "ab"]

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set_result(await greet(reader, writer, Session(me[0], ("b",), KEYS, initiator=False)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    streams = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    there = await greet(*streams, Session(me[1], ("a",), KEYS, initiator=True))
    here = await accepted
    server.close()
    assert here
    assert there
    return here, there


async def transfer(table: Rows, pushes: list[Rows]) -> float:
    """Seconds until the other side has the table as a snapshot, and then the increments, and has said so."""
    done = asyncio.Event()
    installed: list[int] = []
    here, there = await a_session()

    def install(rows: Rows) -> int:
        installed.append(len(rows))
        return 0

    sender = Link(here, lambda _: (table,), lambda _: 0, time.monotonic, done.set, lambda _: None)
    receiver = Link(there, lambda _: (), install, time.monotonic, lambda: None, lambda _: None)
    tasks = [asyncio.create_task(link.run()) for link in (sender, receiver)]
    start_s = time.perf_counter()
    sender.sync.lead()
    sender.wake()
    while not sender.sync.delivered:
        done.clear()
        await done.wait()
    if pushes:
        start_s = time.perf_counter()
        for rows in pushes:
            sender.sync.push(rows, time.monotonic())
            sender.wake()
            await asyncio.sleep(0)
        while sum(installed) < len(table) + sum(map(len, pushes)):
            done.clear()
            await done.wait()
    took_s = time.perf_counter() - start_s
    for link in (sender, receiver):
        link.drop()
    await asyncio.gather(*tasks)
    return took_s


def measure(benchmark: Any, table: Rows, pushes: list[Rows]) -> None:
    """Three transfers; the best one's rows a second, without setting up loop and session, goes to extra_info."""
    took_s: list[float] = []
    benchmark.pedantic(lambda: took_s.append(uvloop.run(transfer(table, pushes))), rounds=3)
    count = sum(map(len, pushes)) if pushes else len(table)
    benchmark.extra_info["rows_a_second"] = round(count / min(took_s))


@pytest.mark.benchmark(group="sync end to end over loopback TCP, one core for both ends")
def test_snapshot_of_a_million(benchmark: Any) -> None:
    measure(benchmark, some_rows(MILLION), [])


@pytest.mark.benchmark(group="sync end to end over loopback TCP, one core for both ends")
def test_increments_of_a_hundred(benchmark: Any) -> None:
    measure(benchmark, empty(), np.array_split(some_rows(ROWS * 10), ROWS // 10))
