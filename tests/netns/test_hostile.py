"""Strangers on the wire: wrong keys, replays and noise are counted and change nothing."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lb.lab.observe import role, run_in, status, wait_until
from tests.netns.cluster import CONF, active, answers, is_settled, lbctl, other

PORT = 694

CAPTURE = """
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
s.bind(("eth0", 0))
s.settimeout(10)
while True:
    frame = s.recv(2048)
    if frame[23] == 17 and frame[26:30] == socket.inet_aton(sys.argv[1]) and frame[36:38] == (694).to_bytes(2, "big"):
        open(sys.argv[2], "wb").write(frame)
        break
"""

REPLAY = """
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
frame = open(sys.argv[1], "rb").read()
for _ in range(20):
    s.send(frame)
"""

NOISE = """
import os, socket, sys
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for size in range(0, 1400, 7):
    u.sendto(os.urandom(size), (sys.argv[1], 694))
for _ in range(20):
    with socket.create_connection((sys.argv[1], 694), timeout=5) as t:
        try:
            t.sendall(os.urandom(4096))
        except OSError:
            pass
"""


@pytest.fixture(scope="module", autouse=True)
def _lab() -> Iterator[None]:
    lbctl("lab", "up", str(CONF))
    try:
        wait_until("the pair is whole", is_settled)
        yield
    finally:
        lbctl("lab", "down", str(CONF))


def refused(node: str) -> int:
    """How many messages a director turned away, of all kinds."""
    return sum(status(node)["heartbeat"].values())


def test_noise_is_counted_and_changes_nothing() -> None:
    before = {node: (role(node), refused(node)) for node in ("lb1", "lb2")}
    for address in ("192.168.1.103", "192.168.1.104"):
        run_in("client", sys.executable, "-c", NOISE, address)
    for node, (was, count) in before.items():
        wait_until(f"{node} counted the noise", lambda node=node, count=count: refused(node) >= count + 200)
        assert role(node) == was
    assert is_settled()
    assert sum(answers(4).values()) == 4


def test_a_replayed_heartbeat_is_counted_and_changes_nothing(tmp_path: Path) -> None:
    serving, standby = active(), other(active())
    address = {"lb1": "192.168.1.103", "lb2": "192.168.1.104"}[serving]
    frame = tmp_path / "frame"
    run_in(standby, sys.executable, "-c", CAPTURE, address, str(frame))
    before = status(standby)["heartbeat"]
    run_in("client", sys.executable, "-c", REPLAY, str(frame))
    wait_until("the replay is counted", lambda: status(standby)["heartbeat"] != before)
    assert is_settled()
    assert role(serving) == "active"

    lbctl("lab", "kill", serving)
    run_in("client", sys.executable, "-c", REPLAY, str(frame))
    wait_until("a replay keeps nobody alive", lambda: role(standby) == "active")
    lbctl("lab", "up", str(CONF))
    wait_until("the pair is whole", is_settled)


def test_a_wrong_key_is_no_peer(tmp_path: Path) -> None:
    """lb2 comes back with another key: neither believes the other, both count, and lb1 goes on."""
    wait_until("the pair is whole", is_settled)
    serving, standby = active(), other(active())
    conf = tmp_path / "cluster.toml"
    shutil.copy(CONF, conf)
    lbctl("authkeys", str(tmp_path / "authkeys"))
    lbctl("down", "--node", standby)
    wait_until("the standby is gone", lambda: not role(standby))
    before = refused(serving)
    environment = f"LBCTL_AUTHKEYS={tmp_path / 'authkeys'}"
    run_in(standby, "env", environment, sys.executable, "-m", "lb", "up", str(conf), "--node", standby, "-d")
    try:
        wait_until("wrong keys are counted", lambda: refused(serving) > before)
        assert role(serving) == "active"
        assert status(serving)["peers"][0]["state"] != "up"
        assert sum(answers(4).values()) == 4
    finally:
        lbctl("down", "--node", standby)
        lbctl("lab", "up", str(CONF))
        wait_until("the pair is whole", is_settled)


def test_the_authkeys_of_the_lab_are_private() -> None:
    for path in Path("/run/lbctl").rglob("authkeys"):
        assert os.stat(path).st_mode & 0o077 == 0  # noqa: PTH116
