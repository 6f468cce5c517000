"""Strangers on the wire: wrong keys, replays and noise are counted and change nothing."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from bench import flood
from lb.lab.observe import role, run_in, status, wait_until
from tests.netns.cluster import CONF, VIRTUAL, active, answers, is_settled, lbctl, other

PORT = 694
INITDEAD_BEATS = 3.0 / 0.1 + 5
"""Of conf/cluster.toml: initdead by keepalive, and then some."""

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
for size in range(1, 1400, 14):
    u.sendto(os.urandom(size), (sys.argv[1], 694))
for _ in range(20):
    with socket.create_connection((sys.argv[1], 694), timeout=5) as t:
        try:
            t.sendall(os.urandom(4096))
        except OSError:
            pass
"""

DAMAGE = """
import random, socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
frame = bytearray(open(sys.argv[1], "rb").read())
chance = random.Random(7)
head = 14 + (frame[14] & 15) * 4 + 8
def send(payload):
    damaged = frame[:head] + payload
    damaged[16:18] = (len(damaged) - 14).to_bytes(2, "big")
    damaged[head - 4:head] = (len(payload) + 8).to_bytes(2, "big") + bytes(2)
    damaged[24:26] = bytes(2)
    total = sum(int.from_bytes(damaged[n:n + 2], "big") for n in range(14, head - 8, 2))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    damaged[24:26] = (0xffff - total).to_bytes(2, "big")
    s.send(damaged)
for bit in range(0, 8 * (len(frame) - head), 41):
    flipped = bytearray(frame[head:])
    flipped[bit // 8] ^= 1 << bit % 8
    send(flipped)
for size in range(0, len(frame) - head, 23):
    send(frame[head:head + size])
for _ in range(int(sys.argv[2])):
    send(frame[head:head + 6] + chance.randbytes(len(frame) - head - 6))
"""


pytestmark = pytest.mark.usefixtures("demo_lab")


def counted(node: str, *names: str) -> int:
    """What a director counted under these names."""
    counters = status(node)["heartbeat"]
    return sum(counters[name] for name in names)


def test_noise_is_counted_and_changes_nothing() -> None:
    names = ("heartbeat_malformed", "heartbeat_version")
    for node, address in (("lb1", "192.168.1.103"), ("lb2", "192.168.1.104")):
        was, datagrams, streams = role(node), counted(node, *names), counted(node, "sync_stranger")
        run_in("client", sys.executable, "-c", NOISE, address)
        wait_until("datagrams are counted", lambda: counted(node, *names) >= datagrams + 50)  # noqa: B023
        wait_until("connections are counted", lambda: counted(node, "sync_stranger") >= streams + 20)  # noqa: B023
        assert role(node) == was
        assert "heartbeat_malformed" in lbctl("status", "--node", node).stdout
    assert is_settled()
    assert sum(answers(4).values()) == 4


def test_a_replayed_heartbeat_is_counted_and_keeps_nobody_alive(tmp_path: Path) -> None:
    serving, standby = active(), other(active())
    address = {"lb1": "192.168.1.103", "lb2": "192.168.1.104"}[serving]
    frame = tmp_path / "frame"
    run_in(standby, sys.executable, "-c", CAPTURE, address, str(frame))
    before = counted(standby, "heartbeat_replayed")
    run_in("client", sys.executable, "-c", REPLAY, str(frame))
    wait_until("the replays are counted", lambda: counted(standby, "heartbeat_replayed") >= before + 20)
    assert is_settled()
    assert role(serving) == "active"

    lbctl("lab", "kill", serving)
    run_in("client", sys.executable, "-c", REPLAY, str(frame))
    wait_until("the standby takes over", lambda: role(standby) == "active")
    lbctl("lab", "up", str(CONF))
    wait_until("the pair is whole", is_settled)


def test_damaged_and_forged_heartbeats_from_a_peers_address_mean_nothing(tmp_path: Path) -> None:
    """Bits flipped, cut short, and thousands with a made-up signature, by whoever can forge addresses."""
    wait_until("the pair is whole", is_settled)
    serving, standby = active(), other(active())
    address = {"lb1": "192.168.1.103", "lb2": "192.168.1.104"}[serving]
    names = ("heartbeat_malformed", "heartbeat_version", "heartbeat_key", "heartbeat_unread")
    frame = tmp_path / "frame"
    run_in(standby, sys.executable, "-c", CAPTURE, address, str(frame))
    was, since = counted(standby, *names), status(standby)["since"]
    run_in("client", sys.executable, "-c", DAMAGE, str(frame), "3000")
    wait_until("they are counted", lambda: counted(standby, *names) >= was + 1000)
    assert is_settled()
    assert (role(serving), status(standby)["since"]) == ("active", since)
    assert sum(answers(4).values()) == 4


@pytest.mark.parametrize("kind", ["replayed", "forged"])
def test_a_flood_at_the_rate_of_the_cable_moves_nothing(kind: str) -> None:
    """For five deadtimes, from the address of the active: its own heartbeats are heard among all that."""
    wait_until("the pair is whole", is_settled)
    serving, standby = active(), other(active())
    was, numbers = status(standby), flood.counted(standby)
    addresses = {"lb1": "192.168.1.103", "lb2": "192.168.1.104"}
    with flood.Attack("demo", addresses, serving, standby).under_way(kind, 1_000_000, 2.5) as end:
        assert sum(answers(4).values()) == 4
        sent, _ = end()
    found, now = flood.more(flood.counted(standby), numbers), status(standby)
    assert sent > 25_000
    assert sum(found.values()) > sent / 2, "the rest found no room on the cable"
    assert found["heartbeat_unread"] > found.get("heartbeat_key", 0) + found.get("heartbeat_replayed", 0)
    assert (role(serving), role(standby), now["since"]) == ("active", "standby", was["since"])
    for name in ("stalls", "sync_opened"):
        assert now["heartbeat"][name] == was["heartbeat"][name], name
    assert is_settled()


def initdead_is_over(node: str) -> None:
    """It has sent heartbeats for longer than its initdead, so it could be active."""
    wait_until("initdead is over", lambda: counted(node, "heartbeat_sent") > INITDEAD_BEATS)


def test_a_wrong_key_is_no_peer(tmp_path: Path) -> None:
    """One comes back with another key: neither believes the other, both count, and only one has the address.

    The stranger sees that somebody answers for it. Once nobody does, it takes it.
    """
    wait_until("the pair is whole", is_settled)
    serving, standby = active(), other(active())
    conf = tmp_path / "cluster.toml"
    shutil.copy(CONF, conf)
    lbctl("authkeys", str(tmp_path / "authkeys"))
    lbctl("down", "--node", standby)
    wait_until("the standby is gone", lambda: not role(standby))
    before = counted(serving, "heartbeat_key")
    environment = f"LBCTL_AUTHKEYS={tmp_path / 'authkeys'}"
    run_in(standby, "env", environment, sys.executable, "-m", "lb", "up", str(conf), "--node", standby, "-d")
    try:
        wait_until("wrong keys are counted", lambda: counted(serving, "heartbeat_key") > before)
        assert role(serving) == "active"
        assert status(serving)["peers"][0]["state"] != "up"
        wait_until("the stranger says why", lambda: any("authkeys" in words for words in status(standby)["warnings"]))
        initdead_is_over(standby)
        assert role(standby) == "init"
        assert VIRTUAL not in run_in(standby, "ip", "-br", "address", "show", "dev", "eth0")
        assert sum(answers(4).values()) == 4
        lbctl("lab", "kill", serving)
        wait_until("the stranger takes what nobody has", lambda: role(standby) == "active")
    finally:
        lbctl("down", "--node", standby)
        lbctl("lab", "up", str(CONF))
        wait_until("the pair is whole", is_settled)


def test_keys_change_while_the_cluster_runs() -> None:
    """As docs/configuration.md says: the new key beside the old, then it signs, then the old one goes."""
    path = Path("/run/lbctl/lab/demo/authkeys")
    old = path.read_text()
    first = old.splitlines()[-1]
    second = "2 " + lbctl("authkeys", "-").stdout.splitlines()[-1].partition(" ")[2]
    for text in (f"{first}\n{second}\n", f"auth 2\n{first}\n{second}\n", f"{second}\n"):
        path.write_text(text)
        for node in ("lb1", "lb2"):
            wrong = counted(node, "heartbeat_key", "sync_key")
            lbctl("reload", "--node", node)
            assert counted(node, "heartbeat_key", "sync_key") == wrong
        wait_until("the pair is whole", is_settled)

    path.write_text("1 md5 broken\n")
    assert "md5" in lbctl("reload", "--node", "lb1", exit_status=2).stderr
    path.write_text(f"{second}\n")
    assert is_settled()


def test_the_authkeys_of_the_lab_are_private() -> None:
    for path in Path("/run/lbctl").rglob("authkeys"):
        assert os.stat(path).st_mode & 0o077 == 0  # noqa: PTH116
