"""https, http2 and http_proxy against nginx, grpc against gRPC's own server: TLS, logins, and who is asked for what."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import grpc
import pytest
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from tests.probes.asking import judge, once, outcome, target
from tests.probes.certificates import NAME, Authority
from tests.probes.processes import directory, run
from tests.servers import free_port, nginx

PAGE = "I am fine\n"
_CONFIG = """
    server {{
        listen 127.0.0.1:{ports.http};
        listen 127.0.0.1:{ports.h2c} http2;
        listen 127.0.0.1:{ports.https} ssl http2;
        ssl_certificate {pair.certificate};
        ssl_certificate_key {pair.key};
        root {path};
        location = /who {{
            auth_basic us; auth_basic_user_file {path}/users; alias {path}/health.txt; }}
        location = /name {{ return 200 "$http_host $ssl_server_name $server_protocol"; }}
        location = /gone {{ return 410; }}
        location = /moved {{ return 301 /health.txt; }}
        location = /large {{ }}
    }}
    server {{
        listen 127.0.0.1:{ports.old} ssl;
        ssl_certificate {old.certificate};
        ssl_certificate_key {old.key};
        location / {{ return 200 "old"; }}
    }}
    server {{
        listen 127.0.0.1:{ports.mutual} ssl http2;
        ssl_certificate {pair.certificate};
        ssl_certificate_key {pair.key};
        ssl_client_certificate {ca};
        ssl_verify_client on;
        location / {{ return 200 "hello $ssl_client_s_dn"; }}
    }}
    server {{
        listen 127.0.0.1:{ports.proxy};
        location / {{ return 200 "through $host for $http_proxy_authorization"; }}
    }}
"""


class Ports(NamedTuple):
    http: int
    h2c: int
    https: int
    old: int
    mutual: int
    proxy: int


@pytest.fixture(scope="module")
def web(authority: Authority) -> Iterator[Ports]:
    ports = Ports(*(free_port() for _ in range(6)))
    with directory() as path:
        (path / "health.txt").write_text(PAGE)
        (path / "large").write_bytes(b"x" * (3 << 20))
        run("sh", "-c", f"printf 'jane:%s\\n' \"$(openssl passwd -apr1 hunter2)\" > {path}/users")
        pair, old = authority.pair(days=100), authority.pair(days=-3)
        config = _CONFIG.format(ports=ports, path=path, pair=pair, old=old, ca=authority.ca)
        with nginx(path, config, ports.proxy):
            yield ports


WEB = pytest.mark.parametrize(
    ("name", "service", "tls"),
    [("http", "http", "off"), ("https", "https", "off"), ("h2c", "http2", "off"), ("https", "http2", "on")],
    ids=["http", "https", "http2", "http2-tls"],
)


@WEB
class TestEach:
    def test_a_page(self, web: Ports, name: str, service: str, tls: str) -> None:
        asked = {"tls": tls, "request": "/health.txt"}
        port = getattr(web, name)
        assert judge(port, service, **asked, receive="fine") == (True, "status 200")
        assert judge(port, service, **asked, receive="ill") == (False, "body does not match 'ill'")
        assert judge(port, service, **asked, refuse="fine") == (False, "body matches 'fine', which it must not")

    def test_a_status(self, web: Ports, name: str, service: str, tls: str) -> None:
        port = getattr(web, name)
        assert judge(port, service, tls=tls, request="/gone") == (False, "status 410, expected 2xx")
        assert judge(port, service, tls=tls, request="/gone", status=(410,)) == (True, "status 410")

    def test_a_digest(self, web: Ports, name: str, service: str, tls: str) -> None:
        asked = {"tls": tls, "request": "/health.txt"}
        port = getattr(web, name)
        for algorithm in ("md5", "sha256"):
            digest = hashlib.new(algorithm, PAGE.encode()).hexdigest()
            assert judge(port, service, **asked, digest=digest.upper()) == (True, "status 200")
            ok, reason = judge(port, service, **asked, digest="0" * len(digest))
            assert not ok
            assert reason.startswith(f"{algorithm} of the body is {digest[:8]}")

    def test_a_login(self, web: Ports, name: str, service: str, tls: str) -> None:
        port = getattr(web, name)
        assert judge(port, service, tls=tls, request="/who") == (False, "status 401, expected 2xx")
        asked = {"tls": tls, "request": "/who", "login": "jane"}
        assert judge(port, service, **asked, passwd="hunter2") == (True, "status 200")
        assert judge(port, service, **asked, passwd="swordfish") == (False, "status 401, expected 2xx")

    def test_head(self, web: Ports, name: str, service: str, tls: str) -> None:
        assert judge(getattr(web, name), service, tls=tls, request="/health.txt", method="HEAD")[0]

    def test_the_first_mebibyte_is_looked_at(self, web: Ports, name: str, service: str, tls: str) -> None:
        assert judge(getattr(web, name), service, tls=tls, request="/large", receive="^x+$") == (True, "status 200")


TLS = pytest.mark.parametrize(("service", "tls"), [("https", "off"), ("http2", "on")])


@TLS
class TestCertificates:
    def test_who_signed_it(self, web: Ports, authority: Authority, service: str, tls: str) -> None:
        asked = {"tls": tls, "request": "/health.txt"}
        assert judge(web.https, service, **asked, ca=str(authority.ca))[0]
        ok, reason = judge(web.https, service, **asked, verify=True)
        assert (ok, reason) == (False, "TLS: unable to get local issuer certificate")

    def test_in_which_name(self, web: Ports, authority: Authority, service: str, tls: str) -> None:
        asked = {"tls": tls, "request": "/name", "ca": str(authority.ca)}
        assert judge(web.https, service, **asked, sni=NAME, receive=f"^127.0.0.1:{web.https} {NAME} ")[0]
        assert judge(web.https, service, **asked, virtualhost=NAME, receive=f"^{NAME} {NAME} ")[0]
        ok, reason = judge(web.https, service, **asked, virtualhost="other.test")
        assert (ok, reason[:22]) == (False, "TLS: Hostname mismatch")
        assert judge(web.https, service, **asked, virtualhost="other.test", sni=NAME, receive="^other.test")[0]

    def test_until_when(self, web: Ports, service: str, tls: str) -> None:
        asked = {"tls": tls, "request": "/health.txt"}
        assert outcome(web.https, service, **asked).warning == ""
        assert outcome(web.https, service, **asked, expiry=200 * 86400.0).warning.startswith("certificate expires on 2")

    def test_with_ours(self, web: Ports, authority: Authority, service: str, tls: str) -> None:
        assert judge(web.mutual, service, tls=tls) == (False, "status 400, expected 2xx")
        ours = authority.pair("client")
        asked = {"tls": tls, "certificate": str(ours.certificate), "key": str(ours.key), "receive": "hello CN=client"}
        assert judge(web.mutual, service, **asked) == (True, "status 200")


def test_a_certificate_that_has_ended(web: Ports, authority: Authority) -> None:
    said = outcome(web.old, "https")
    assert said.ok
    assert said.warning.startswith("certificate expired on 20")
    assert judge(web.old, "https", ca=str(authority.ca)) == (False, "TLS: certificate has expired")


def test_http2_from_a_server_that_does_not_speak_it(web: Ports) -> None:
    verdicts = ("the server does not offer HTTP/2 (ALPN)", "TLS: tlsv1 alert no application protocol")
    ok, reason = judge(web.old, "http2", tls="on")
    assert (ok, reason in verdicts) == (False, True)
    ok, reason = judge(web.http, "http2")
    assert not ok
    assert reason.startswith(("not HTTP/2: ", "closed "))


def test_through_a_proxy(web: Ports) -> None:
    asked = {"request": "http://elsewhere.invalid/health"}
    assert judge(web.proxy, "http_proxy", **asked, receive="^through elsewhere.invalid") == (True, "status 200")
    asked |= {"login": "jane", "passwd": "hunter2"}
    assert judge(web.proxy, "http_proxy", **asked, receive="for Basic amFuZTpodW50ZXIy$") == (True, "status 200")


class Grpc(NamedTuple):
    plain: int
    tls: int


@pytest.fixture(scope="module")
def grpc_server(authority: Authority) -> Iterator[Grpc]:
    pair = authority.pair()
    server = grpc.server(ThreadPoolExecutor(2))
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    servicer.set("shop.Cart", health_pb2.HealthCheckResponse.NOT_SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    credentials = grpc.ssl_server_credentials([(pair.key.read_bytes(), pair.certificate.read_bytes())])
    ports = Grpc(server.add_insecure_port("127.0.0.1:0"), server.add_secure_port("127.0.0.1:0", credentials))
    server.start()
    yield ports
    server.stop(None).wait()


def judge_grpc(port: int, **check: Any) -> tuple[bool, str]:
    """As judge; the server has descriptors of its own in this process, which come and go."""
    said = uvloop.run(once(target(port, "grpc", **check)))
    return said.ok, said.reason


@pytest.mark.parametrize("tls", ["off", "on"])
class TestGrpc:
    def test_the_server_as_a_whole(self, grpc_server: Grpc, tls: str) -> None:
        assert judge_grpc(grpc_server[tls == "on"], tls=tls) == (True, "SERVING")

    def test_a_service(self, grpc_server: Grpc, tls: str) -> None:
        assert judge_grpc(grpc_server[tls == "on"], tls=tls, request="shop.Cart") == (False, "NOT_SERVING")

    def test_a_service_that_is_not_there(self, grpc_server: Grpc, tls: str) -> None:
        verdict = judge_grpc(grpc_server[tls == "on"], tls=tls, request="shop.Attic")
        assert verdict == (False, "the server does not know the service 'shop.Attic'")


def test_grpc_verifies(grpc_server: Grpc, authority: Authority) -> None:
    assert judge_grpc(grpc_server.tls, tls="on", ca=str(authority.ca), sni=NAME) == (True, "SERVING")
    assert judge_grpc(grpc_server.tls, tls="on", verify=True)[0] is False


def test_a_grpc_server_without_a_health_service() -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    assert judge_grpc(port) == (False, "the server has no health service")
    server.stop(None).wait()


def test_grpc_of_a_web_server(web: Ports) -> None:
    assert judge(web.h2c, "grpc") == (False, "status 404, expected 200")
