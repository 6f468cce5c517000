"""Directors whose files differ for a while: what one does not know is left out, and comes when it does."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from lb.lab.observe import run_in, status, wait_until
from tests.netns.cluster import CONF, active, answers, edited, is_settled, lbctl, other

pytestmark = pytest.mark.usefixtures("demo_lab")

AUTHKEYS = Path("/run/lbctl/lab/demo/authkeys")
SECOND = """
[[virtual.real]]
name = "web2"
address = "192.168.1.102"
weight = 1
"""


def known(node: str) -> set[tuple[str, str]]:
    """Client and real of each connection that a director holds."""
    documents = json.loads(lbctl("list", "--connections", "--json", "--node", node).stdout)
    return {(d["client"], d["real"]) for d in documents}


def test_a_real_that_the_standby_does_not_have_yet(tmp_path: Path) -> None:
    serving = active()
    standby = other(serving)
    conf = edited(tmp_path, (SECOND, ""))
    lbctl("down", "--node", standby)
    keys = f"LBCTL_AUTHKEYS={AUTHKEYS}"
    run_in(standby, "env", keys, sys.executable, "-m", "lb", "up", str(conf), "--node", standby, "-d")
    wait_until("the standby is in sync", lambda: status(serving)["sync"]["state"] == "in-sync")
    before = known(serving)
    assert set(answers(6)) == {"web1", "web2"}
    new = known(serving) - before
    assert {real.split(":")[0] for _, real in new} == {"192.168.1.101", "192.168.1.102"}
    of_first = {row for row in new if row[1].startswith("192.168.1.101")}
    wait_until("the standby has those of the first", lambda: new & known(standby) == of_first)
    document = status(standby)
    assert document["heartbeat"]["sync_unknown"] >= len(new - of_first)
    assert any("configuration" in warning for warning in document["warnings"])

    lbctl("reload", str(CONF), "--node", standby)
    wait_until("the standby has all", lambda: new <= known(standby))
    wait_until("the pair is whole", is_settled)
