"""The http and https probes against a real nginx and against every kind of bad server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any, NamedTuple

import pytest
import uvloop

from lb.health import Outcome
from lb.model import Check
from lb.probes import Target, ask, open_tools
from lb.probes.base import LIMIT
from lb.service import ServiceKey
from tests.servers import (
    Handler,
    bad_certificate,
    close_at_once,
    free_port,
    nginx,
    open_files,
    page,
    says,
    serve,
    silent,
    until,
)

LOOPBACK = IPv4Address("127.0.0.1")
VIRTUAL = ServiceKey(IPv4Address("192.168.1.105"), 80, 6)
SHORT_S = 0.2
"""The timeout where the server is never going to answer."""


def target(port: int, **check: Any) -> Target:
    return Target(LOOPBACK, port, Check(type="negotiate", **{"timeout": 5.0, **check}), VIRTUAL)


async def ask_once(asked: Target) -> Outcome:
    tools = open_tools()
    try:
        return await ask(asked, tools)
    finally:
        await tools.close()


def judge(port: int, **check: Any) -> tuple[bool, str]:
    """What one check says of a server that runs elsewhere."""
    outcome = uvloop.run(ask_once(target(port, **check)))
    return outcome.ok, outcome.reason


def judge_server(handler: Handler, **check: Any) -> tuple[bool, str]:
    """What one check says of a server with this handler; no descriptor may stay open."""

    async def main() -> Outcome:
        async with serve(handler) as served:
            return await ask_once(target(served.port, **check))

    before = open_files()
    outcome = uvloop.run(main())
    assert not open_files() - before
    return outcome.ok, outcome.reason


class Nginx(NamedTuple):
    http: int
    https: int


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    directory = tmp_path_factory.mktemp("nginx")
    certificate, key = bad_certificate(directory)
    ports = Nginx(free_port(), free_port())
    (directory / "ldirector.html").write_text("<html>Test Page</html>\n")
    (directory / "umlaut.html").write_bytes("Größe".encode("latin-1"))
    pages = f"""
        root {directory};
        listen 127.0.0.1:{ports.http};
        listen 127.0.0.1:{ports.https} ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        location = /teapot {{ return 418; }}
        location = /error {{ return 500 "Test Page"; }}
        location = /echo {{ return 200 "$request_method $host $http_host sni=$ssl_server_name $args"; }}
        location = /away {{ return 302 http://elsewhere.invalid/; }}
        location = /moved {{ return 301 /ldirector.html; }}
        location = /to-virtual {{ return 302 $scheme://192.168.1.105/ldirector.html; }}
        location = /to-https {{ return 302 https://$host:{ports.https}/ldirector.html; }}
        location = /loop {{ return 302 /loop; }}
        location = /hop {{ return 302 $scheme://192.168.1.105/hop-back; }}
        location = /hop-back {{ return 302 $scheme://www.example.com/only-here; }}
    """
    http = f"""
        server {{ server_name _; {pages} }}
        server {{ server_name www.example.com; {pages} location = /only-here {{ return 200 "named"; }} }}
    """
    with nginx(directory, http, ports.https):
        yield ports


class TestNginx:
    def test_the_seeds_own_check(self, web: Nginx) -> None:
        verdict = judge(web.http, request="/ldirector.html", receive="Test Page")
        assert verdict == (True, "status 200")

    def test_receive_is_a_regular_expression(self, web: Nginx) -> None:
        assert judge(web.http, request="/ldirector.html", receive=r"^<html>T\w+ P(?!x)age</") == (True, "status 200")

    def test_another_body(self, web: Nginx) -> None:
        verdict = judge(web.http, request="/ldirector.html", receive="Best Page")
        assert verdict == (False, "body does not match 'Best Page'")

    def test_a_body_that_is_not_utf8(self, web: Nginx) -> None:
        assert judge(web.http, request="/umlaut.html", receive="Größe") == (True, "status 200")

    def test_a_status_that_is_not_2xx(self, web: Nginx) -> None:
        assert judge(web.http, request="/missing") == (False, "status 404, expected 2xx")

    def test_the_right_body_under_the_wrong_status(self, web: Nginx) -> None:
        assert judge(web.http, request="/error", receive="Test Page") == (False, "status 500, expected 2xx")

    def test_the_status_that_was_asked_for(self, web: Nginx) -> None:
        assert judge(web.http, request="/teapot", status=(418,)) == (True, "status 418")
        verdict = judge(web.http, request="/ldirector.html", status=(201, 418))
        assert verdict == (False, "status 200, expected 201, 418")

    def test_method_host_and_query_arrive_as_written(self, web: Nginx) -> None:
        seen = f"^GET 127.0.0.1 127.0.0.1:{web.http} sni= a=1&b=%20x$"
        assert judge(web.http, request="/echo?a=1&b=%20x", receive=seen) == (True, "status 200")

    def test_head_has_no_body(self, web: Nginx) -> None:
        assert judge(web.http, request="/ldirector.html", method="HEAD") == (True, "status 200")

    def test_virtualhost_reaches_the_server_of_that_name(self, web: Nginx) -> None:
        name = "www.example.com"
        assert judge(web.http, request="/only-here", virtualhost=name, receive="named") == (True, "status 200")
        assert judge(web.http, request="/only-here") == (False, "status 404, expected 2xx")

    def test_certificates_are_not_verified(self, web: Nginx) -> None:
        verdict = judge(web.https, service="https", request="/ldirector.html", receive="Test Page")
        assert verdict == (True, "status 200")

    def test_virtualhost_is_also_the_name_in_tls(self, web: Nginx) -> None:
        name = "www.example.com"
        seen = f"^GET {name} {name} sni={name} $"
        verdict = judge(web.https, service="https", request="/echo", virtualhost=name, receive=seen)
        assert verdict == (True, "status 200")

    def test_tls_at_a_port_that_speaks_none(self, web: Nginx) -> None:
        verdict = judge(web.http, service="https")
        assert verdict in ((False, "TLS: wrong version number"), (False, "TLS: record layer failure"))

    def test_plain_http_at_a_port_that_speaks_tls(self, web: Nginx) -> None:
        assert judge(web.https, request="/ldirector.html") == (False, "status 400, expected 2xx")


class TestRedirects:
    def test_the_final_answer_counts(self, web: Nginx) -> None:
        assert judge(web.http, request="/moved", receive="Test Page") == (True, "status 200")

    def test_under_the_virtuals_address_this_real_is_asked(self, web: Nginx) -> None:
        assert judge(web.http, request="/to-virtual", receive="Test Page") == (True, "status 200")

    def test_under_the_virtualhost_this_real_is_asked(self, web: Nginx) -> None:
        name = f"www.example.com:{web.http}"
        assert judge(web.http, request="/moved", virtualhost=name, receive="Test Page") == (True, "status 200")

    def test_from_name_to_name_and_back(self, web: Nginx) -> None:
        verdict = judge(web.http, request="/hop", virtualhost="www.example.com", receive="named")
        assert verdict == (True, "status 200")
        ok, reason = judge(web.http, request="/hop")
        assert (ok, reason[:40]) == (False, "redirected to 'http://www.example.com/on")

    @pytest.mark.parametrize("page", ["/away", "/to-https"])
    def test_elsewhere_is_a_failure_and_is_not_asked(self, web: Nginx, page: str) -> None:
        ok, reason = judge(web.http, request=page)
        assert not ok
        assert reason.startswith("redirected to 'http")
        assert reason.endswith("', which is not this real")

    def test_one_that_was_asked_for_is_not_followed(self, web: Nginx) -> None:
        assert judge(web.http, request="/away", status=(302,)) == (True, "status 302")

    def test_without_an_end(self, web: Nginx) -> None:
        assert judge(web.http, request="/loop") == (False, "more than 5 redirects")

    def test_to_what_is_no_address(self) -> None:
        broken = page(b"", "302 Found", "Location: http://[::1/\r\n")
        assert judge_server(says(broken)) == (False, "redirected to 'http://[::1/', which is not this real")

    def test_to_nowhere(self) -> None:
        assert judge_server(says(page(b"", "302 Found"))) == (False, "status 302, expected 2xx")


class TestBadServers:
    def test_nobody_listens(self) -> None:
        assert judge(free_port()) == (False, "refused")
        assert judge(free_port(), service="https") == (False, "refused")

    @pytest.mark.parametrize("service", ["http", "https"])
    def test_silence(self, service: str) -> None:
        assert judge_server(silent, service=service, timeout=SHORT_S) == (False, "no answer within 200ms")

    @pytest.mark.parametrize(
        "pieces",
        [
            [b"HTTP/1.1 200 OK\r\nX: ", *[b"x"] * 1000],
            [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", *[b"x"] * 1000],
            [b"HTTP/1.1 100 Continue\r\n\r\n"] * 1000,
        ],
        ids=["head", "body", "continue"],
    )
    def test_drop_by_drop(self, pieces: list[bytes]) -> None:
        slow = says(*pieces, pause_s=SHORT_S / 10)
        assert judge_server(slow, timeout=SHORT_S) == (False, "no answer within 200ms")

    @pytest.mark.parametrize("service", ["http", "https"])
    def test_closed_at_once(self, service: str) -> None:
        ok, reason = judge_server(close_at_once, service=service)
        assert not ok
        assert reason in ("closed before answering", "connection reset by peer")

    def test_closed_after_the_question(self) -> None:
        assert judge_server(says()) == (False, "closed before answering")

    def test_closed_within_the_head(self) -> None:
        assert judge_server(says(b"HTTP/1.1 200 OK\r\nContent-Le")) == (False, "closed before answering")

    def test_closed_within_the_body(self) -> None:
        half = page(b"Test Page" * 10)[:-5]
        assert judge_server(says(half), receive="Test Page") == (False, "closed in the middle of the answer")

    def test_closed_within_a_chunk(self) -> None:
        half = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nTest Page\r\n"
        assert judge_server(says(half), receive="Test Page") == (False, "closed in the middle of the answer")

    def test_a_body_that_ends_with_the_connection(self) -> None:
        old = b"HTTP/1.0 200 OK\r\n\r\nTest Page"
        assert judge_server(says(old), receive="^Test Page$") == (True, "status 200")

    @pytest.mark.parametrize("garbage", [b"\x00\xff\xfe" * 500, b"220 mail.example.com ESMTP\r\n", b"{}\r\n\r\n"])
    def test_not_http(self, garbage: bytes) -> None:
        ok, reason = judge_server(says(garbage))
        assert not ok
        assert reason.startswith("not HTTP: ")
        assert len(reason) < 120

    def test_a_head_without_end(self) -> None:
        ok, reason = judge_server(says(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 100_000, hang=True))
        assert not ok
        assert reason.startswith("not HTTP: ")

    def test_garbage_instead_of_tls(self) -> None:
        async def garbage(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"\x16\x03\x03garbage" * 100)
            await writer.drain()

        ok, reason = judge_server(garbage, service="https")
        assert not ok
        assert reason.startswith("TLS: ")

    def test_a_compressed_answer_that_nobody_asked_for_is_not_unpacked(self) -> None:
        packed = page(b"\x1f\x8b" + bytes(100), headers="Content-Encoding: gzip\r\n")
        assert judge_server(says(packed), receive="^\x1f") == (True, "status 200")


class TestEndlessBody:
    """A body that never ends is judged by its first MiB, and no more of it is fetched."""

    @staticmethod
    def flood(start: bytes) -> tuple[Outcome, int]:
        sent = 0

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + start)
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
                sent += 65536

        async def main() -> Outcome:
            async with serve(handler) as served:
                return await ask_once(target(served.port, receive="Test Page"))

        return uvloop.run(main()), sent

    def test_what_is_looked_for_stands_early(self) -> None:
        outcome, sent = self.flood(b"Test Page")
        assert (outcome.ok, outcome.reason) == (True, "status 200")
        assert sent < LIMIT + 16 * 2**20  # what was in the kernel's buffers comes on top

    def test_what_is_looked_for_never_comes(self) -> None:
        outcome, sent = self.flood(b"")
        assert (outcome.ok, outcome.reason) == (False, "body does not match 'Test Page'")
        assert sent < LIMIT + 16 * 2**20


def test_probes_of_one_checker_do_not_wait_for_one_another() -> None:
    """Two hundred reals that hang, then one that does not: it is judged while all of them are still being asked."""

    async def main() -> tuple[Outcome, int, list[bool]]:
        tools = open_tools()
        async with serve(silent) as dead, serve(says(page(b"Test Page"))) as well:
            hanging = [asyncio.create_task(ask(target(dead.port, timeout=60.0), tools)) for _ in range(200)]
            await until(lambda: dead.connections == 200)
            outcome = await ask(target(well.port), tools)
            unfinished = [not task.done() for task in hanging]
            for task in hanging:
                task.cancel()
            await asyncio.gather(*hanging, return_exceptions=True)
            await tools.close()
            return outcome, dead.connections, unfinished

    outcome, connections, unfinished = uvloop.run(main())
    assert outcome.ok
    assert connections == 200
    assert all(unfinished)
