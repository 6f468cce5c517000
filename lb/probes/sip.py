"""`negotiate` over sip: OPTIONS to the real, over UDP or TCP as the check or the virtual says; a 200 must come.

`login` is who asks (From and To, as ldirectord has it), `request` whom is asked for instead of the real itself.
Provisional answers are waited out. Source: RFC 3261 sections 8.1.1 and 11; RFC 3581 (rport).
"""

from __future__ import annotations

import asyncio
import secrets
import socket

from lb.addresses import with_port
from lb.probes.base import Failed, Seen, Target, Tools
from lb.probes.datagram import endpoint
from lb.probes.dialogue import Dialogue, dialogue
from lb.probes.match import decode, judge_text
from lb.service import PROTOCOL_NUMBERS
from lb.wording import show

VERSION = "SIP/2.0"
MOST_LINES = 200
"""Lines of one message's head."""


async def probe(target: Target, _tools: Tools) -> Seen:
    """Ask what the real can do."""
    check = target.check
    number = PROTOCOL_NUMBERS[check.protocol] if check.protocol else target.service.protocol
    head, warning = await (_tcp(target) if number == PROTOCOL_NUMBERS["tcp"] else _udp(target))
    status = head.partition("\n")[0].removeprefix(f"{VERSION} ").strip()
    if not status.startswith("200"):
        raise Failed(f"answered {show(status)}, expected 200")
    weight = await judge_text(check, head, "answer", lines=True)
    return Seen(f"answered {status[:100]}", warning, weight)


async def _udp(target: Target) -> tuple[str, str]:
    with endpoint(target) as connected:
        call = secrets.token_hex(8)
        connected.send(_options(target, "UDP", connected.getsockname(), call))
        while True:
            head = decode(await asyncio.get_running_loop().sock_recv(connected, 65536)).replace("\r\n", "\n")
            if not head.startswith(VERSION):
                raise Failed(f"not SIP: {show(head)}")
            if call in head and not _provisional(head):
                return head.partition("\n\n")[0], ""


async def _tcp(target: Target) -> tuple[str, str]:
    async with dialogue(target) as real:
        real.send(_options(target, "TLS" if target.check.encrypted else "TCP", real.address, secrets.token_hex(8)))
        while _provisional(head := await _head(real)):
            pass
        return head, real.warning


async def _head(real: Dialogue) -> str:
    lines = [await real.line()]
    if not lines[0].startswith(VERSION):
        raise Failed(f"not SIP: {show(lines[0])}")
    while line := await real.line():
        lines.append(line)
        if len(lines) > MOST_LINES:
            raise Failed(f"an answer of more than {MOST_LINES} lines")
    return "\n".join(lines)


def _provisional(head: str) -> bool:
    return head.startswith(f"{VERSION} 1")


def _options(target: Target, transport: str, us: tuple[str, int], call: str) -> bytes:
    check = target.check
    via = with_port(us[0], us[1])
    real = with_port(target.name, target.port)
    who = check.login or f"lbctl@{socket.gethostname()}"
    return "\r\n".join(
        (
            f"OPTIONS sip:{check.request or real} {VERSION}",
            f"Via: {VERSION}/{transport} {via};branch=z9hG4bK{call};rport",
            "Max-Forwards: 70",
            f"From: <sip:{who}>;tag={call}",
            f"To: <sip:{who}>",
            f"Call-ID: {call}@{us[0]}",
            "CSeq: 1 OPTIONS",
            f"Contact: <sip:lbctl@{via}>",
            "Accept: application/sdp",
            "Content-Length: 0",
            "",
            "",
        )
    ).encode()
