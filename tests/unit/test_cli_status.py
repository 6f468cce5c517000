"""`lbctl status` for people: what is said, and that nothing of it is cut."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from lb.cli import status


def real(name: str | None, **changes: Any) -> dict[str, Any]:
    return {
        "address": "10.0.0.1", "name": name, "weight": 1, "health": "up", "check": "up", "reason": "status 200",
        "warning": "", "maintenance": None, "starts_slowly": False,
        "active": 2, "inactive": 3, "connections": 5, "rates": {"connections": 1.4, "packets": 9.6, "bytes": 0},
        **changes,
    }  # fmt: skip


def document(*reals: dict[str, Any], **changes: Any) -> dict[str, Any]:
    virtual = {
        "name": "web", "address": "10.0.0.9", "port": 80, "protocol": "tcp", "scheduler": "rr",
        "also": [], "fallback": "127.0.0.1:80", "fallback_active": False, "overruled": False, "reals": list(reals),
    }  # fmt: skip
    return {
        "node": "lb1", "cluster": "demo", "role": "active", "interface": "eth0", "mode": "native",
        "interfaces": {"eth0": "native"}, "roles": [],
        "since": (datetime.now(UTC) - timedelta(minutes=5)).isoformat(),
        "peers": [], "sync": {"state": "in-sync", "connections": 12, "lag_ms": 3.0},
        "heartbeat": {}, "packets": {}, "denied": {}, "monitor": {}, "warnings": [], "virtuals": [virtual], **changes,
    }  # fmt: skip


def shown(document: dict[str, Any], width: int = 100) -> list[str]:
    console = Console(file=io.StringIO(), width=width, soft_wrap=True, highlight=False, color_system=None)
    console.print(status.render(document))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_director_alone() -> None:
    assert shown(document(real("web1"))) == [
        "lb1  active for 5 min  cluster demo  eth0 (native XDP)",
        "",
        "web  tcp 10.0.0.9:80  rr  fallback 127.0.0.1:80 (idle)",
        "  real  health  weight  active  inactive  total  conns/s  packets/s",
        "  web1  up           1       2         3      5        1         10",
    ]


@pytest.mark.parametrize(
    ("sync", "said"),
    [
        ({"state": "in-sync", "connections": 12, "lag_ms": 3.0}, "sync in-sync, 12 connections, lag 3 ms"),
        ({"state": "no-peer", "connections": 0, "lag_ms": 0.0}, "sync no-peer, 0 connections"),
    ],
)
def test_the_peer_and_how_far_it_is(sync: dict[str, Any], said: str) -> None:
    peer = {"name": "lb2", "state": "down", "role": "init", "links": [{"name": "unicast 10.0.0.2", "state": "down"}]}
    assert shown(document(peers=[peer], sync=sync))[1] == f"peer lb2  down  init  {said}"


def test_several_links_have_a_line_each() -> None:
    links = [{"name": "unicast 10.0.0.2", "state": "up"}, {"name": "broadcast eth1", "state": "down"}]
    peer = {"name": "lb2", "state": "up", "role": "standby", "links": links}
    assert shown(document(peers=[peer]))[2:4] == ["  unicast 10.0.0.2  up", "  broadcast eth1  down"]


def test_a_real_without_a_name_is_called_by_its_address() -> None:
    assert shown(document(real(None)))[-1].startswith("  10.0.0.1  up")


def test_the_reason_is_given_for_those_that_are_not_up_and_is_no_markup() -> None:
    lines = shown(document(real("web1"), real("web2", health="down", check="down", reason="[red] refused")))
    assert "status 200" not in lines[-2]
    assert lines[-1].rstrip().endswith("[red] refused")


def test_what_else_there_is_to_say_of_a_real() -> None:
    lines = shown(
        document(
            real("web1", starts_slowly=True),
            real("web2", health="drained", maintenance="web2:80"),
            real("web3", health="down", check="down", reason="refused", maintenance="web3"),
        )
    )
    remarks = ["starts slowly", "in maintenance by the file web2:80", "in maintenance by the file web3, refused"]
    assert all(line.rstrip().endswith(remark) for line, remark in zip(lines[-3:], remarks, strict=True))


def test_one_real_with_what_happened_to_it() -> None:
    entry: dict[str, Any] = {
        "at": "2026-11-22T12:00:00.000+00:00",
        "state": "down",
        "was": "up",
        "lasted_s": 300.0,
        "reason": "[refused]",
    }
    order: dict[str, Any] = {
        "at": "2026-11-22T11:00:00.000+00:00",
        "state": "drained",
        "was": None,
        "lasted_s": None,
        "reason": "by hand",
    }
    told = {
        **real("web1", health="down", reason="[refused]", maintenance="web1"),
        "virtual": "web", "asked": "http", "for_s": 125.0, "latency_ms": 1.5, "history": [entry, order],
    }  # fmt: skip
    console = Console(file=io.StringIO(), width=20, soft_wrap=True, highlight=False, color_system=None)
    other = {
        **told,
        "virtual": "tls",
        "history": [],
        "latency_ms": None,
        "warning": "certificate expires on 2026-12-01",
    }
    console.print(status.render_reals({"reals": [told, other]}))
    assert isinstance(console.file, io.StringIO)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    when = [datetime.fromisoformat(e["at"]).astimezone().strftime("%Y-%m-%d %H:%M:%S") for e in (entry, order)]
    assert lines == [
        "web/10.0.0.1 (web1)  down for 2 min  weight 1",
        "  http: [refused], 1.5 ms",
        "  in maintenance by the file web1",
        "  when                 what     after     reason",
        f"  {when[0]}  down     5 min up  [refused]",
        f"  {when[1]}  drained            by hand",
        "",
        "tls/10.0.0.1 (web1)  down for 2 min  weight 1",
        "  http: [refused]",
        "  warning: certificate expires on 2026-12-01",
        "  in maintenance by the file web1",
    ]


def test_that_health_is_overruled_is_said() -> None:
    held = document(real("web1"))
    held["virtuals"][0]["overruled"] = True
    assert shown(held)[2].endswith("fewer than min_up are well: all get traffic")


def test_an_active_fallback_is_said() -> None:
    held = document(real("web1"))
    held["virtuals"][0]["fallback_active"] = True
    assert "fallback 127.0.0.1:80 (active)" in shown(held)[2]


def test_a_group_is_shown_with_all_that_it_is_for() -> None:
    group = document(real("web1"))
    group["virtuals"][0]["also"] = [
        {"address": "10.0.0.9", "port": 443, "protocol": "udp"},
        {"address": "2001:db8::9", "port": 80, "protocol": "tcp"},
    ]
    assert "web  tcp 10.0.0.9:80 + udp 10.0.0.9:443 + tcp [2001:db8::9]:80  rr  fallback 127.0.0.1:80 (idle)" in shown(
        group
    )


def test_only_what_was_turned_away_is_noted() -> None:
    lines = shown(document(heartbeat={"heartbeat_sent": 9, "forged": 2}, packets={"rx_packets": 4, "drop_no_real": 0}))
    assert lines[-1] == "noted: forged 2"


def test_who_was_denied_by_which_list() -> None:
    assert "denied: abuse 12" in shown(document(denied={"abuse": 12, "unused": 0}))
    assert not [line for line in shown(document(denied={"unused": 0})) if "denied" in line]


def test_warnings_come_last() -> None:
    assert shown(document(real("web1"), warnings=["lb2 is active too"]))[-1] == "warning: lb2 is active too"


def test_a_narrow_terminal_cuts_nothing() -> None:
    told = document(real("a-rather-long-name-of-a-real"), real("web2", health="down", check="down", reason="refused"))
    assert shown(told, width=20) == shown(told, width=200)


def test_a_warning_of_a_check_stands_behind_its_real() -> None:
    warning = "certificate expires on 2030-01-01"
    (line,) = (line for line in shown(document(real("web1", warning=warning))) if "web1" in line)
    assert line.endswith(warning)
