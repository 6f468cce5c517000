"""Clients that never stop: many connections, each asking again and again who it is connected to.

    python streaming.py ADDRESS TCP_PORT UDP_PORT CONNECTIONS    until its input ends; then says what happened, as JSON

Every connection knows who answered first, and nobody else may ever answer it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Awaitable
from dataclasses import asdict, dataclass, field

PAUSE_S = 0.05
ANSWERED_S = 20.0
"""A machine may be slow; a packet that is lost is not heard of again for as long as it is established that it is."""
RETRANSMITTED = 100
"""Offset of tcpi_total_retrans in struct tcp_info (linux/tcp.h)."""


@dataclass
class Told:
    """reals: connections by who has them. wrong: what should never have happened."""

    connections: int = 0
    questions: int = 0
    retransmitted: int = 0
    reals: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def heard(self, connection: str, real: str, first: str | None) -> str:
        """Who answered now, who did at first. Returns that."""
        self.questions += 1
        if first is None:
            self.connections += 1
            self.reals[real] = self.reals.get(real, 0) + 1
        elif real != first:
            self.wrong.append(f"{connection}: {first}, then {real}")
        return real if first is None else first


async def ask_by_tcp(address: str, port: int, ended: asyncio.Event, told: Told) -> None:
    """One connection of HTTP."""
    first = None
    reader, writer = await asyncio.open_connection(address, port)
    name = f"tcp {writer.get_extra_info('sockname')[1]}"
    while not ended.is_set():
        writer.write(b"GET / HTTP/1.1\r\nHost: stream\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        first = told.heard(name, (await reader.readexactly(length)).decode().strip(), first)
        await asyncio.sleep(PAUSE_S)
    info = writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, RETRANSMITTED + 4)
    told.retransmitted += int.from_bytes(info[RETRANSMITTED:], sys.byteorder)
    writer.close()


async def ask_by_udp(address: str, port: int, ended: asyncio.Event, told: Told) -> None:
    """One socket's datagrams."""
    loop, first = asyncio.get_running_loop(), None
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.setblocking(False)
        asking.connect((address, port))
        name = f"udp {asking.getsockname()[1]}"
        while not ended.is_set():
            await loop.sock_sendall(asking, b"?")
            first = told.heard(name, (await loop.sock_recv(asking, 100)).decode().strip(), first)
            await asyncio.sleep(PAUSE_S)


async def watched(asking: Awaitable[None], name: str, told: Told) -> None:
    """Whatever ends a connection before its time is wrong."""
    try:
        await asking
    except (OSError, EOFError, TimeoutError) as error:
        told.wrong.append(f"{name}: {error!r}")


async def main() -> None:
    """A tenth of the connections at once, the others in the course of time."""
    address, tcp, udp, most = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    told, ended, asking = Told(), asyncio.Event(), []
    loop = asyncio.get_running_loop()

    def end() -> None:
        ended.set()
        loop.remove_reader(sys.stdin)

    loop.add_reader(sys.stdin, end)
    for number in range(most):
        ask, port = (ask_by_udp, udp) if number % 4 == 0 else (ask_by_tcp, tcp)
        asking.append(asyncio.create_task(watched(ask(address, port, ended, told), f"{ask.__name__} {number}", told)))
        if number == most // 10:
            print("begun", flush=True)
        if number > most // 10 and not ended.is_set():
            await asyncio.sleep(PAUSE_S)
    await ended.wait()
    _, silent = await asyncio.wait(asking, timeout=ANSWERED_S)
    told.wrong += [f"{len(silent)} were not answered at the end"] * bool(silent)
    print(json.dumps(asdict(told)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
