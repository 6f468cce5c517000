"""Ping witnesses on real ICMP: root, but loopback only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest
from scapy.packet import Raw

from ha.witness import Witnesses, answers, checksum, echo_request

HERE = IPv4Address("127.0.0.1")
LIVING = (IPv4Address("127.0.0.2"), IPv6Address("::1"))
SILENT = (IPv4Address("127.255.255.255"), IPv6Address("2001:db8::1"))
"""The broadcast address of loopback: nothing answers a ping to it. One that no route leads to from loopback."""


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_who_answers_is_counted(run: Callable[[Coroutine[Any, Any, None]], None]) -> None:
    async def scenario() -> None:
        counts: asyncio.Queue[int] = asyncio.Queue()
        witnesses = Witnesses(HERE, time.monotonic, counts.put_nowait)
        running = asyncio.create_task(witnesses.run())
        try:
            async with asyncio.timeout(10):
                witnesses.configure((*LIVING, *SILENT), deadtime_s=0.5)
                while await counts.get() != 2:
                    pass
                assert witnesses.silent == SILENT
                witnesses.configure(SILENT, deadtime_s=0.5)
                while await counts.get() != 0:
                    pass
            assert not running.done()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    run(scenario())


def test_the_request_is_what_scapy_would_send() -> None:
    theirs = ICMP(type=8, id=0x1234, seq=7) / Raw(b"lbctl witness")
    assert echo_request(4, 0x1234, 7) == bytes(theirs)
    theirs6 = ICMPv6EchoRequest(id=0x1234, seq=7, data=b"lbctl witness", cksum=0)
    assert echo_request(6, 0x1234, 7) == bytes(theirs6), "the kernel adds the checksum"


@given(st.binary(max_size=64))
def test_the_checksum_of_a_message_with_its_checksum_is_zero(data: bytes) -> None:
    data += bytes(len(data) % 2)
    assert checksum(data + checksum(data).to_bytes(2, "big")) == 0


def test_only_an_echo_reply_to_us_counts() -> None:
    def packet(kind: int = 0, code: int = 0) -> bytes:
        return bytes(IP(src="127.0.0.2", dst="127.0.0.1") / ICMP(type=kind, code=code, id=5))

    assert answers(4, packet(), 5)
    assert not answers(4, packet(), 6)
    assert not answers(4, packet(kind=8), 5)
    assert not answers(4, packet(code=1), 5)
    for length in range(28):
        assert not answers(4, packet()[:length], 5)


def test_only_an_echo_reply_of_icmpv6_to_us_counts() -> None:
    reply = bytes(ICMPv6EchoReply(id=5))
    assert answers(6, reply, 5)
    assert not answers(6, reply, 6)
    assert not answers(6, bytes(ICMPv6EchoRequest(id=5)), 5)
    assert not answers(6, bytes(ICMPv6EchoReply(id=5, code=1)), 5)
    for length in range(8):
        assert not answers(6, reply[:length], 5)


@given(st.sampled_from([4, 6]), st.binary(max_size=60))
def test_random_packets_do_not_raise(version: int, packet: bytes) -> None:
    answers(version, packet, 5)
