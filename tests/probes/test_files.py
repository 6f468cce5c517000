"""ftp against vsftpd: plain, after AUTH TLS, and in TLS from the first byte."""

from __future__ import annotations

import pwd
from collections.abc import Iterator

import pytest

from tests.probes.asking import judge, outcome
from tests.probes.certificates import NAME, Authority
from tests.probes.processes import directory, listening, running
from tests.servers import free_port

_CONFIG = """
listen=YES
listen_address=127.0.0.1
listen_port={port}
background=NO
anonymous_enable=YES
no_anon_password=NO
local_enable=NO
anon_root={path}/files
secure_chroot_dir={path}/empty
ftp_username=ftp
nopriv_user=nobody
seccomp_sandbox=NO
isolate=NO
isolate_network=NO
pasv_enable=YES
ssl_enable={tls}
allow_anon_ssl=YES
implicit_ssl={implicit}
require_ssl_reuse=NO
ssl_ciphers=HIGH
rsa_cert_file={pair.certificate}
rsa_private_key_file={pair.key}
"""


def server(authority: Authority, tls: bool, implicit: bool = False) -> Iterator[int]:
    port = free_port()
    with directory() as path:
        for name in ("files", "empty"):
            (path / name).mkdir(mode=0o755)
        (path / "files" / "health.txt").write_text("I am fine\n")
        config = path / "vsftpd.conf"
        words = {False: "NO", True: "YES"}
        pair = authority.pair()
        config.write_text(_CONFIG.format(path=path, port=port, tls=words[tls], implicit=words[implicit], pair=pair))
        with running(["/usr/sbin/vsftpd", config], lambda: listening(port), path / "log"):
            yield port


@pytest.fixture(scope="module")
def plain(authority: Authority) -> Iterator[int]:
    pwd.getpwnam("ftp")  # made by vsftpd's package
    yield from server(authority, tls=False)


@pytest.fixture(scope="module")
def either(authority: Authority) -> Iterator[int]:
    yield from server(authority, tls=True)


@pytest.fixture(scope="module")
def implicit(authority: Authority) -> Iterator[int]:
    yield from server(authority, tls=True, implicit=True)


def test_a_login(plain: int) -> None:
    assert judge(plain, "ftp") == (True, "logged in as anonymous")


def test_the_greeting_is_looked_at_where_no_file_is_named(plain: int) -> None:
    assert judge(plain, "ftp", receive="vsFTPd")[0]
    assert judge(plain, "ftp", receive="ProFTPD") == (False, "greeting does not match 'ProFTPD'")


def test_a_wrong_login(plain: int) -> None:
    ok, reason = judge(plain, "ftp", login="jane", passwd="swordfish")
    assert (ok, reason[:5]) == (False, "USER:") or reason.startswith("PASS: 530")


def test_the_files_content(plain: int) -> None:
    assert judge(plain, "ftp", request="health.txt", receive="fine") == (True, "fetched health.txt")
    verdict = judge(plain, "ftp", request="health.txt", receive="ill")
    assert verdict == (False, "file does not match 'ill'")


def test_a_file_that_is_not_there(plain: int) -> None:
    ok, reason = judge(plain, "ftp", request="missing.txt")
    assert (ok, reason[:9]) == (False, "RETR: 550")


def test_in_tls(either: int, authority: Authority) -> None:
    asked = {"tls": "starttls", "request": "health.txt", "receive": "fine"}
    assert judge(either, "ftp", **asked) == (True, "fetched health.txt")
    assert judge(either, "ftp", **asked, ca=str(authority.ca), sni=NAME)[0]
    ok, reason = judge(either, "ftp", **asked, ca=str(authority.ca), sni="other.test")
    assert (ok, reason[:5]) == (False, "TLS: ")


def test_a_server_without_tls(plain: int) -> None:
    ok, reason = judge(plain, "ftp", tls="starttls")
    assert (ok, reason[:8]) == (False, "AUTH: 53")


def test_tls_from_the_first_byte(implicit: int) -> None:
    assert judge(implicit, "ftp", tls="on", request="health.txt") == (True, "fetched health.txt")
    assert outcome(implicit, "ftp", tls="on", expiry=365 * 86400.0).warning.startswith("certificate expires on ")
