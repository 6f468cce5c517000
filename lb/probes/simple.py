"""`negotiate` over simpletcp and simpleudp: send what the configuration says, expect what it says.

TCP: the request is sent, our half is closed as ldirectord does it (where TLS does not forbid that), and what comes is
searched until it fits or ends. `^` and `$` are the ends of a line. UDP: one datagram, and one comes back.
"""

from __future__ import annotations

import regex

from lb.model import Check
from lb.probes.base import Failed, Seen, Target, Tools
from lb.probes.datagram import exchange
from lb.probes.dialogue import closed, dialogue
from lb.probes.match import fits, judge_text


async def tcp(target: Target, _tools: Tools) -> Seen:
    """Send, then read until what is expected has come."""
    check = target.check
    heard = bytearray()
    async with dialogue(target) as real:
        if request := request_of(check):
            real.send(request)
        real.end()
        async for piece in real.pieces():
            heard += piece
            if check.receive_hex and regex.match(pattern_of(check.receive_hex), heard, regex.DOTALL):
                break
            if not check.refuse and await fits(check, bytes(heard), lines=True):
                break
        warning = real.warning
    if not heard:
        raise closed(False)
    return Seen("answered as expected", warning, await _judge(check, bytes(heard)))


async def udp(target: Target, _tools: Tools) -> Seen:
    """Send one datagram and judge the one that comes back."""
    heard = await exchange(target, request_of(target.check))
    return Seen("answered as expected", weight=await _judge(target.check, heard))


async def _judge(check: Check, heard: bytes) -> int | None:
    if check.receive_hex and not regex.match(pattern_of(check.receive_hex), heard, regex.DOTALL):
        shown = " ".join(f"{byte:02x}" for byte in heard[:16])
        raise Failed(f"answer begins with {shown!r}, which does not match {check.receive_hex!r}")
    return await judge_text(check, heard, "answer", lines=True)


def request_of(check: Check) -> bytes:
    """The bytes to send."""
    return bytes.fromhex(check.request_hex) if check.request_hex else (check.request or "").encode()


def pattern_of(digits: str) -> bytes:
    """A regular expression for bytes in hexadecimal, where x is any digit."""
    text = "".join(digits.split()).lower()
    return b"".join(_byte(text[at : at + 2]) for at in range(0, len(text), 2))


def _byte(digits: str) -> bytes:
    highs = range(16) if digits[0] == "x" else (int(digits[0], 16),)
    lows = range(16) if digits[1] == "x" else (int(digits[1], 16),)
    return b"[" + b"".join(rb"\x%02x" % (16 * high + low) for high in highs for low in lows) + b"]"
