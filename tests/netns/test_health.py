"""What health does to packets, end to end: weights from a program, and clients whose SYNs nobody answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lb.lab.observe import health, run_in, status, wait_until
from tests.netns.cluster import CONF, URL, active, answers, edited, is_settled, lbctl

pytestmark = pytest.mark.usefixtures("demo_lab")

HALVES = ("192.168.1.0/25", "192.168.1.128/25")
"""Of the demo's segment: more specific than the route to it."""


PROGRAM = """#!/bin/sh
[ "$3" = 192.168.1.101 ] && exit "$(cat {status})"
exit 3
"""


def weights(director: str) -> dict[str, int]:
    """Of the reals, in the data plane."""
    (web,) = json.loads(lbctl("list", "--json", "--node", director).stdout)
    return {real["address"]: real["weight"] for real in web["reals"]}


def test_a_program_gives_weights_by_its_exit_status(tmp_path: Path) -> None:
    director = active()
    program, status_file = tmp_path / "weigh", tmp_path / "status"
    program.write_text(PROGRAM.format(status=status_file))
    program.chmod(0o755)
    status_file.write_text("5")
    text = CONF.read_text()
    begin, end = text.index("[virtual.check]"), text.index("[[virtual.real]]")
    check = f'type = "external"\ncommand = ["{program}"]\ndynamic_weight = true\ninterval = "200ms"\n\n'
    conf = tmp_path / "cluster.toml"
    conf.write_text(
        (text[:begin] + "[virtual.check]\n" + check + text[end:]).replace('scheduler = "rr"', 'scheduler = "wrr"')
    )
    try:
        lbctl("reload", str(conf), "--node", director)
        wait_until("3 to 1", lambda: weights(director) == {"192.168.1.101": 3, "192.168.1.102": 1})
        assert answers(40) == {"web1": 30, "web2": 10}
        status_file.write_text("2")
        wait_until("weight 0 takes nobody, and is no failure", lambda: health(director)["192.168.1.101"] == "drained")
        assert answers(6) == {"web2": 6}
        status_file.write_text("1")
        wait_until("status 1 is a failure", lambda: health(director)["192.168.1.101"] == "down")
        status_file.write_text("3")
        wait_until("back with weight 1", lambda: weights(director) == {"192.168.1.101": 1, "192.168.1.102": 1})
        assert answers(10) == {"web1": 5, "web2": 5}
    finally:
        lbctl("reload", str(CONF), "--node", director)
        wait_until("the pair is whole", is_settled)


def clients_try() -> None:
    """Two at once, so that each real has one; longer than until the first SYN comes again."""
    run_in("client", "sh", "-c", f"for i in 1 2; do curl -s --max-time 1.5 {URL} & done; wait; true")


def test_a_real_that_answers_no_more_is_found_by_its_clients(tmp_path: Path) -> None:
    director = active()
    seldom = edited(tmp_path, ("[virtual.check]", '[virtual.check]\ndown_interval = "200ms"\npassive = 1'))
    text = seldom.read_text()
    assert 'interval = "2s"' in text
    seldom.write_text(text.replace('interval = "2s"', 'interval = "1h"'))
    lbctl("reload", str(seldom), "--node", director)
    wait_until("both are up", lambda: set(health(director).values()) == {"up"})
    assert answers(4) == {"web1": 2, "web2": 2}
    before = status(director)["monitor"]["checks_early"]

    def found() -> bool:
        clients_try()
        return health(director)["192.168.1.101"] == "down"

    try:
        for half in HALVES:
            run_in("web1", "ip", "route", "add", "blackhole", half)
        wait_until("web1 is down", found)
        assert status(director)["monitor"]["checks_early"] >= before + 2, "of which each was one of two failures"
        assert answers(4) == {"web2": 4}
        web1, web2 = status(director)["virtuals"][0]["reals"]
        assert web1["repeats"] >= 2
        assert web2["repeats"] == 0
        assert web1["reason"] == "no answer within 1s"
        for half in HALVES:
            run_in("web1", "ip", "route", "del", "blackhole", half)
        wait_until("web1 is up", lambda: health(director)["192.168.1.101"] == "up")
    finally:
        lbctl("reload", str(CONF), "--node", director)
        wait_until("the pair is whole", is_settled)
