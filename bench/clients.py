"""What clients have under way while a director fails: long transfers both ways, and connections just opened.

Run in the lab's client by `bench.failover`. Prints a line as soon as every transfer has begun, and at the end one JSON
document, the fields of `Result`. Rates are held by small socket buffers: what has left the sender has been read.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import resource
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import uvloop

RATE = 1 << 20
"""Bytes a second of each transfer, unless another is asked for."""
BUFFER = 64 << 10
PACE_S = 0.05
CONNECT_S = 0.25
"""A connection that takes longer counts as not opened: its client's first SYN was lost."""
PATIENCE_S = 5.0
"""An established connection that is silent for longer is lost."""
HOLD_S = 2.0

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(slots=True)
class Result:
    """downloads, uploads: names of those that ended well; of an upload its server says so, its bytes are there to see.

    opened: connections opened one by one; unopened: those that were not. lost_s: when those were opened, by
    CLOCK_MONOTONIC, that did not answer at once or not when they were used again HOLD_S later.
    stall_ms: the longest time for which a download stood still.
    """

    downloads: list[str] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)
    opened: int = 0
    unopened: int = 0
    lost_s: list[float] = field(default_factory=list)
    stall_ms: float = 0.0


def content(size: int) -> bytes:
    """The first bytes of the lab's /download."""
    return hashlib.shake_128(b"").digest(size)


class Clients:
    """All of them, for `seconds`. The transfers are as long as that, and end later by as much as they stood still."""

    def __init__(self, address: str, seconds: float, transfers: int, interval_s: float, rate: int = RATE) -> None:
        self._address, self._seconds, self._interval_s, self._rate = address, seconds, interval_s, rate
        self._content = content(int(rate * seconds))
        self._names = [str(number) for number in range(transfers)]
        self._begun = 0
        self._all_begun = asyncio.Event()
        self._result = Result()

    async def run(self) -> Result:
        """Raises TimeoutError if the transfers do not begin."""
        async with asyncio.TaskGroup() as tasks:
            for name in self._names:
                tasks.create_task(self._download(name))
                tasks.create_task(self._upload(name))
            async with asyncio.timeout(PATIENCE_S):
                await self._all_begun.wait()
            print("under way", flush=True)
            loop = asyncio.get_running_loop()
            begun_s = loop.time()
            for number in range(int(self._seconds / self._interval_s)):
                await asyncio.sleep(begun_s + number * self._interval_s - loop.time())
                tasks.create_task(self._use_twice(loop.time()))
        return self._result

    def _begin(self) -> None:
        self._begun += 1
        if self._begun == 2 * len(self._names):
            self._all_begun.set()

    async def _connect(self) -> Streams:
        opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            opened.setsockopt(socket.SOL_SOCKET, option, BUFFER)
        try:
            await asyncio.get_running_loop().sock_connect(opened, (self._address, 80))
        except BaseException:
            opened.close()
            raise
        return await asyncio.open_connection(sock=opened, limit=BUFFER)

    def _request(self, line: str, *headers: str) -> bytes:
        return "\r\n".join((f"{line} HTTP/1.1", f"Host: {self._address}", *headers, "", "")).encode()

    def _chunks(self) -> Iterator[bytes]:
        step = int(self._rate * PACE_S)
        return (self._content[at : at + step] for at in range(0, len(self._content), step))

    async def _download(self, name: str) -> None:
        loop = asyncio.get_running_loop()
        reader, writer = await self._connect()
        try:
            writer.write(self._request("GET /download", f"Range: bytes=0-{len(self._content) - 1}"))
            await reader.readuntil(b"\r\n\r\n")
            self._begin()
            for chunk in self._chunks():
                asked_s = loop.time()
                async with asyncio.timeout(PATIENCE_S):
                    if await reader.readexactly(len(chunk)) != chunk:
                        return
                took_s = loop.time() - asked_s
                self._result.stall_ms = max(self._result.stall_ms, took_s * 1000)
                await asyncio.sleep(PACE_S - took_s)
            self._result.downloads.append(name)
        except (OSError, EOFError, TimeoutError):
            pass  # not among those that ended well
        finally:
            writer.close()

    async def _upload(self, name: str) -> None:
        loop = asyncio.get_running_loop()
        reader, writer = await self._connect()
        writer.transport.set_write_buffer_limits(0)
        try:
            writer.write(self._request(f"PUT /upload/{name}", f"Content-Length: {len(self._content)}"))
            self._begin()
            for chunk in self._chunks():
                asked_s = loop.time()
                if writer.is_closing():
                    return
                writer.write(chunk)
                async with asyncio.timeout(PATIENCE_S):
                    await writer.drain()
                await asyncio.sleep(PACE_S - (loop.time() - asked_s))
            async with asyncio.timeout(PATIENCE_S):
                status = await reader.readline()
            if status.split()[1] in (b"201", b"204"):
                self._result.uploads.append(name)
        except (OSError, IndexError, TimeoutError):
            pass
        finally:
            writer.close()

    async def _use_twice(self, now_s: float) -> None:
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await self._connect()
        except (OSError, TimeoutError):
            self._result.unopened += 1
            return
        self._result.opened += 1
        try:
            first = await self._page(reader, writer)
            await asyncio.sleep(HOLD_S)
            if await self._page(reader, writer) != first:
                raise ValueError("another server answered")
        except (OSError, EOFError, ValueError, TimeoutError):
            self._result.lost_s.append(now_s)
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


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("address")
    parser.add_argument("--seconds", type=float, default=5.0)
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
