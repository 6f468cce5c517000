"""Clients that belong to a real: for real clients and servers, on both directors, and after a power cut."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lb.lab.observe import health, role, wait_until
from tests.netns.cluster import CONF, VIRTUAL, active, answers, edited, is_settled, lbctl, other

pytestmark = pytest.mark.usefixtures("demo_lab")


def templates(node: str) -> dict[str, str]:
    """Client network and real of each template that a director knows."""
    documents = json.loads(lbctl("list", "--connections", "--json", "--node", node).stdout)
    return {d["client"]: d["real"] for d in documents if d["template"]}


def test_a_client_stays_with_its_real_whoever_is_active(tmp_path: Path) -> None:
    conf = edited(tmp_path, ('scheduler = "rr"', 'scheduler = "rr"\npersistent = "5m"\nnetmask = 24'))
    serving = active()
    standby = other(serving)
    for node in (serving, standby):
        lbctl("reload", str(conf), "--node", node)
    assert f"{VIRTUAL}:80 rr persistent 300 mask 255.255.255.0" in lbctl("list", "--node", serving).stdout
    (home,) = answers(6)

    known = templates(serving)
    assert len(known) == 1
    (client,) = known
    assert client.endswith(".0:0")
    assert f"NONE        {client:<18} {VIRTUAL}:80" in lbctl("list", "--connections", "--node", serving).stdout
    wait_until("the standby knows it", lambda: templates(standby) == known)

    lbctl("drain", home, "--node", serving)
    wait_until("it is drained", lambda: "drained" in health(serving).values())
    assert answers(2) == {home: 2}
    lbctl("enable", home, "--node", serving)

    lbctl("lab", "kill", serving)
    wait_until("the standby takes over", lambda: role(standby) == "active")
    assert answers(4) == {home: 4}
    lbctl("lab", "up", str(CONF))
    wait_until("the pair is whole", is_settled)
