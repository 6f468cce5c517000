"""mysql against MariaDB, postgresql against PostgreSQL: users, statements, rows, and TLS."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import uvloop

from lb.health import Outcome
from lb.probes import NotAskedError, open_tools
from lb.probes import ask as ask_
from tests.probes.asking import judge, outcome, target
from tests.probes.certificates import NAME, Authority, Pair
from tests.probes.processes import directory, listening, run, running, succeeds
from tests.servers import free_port, open_files

LOGIN = {"login": "jane", "passwd": "hunter2", "database": "shop"}

_MARIADB_SQL = """
CREATE DATABASE shop;
CREATE TABLE shop.health (name VARCHAR(20), state VARCHAR(20));
INSERT INTO shop.health VALUES ('web', 'fine');
CREATE USER 'jane'@'%' IDENTIFIED BY 'hunter2';
GRANT ALL ON shop.* TO 'jane'@'%';
CREATE USER 'joan'@'%' IDENTIFIED BY 'hunter2' REQUIRE X509;
"""
_POSTGRESQL_SQL = """
CREATE ROLE jane LOGIN PASSWORD 'hunter2';
CREATE DATABASE shop OWNER jane;
\\connect shop
CREATE TABLE health (name TEXT, state TEXT);
INSERT INTO health VALUES ('web', 'fine');
GRANT SELECT ON health TO jane;
"""


def owned(directory: Path, pair: Pair, user: str) -> Pair:
    """Copies of certificate and key that a server which is not root accepts."""
    copies = Pair(directory / "server.pem", directory / "server.key")
    for source, copy in zip(pair, copies, strict=True):
        run("/usr/bin/install", "-m", "0600", "-o", user, "-g", user, source, copy)
    return copies


@pytest.fixture(scope="module")
def mysql(authority: Authority) -> Iterator[int]:
    port = free_port()
    with directory("daemon") as path:
        pair = owned(path, authority.pair(days=100), "daemon")
        options = ["--no-defaults", f"--datadir={path}/data", "--innodb-buffer-pool-size=8M"]
        run(
            "/usr/bin/mariadb-install-db",
            *options,
            "--skip-test-db",
            "--user=daemon",
            "--auth-root-authentication-method=normal",
        )
        (path / "init.sql").write_text(_MARIADB_SQL)
        words = [
            "/usr/sbin/mariadbd", *options, "--bind-address=127.0.0.1", f"--port={port}", f"--socket={path}/socket",
            f"--pid-file={path}/pid", f"--init-file={path}/init.sql", f"--ssl-cert={pair.certificate}",
            f"--ssl-key={pair.key}", f"--ssl-ca={authority.ca}", "--skip-log-bin", "--innodb-log-file-size=4M",
        ]  # fmt: skip
        with running(words, lambda: listening(port), path / "log", user="daemon"):
            yield port


@pytest.fixture(scope="module")
def postgresql(authority: Authority) -> Iterator[int]:
    port = free_port()
    (programs,) = Path("/usr/lib/postgresql").glob("*/bin")
    with directory("postgres") as path:
        pair = owned(path, authority.pair(days=100), "postgres")
        data = path / "data"
        run(
            programs / "initdb",
            "-D",
            data,
            "--no-sync",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            user="postgres",
        )
        words: list[str | Path] = [programs / "postgres", "-D", data]
        for key, value in {
            "port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": path, "fsync": "off",
            "dynamic_shared_memory_type": "mmap", "ssl": "on",
            "ssl_cert_file": pair.certificate, "ssl_key_file": pair.key,
        }.items():  # fmt: skip
            words += ["-c", f"{key}={value}"]
        psql = (programs / "psql", "-h", path, "-p", str(port), "-q", "-v", "ON_ERROR_STOP=1", "postgres")
        answers = partial(succeeds, *psql, "-c", "SELECT 1", user="postgres")
        with running(words, answers, path / "log", user="postgres", stop=signal.SIGINT):
            run(*psql, user="postgres", text=_POSTGRESQL_SQL)
            yield port


Ask = Callable[..., Outcome]


@pytest.fixture(params=["mysql", "postgresql"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Asks each of them, as jane."""
    return partial(outcome, request.getfixturevalue(request.param), request.param, **LOGIN)


def asked_of(ask: Ask, **check: object) -> tuple[bool, str]:
    """Verdict and reason."""
    said = ask(**check)
    return said.ok, said.reason


def test_a_statement_of_our_own(ask: Ask) -> None:
    assert asked_of(ask) == (True, "answered '1'")


def test_the_first_row_is_looked_at(ask: Ask) -> None:
    asked = {"request": "SELECT name, state FROM health"}
    assert asked_of(ask, **asked, receive="^web\tfine$") == (True, "answered 'web\\tfine'")
    assert asked_of(ask, **asked, receive="ill") == (False, "row does not match 'ill'")


def test_a_row_must_come(ask: Ask) -> None:
    verdict = asked_of(ask, request="SELECT name FROM health WHERE name = 'nobody'")
    assert verdict == (False, "no row in the answer")


def test_a_wrong_password(ask: Ask) -> None:
    ok, reason = asked_of(ask, passwd="swordfish")
    assert not ok
    assert reason.startswith(("error 1045: Access denied", "error 28P01: password authentication failed"))
    assert "swordfish" not in reason


def test_a_database_that_is_not_there(ask: Ask) -> None:
    ok, reason = asked_of(ask, database="attic")
    assert not ok
    assert reason.startswith(("error 1044: Access denied", "error 3D000: database"))


def test_a_statement_that_is_none(ask: Ask) -> None:
    ok, reason = asked_of(ask, request="BREW coffee")
    assert not ok
    assert reason.startswith(("error 1064: You have an error", "error 42601: syntax error"))


def test_in_tls(ask: Ask, authority: Authority) -> None:
    asked = {"tls": "on"}
    assert asked_of(ask, **asked)[0]
    assert asked_of(ask, **asked, ca=str(authority.ca), sni=NAME)[0]
    assert asked_of(ask, **asked, ca=str(authority.ca))[0]
    ok, reason = asked_of(ask, **asked, ca=str(authority.ca), sni="other.test")
    assert (ok, reason[:26]) == (False, "TLS: Hostname mismatch, ce")
    warned = ask(**asked, expiry=200 * 86400.0)
    assert warned.warning.startswith("certificate expires on ")


def test_a_certificate_of_ours(mysql: int, authority: Authority) -> None:
    asked = {"login": "joan", "passwd": "hunter2", "tls": "on"}
    assert judge(mysql, "mysql", **asked)[0] is False
    ours = authority.pair("client")
    assert judge(mysql, "mysql", **asked, certificate=str(ours.certificate), key=str(ours.key))[0]


@pytest.mark.parametrize(
    ("service", "statement"), [("mysql", "SELECT SLEEP(60)"), ("postgresql", "SELECT pg_sleep(60)")]
)
def test_a_statement_that_takes_too_long(request: pytest.FixtureRequest, service: str, statement: str) -> None:
    port = request.getfixturevalue(service)
    assert judge(port, service, **LOGIN, request=statement, timeout=0.5) == (False, "no answer within 500ms")


@pytest.mark.parametrize(
    ("service", "statement"),
    [("mysql", "SELECT REPEAT('x', 4000000)"), ("postgresql", "SELECT repeat('x', 4000000)")],
)
def test_an_answer_that_is_too_long(request: pytest.FixtureRequest, service: str, statement: str) -> None:
    port = request.getfixturevalue(service)
    assert judge(port, service, **LOGIN, request=statement) == (False, "an answer of more than 1 MiB")
    assert judge(port, service, **LOGIN, request=statement, tls="on") == (False, "an answer of more than 1 MiB")


def test_with_no_thread_left_nothing_is_asked(postgresql: int) -> None:
    """The real must not pay for it, nor others wait."""

    async def main() -> None:
        tools = replace(open_tools(), busy=asyncio.Semaphore(0))
        try:
            with pytest.raises(NotAskedError, match="256 checks with blocking libraries are under way"):
                await ask_(target(postgresql, "postgresql", **LOGIN), tools)
        finally:
            await tools.close()

    before = open_files()
    uvloop.run(main())
    assert not open_files() - before
