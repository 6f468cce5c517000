"""One check, asked once: what every test here does."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import uvloop

from lb.health import Outcome
from lb.model import Check
from lb.probes import Target, ask, open_tools
from lb.service import PROTOCOL_NUMBERS, ServiceKey
from tests.servers import Handler, open_files, serve

LOOPBACK = IPv4Address("127.0.0.1")
VIRTUAL = IPv4Address("192.168.1.105")
PATIENT_S = 10.0
"""The timeout where the server is going to answer."""
SHORT_S = 0.1
"""The timeout where it is not."""
SHORT = "no answer within 100ms"


def target(port: int, service: str | None = None, over: str = "tcp", **check: Any) -> Target:
    """A real on loopback. service: makes it a negotiate check. over: the virtual's protocol."""
    kind = {"type": "negotiate", "service": service} if service else {}
    key = ServiceKey(VIRTUAL, port, PROTOCOL_NUMBERS[over])
    return Target(LOOPBACK, port, Check(**{"timeout": PATIENT_S, **kind, **check}), key)


async def once(asked: Target) -> Outcome:
    """What one check says. Inside a loop."""
    tools = open_tools()
    try:
        return await ask(asked, tools)
    finally:
        await tools.close()


def outcome(port: int, service: str | None = None, over: str = "tcp", **check: Any) -> Outcome:
    """What one check says of a server that runs elsewhere; no descriptor may stay open."""
    before = open_files()
    said = uvloop.run(once(target(port, service, over, **check)))
    assert not open_files() - before
    return said


def judge(port: int, service: str | None = None, over: str = "tcp", **check: Any) -> tuple[bool, str]:
    """The same, only verdict and reason."""
    said = outcome(port, service, over, **check)
    return said.ok, said.reason


def judge_served(handler: Handler, service: str | None = None, **check: Any) -> tuple[bool, str]:
    """What one check says of a server with this handler."""

    async def main() -> Outcome:
        async with serve(handler) as served:
            return await once(target(served.port, service, **check))

    said = uvloop.run(main())
    return said.ok, said.reason
