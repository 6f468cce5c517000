"""What a virtual may ask of the packet path, each with real clients and servers: one cluster for all of it.

Every test has a virtual of its own, so that nobody else's connections count.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lb.lab import observe
from lb.lab.observe import run_in, status, wait_until
from tests.netns.cluster import lbctl

pytestmark = pytest.mark.usefixtures("marks")

CONF = """
[cluster]
name = "scheduling"
interface = "eth0"
[[node]]
name = "one"
address = "10.7.0.1"
[[node]]
name = "two"
address = "10.7.0.2"
[ha]
deadtime = "5s"
initdead = "5s"
preferred = "one"
[connections]
fin = "1s"
"""
VIRTUAL = """
[[virtual]]
name = "{name}"
address = "{address}"
port = 80
{more}
[virtual.check]
{check}
[[virtual.real]]
name = "ra"
address = "10.7.0.11"
{first}
[[virtual.real]]
name = "rb"
address = "10.7.0.12"
{second}
"""
REALS = {"ra": "10.7.0.11", "rb": "10.7.0.12"}
IN_CLIENT = ("ip", "netns", "exec", "lbctl-client")
CLIENTS = [f"10.7.0.{number}" for number in range(201, 207)]
FLAGS = ("strict", "lenient")
LEAVING = ("held", "ended")
"""Virtuals whose reals are up while there is no file that says otherwise; all others always are."""

MORE = {
    "group": ('persistent = "5m"\nalso = ["10.7.0.100:443", "10.7.0.120:80"]', "", ""),
    "least": ('scheduler = "wlc"', "weight = 3", ""),
    "delay": ('scheduler = "sed"', "weight = 3", ""),
    "full": ("", "upper = 2\nlower = 1", "upper = 1"),
    "strict": ('scheduler = "sh"\nflags = []', "", ""),
    "lenient": ('scheduler = "sh"\nflags = ["sh-fallback"]', "", ""),
    "held": ("quiescent = false", "", ""),
    "ended": ("quiescent = false\nexpire_nodest_conn = true", "", ""),
}
VIRTUALS = {name: f"10.7.0.{number}" for number, name in enumerate(MORE, start=100)}

CONNECTION = """
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], timeout=float(sys.argv[2]))
connection.connect()
connection.auto_open = 0
print("connected", flush=True)
for line in sys.stdin:
    try:
        connection.request("GET", "/")
        print(connection.getresponse().read().decode().strip(), flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)
"""
"""Asks once for each line it is given."""


def conf_text(marks: Path) -> str:
    """marks: where those files are, named VIRTUAL-REAL."""
    command = ["/bin/sh", "-c", f"test ! -e {marks}/$1-$3", "sh"]
    external = f'type = "external"\ncommand = {command}\ninterval = "300ms"\nfailures = 1'
    virtuals = []
    for name, (more, first, second) in MORE.items():
        check = external if name in LEAVING else 'type = "on"'
        address = VIRTUALS[name]
        virtuals.append(VIRTUAL.format(name=name, address=address, more=more, check=check, first=first, second=second))
    return CONF + "".join(virtuals)


class Client:
    """One connection to port 80 of a virtual, from the lab's client."""

    def __init__(self, name: str, timeout_s: float = 20) -> None:
        words = [sys.executable, "-c", CONNECTION, VIRTUALS[name], str(timeout_s)]
        self._process = subprocess.Popen(
            [*IN_CLIENT, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.connected = self.answer() == "connected"

    def ask(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("?\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        """Who answered, or what went wrong; empty when there is no connection."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def asked(self) -> str:
        self.ask()
        return self.answer()

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def marks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cluster, whole; and the directory of files that take its reals down."""
    directory = tmp_path_factory.mktemp("scheduling")
    directory.chmod(0o755)
    conf = directory / "cluster.toml"
    conf.write_text(conf_text(directory))
    lbctl("authkeys", str(directory / "authkeys"))
    try:
        lbctl("lab", "up", str(conf))
        for client in CLIENTS:
            subprocess.run([*IN_CLIENT, "ip", "address", "add", f"{client}/24", "dev", "eth0"], check=True)
        wait_until("the pair is whole", lambda: observe.is_settled("one", "two"))
        yield directory
    finally:
        lbctl("lab", "down", str(conf))


@pytest.fixture
def clients() -> Iterator[list[Client]]:
    """Those that were put in are closed."""
    made: list[Client] = []
    yield made
    for client in made:
        client.close()


def listed(name: str, node: str = "one") -> dict[str, Any]:
    """A virtual in `lbctl list --json`."""
    held = json.loads(lbctl("list", "--json", "--node", node).stdout)
    (found,) = [service for service in held if service["address"] == VIRTUALS[name]]
    return dict(found)


def counted(outcome: str) -> int:
    return int(status("one")["packets"][outcome])


def health(name: str) -> dict[str, str]:
    """Of each real, by its name."""
    virtuals = status("one").get("virtuals", [])
    return {
        real["name"]: real["health"] for virtual in virtuals if virtual["name"] == name for real in virtual["reals"]
    }


def fetch(*asked: tuple[str, str]) -> list[str]:
    """Who answers each (client, URL); "nobody" if nobody does."""
    words = [f"curl -sk --interface {client} --max-time 20 {url} || echo nobody" for client, url in asked]
    done = subprocess.run([*IN_CLIENT, "sh", "-c", "\n".join(words)], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_a_client_has_one_real_over_the_ports_and_addresses_of_a_group() -> None:
    urls = ["http://10.7.0.100/", "https://10.7.0.100/", "http://10.7.0.120/"]
    orders = [(client, [*urls[at % 3 :], *urls[: at % 3]]) for at, client in enumerate(CLIENTS)]
    answers = fetch(*((client, url) for client, order in orders for url in order))
    assert answers == [home for home in ("ra", "rb") * 3 for _ in urls], "turns are the group's"

    group = listed("group")
    assert [real["persistent"] for real in group["reals"]] == [3, 3]
    assert [real["connections"] for real in group["reals"]] == [9, 9]
    shown = lbctl("list", "--node", "one").stdout
    assert "TCP  10.7.0.100:80 rr persistent 300\n   + TCP  10.7.0.100:443\n   + TCP  10.7.0.120:80\n" in shown
    assert "  -> 10.7.0.11:0 " in shown
    assert "tcp 10.7.0.100:80 + tcp 10.7.0.100:443 + tcp 10.7.0.120:80" in lbctl("status", "--node", "one").stdout

    def known(node: str) -> set[tuple[str, ...]]:
        rows = json.loads(lbctl("list", "--connections", "--json", "--node", node).stdout)
        return {(row["client"], row["virtual"], row["real"]) for row in rows if row["template"]}

    assert len(known("one")) == len(CLIENTS)
    wait_until("the standby knows them", lambda: known("two") == known("one"))
    assert "10.7.0.120/32" in run_in("ra", "ip", "-br", "address", "show", "dev", "lo")


@pytest.mark.parametrize(("name", "order"), [("least", "ra rb ra ra ra rb"), ("delay", "ra ra ra rb ra ra")])
def test_connections_are_compared_with_weights(name: str, order: str, clients: list[Client]) -> None:
    """Three times the weight: wlc gives an idle real its first one at once, sed when the other would be busier."""
    clients += [Client(name) for _ in order.split()]
    assert [client.asked() for client in clients] == order.split()
    assert [real["active"] for real in listed(name)["reals"]] == [order.split().count(real) for real in ("ra", "rb")]


def test_a_full_real_gets_no_more_until_it_has_fewer(clients: list[Client]) -> None:
    clients += [Client("full") for _ in range(3)]
    assert [client.asked() for client in clients] == ["ra", "rb", "ra"]
    before = counted("unreachable")
    turned_away = Client("full")
    turned_away.close()
    assert not turned_away.connected
    assert counted("unreachable") > before
    shown = lbctl("list", "--thresholds", "--node", "one").stdout
    assert "  -> 10.7.0.11:80                 2          1          2          0" in shown

    clients[0].close()
    clients[2].close()
    wait_until("they are forgotten", lambda: not listed("full")["reals"][0]["inactive"])
    wait_until("it is not full any more", lambda: served_by("full") == "ra")


def served_by(name: str) -> str:
    """Who answers a new client; empty if nobody does."""
    client = Client(name)
    answer = client.asked() if client.connected else ""
    client.close()
    return answer


def test_clients_of_a_drained_real_go_elsewhere_or_are_refused() -> None:
    def homes(name: str) -> dict[str, str]:
        url = f"http://{VIRTUALS[name]}/"
        return dict(zip(CLIENTS, fetch(*((client, url) for client in CLIENTS)), strict=True))

    before = homes("strict")
    assert before == homes("lenient")
    assert set(before.values()) == {"ra", "rb"}
    for name in FLAGS:
        lbctl("drain", f"{name}/ra", "--node", "one")
    try:
        refused = counted("unreachable")
        assert homes("strict") == {client: "rb" if home == "rb" else "nobody" for client, home in before.items()}
        assert counted("unreachable") > refused
        assert homes("lenient") == dict.fromkeys(CLIENTS, "rb")
    finally:
        for name in FLAGS:
            lbctl("enable", f"{name}/ra", "--node", "one")
    assert homes("strict") == homes("lenient") == before


def test_a_connection_waits_for_its_real(clients: list[Client], marks: Path) -> None:
    """quiescent = false, expire_nodest_conn = false"""
    clients.append(Client("held"))
    home = clients[0].asked()
    mark = marks / f"{VIRTUALS['held']}-{REALS[home]}"
    mark.touch()
    wait_until("the real is down", lambda: health("held").get(home) == "down")
    assert len(listed("held")["reals"]) == 1
    before = counted("drop_real_gone")
    clients[0].ask()
    wait_until("its segments are dropped", lambda: counted("drop_real_gone") > before)
    assert served_by("held") not in ("", home)
    mark.unlink()
    assert clients[0].answer() == home


def test_a_connection_ends_with_its_real(clients: list[Client], marks: Path) -> None:
    """quiescent = false, expire_nodest_conn = true"""
    clients.append(Client("ended"))
    home = clients[0].asked()
    mark = marks / f"{VIRTUALS['ended']}-{REALS[home]}"
    mark.touch()
    wait_until("the real is down", lambda: health("ended").get(home) == "down")
    assert clients[0].asked() == "ConnectionResetError"
    assert served_by("ended") not in ("", home)
    mark.unlink()
    wait_until("the real is up", lambda: health("ended").get(home) == "up")
    assert {served_by("ended") for _ in REALS} == set(REALS)
