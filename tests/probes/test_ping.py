"""ping where nobody answers, and by both kinds of sockets: in a network namespace, whose settings are its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.probes.asking import PATIENT_S, SHORT, SHORT_S

_INSIDE = """
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
import uvloop
from lb.probes import NotAskedError
from tests.probes.asking import once, target

for setting in {settings!r}:
    name, value = setting.split("=")
    Path("/proc/sys/net", name).write_text(value)
for address in {addresses!r}:
    asked = replace(target(0, type="ping", timeout={limit_s}), address=ip_address(address))
    try:
        said = uvloop.run(once(asked))
        print(said.ok, said.reason)
    except NotAskedError as error:
        print("not asked:", error)
"""
BOTH = ("127.0.0.1", "::1")
PING_SOCKETS = "ipv4/ping_group_range=0 2147483647"
NO_PING_SOCKETS = "ipv4/ping_group_range=1 0"


def ping(
    *settings: str, to: tuple[str, ...] = BOTH, loopback: str = "up", drop: str = "", limit_s: float = PATIENT_S
) -> list[str]:
    """Verdict and reason of a ping to each, inside a new network namespace. drop: a capability it does without."""
    script = f'ip link set lo {loopback} && exec "$@"'
    code = _INSIDE.format(settings=settings, addresses=to, limit_s=limit_s)
    fewer = ["setpriv", f"--bounding-set=-{drop}"] if drop else []
    words = ["unshare", "--net", "sh", "-c", script, "sh", *fewer, sys.executable, "-c", code]
    root = Path(__file__).parents[2]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=root, timeout=60)
    return done.stdout.splitlines()


@pytest.mark.parametrize("sockets", [PING_SOCKETS, NO_PING_SOCKETS])
class TestEach:
    def test_a_host_that_answers(self, sockets: str) -> None:
        assert ping(sockets) == ["True echoed"] * 2

    def test_a_host_that_does_not(self, sockets: str) -> None:
        ignored = ping(sockets, "ipv4/icmp_echo_ignore_all=1", "ipv6/icmp/echo_ignore_all=1", limit_s=SHORT_S)
        assert ignored == [f"False {SHORT}"] * 2


def test_no_way_there() -> None:
    assert ping(loopback="down", to=("192.0.2.1",)) == ["False network is unreachable"]


def test_without_the_right_to_nothing_is_asked() -> None:
    refused = "not asked: no right to ping: net.ipv4.ping_group_range, or CAP_NET_RAW"
    assert ping(NO_PING_SOCKETS, drop="net_raw") == [refused] * 2
    assert ping(PING_SOCKETS, drop="net_raw") == ["True echoed"] * 2
