"""simpletcp and simpleudp: what is sent, what is expected, as text and as bytes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from lb.health import Outcome
from tests.probes.asking import PATIENT_S, SHORT, SHORT_S, judge_served, once, target
from tests.probes.certificates import NAME, Authority
from tests.servers import Handler, serve


def answers(answer: bytes, at_end: bool = False) -> Handler:
    """Answers once something, or everything, was said; echoes what that was behind it."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = await (reader.read() if at_end else reader.read(100))
        writer.write(answer + heard)
        await writer.drain()
        await asyncio.Event().wait()

    return handler


class TestTcp:
    @pytest.mark.parametrize(
        ("check", "passes"),
        [
            ({"request": "ruok", "receive": "imok"}, True),
            ({"request": "ruok", "receive": "^imok ruok$"}, True),
            ({"request": "ruok", "receive": "ruin"}, False),
            ({"request": "ruok", "receive_hex": "696d 6f6b"}, True),
            ({"request": "ruok", "receive_hex": "6X6dxx"}, True),
            ({"request": "ruok", "receive_hex": "6d"}, False),
            ({"request_hex": "00ff 0a", "receive_hex": "696d6f6b20 00FF0A"}, True),
            ({"request": "ruok", "receive": "imok", "refuse": "broken"}, None),
        ],
    )
    def test_what_comes(self, check: dict[str, str], passes: bool | None) -> None:
        """None: it could still go wrong, so the end is waited for, which does not come here."""
        limit_s = PATIENT_S if passes else SHORT_S
        ok, reason = judge_served(answers(b"imok "), "simpletcp", **check, timeout=limit_s)
        assert ok is (passes is True)
        assert reason == ("answered as expected" if passes else SHORT)

    def test_the_end_is_said(self) -> None:
        verdict = judge_served(answers(b"imok ", at_end=True), "simpletcp", request="ruok", receive="^imok ruok$")
        assert verdict == (True, "answered as expected")

    def test_a_greeting_needs_no_request(self) -> None:
        async def greets(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"first line\r\nsecond line\r\n")
            await writer.drain()
            await asyncio.Event().wait()

        assert judge_served(greets, "simpletcp", receive="^second line$") == (True, "answered as expected")

    def test_what_ends_without_fitting(self) -> None:
        async def ends(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"broken\n")

        verdict = judge_served(ends, "simpletcp", receive="fine")
        assert verdict == (False, "answer does not match 'fine'")
        assert judge_served(ends, "simpletcp", receive="b", refuse="broken")[0] is False
        ok, reason = judge_served(ends, "simpletcp", receive_hex="66xx")
        assert not ok
        assert reason == "answer begins with '62 72 6f 6b 65 6e 0a', which does not match '66xx'"

    def test_an_answer_in_pieces(self) -> None:
        async def drips(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for byte in b"I am fine\n":
                writer.write(bytes((byte,)))
                await writer.drain()
                await asyncio.sleep(0)
            await asyncio.Event().wait()

        assert judge_served(drips, "simpletcp", receive="^I am fine$")[0]

    def test_in_tls(self, authority: Authority) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*map(str, authority.pair()))

        async def main(**check: Any) -> Outcome:
            async with serve(answers(b"imok "), context) as served:
                return await once(target(served.port, "simpletcp", request="ruok", receive="imok", tls="on", **check))

        assert uvloop.run(main()).ok
        assert uvloop.run(main(ca=str(authority.ca), sni=NAME)).ok
        assert not uvloop.run(main(verify=True)).ok

    def test_a_weight(self) -> None:
        async def main() -> Outcome:
            async with serve(answers(b"load 40 ")) as served:
                asked = target(served.port, "simpletcp", request="x", receive="load ([0-9]+)", dynamic_weight=True)
                return await once(asked)

        assert uvloop.run(main()).weight == 40


class TestUdp:
    @staticmethod
    def judge(answer: Callable[[bytes], bytes], **check: Any) -> tuple[bool, str]:
        async def main() -> Outcome:
            class Peer(asyncio.DatagramProtocol):
                def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
                    self.transport = transport

                def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
                    self.transport.sendto(answer(data), addr)

            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_datagram_endpoint(Peer, local_addr=("127.0.0.1", 0))
            try:
                return await once(target(transport.get_extra_info("sockname")[1], "simpleudp", "udp", **check))
            finally:
                transport.close()

        said = uvloop.run(main())
        return said.ok, said.reason

    @pytest.mark.parametrize(
        ("check", "passes"),
        [
            ({"request": "ping", "receive": "^pong ping$"}, True),
            ({"request_hex": "00ff", "receive_hex": "706f6e67 20 00 ff"}, True),
            ({"request": "ping", "receive_hex": "706f6e68"}, False),
            ({"request": "ping", "receive": "gnop"}, False),
        ],
    )
    def test_what_comes(self, check: dict[str, str], passes: bool) -> None:
        assert self.judge(lambda heard: b"pong " + heard, **check)[0] is passes
