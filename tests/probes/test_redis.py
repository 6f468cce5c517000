"""redis against Redis, with users and passwords, in the clear and in TLS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.probes.asking import judge
from tests.probes.certificates import NAME, Authority
from tests.probes.processes import directory, listening, running
from tests.servers import free_port


class Ports(NamedTuple):
    plain: int
    tls: int


@pytest.fixture(scope="module")
def redis(authority: Authority) -> Iterator[Ports]:
    ports, pair = Ports(free_port(), free_port()), authority.pair()
    with directory() as path:
        words = {
            "bind": "127.0.0.1", "port": ports.plain, "tls-port": ports.tls, "tls-cert-file": pair.certificate,
            "tls-key-file": pair.key, "tls-ca-cert-file": authority.ca, "tls-auth-clients": "optional",
            "dir": path, "save": '""', "requirepass": "hunter2", "user": "jane on >swordfish ~* +@all",
        }  # fmt: skip
        config = path / "redis.conf"
        config.write_text("".join(f"{key} {value}\n" for key, value in words.items()))
        with running(["/usr/bin/redis-server", config], lambda: all(map(listening, ports)), path / "log"):
            yield ports


def test_a_ping(redis: Ports) -> None:
    assert judge(redis.plain, "redis", passwd="hunter2") == (True, "PING: PONG")
    assert judge(redis.plain, "redis", login="jane", passwd="swordfish") == (True, "PING: PONG")


def test_without_a_password(redis: Ports) -> None:
    assert judge(redis.plain, "redis") == (False, "PING: NOAUTH Authentication required.")


def test_with_a_wrong_one(redis: Ports) -> None:
    ok, reason = judge(redis.plain, "redis", passwd="trout")
    assert not ok
    assert reason.startswith("AUTH: WRONGPASS")


def test_any_command(redis: Ports) -> None:
    asked = {"passwd": "hunter2", "request": "INFO replication"}
    assert judge(redis.plain, "redis", **asked, receive="^role:master$", refuse="^role:slave$")[0]
    assert judge(redis.plain, "redis", **asked, receive="^role:slave$") == (
        False,
        "answer does not match '^role:slave$'",
    )


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ("SET 'a key' 7", "SET: OK"),
        ("INCR counter", "INCR: 1"),
        ("GET 'a key'", "GET: 7"),
        ("MGET 'a key' nothing", "MGET: 7"),
        ("GET nothing", "GET: "),
        ("COMMAND COUNT", "COMMAND: 2"),
    ],
)
def test_every_kind_of_answer(redis: Ports, request_: str, said: str) -> None:
    ok, reason = judge(redis.plain, "redis", passwd="hunter2", request=request_)
    assert ok
    assert reason.startswith(said)


def test_a_command_that_is_none(redis: Ports) -> None:
    ok, reason = judge(redis.plain, "redis", passwd="hunter2", request="BREW coffee")
    assert (ok, reason[:11]) == (False, "BREW: ERR u")


def test_a_database(redis: Ports) -> None:
    assert judge(redis.plain, "redis", passwd="hunter2", database="3", request="DBSIZE") == (True, "DBSIZE: 0")
    ok, reason = judge(redis.plain, "redis", passwd="hunter2", database="99")
    assert (ok, reason[:11]) == (False, "SELECT: ERR")


def test_in_tls(redis: Ports, authority: Authority) -> None:
    asked = {"tls": "on", "passwd": "hunter2"}
    assert judge(redis.tls, "redis", **asked)[0]
    ours = authority.pair("client")
    assert judge(
        redis.tls, "redis", **asked, ca=str(authority.ca), sni=NAME, certificate=str(ours.certificate),
        key=str(ours.key),
    )[0]  # fmt: skip
    assert judge(redis.tls, "redis", **asked, ca=str(authority.ca), sni="other.test")[0] is False
