"""lbctl on network cards: how its program is attached, what `lbctl doctor` says, and connections between CPUs.

In a guest with four CPUs and these cards on one segment (`tests.vm.test_drivers`): eth0 to eth2 of the client and the
reals; of the director, of virtio, eth3 with one queue, and eth4, eth5 and eth6 with eight; eth7 is an e1000.
"""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lb.doctor.devices import LIMITS_IGNORED
from lb.lab.observe import wait_until
from tests.vm.inside import segment
from tests.vm.inside.segment import ACK, SYN, Director, Flows, sh

ONE_QUEUE, QUEUES, LEG, OTHER_LEG, E1000 = "eth3", "eth4", "eth5", "eth6", "eth7"
CPUS = range(4)
ROUNDS_UNDER_LOAD = 40

KERNEL = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))
BONDS = KERNEL >= (5, 15)
"""bonding runs programs in its slaves' drivers."""

Steer = Callable[[int], None]


@pytest.fixture(scope="module", autouse=True)
def _segment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    segment.make()
    try:
        with segment.servers(tmp_path_factory.mktemp("servers")):
            yield
    finally:
        segment.remove()


@pytest.fixture
def card(request: pytest.FixtureRequest) -> Iterator[str]:
    """A director's card (the parameter), up and with its address."""
    name: str = request.param
    sh("director", f"ip link set {name} up; ip address add {segment.address_of('director')}/24 dev {name}")
    yield name
    sh("director", f"ip address flush dev {name}; ip link set {name} down")


@pytest.fixture
def vlan(card: str) -> Iterator[str]:
    """A VLAN interface above the card."""
    sh("director", f"ip link add link {card} name {card}.5 type vlan id {segment.VLAN}; ip link set {card}.5 up")
    sh("director", f"ip address add {segment.address_of('director', segment.VLAN)}/24 dev {card}.5")
    yield f"{card}.5"
    sh("director", f"ip link delete {card}.5")


@pytest.fixture
def bond(request: pytest.FixtureRequest) -> Iterator[str]:
    """One of these cards (the parameter: mode, legs)."""
    mode, *legs = request.param
    sh("director", f"ip link add bond0 type bond mode {mode} miimon 50")
    for leg in legs:
        sh("director", f"ip link set {leg} down; ip link set {leg} master bond0")
    sh("director", f"ip link set bond0 up; ip address add {segment.address_of('director')}/24 dev bond0")
    yield "bond0"
    sh("director", "ip link delete bond0")
    for leg in legs:
        sh("director", f"ip link set {leg} down")


def on(*names: str) -> pytest.MarkDecorator:
    """With each of these cards."""
    return pytest.mark.parametrize("card", names, indirect=True)


def shared_fairly() -> bool:
    """Does each real get half of the connections?"""
    return segment.answers(4) == {"web1": 2, "web2": 2}


def interrupts(interface: str) -> list[Path]:
    """Those for what the card receives."""
    bus = re.findall(r"bus-info: (\S+)", sh("director", f"ethtool -i {interface}"))[0]
    [device] = Path(f"/sys/bus/pci/devices/{bus}").glob("virtio*")
    lines = Path("/proc/interrupts").read_text()
    return [Path(f"/proc/irq/{n}") for n in re.findall(rf"^ *(\d+):.*\b{device.name}-input\.\d+$", lines, re.MULTILINE)]


def by_interrupt(interface: str) -> Steer:
    """Sends a card's interrupts to a CPU, which then runs the driver, and the program in it."""
    files = [irq / "smp_affinity_list" for irq in interrupts(interface)]
    assert files

    def steer(cpu: int) -> None:
        for file in files:
            file.write_text(f"{cpu}\n")

    return steer


def by_rps(interface: str) -> Steer:
    """Sends packets on to a CPU after the driver has had them (Documentation/networking/scaling.rst), where the generic
    program runs."""

    def steer(cpu: int) -> None:
        sh("director", f"for f in /sys/class/net/{interface}/queues/rx-*/rps_cpus; do echo {1 << cpu:x} >$f; done")

    return steer


def visits_every_cpu(director: Director, steer: Steer) -> None:
    """Each connection is opened on one CPU, made whole on the next one, goes on on the others, always to its real."""
    with Flows(director.interface) as flows:
        for turn, cpu in enumerate((*CPUS, *CPUS)):
            steer(cpu)
            _settle(director, cpu)
            seen = _counted(director, lambda flags=ACK if turn else SYN: _arrive(flows, flags))  # type: ignore[misc]
            assert seen[cpu] == sum(seen) == len(flows.ports), f"steered to CPU {cpu}, packets were on {seen}"


def _settle(director: Director, cpu: int) -> None:
    """An interrupt may reach its old CPU once more: open connections, which come by any queue, until all are on the
    new one."""

    def moved() -> bool:
        with Flows(director.interface) as flows:
            seen = _counted(director, lambda: _arrive(flows, SYN))
        return seen[cpu] == sum(seen)

    wait_until(f"packets come to CPU {cpu}", moved, segment.PATIENCE_S)


def _arrive(flows: Flows, flags: int) -> None:
    flows.send(flags)
    flows.all_arrived()


def _counted(director: Director, work: Callable[[], object]) -> list[int]:
    """Packets by CPU meanwhile."""
    before = director.packets_by_cpu()
    work()
    return [after - was for after, was in zip(director.packets_by_cpu(), before, strict=True)]


def moves_under_load(director: Director, steer: Steer, log: Path) -> None:
    """Nor does it when all that changes while packets are on their way, and a download stays whole."""

    def keep_moving() -> None:
        for cpu in itertools.cycle(CPUS):
            steer(cpu)
            time.sleep(0.002)

    def load() -> None:
        for _ in range(ROUNDS_UNDER_LOAD):
            flows.send(ACK)
            flows.arrived()
        assert segment.download_is_whole()

    seen = [0] * len(CPUS)
    mover = segment.child(keep_moving, "director", log)
    try:
        with Flows(director.interface) as flows:
            flows.send(SYN)
            while not all(seen):
                seen = [sum(both) for both in zip(seen, _counted(director, load), strict=True)]
            flows.all_arrived()
    finally:
        segment.end(mover)


@on(ONE_QUEUE, QUEUES)
def test_virtio(card: str, tmp_path: Path) -> None:
    """Native, if need be with queues that CPUs share."""
    with Director(tmp_path, card) as director:
        assert director.mode == "native"
        assert not _warnings(director)
        assert shared_fairly()
        visits_every_cpu(director, by_interrupt(card))
        moves_under_load(director, by_interrupt(card), tmp_path / "mover")
        level, seen = director.findings()["driver"]
        assert "virtio_net" in seen
        assert level == ("ok" if card == QUEUES else "warn")


@on(E1000)
def test_a_card_without_xdp(card: str, tmp_path: Path) -> None:
    """Generic, said in the log; its packets are spread over CPUs by software."""
    limits_cost = KERNEL < LIMITS_IGNORED
    assert Director(tmp_path, card).findings()["queue limits"][0] == ("warn" if limits_cost else "ok")
    if limits_cost:  # as doctor says
        sh("director", f"echo 1000000 | tee /sys/class/net/{card}/queues/tx-*/byte_queue_limits/limit_min")
    with Director(tmp_path, card) as director:
        assert director.mode == "generic"
        assert card in _warnings(director)
        assert shared_fairly()
        visits_every_cpu(director, by_rps(card))
        moves_under_load(director, by_rps(card), tmp_path / "mover")
        level, seen = director.findings()["driver"]
        assert (level, seen) == ("warn", "e1000: generic XDP only, several times slower")


@on(E1000)
def test_native_where_it_cannot_be_is_refused(card: str, tmp_path: Path) -> None:
    director = Director(tmp_path, card, attach="native")
    status, said = segment.run_lbctl(tmp_path / "up", "up", str(director.conf), "--node", "director")
    assert status == 1
    assert f"{card} does no XDP (native: Operation not supported); try attach = 'auto'" in said
    assert "Traceback" not in said
    assert director.findings()["driver"][0] == "fail"


@on(QUEUES)
def test_the_configuration_chooses(card: str, tmp_path: Path) -> None:
    """generic, and after a crash native: with the same connections."""
    with Flows(card) as flows:
        with Director(tmp_path, card, attach="generic") as director:
            assert director.mode == "generic"
            assert not _warnings(director), "that is what was asked for"
            for flags in (SYN, ACK):
                _arrive(flows, flags)
            director.crash()
            assert director.mode == "generic"
            _arrive(flows, ACK)
        with Director(tmp_path, card, attach="native") as director:
            assert director.mode == "native"
            _arrive(flows, ACK)


@pytest.mark.parametrize(
    "bond", [("active-backup", LEG, OTHER_LEG), ("balance-rr", LEG, OTHER_LEG)], indirect=True, ids=lambda p: p[0]
)
def test_a_bond(bond: str, tmp_path: Path) -> None:
    """Native in its slaves' drivers, since 5.15; a slave that fails takes no connection with it."""
    with Director(tmp_path, bond) as director:
        assert director.mode == ("native" if BONDS else "generic")
        assert shared_fairly()
        with Flows(bond) as flows:
            for flags in (SYN, ACK):
                _arrive(flows, flags)
            sh("director", f"ip link set {LEG} down")
            wait_until("the other slave carries", lambda: _reaches(flows), segment.PATIENCE_S)
            _arrive(flows, ACK)
        assert shared_fairly()
        level, seen = director.findings()["driver"]
        assert "bonding" in seen
        assert level == ("ok" if BONDS else "warn")


def _reaches(flows: Flows) -> bool:
    """What is sent to a slave that is down is lost: send until nothing is any more, and count anew."""
    before = flows.arrived()
    flows.send(ACK)
    time.sleep(0.5)
    whole = flows.arrived() == before + len(flows.ports)
    flows.sent = flows.arrived()
    return whole


@pytest.mark.parametrize("bond", [("active-backup", LEG, E1000)], indirect=True)
def test_a_bond_with_a_slave_that_has_no_xdp(bond: str, tmp_path: Path) -> None:
    with Director(tmp_path, bond) as director:
        assert director.mode == "generic"
        assert bond in _warnings(director)
        assert shared_fairly()
        level, seen = director.findings()["driver"]
        assert level == "warn"
        assert "e1000" in seen


@on(QUEUES, E1000)
def test_a_vlan_interface(card: str, vlan: str, tmp_path: Path) -> None:
    """Generic; the tag is put back on what leaves."""
    with Director(tmp_path, vlan, network=segment.VLAN) as director:
        assert director.mode == "generic"
        assert vlan in _warnings(director)
        assert segment.answers(4, segment.VLAN) == {"web1": 2, "web2": 2}
        level, seen = director.findings()["driver"]
        assert level == "warn"
        assert "VLAN" in seen
        assert card in seen


@on(QUEUES, E1000)
def test_tags_that_a_card_takes_off(card: str, vlan: str, tmp_path: Path) -> None:
    """Found before anybody misses them."""
    level, seen = Director(tmp_path, card).findings()["vlan tags"]
    assert level == ("warn" if card == E1000 else "ok")
    assert vlan in seen


def _warnings(director: Director) -> str:
    return "\n".join(line for line in director.said().splitlines() if "native XDP is refused" in line)
