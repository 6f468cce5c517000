"""Never wrong: clients ask without a pause while everything changes, and each connection stays with its real.

The same in steps between system calls, and many more of them: tests.packet.stream.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lb.lab import observe
from lb.lab.observe import run_in, status, wait_until
from tests.netns import streaming
from tests.netns.cluster import lbctl, raised

VIRTUAL = "10.12.0.100"
SEED = 5
CONNECTIONS = 200
REALS = {"ra": "10.12.0.11", "rb": "10.12.0.12", "rc": "10.12.0.13", "rd": "10.12.0.14"}
CHECK = '{ type = "negotiate", port = 80, request = "/up", receive = "fine", interval = "200ms", failures = 1 }'
ALWAYS = "ra"
"""Somebody must take new connections."""


def configuration(reals: tuple[str, ...] = tuple(REALS), scheduler: str = "rr", passerby: bool = False) -> str:
    """passerby: another virtual, so that the others have other places, and the program is another."""
    head = '[cluster]\nname = "stream"\ninterface = "eth0"\n[[node]]\nname = "lb1"\naddress = "10.12.0.2"\n'
    others = [("by", 81, "tcp")] if passerby else []
    for name, port, protocol in (*others, ("web", 80, "tcp"), ("dns", 53, "udp")):
        head += f'[[virtual]]\nname = "{name}"\naddress = "{VIRTUAL}"\nport = {port}\nprotocol = "{protocol}"\n'
        head += f'scheduler = "{scheduler}"\ncheck = {CHECK}\n'
        for real in reals:
            head += f'[[virtual.real]]\naddress = "{REALS[real]}"\nname = "{real}"\n'
    return head


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("stream") / "cluster.toml"
    with raised(path, configuration(), lambda: set(observe.health("lb1").values()) == {"up"}):
        yield path


class Changes:
    """What befalls the director, chosen by a seed."""

    def __init__(self, conf: Path) -> None:
        self.rng = random.Random(SEED)
        self.conf = conf

    def _some(self) -> str:
        return self.rng.choice([name for name in REALS if name != ALWAYS])

    def drain(self) -> None:
        name = self._some()
        lbctl("drain", name, "--node", "lb1")
        lbctl("enable", name, "--node", "lb1")

    def weigh(self) -> None:
        lbctl("weight", self._some(), str(self.rng.randrange(1, 9)), "--node", "lb1")

    def reload(self) -> None:
        """Reals leave and come, another scheduler, another program."""
        others = [name for name in REALS if name != ALWAYS and self.rng.random() < 0.5]
        scheduler = self.rng.choice(("rr", "wrr", "wlc", "mh"))
        self.conf.write_text(configuration((ALWAYS, *others), scheduler, self.rng.random() < 0.5))
        lbctl("reload", str(self.conf), "--node", "lb1")

    def fail_and_recover(self) -> None:
        """A real fails its checks, and serves who it has."""
        self.conf.write_text(configuration())
        lbctl("reload", str(self.conf), "--node", "lb1")
        name = self._some()
        (page,) = Path(f"/run/lbctl/lab/stream/{name}/www").glob("page-80-*")
        page.rename(page.with_suffix(".away"))
        wait_until(f"{name} is down", lambda: observe.health("lb1").get(REALS[name]) == "down")
        page.with_suffix(".away").rename(page)
        wait_until(f"{name} is up", lambda: observe.health("lb1").get(REALS[name]) == "up")

    def die(self) -> None:
        """The process is killed, and another takes over."""
        lines = run_in("lb1", "ss", "-Hxlp", "src", "/run/lbctl/lb1.sock")
        os.kill(int(lines.split("pid=")[1].split(",")[0]), signal.SIGKILL)
        lbctl("lab", "start", "lb1")
        wait_until("it is active again", lambda: observe.role("lb1") == "active")


@pytest.mark.timeout(600)
def test_every_connection_stays_with_its_real(conf: Path) -> None:
    changes = Changes(conf)
    kinds: list[Callable[[], None]] = [
        *(changes.drain, changes.weigh, changes.reload, changes.reload),
        *(changes.fail_and_recover, changes.die),
    ]
    words = *observe.LBCTL, "lab", "exec", "client", "--", sys.executable, streaming.__file__
    with subprocess.Popen(
        [*words, VIRTUAL, "80", "53", str(CONNECTIONS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as clients:
        assert clients.stdout is not None
        assert clients.stdout.readline() == "begun\n"
        before = status("lb1")["packets"]
        changes.rng.shuffle(kinds)
        for change in kinds:
            change()
        output, _ = clients.communicate(timeout=120)
    told = json.loads(output)
    after = status("lb1")["packets"]
    moved = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    assert told["wrong"] == []
    assert told["connections"] > CONNECTIONS // 4
    assert len(told["reals"]) > 1
    lost = {name: count for name, count in moved.items() if name.startswith("drop_")}
    assert lost == {}, moved
    assert moved["tx_packets"] >= told["questions"]
