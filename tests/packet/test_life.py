"""Programs come and go: swaps, failures, deaths, other versions, other interfaces; the connections stay."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import subprocess
import sys

import pytest

from lb import bpf
from lb.datapath import DataPath, pins
from lb.datapath.view import View
from lb.errors import DataPathError, NotRunningError, UsageError
from lb.schedule import SCHEDULERS
from lb.service import Service
from tests.packet.test_exchange import row
from tests.packet.world import (
    INTERFACE,
    SETTINGS,
    TCP_KEY,
    UDP_KEY,
    World,
    add_interface,
    attached_program,
    gated,
    mac_of,
    network_namespace,
    real,
    remove_interface,
    tcp,
)

PORTS = range(1000, 1010)
REALS = (real(1), real(2))


def homes(world: World, flags: str = "A") -> list[int]:
    """Where each of the connections goes."""
    return [world.real_of(tcp(flags, port)) for port in PORTS]


def test_nothing_is_loaded_before_the_first_apply(own: World) -> None:
    assert own.data.modes == {INTERFACE: ""}
    assert len(own.events()) == 0
    assert attached_program() is None
    with pytest.raises(DataPathError, match="first apply"):
        own.data.counters()
    with pytest.raises(DataPathError, match="first apply"):
        _ = own.data.program_fd


def test_it_is_attached_and_leaves_nothing_behind(own: World) -> None:
    own.apply_reals(*REALS)
    assert own.data.modes == {INTERFACE: "native"}
    assert attached_program() == bpf.program_id(own.data.program_fd)
    own.data.close(detach=True)
    assert attached_program() is None
    assert not pins.home(own.node).exists()


def test_the_same_services_again_change_nothing(own: World) -> None:
    own.apply_reals(*REALS)
    program = attached_program()
    assert homes(own, "S") == [1, 2] * 5
    own.apply_reals(*REALS)
    assert attached_program() == program
    assert own.real_of(tcp("S", 2000)) == 1, "the turn goes on"
    own.apply_reals(real(1, 5), real(2, 0))
    assert attached_program() == program, "weights are no reason to compile"


def test_a_swap_keeps_connections_counters_and_events(own: World) -> None:
    own.apply_reals(*REALS)
    before, fd = homes(own, "S"), own.data.event_fd
    assert own.send(tcp("A", PORTS[0])) == own.send(tcp("A", PORTS[0]))
    program, counters = attached_program(), own.data.counters()
    own.apply(Service(TCP_KEY, "sh", REALS), Service(UDP_KEY._replace(port=99), "mh", (real(3),)))
    assert attached_program() not in (program, None)
    assert attached_program() == bpf.program_id(own.data.program_fd)
    assert own.data.counters() == counters
    assert own.data.event_fd == fd
    assert homes(own) == before
    events = own.events()
    assert events["client_port"].tolist() == [*PORTS], "one from the program before, the others half-open until now"
    assert [s.scheduler for s in own.data.held()] == ["sh", "mh"]


def test_other_timeouts_are_compiled_in(own: World) -> None:
    own.apply_reals(*REALS)
    own.send(tcp("S"))
    own.send(tcp("A"))
    own.age(20)
    own.data.settings = SETTINGS.model_copy(update={"established": 10.0})
    assert len(own.rows()) == 1
    own.apply_reals(*REALS)
    assert len(own.rows()) == 0
    view = View.open(own.node)
    assert view.timeouts_s(row()).tolist() == [10]
    view.close()


@pytest.fixture
def nonsense(monkeypatch: pytest.MonkeyPatch) -> str:
    """A scheduler that Python knows and bpf/sched.h does not."""
    monkeypatch.setitem(SCHEDULERS, "nonsense", SCHEDULERS["rr"])
    return "nonsense"


def test_a_program_that_does_not_compile_changes_nothing(own: World, nonsense: str) -> None:
    own.apply_reals(*REALS)
    before, program, held = homes(own, "S"), attached_program(), own.data.held()
    with pytest.raises(DataPathError, match=r"schedule_nonsense") as caught:
        own.apply(Service(TCP_KEY, nonsense, (real(7),)))
    assert "bpf/sched.h" in str(caught.value) or "configuration" in str(caught.value)
    assert attached_program() == program
    assert own.data.held()[0].scheduler == held[0].scheduler
    assert homes(own) == before
    assert own.real_of(tcp("S", 2000)) in (1, 2)


def test_a_first_program_that_does_not_compile_leaves_nothing(own: World, nonsense: str) -> None:
    with pytest.raises(DataPathError, match="could not be loaded"):
        own.apply(Service(TCP_KEY, nonsense, (real(7),)))
    assert attached_program() is None
    assert pins.directory_of(own.node) is None
    own.apply_reals(*REALS)
    assert homes(own, "S") == [1, 2] * 5


def test_a_killed_process_leaves_a_working_packet_path_that_the_next_adopts() -> None:
    node = f"test-{os.getpid()}-dying"
    with network_namespace():
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.packet.dying", node],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert child.stdout is not None
            lines = iter(child.stdout.readline, "")
            assert any(line == "ready\n" for line in lines), "the child did not get ready"
            program = attached_program()
            assert program is not None
        finally:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                assert pipe is not None
                pipe.close()
        try:
            assert attached_program() == program
            view = View.open(node)
            (service, _) = view.held()
            assert [(d.address, d.active, d.connections) for d in service.destinations] == [
                (r.address, 5, 5) for r in REALS
            ]
            counters = view.counters()
            (rows,) = view.snapshot()
            view.close()
            assert len(rows) == 10
            assert counters["tx_packets"] == 20

            world = World.open(node)
            assert attached_program() == program, "opening disturbs nothing"
            world.apply_reals(real(3), real(2))
            assert attached_program() not in (None, program)
            assert world.data.modes == {INTERFACE: "native"}
            assert world.data.counters() == counters
            assert homes(world) == [1, 2] * 5, "real 1 is retired, its connections go on"
            assert {world.real_of(tcp("S", port)) for port in range(2000, 2004)} == {2, 3}
            world.data.close(detach=True)
            assert attached_program() is None
        finally:
            pins.remove_node(node)


def test_closing_without_detaching_leaves_everything_at_work(own: World) -> None:
    own.apply_reals(*REALS)
    before, program = homes(own, "S"), attached_program()
    own.data.close(detach=False)
    assert attached_program() == program
    again = World.open(own.node)
    again.apply_reals(*REALS)
    assert homes(again) == before
    again.data.close(detach=False)


def test_maps_of_another_size_take_the_connections_along(own: World) -> None:
    own.apply_reals(*REALS)
    before, directory = homes(own, "S"), pins.directory_of(own.node)
    own.data.close(detach=False)
    larger = World.open(own.node, settings=SETTINGS.model_copy(update={"max": 2 * SETTINGS.max}))
    larger.apply_reals(real(2), real(1))
    assert directory is not None
    assert pins.directory_of(own.node) != directory
    assert not directory.exists()
    assert homes(larger) == before
    larger.data.close(detach=False)


def test_what_opens_while_they_are_taken_along_comes_too(own: World, monkeypatch: pytest.MonkeyPatch) -> None:
    own.apply_reals(*REALS)
    before, old_fd = homes(own, "S"), os.dup(own.data.program_fd)
    own.data.close(detach=False)
    larger = World.open(own.node, settings=SETTINGS.model_copy(update={"max": 2 * SETTINGS.max}))
    put, late = larger.data._attachments.put, {}

    def put_late(fd: int) -> None:
        """The tables are full, and packets still meet the old program."""
        for port in range(3000, 3010):
            verdict, out, _ = bpf.run_program(old_fd, tcp("S", port))
            assert verdict == bpf.TX
            late[port] = out[5]
        put(fd)

    monkeypatch.setattr(larger.data._attachments, "put", put_late)
    try:
        larger.apply_reals(*reversed(REALS))
        assert homes(larger) == before
        assert {port: larger.real_of(tcp("A", port)) for port in late} == late
        assert len(late) == 10
    finally:
        os.close(old_fd)
        larger.data.close(detach=False)


def test_a_link_whose_interface_is_gone_is_replaced(own: World) -> None:
    own.apply_reals(*REALS)
    own.data.close(detach=False)
    remove_interface()
    add_interface(mac="02:00:00:00:00:01")
    assert attached_program() is None
    again = World.open(own.node)
    again.apply_reals(*REALS)
    assert attached_program() == bpf.program_id(again.data.program_fd)
    again.data.close(detach=False)


def test_an_interface_that_comes_back_gets_its_program_back(own: World) -> None:
    """Once with the MAC that it had, and once with another, which has to be compiled in."""
    own.apply_reals(*REALS)
    before, program = homes(own, "S"), attached_program()
    remove_interface()
    add_interface()
    own.apply_reals(*REALS)
    assert attached_program() == program
    assert homes(own) == before
    remove_interface()
    add_interface(mac="02:00:00:00:00:07")
    own.apply_reals(*REALS)
    assert attached_program() == bpf.program_id(own.data.program_fd) != program
    frame = bytes.fromhex("020000000007") + tcp("A", 1000)[6:]
    assert own.send(frame) == (bpf.TX, mac_of(1) + frame[:6] + frame[12:])


def test_another_program_on_the_interface_is_left_alone(own: World) -> None:
    other = bpf.load_xdp(bytes.fromhex("b700000002000000 9500000000000000"))
    link = bpf.attach_xdp(other, socket.if_nametoindex(INTERFACE), bpf.XDP_FLAGS_DRV_MODE)
    program = attached_program()
    with pytest.raises(DataPathError, match="somebody else"):
        own.apply_reals(*REALS)
    assert attached_program() == program
    os.close(link)
    os.close(other)
    own.apply_reals(*REALS)
    assert own.send(tcp("S")) == gated(tcp("S"), mac_of(1))


def test_an_interface_without_native_xdp_gets_the_generic_one() -> None:
    with network_namespace():
        node = f"test-{os.getpid()}-lo"
        native = asyncio.run(DataPath.open(node, ["lo"], SETTINGS, "native"))
        with pytest.raises(DataPathError, match="lo does no XDP"):
            asyncio.run(native.apply(()))
        native.close(detach=True)
        generic = asyncio.run(DataPath.open(node, ["lo"], SETTINGS, "auto"))
        try:
            asyncio.run(generic.apply(()))
            assert generic.modes == {"lo": "generic"}
            assert attached_program("lo") == bpf.program_id(generic.program_fd)
        finally:
            generic.close(detach=True)


def test_no_such_interface() -> None:
    with pytest.raises(DataPathError, match=f"no interface 'eth77' here; there are: .*{INTERFACE}"):
        asyncio.run(DataPath.open("test-none", ["eth77"], SETTINGS, "auto"))


def test_nothing_to_look_at() -> None:
    with pytest.raises(NotRunningError, match="no data plane of 'test-none'"):
        View.open("test-none")


def test_which_node_is_meant(own: World, world: World) -> None:
    own.apply_reals(*REALS)
    with pytest.raises(UsageError, match="--node"):
        pins.find_node()
    assert pins.find_node(own.node) == own.node
    assert world.node in {path.name for path in pins.ROOT.iterdir()}


def test_events_wake_the_loop(own: World) -> None:
    own.apply_reals(*REALS)
    fd = own.data.event_fd
    assert fd is not None
    assert select.select([fd], [], [], 0)[0] == []
    own.send(tcp("S"))
    assert select.select([fd], [], [], 0)[0] == [], "a flood wakes nobody"
    own.send(tcp("A"))
    assert select.select([fd], [], [], 5)[0] == [fd]
    assert len(own.events()) == 1
    assert select.select([fd], [], [], 0)[0] == []


def test_too_many_services() -> None:
    with network_namespace():
        world = World.open(f"test-{os.getpid()}-many")
        services = [Service(TCP_KEY._replace(port=port), "rr", ()) for port in range(1, 1026)]
        with pytest.raises(DataPathError, match="1025 services"):
            world.apply(*services)
        world.data.close(detach=True)
