"""smtp, pop and imap against Dovecot, which is a server of all three; nntp against a script of its greeting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.probes.asking import judge, judge_served, outcome
from tests.probes.certificates import NAME, Authority
from tests.probes.processes import directory, listening, running
from tests.servers import free_port, says_first

PASSWORD = 'hunter2 "\\'
_CONFIG = """
base_dir = {path}/run
state_dir = {path}/state
log_path = {path}/log
protocols = imap pop3 submission
listen = 127.0.0.1
hostname = mail.test
first_valid_uid = 1
default_login_user = dovenull
default_internal_user = dovecot
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_failure_delay = 0
mail_location = maildir:{path}/mail/%u
ssl = yes
ssl_cert = <{pair.certificate}
ssl_key = <{pair.key}
submission_relay_host = 127.0.0.1
passdb {{
  driver = passwd-file
  args = {path}/users
}}
userdb {{
  driver = static
  args = uid=mail gid=mail home={path}/mail/%u
}}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {ports.imap}
  }}
  inet_listener imaps {{
    port = {ports.imaps}
  }}
}}
service pop3-login {{
  chroot =
  inet_listener pop3 {{
    port = {ports.pop}
  }}
  inet_listener pop3s {{
    port = {ports.pops}
  }}
}}
service submission-login {{
  chroot =
  inet_listener submission {{
    port = {ports.smtp}
  }}
  inet_listener submissions {{
    port = {ports.smtps}
    ssl = yes
  }}
}}
"""


class Ports(NamedTuple):
    imap: int
    imaps: int
    pop: int
    pops: int
    smtp: int
    smtps: int


@pytest.fixture(scope="module")
def mail(authority: Authority) -> Iterator[Ports]:
    with directory() as path:
        ports = Ports(*(free_port() for _ in range(6)))
        (path / "users").write_text(f"jane:{{PLAIN}}{PASSWORD}\n")
        (path / "mail").mkdir(mode=0o777)
        (path / "mail").chmod(0o777)
        config = path / "dovecot.conf"
        config.write_text(_CONFIG.format(path=path, ports=ports, pair=authority.pair(days=100)))
        with running(["/usr/sbin/dovecot", "-F", "-c", config], lambda: all(map(listening, ports)), path / "log"):
            yield ports


def port_of(mail: Ports, service: str, tls: str) -> int:
    return int(getattr(mail, f"{service}s" if tls == "on" else service))


EVERY = pytest.mark.parametrize("service", ["smtp", "pop", "imap"])
EVERY_TLS = pytest.mark.parametrize("tls", ["off", "starttls", "on"])


@EVERY
@EVERY_TLS
class TestEach:
    def test_the_greeting(self, mail: Ports, service: str, tls: str) -> None:
        ok, reason = judge(port_of(mail, service, tls), service, tls=tls)
        assert ok
        assert reason.startswith("greeted with ")

    def test_a_login(self, mail: Ports, service: str, tls: str) -> None:
        port = port_of(mail, service, tls)
        assert judge(port, service, tls=tls, login="jane", passwd=PASSWORD) == (True, "logged in as jane")

    def test_a_wrong_password(self, mail: Ports, service: str, tls: str) -> None:
        ok, reason = judge(port_of(mail, service, tls), service, tls=tls, login="jane", passwd="swordfish")
        assert not ok
        assert reason.startswith(("AUTH: 535", "PASS: -ERR", "LOGIN: NO"))
        assert "swordfish" not in reason


@EVERY
class TestAny:
    def test_the_greeting_is_looked_at(self, mail: Ports, service: str) -> None:
        port = port_of(mail, service, "off")
        assert judge(port, service, receive="Dovecot|mail.test")[0]
        assert judge(port, service, receive="Postfix") == (False, "greeting does not match 'Postfix'")
        ok, reason = judge(port, service, refuse="[dD]ovecot|mail.test")
        assert not ok
        assert reason.endswith("which it must not")

    @pytest.mark.parametrize("tls", ["starttls", "on"])
    def test_certificates_are_verified_where_that_is_asked_for(
        self, mail: Ports, authority: Authority, service: str, tls: str
    ) -> None:
        port, ca = port_of(mail, service, tls), str(authority.ca)
        assert judge(port, service, tls=tls, ca=ca, sni=NAME)[0]
        assert judge(port, service, tls=tls, ca=ca)[0]  # 127.0.0.1 is in the certificate, too
        ok, reason = judge(port, service, tls=tls, verify=True)
        assert (ok, reason[:5]) == (False, "TLS: ")
        ok, reason = judge(port, service, tls=tls, ca=ca, sni="other.test")
        assert not ok
        assert "TLS: Hostname mismatch" in reason

    def test_a_certificate_that_is_about_to_end(self, mail: Ports, service: str) -> None:
        said = outcome(port_of(mail, service, "on"), service, tls="on", expiry=200 * 86400.0)
        assert said.ok
        assert said.warning.startswith("certificate expires on 20")
        assert outcome(port_of(mail, service, "on"), service, tls="on").warning == ""

    def test_a_password_from_a_file(self, mail: Ports, service: str, tmp_path: Path) -> None:
        (tmp_path / "password").write_text(f"{PASSWORD}\n")
        asked = {"login": "jane", "passwd_file": str(tmp_path / "password")}
        assert judge(port_of(mail, service, "off"), service, **asked) == (True, "logged in as jane")


def test_a_password_that_cannot_be_quoted_reaches_imap(mail: Ports) -> None:
    ok, reason = judge(mail.imap, "imap", login="jane", passwd="Größe")
    assert (ok, reason[:9]) == (False, "LOGIN: NO")


def test_smtp_names_itself_as_it_is_told() -> None:
    handler = says_first(b"220 ready\r\n", answers={b"EHLO me.test\r\n": b"250-mail\r\n250 OK\r\n"})
    assert judge_served(handler, "smtp", request="me.test") == (True, "greeted with '220 ready'")


@pytest.mark.parametrize(
    ("greeting", "verdict"),
    [
        (b"200 ready, posting allowed\r\n", (True, "greeted with '200 ready, posting allowed'")),
        (b"201 ready\r\n", (True, "greeted with '201 ready'")),
        (b"400 not now\r\n", (False, "greeted with '400 not now'")),
        (b"hello\r\n", (False, "not NNTP: 'hello'")),
    ],
)
def test_nntp(greeting: bytes, verdict: tuple[bool, str]) -> None:
    assert judge_served(says_first(greeting), "nntp") == verdict


def test_a_greeting_of_several_lines() -> None:
    handler = says_first(b"220-one\r\n220-two\r\n220 three\r\n", answers={b"EHLO x\r\n": b"250 OK\r\n"})
    assert judge_served(handler, "smtp", request="x", receive="one\ntwo\nthree")[0]


@pytest.mark.parametrize(
    ("complaint", "shown"),
    [
        (b"-ERR no such word: PASS swordfish", "PASS: -ERR no such word: PASS ***"),
        (b"-ERR " + b"x" * 90 + b"swordfish", f"PASS: -ERR {'x' * 90}***"),
        (b"swordfish? " * 9, "not POP3: '***? ***? ***? ***? ***? sw…'"),
    ],
    ids=["whole", "cut", "cut-in-quotes"],
)
def test_a_server_that_sends_the_password_back_does_not_show_it(complaint: bytes, shown: str) -> None:
    answers = {b"USER jane\r\n": b"+OK\r\n", b"PASS swordfish\r\n": complaint + b"\r\n"}
    verdict = judge_served(says_first(b"+OK ready\r\n", answers=answers), "pop", login="jane", passwd="swordfish")
    assert verdict == (False, shown)


def test_nor_when_it_was_encoded() -> None:
    auth = b"AUTH PLAIN AGphbmUAc3dvcmRmaXNo\r\n"
    answers = {b"EHLO x\r\n": b"250 OK\r\n", auth: b"500 what is " + auth}
    asked = {"request": "x", "login": "jane", "passwd": "swordfish"}
    verdict = judge_served(says_first(b"220 ready\r\n", answers=answers), "smtp", **asked)
    assert verdict == (False, "AUTH: 500 what is AUTH PLAIN ***")
