"""ldap and ldaps against OpenLDAP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.probes.asking import judge, outcome
from tests.probes.certificates import NAME, Authority
from tests.probes.processes import directory, listening, run, running
from tests.servers import free_port

_CONFIG = """
include /etc/ldap/schema/core.schema
moduleload back_mdb
modulepath /usr/lib/ldap
pidfile {path}/pid
TLSCertificateFile {pair.certificate}
TLSCertificateKeyFile {pair.key}
database mdb
maxsize 10485760
suffix "dc=test"
rootdn "cn=jane,dc=test"
rootpw hunter2
directory {path}/data
access to dn.base="cn=hidden,dc=test" by * none
access to * by * read
"""
_ENTRIES = """
dn: dc=test
objectClass: organization
objectClass: dcObject
o: test
dc: test
description: all is fine

dn: cn=hidden,dc=test
objectClass: organizationalRole
cn: hidden
"""
LOGIN = {"login": "cn=jane,dc=test", "passwd": "hunter2"}


class Ports(NamedTuple):
    ldap: int
    ldaps: int


@pytest.fixture(scope="module")
def slapd(authority: Authority) -> Iterator[Ports]:
    ports = Ports(free_port(), free_port())
    with directory() as path:
        (path / "data").mkdir()
        config = path / "slapd.conf"
        config.write_text(_CONFIG.format(path=path, pair=authority.pair(days=100)))
        run("/usr/sbin/slapadd", "-f", config, text=_ENTRIES)
        urls = f"ldap://127.0.0.1:{ports.ldap} ldaps://127.0.0.1:{ports.ldaps}"
        words: list[str | Path] = ["/usr/sbin/slapd", "-d", "0", "-f", config, "-h", urls]
        with running(words, lambda: all(map(listening, ports)), path / "log"):
            yield ports


def test_an_anonymous_bind(slapd: Ports) -> None:
    assert judge(slapd.ldap, "ldap") == (True, "bound")


def test_a_bind_with_a_password(slapd: Ports) -> None:
    assert judge(slapd.ldap, "ldap", **LOGIN) == (True, "bound as cn=jane,dc=test")
    verdict = judge(slapd.ldap, "ldap", **{**LOGIN, "passwd": "swordfish"})
    assert verdict == (False, "bind: invalid credentials")


def test_an_entry(slapd: Ports) -> None:
    asked = {"request": "dc=test"}
    assert judge(slapd.ldap, "ldap", **asked) == (True, "found dc=test")
    assert judge(slapd.ldap, "ldap", **asked, receive="^dc=test$")[0]
    assert judge(slapd.ldap, "ldap", **asked, receive="^description: all is fine$", refuse="ill")[0]
    assert judge(slapd.ldap, "ldap", **asked, receive="ill") == (False, "entry does not match 'ill'")


def test_an_entry_that_is_not_there(slapd: Ports) -> None:
    assert judge(slapd.ldap, "ldap", request="cn=nobody,dc=test") == (False, "search: no such object")


def test_an_entry_that_only_some_may_see(slapd: Ports) -> None:
    asked = {"request": "cn=hidden,dc=test"}
    assert judge(slapd.ldap, "ldap", **asked)[0] is False
    assert judge(slapd.ldap, "ldap", **asked, **LOGIN) == (True, "found cn=hidden,dc=test")


@pytest.mark.parametrize(("service", "tls"), [("ldap", "starttls"), ("ldaps", "off")])
def test_in_tls(slapd: Ports, authority: Authority, service: str, tls: str) -> None:
    port = getattr(slapd, service)
    asked = {"request": "dc=test", "tls": tls}
    assert judge(port, service, **asked) == (True, "found dc=test")
    assert judge(port, service, **asked, ca=str(authority.ca), sni=NAME)[0]
    ok, reason = judge(port, service, **asked, ca=str(authority.ca), sni="other.test")
    assert (ok, reason[:22]) == (False, "TLS: Hostname mismatch")
    assert outcome(port, service, **asked, expiry=200 * 86400.0).warning.startswith("certificate expires on ")
