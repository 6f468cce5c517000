"""The main job, end to end: balancing, sticking, health, fallback, orders, reload; real nginx, real packets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lb.lab import observe
from lb.lab.observe import health, run, run_in, status, wait_until
from tests.netns.cluster import CONF, URL, VIRTUAL, active, answers, edited, is_settled, lbctl, other

pytestmark = pytest.mark.usefixtures("demo_lab")


@pytest.fixture(scope="module")
def director(demo_lab: None) -> str:  # noqa: ARG001
    """The active one; no test here changes who that is."""
    return active()


@pytest.fixture
def restored(director: str) -> Iterator[None]:
    """The demo's configuration is in force again afterwards."""
    yield
    lbctl("reload", str(CONF), "--node", director)
    wait_until("the pair is whole", is_settled)


def held(director: str) -> list[tuple[str, str, dict[str, int]]]:
    """Address, scheduler and weights of each service in the data plane."""
    services = json.loads(lbctl("list", "--json", "--node", director).stdout)
    return [(s["address"], s["scheduler"], {r["address"]: r["weight"] for r in s["reals"]}) for s in services]


def test_round_robin_splits_in_half() -> None:
    assert answers(100) == {"web1": 50, "web2": 50}


def test_a_second_up_says_that_it_is_up() -> None:
    assert "already" in lbctl("lab", "up", str(CONF)).stdout


@pytest.mark.usefixtures("restored")
def test_source_hash_sticks_to_one_real(director: str, tmp_path: Path) -> None:
    conf = edited(tmp_path, ('scheduler = "rr"', 'scheduler = "sh"'))
    lbctl("reload", str(conf), "--node", director)
    seen = answers(20)
    assert len(seen) == 1
    assert sum(seen.values()) == 20


@pytest.mark.usefixtures("restored")
def test_weights_are_honoured(director: str, tmp_path: Path) -> None:
    conf = edited(tmp_path, ('scheduler = "rr"', 'scheduler = "wrr"'))
    lbctl("reload", str(conf), "--node", director)
    lbctl("weight", "web/192.168.1.101", "3", "--node", director)
    wait_until(
        "the weight is in the data plane", lambda: held(director)[0][2] == {"192.168.1.101": 3, "192.168.1.102": 1}
    )
    assert answers(40) == {"web1": 30, "web2": 10}
    lbctl("enable", "web1", "--node", director)


def test_dead_web_servers_leave_and_return_and_the_fallback_serves(director: str) -> None:
    lbctl("lab", "nginx", "web1", "stop")
    wait_until("web1 is down", lambda: health(director)["192.168.1.101"] == "down")
    assert answers(10) == {"web2": 10}
    assert "refused" in lbctl("status", "--node", director).stdout

    lbctl("lab", "nginx", "web2", "stop")
    wait_until("the fallback is active", lambda: status(director)["virtuals"][0]["fallback_active"])
    assert set(answers(5)) == {director}
    assert "Local" in lbctl("list", "--node", director).stdout

    lbctl("lab", "nginx", "web1", "start")
    wait_until("web1 is up", lambda: health(director)["192.168.1.101"] == "up")
    assert answers(5) == {"web1": 5}
    lbctl("lab", "nginx", "web2", "start")
    wait_until("the pair is whole", is_settled)


def test_drain_and_enable(director: str) -> None:
    lbctl("drain", "web/192.168.1.101", "--node", director)
    wait_until("web1 is drained", lambda: health(director)["192.168.1.101"] == "drained")
    assert answers(10) == {"web2": 10}
    lbctl("reload", "--node", director)
    assert health(director)["192.168.1.101"] == "drained"
    lbctl("enable", "192.168.1.101", "--node", director)
    wait_until("web1 is back", lambda: set(answers(4)) == {"web1", "web2"})


@pytest.mark.usefixtures("restored")
def test_a_maintenance_file_takes_a_real_out_while_it_is_there(director: str, tmp_path: Path) -> None:
    directory = tmp_path / "maintenance"
    directory.mkdir()
    conf = edited(tmp_path, ('interface = "eth0"', f'interface = "eth0"\nmaintenance = "{directory}"'))
    lbctl("reload", str(conf), "--node", director)
    (directory / "web1").touch()
    wait_until("web1 is in maintenance", lambda: health(director)["192.168.1.101"] == "drained")
    assert answers(4) == {"web2": 4}
    assert "in maintenance by the file web1" in lbctl("status", "--node", director).stdout
    lbctl("enable", "web1", "--node", director)
    assert answers(4) == {"web2": 4}, "the file counts as long as it is there"
    (directory / "web1").unlink()
    wait_until("web1 is back", lambda: set(answers(4)) == {"web1", "web2"})
    (real,) = json.loads(lbctl("status", "web/192.168.1.101", "--json", "--node", director).stdout)["reals"]
    assert [(entry["state"], entry["reason"]) for entry in real["history"][:3]] == [
        ("enabled", "no maintenance file any more"), ("enabled", "by hand"), ("drained", "maintenance file web1"),
    ]  # fmt: skip


@pytest.mark.usefixtures("restored")
def test_a_real_without_the_virtual_address_is_down_where_that_is_asked_for(director: str, tmp_path: Path) -> None:
    """On the active director, whose own address the virtual's is as well, and on the standby."""
    conf = edited(tmp_path, ("[virtual.check]", '[virtual.check]\nvia = "virtual"'))
    both = [director, other(director)]

    def found(state: str) -> bool:
        return all(health(node) == {"192.168.1.101": state, "192.168.1.102": "up"} for node in both)

    for node in both:
        lbctl("reload", str(conf), "--node", node)
    try:
        wait_until("both find both up", lambda: found("up"))
        run_in("web1", "ip", "address", "del", f"{VIRTUAL}/32", "dev", "lo")
        wait_until("both find web1 down", lambda: found("down"))
        for node in both:
            (real,) = json.loads(lbctl("status", "web/192.168.1.101", "--json", "--node", node).stdout)["reals"]
            assert real["reason"].endswith(f", asked as {VIRTUAL} (has the real that address on lo?)")
        assert answers(6) == {"web2": 6}
        run_in("web1", "ip", "address", "add", f"{VIRTUAL}/32", "dev", "lo")
        wait_until("both find web1 up", lambda: found("up"))
        assert set(answers(6)) == {"web1", "web2"}
    finally:
        lbctl("reload", str(CONF), "--node", other(director))


def test_list_prints_ipvsadms_columns(director: str) -> None:
    answers(4)
    lines = lbctl("list", "--node", director).stdout.splitlines()
    assert lines[1:3] == [
        "Prot LocalAddress:Port Scheduler Flags",
        "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn",
    ]
    assert lines[3] == f"TCP  {VIRTUAL}:80 rr"
    assert lines[4].split()[:4] == ["->", "192.168.1.101:80", "Route", "1"]
    entries = lbctl("list", "--connections", "--node", director).stdout.splitlines()
    assert entries[1] == "pro expire state       source             virtual            destination"
    assert any(f"{VIRTUAL}:80" in line for line in entries[2:])


def test_the_standby_knows_the_connections(director: str) -> None:
    answers(10)
    standby = other(director)

    def entries(node: str) -> set[tuple[str, str]]:
        documents = json.loads(lbctl("list", "--connections", "--json", "--node", node).stdout)
        return {(d["client"], d["real"]) for d in documents}

    there = entries(director)
    assert len(there) >= 10
    wait_until("the standby knows them all", lambda: there <= entries(standby))


BROKEN = {
    "syntax": ("port = 80", "port = "),
    "scheduler": ('scheduler = "rr"', 'scheduler = "rrr"'),
    "address": (f'address = "{VIRTUAL}"', 'address = "192.168.1.305"'),
    "unknown key": ('scheduler = "rr"', 'schedular = "rr"'),
    "duration": ('keepalive = "100ms"', 'keepalive = "100 parsecs"'),
    "deadtime": ('deadtime = "500ms"', 'deadtime = "100ms"'),
    "node": ('preferred = "lb1"', 'preferred = "lb3"'),
    "protocol": ('protocol = "tcp"', 'protocol = "sctp"'),
    "port": ("port = 80", "port = 80000"),
    "forward": ('forward = "gate"', 'forward = "masq"'),
    "type": ("auto_failback = false", 'auto_failback = "no"'),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_changes_nothing(kind: str, director: str, tmp_path: Path) -> None:
    conf = edited(tmp_path, BROKEN[kind])
    before = held(director)
    done = lbctl("reload", str(conf), "--node", director, exit_status=2)
    line = next(n for n, text in enumerate(conf.read_text().splitlines(), 1) if BROKEN[kind][1] in text)
    assert f"{conf}:{line}: " in done.stderr
    assert held(director) == before
    assert lbctl("check", str(conf), exit_status=2).stderr.count(f"{conf}:") >= 1


@pytest.mark.usefixtures("restored")
def test_reload_adds_and_removes_reals_without_losing_connections(director: str, tmp_path: Path) -> None:
    text = CONF.read_text()
    without_web2 = text[: text.rindex("[[virtual.real]]")]
    conf = tmp_path / "cluster.toml"
    conf.write_text(without_web2)
    lbctl("reload", str(conf), "--node", director)
    assert answers(6) == {"web1": 6}
    lbctl("reload", str(CONF), "--node", director)
    wait_until("web2 serves again", lambda: set(answers(4)) == {"web1", "web2"})


@pytest.mark.usefixtures("restored")
def test_a_reload_adds_a_virtual(director: str, tmp_path: Path) -> None:
    conf = tmp_path / "cluster.toml"
    virtual = CONF.read_text()[CONF.read_text().index("[[virtual]]") :]
    another = virtual.replace(f'"{VIRTUAL}"', '"192.168.1.106"').replace('name = "web"', 'name = "more"')
    conf.write_text(f"{CONF.read_text()}\n{another}")
    for host in ("web1", "web2"):
        run_in(host, "ip", "address", "add", "192.168.1.106/32", "dev", "lo")
    try:
        lbctl("reload", str(conf), "--node", director)
        more = "http://192.168.1.106/"
        wait_until("the new virtual answers", lambda: set(observe.answers(4, more)) == {"web1", "web2"})
        assert answers(4) == {"web1": 2, "web2": 2}
    finally:
        for host in ("web1", "web2"):
            run_in(host, "ip", "address", "del", "192.168.1.106/32", "dev", "lo")


def test_commands_without_a_director_end_with_3() -> None:
    for words in (["status"], ["down"], ["reload"], ["standby"], ["list"]):
        lbctl(*words, "--node", "nobody", exit_status=3)


def test_the_address_answers_pings() -> None:
    run_in("client", "ping", "-c", "1", "-W", "2", VIRTUAL)


def test_a_port_that_is_no_virtual_is_refused_and_not_balanced(director: str) -> None:
    before = status(director)["packets"]
    done = run("lab", "exec", "client", "--", "curl", "-s", "--max-time", "3", f"http://{VIRTUAL}:8081/")
    assert done.returncode == 7  # refused by the director's kernel
    assert status(director)["packets"]["tx_packets"] == before["tx_packets"]


def test_url_is_served_to_parallel_clients() -> None:
    script = f"for i in $(seq 8); do (for j in $(seq 25); do curl -s {URL}; done) & done; wait"
    lines = run_in("client", "sh", "-c", script).split()
    assert len(lines) == 200
    assert set(lines) == {"web1", "web2"}
