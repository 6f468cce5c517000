"""radius against FreeRADIUS."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from lb.probes import NotAskedError
from tests.probes.asking import SHORT, SHORT_S, judge
from tests.probes.processes import directory, running

_CONFIG = """
prefix = /usr
libdir = /usr/lib/freeradius
logdir = {path}
run_dir = {path}
raddbdir = {path}
pidfile = {path}/pid
correct_escapes = true
log {{
  destination = stdout
}}
security {{
  require_message_authenticator = yes
}}
thread pool {{
  start_servers = 1
  max_servers = 2
}}
client director {{
  ipaddr = 127.0.0.1
  secret = shh
}}
modules {{
  files {{
    usersfile = {path}/users
  }}
  pap {{
  }}
  always reject {{
    rcode = reject
  }}
}}
server default {{
  listen {{
    type = auth
    ipaddr = 127.0.0.1
    port = {port}
  }}
  authorize {{
    files
    pap
  }}
  authenticate {{
    Auth-Type PAP {{
      pap
    }}
  }}
}}
"""
LOGIN = {"login": "jane", "passwd": "hunter2", "secret": "shh"}


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def bound(port: int) -> bool:
    """Has somebody that UDP port of loopback?"""
    return f"0100007F:{port:04X}" in Path("/proc/net/udp").read_text()


@pytest.fixture(scope="module")
def radius() -> Iterator[int]:
    port = free_udp_port()
    with directory() as path:
        (path / "radiusd.conf").write_text(_CONFIG.format(path=path, port=port))
        (path / "users").write_text('jane Cleartext-Password := "hunter2"\n')
        (path / "dictionary").write_text("$INCLUDE /usr/share/freeradius/dictionary\n")
        with running(["/usr/sbin/freeradius", "-f", "-d", path], lambda: bound(port), path / "log"):
            yield port


def test_a_user_is_let_in(radius: int) -> None:
    assert judge(radius, "radius", "udp", **LOGIN) == (True, "jane is accepted")


def test_a_secret_from_a_file(radius: int, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("shh\n")
    asked = {"login": "jane", "passwd": "hunter2", "secret_file": str(tmp_path / "secret")}
    assert judge(radius, "radius", "udp", **asked) == (True, "jane is accepted")


def test_a_wrong_password(radius: int) -> None:
    verdict = judge(radius, "radius", "udp", **{**LOGIN, "passwd": "swordfish"})
    assert verdict == (False, "jane is rejected")


def test_a_wrong_secret_is_not_answered(radius: int) -> None:
    verdict = judge(radius, "radius", "udp", **{**LOGIN, "secret": "psst"}, timeout=SHORT_S)
    assert verdict == (False, SHORT)


def test_a_password_that_does_not_fit_is_no_verdict(radius: int) -> None:
    with pytest.raises(NotAskedError, match="RADIUS cannot ask that"):
        judge(radius, "radius", "udp", **{**LOGIN, "passwd": "x" * 129})
