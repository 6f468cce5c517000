"""Clients that open too many connections, and clients that are denied: real ones, at a director that serves others."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lb.lab.observe import run_in, status
from tests.netns.cluster import VIRTUAL, active, edited, lbctl

pytestmark = pytest.mark.usefixtures("demo_lab")

USUAL, FAST, DENIED = "192.168.1.231", "192.168.1.232", "192.168.1.248"
BURST, ATTEMPTS = 5, 60

LIMITS = f"""
[limits]
new_connections = 1
burst = {BURST}
[[limits.deny]]
name = "strangers"
prefixes = ["192.168.1.248/29"]
[[virtual]]"""

CONNECT = """
import selectors, socket, sys
client, virtual, attempts = sys.argv[1], sys.argv[2], int(sys.argv[3])
waiting = selectors.DefaultSelector()
for _ in range(attempts):
    opening = socket.socket()
    opening.bind((client, 0))
    opening.setblocking(False)
    opening.connect_ex((virtual, 80))
    waiting.register(opening, selectors.EVENT_WRITE)
connected = 0
while found := waiting.select(timeout=0.9):
    for key, _ in found:
        waiting.unregister(key.fileobj)
        connected += key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
print(connected)
"""
"""How many of so many attempts at once get through before the kernel tries again, after a second."""


def connected(client: str, attempts: int) -> int:
    return int(run_in("client", sys.executable, "-c", CONNECT, client, VIRTUAL, str(attempts)))


def test_who_is_too_fast_and_who_is_denied(tmp_path: Path) -> None:
    for client in (USUAL, FAST, DENIED):
        run_in("client", "ip", "address", "add", f"{client}/24", "dev", "eth0")
    node = active()
    assert connected(DENIED, 2) == 2
    lbctl("reload", str(edited(tmp_path, ("[[virtual]]", LIMITS))), "--node", node)

    assert BURST <= connected(FAST, ATTEMPTS) < ATTEMPTS
    seen = status(node)
    too_fast = seen["packets"]["drop_too_fast"]
    assert too_fast > 0
    assert seen["denied"] == {"strangers": 0}

    assert connected(USUAL, BURST) == BURST
    assert connected(DENIED, 2) == 0
    seen = status(node)
    assert seen["packets"]["drop_too_fast"] >= too_fast
    assert seen["denied"]["strangers"] >= 2
    assert seen["packets"]["drop_denied"] == seen["denied"]["strangers"]
    shown = lbctl("status", "--node", node).stdout
    assert "drop_too_fast" in shown
    assert f"denied: strangers {seen['denied']['strangers']}" in shown

    lbctl("reload", str(edited(tmp_path)), "--node", node)
    assert connected(FAST, ATTEMPTS) == ATTEMPTS
    assert connected(DENIED, 2) == 2
