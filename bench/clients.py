"""What clients have under way while directors fail: long transfers both ways, and connections just opened.

Run in the lab's client by `bench.failover`, over many failovers. Prints a line as soon as every transfer has begun. At
SIGTERM, or after `--seconds`, the transfers come to their end, and it prints one JSON document, the fields of `Result`.
Uploads are chunked (RFC 9112 section 7.1), so that they can end whenever they are told to. Rates are held by small
socket buffers: what has left the sender has been read.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import itertools
import json
import resource
import signal
import socket
import time
from dataclasses import asdict, dataclass, field

import uvloop

from lb.lab.webserver import DOWNLOAD_BYTES

RATE = 1 << 20
"""Bytes a second of each transfer, unless another is asked for."""
BUFFER = 64 << 10
"""Of the kernel for one transfer, at most; less of slow ones, so that they cannot live on it for long."""
LEAST_BUFFER = 8 << 10
PACE_S = 0.05
STEPS = 2_000
"""A second, of all transfers, at most: what a Python process does beside everything else and is not late."""
CONNECT_S = 0.25
"""A connection that takes longer counts as not opened: its client's first SYN was lost."""
PATIENCE_S = 5.0
"""Who gets no answer for longer is lost."""
STANDSTILL_S = 20.0
"""A transfer that does not come on for longer is lost. A server that found no room at its client asks again after twice
the time it waited before (RFC 9293 section 3.8.6.1); an answer that a failover swallows costs many seconds then."""
HOLD_S = 2.0
BEGIN_S = 30.0
STALL_MS = 100.0
"""Shorter ones are not told."""
RETRY_S = 0.1

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(slots=True)
class Result:
    """Times are of CLOCK_MONOTONIC. uploads: those that ended well, with their size, as a server says.

    lost: (downloads or uploads, when it was opened, when it came on for the last time). stalls: (when, milliseconds)
    for which a download stood still. opened_s: when connections were opened one by one; unopened: how many were not.
    lost_s: (when it was opened, when it was reset or used in vain), of those.
    """

    uploads: dict[str, int] = field(default_factory=dict)
    lost: list[tuple[str, float, float]] = field(default_factory=list)
    stalls: list[tuple[float, float]] = field(default_factory=list)
    opened_s: list[float] = field(default_factory=list)
    unopened: int = 0
    lost_s: list[tuple[float, float]] = field(default_factory=list)


def content(size: int) -> bytes:
    """The first bytes of the lab's /download."""
    return hashlib.shake_128(b"").digest(size)


class Clients:
    """All of them, until `end` and a little longer. A transfer that is at its end, or lost, is followed by another."""

    def __init__(self, address: str, seconds: float, transfers: int, interval_s: float, rate: int = RATE) -> None:
        self._address, self._seconds, self._interval_s, self._rate = address, seconds, interval_s, rate
        self._content = content(min(int(rate * seconds), DOWNLOAD_BYTES))
        self._transfers = transfers
        self._pace_s = max(PACE_S, 2 * transfers / STEPS)
        self._buffer = min(max(LEAST_BUFFER, rate), BUFFER)
        self._names = map(str, itertools.count())
        self._begun = 0
        self._all_begun = asyncio.Event()
        self._ending = asyncio.Event()
        self._result = Result()

    async def run(self) -> Result:
        """Raises TimeoutError if the transfers do not begin."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            for number in range(self._transfers):
                tasks.create_task(self._again("downloads"))
                tasks.create_task(self._again("uploads"))
                if number % 2 == 0:  # so that they are not due all at once for ever
                    await asyncio.sleep(2 * self._pace_s / self._transfers)
            async with asyncio.timeout(BEGIN_S):
                await self._all_begun.wait()
            print("under way", flush=True)
            loop.call_later(self._seconds, self._ending.set)
            loop.add_signal_handler(signal.SIGTERM, self._ending.set)
            begun_s = loop.time()
            for number in itertools.count():
                await asyncio.sleep(begun_s + number * self._interval_s - loop.time())
                if self._ending.is_set():
                    break
                tasks.create_task(self._use_twice())
        return self._result

    def _begin(self) -> None:
        self._begun += 1
        if self._begun == 2 * self._transfers:
            self._all_begun.set()

    async def _again(self, way: str) -> None:
        transfer = self._download if way == "downloads" else self._upload
        while not self._ending.is_set():
            try:
                async with asyncio.timeout(PATIENCE_S):
                    reader, writer, opened_s = await self._connect()
            except (OSError, TimeoutError):
                await asyncio.sleep(RETRY_S)
                continue
            moved = [opened_s]
            try:
                await transfer(reader, writer, moved)
            except (OSError, EOFError, ValueError, IndexError, TimeoutError):
                self._result.lost.append((way, opened_s, moved[0]))
            finally:
                writer.close()

    async def _connect(self) -> tuple[*Streams, float]:
        """And when its SYN left: under load this comes later than it was due."""
        opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            opened.setsockopt(socket.SOL_SOCKET, option, self._buffer)
        opened_s = time.monotonic()
        try:
            await asyncio.get_running_loop().sock_connect(opened, (self._address, 80))
        except BaseException:
            opened.close()
            raise
        return *await asyncio.open_connection(sock=opened, limit=BUFFER), opened_s

    def _request(self, line: str, *headers: str) -> bytes:
        return "\r\n".join((f"{line} HTTP/1.1", f"Host: {self._address}", *headers, "", "")).encode()

    async def _download(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, moved: list[float]) -> None:
        """moved: gets the time at which it came on last. Raises whatever shows that it is lost."""
        loop = asyncio.get_running_loop()
        writer.write(self._request("GET /download", f"Range: bytes=0-{len(self._content) - 1}"))
        async with asyncio.timeout(PATIENCE_S):
            await reader.readuntil(b"\r\n\r\n")
        self._begin()
        step = int(self._rate * self._pace_s)
        for at in range(0, len(self._content), step):
            expected = self._content[at : at + step]
            moved[0] = loop.time()
            async with asyncio.timeout(STANDSTILL_S):
                if await reader.readexactly(len(expected)) != expected:
                    raise ValueError("other bytes")
            took_s = loop.time() - moved[0]
            if took_s * 1000 > STALL_MS:
                self._result.stalls.append((round(moved[0], 3), round(took_s * 1000, 1)))
            if self._ending.is_set():
                return  # it came on until now
            await asyncio.sleep(self._pace_s - took_s)

    async def _upload(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, moved: list[float]) -> None:
        """As `_download`."""
        loop, name = asyncio.get_running_loop(), next(self._names)
        writer.transport.set_write_buffer_limits(0)
        writer.write(self._request(f"PUT /upload/{name}", "Transfer-Encoding: chunked"))
        self._begin()
        step, sent = int(self._rate * self._pace_s), 0
        for at in range(0, len(self._content), step):
            if writer.is_closing():
                raise EOFError("reset meanwhile")
            moved[0] = loop.time()
            chunk = self._content[at : at + step]
            writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            sent += len(chunk)
            async with asyncio.timeout(STANDSTILL_S):
                await writer.drain()
            if self._ending.is_set():
                break
            await asyncio.sleep(self._pace_s - (loop.time() - moved[0]))
        writer.write(b"0\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            status = await reader.readline()
        if status.split()[1] not in (b"201", b"204"):
            raise ValueError(f"answered {status!r}")
        self._result.uploads[name] = sent

    async def _use_twice(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, writer, opened_s = await self._connect()
        except (OSError, TimeoutError):
            self._result.unopened += 1
            return
        self._result.opened_s.append(opened_s)
        loop = asyncio.get_running_loop()
        used_s = loop.time()
        try:
            first = await self._page(reader, writer)
            await _idle(reader)
            used_s = loop.time()
            if await self._page(reader, writer) != first:
                raise ValueError("another server answered")
        except TimeoutError:
            self._result.lost_s.append((opened_s, used_s))
        except (OSError, EOFError, ValueError):
            self._result.lost_s.append((opened_s, loop.time()))
        finally:
            writer.close()

    async def _page(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """The first line of the body: which real this is."""
        if writer.is_closing():
            raise EOFError("reset meanwhile")
        writer.write(self._request("GET /"))
        async with asyncio.timeout(PATIENCE_S):
            await reader.readuntil(b"\r\n\r\n")
            return await reader.readline()


async def _idle(reader: asyncio.StreamReader) -> None:
    """For HOLD_S. Raises as soon as the other end says anything: all that it can say then is that it is over."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(HOLD_S):
            await reader.readexactly(1)
            raise ValueError("more than was asked for")


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("address")
    parser.add_argument("--seconds", type=float, default=60.0, help="at most")
    parser.add_argument("--transfers", type=int, default=4, help="so many downloads and so many uploads")
    parser.add_argument("--rate", type=int, default=RATE, help="bytes a second of each")
    parser.add_argument("--interval-ms", type=float, default=5.0, help="between connections that are used twice")
    given = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    clients = Clients(given.address, given.seconds, given.transfers, given.interval_ms / 1000, given.rate)
    print(json.dumps(asdict(uvloop.run(clients.run()))), flush=True)


if __name__ == "__main__":
    main()
