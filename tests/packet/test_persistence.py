"""Clients that belong to a real, and datagrams that belong to nobody."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lb import abi
from lb.connections import CONNECTION, Rows
from lb.datapath.view import View
from lb.service import Service
from lb.tcp import TIMEOUTS_S, State
from tests.packet.world import TCP_KEY, UDP_KEY, World, dropped, gated, local, mac_of, passed, real, tcp, udp

THREE = (real(1), real(2), real(3))
WEB = Service(TCP_KEY, "rr", THREE, persistent_s=300)
PROLONGED_T = abi.ticks(abi.PROLONGED_S)
LASTS_T = abi.ticks(300)


@pytest.fixture
def web(again: World) -> World:
    """A persistent service."""
    again.apply(WEB)
    return again


def template(world: World) -> tuple[dict[str, int], dict[str, int]]:
    """Key and value of the only template."""
    (found,) = [(key, value) for key, value in world.entries() if key["template"]]
    key, value = ({name: int(part[name]) for name in part.dtype.names if name != "zero"} for part in found)
    return key, value


def edit_template(world: World, **fields: int) -> None:
    """Set fields of every template."""
    for key, value in world.entries():
        if key["template"]:
            for name, number in fields.items():
                value[name] = number
            world.maps["connections"].update(np.array([key]), np.array([value]))


def told(world: World) -> list[Any]:
    """The events since the last look, of either family."""
    return [row for rows in world.data.read_events() for row in rows]


def connections(world: World) -> list[int]:
    """The client ports of all connections."""
    return sorted(int(key["client_port"]) for key, _ in world.entries() if not key["template"])


def test_a_client_stays_with_its_real(web: World) -> None:
    with web.counting(tx_packets=9):
        homes = {client: web.send(tcp(client=client)) for client in ("10.0.0.1", "10.0.0.2", "10.0.0.3")}
        assert [out[5] for _, out in homes.values()] == [1, 2, 3]
        for port in (2000, 2001):
            for client, (_, out) in homes.items():
                frame = tcp("S", port, client)
                assert web.send(frame) == gated(frame, out[:6])


def test_its_template_is_an_entry_of_its_own(web: World) -> None:
    now_t = View.now_t()
    web.send(tcp("S", 4711))
    key, value = template(web)
    assert key == {
        "client": 0x0A000001, "virtual": int(TCP_KEY.address), "client_port": 0, "virtual_port": 80,
        "protocol": 6, "template": 1,
    }  # fmt: skip
    assert value["state"] == State.TEMPLATE
    assert now_t <= value["last_seen_t"] == value["synced_t"] <= now_t + 1


def test_a_connection_from_port_0_is_no_template(web: World) -> None:
    assert web.real_of(tcp("S", 0)) == web.real_of(tcp("A", 0)) == 1
    assert connections(web) == [0]
    assert State(template(web)[1]["state"]) == State.TEMPLATE


def test_clients_of_one_network_belong_together(again: World) -> None:
    again.apply(replace(WEB, netmask=24))
    assert {again.real_of(tcp(client=f"10.0.0.{n}")) for n in (0, 1, 77, 255)} == {1}
    assert {again.real_of(tcp(client=f"10.0.1.{n}")) for n in (0, 255)} == {2}
    assert {int(key["client"]) for key, _ in again.entries() if key["template"]} == {0x0A000000, 0x0A000100}


def test_every_port_of_an_address(again: World) -> None:
    """As for FTP: the data connections go where the control connection went, whoever opens them."""
    again.apply(replace(WEB, key=TCP_KEY._replace(port=0)))
    assert again.real_of(tcp("S", client="10.9.9.9")) == 1
    assert again.real_of(tcp("S", dport=21)) == 2
    assert again.real_of(tcp("S", 2000, dport=40_000)) == 2, "passive: to any port"
    assert again.real_of(tcp("SA", 2001, dport=20)) == 2, "active: the client's answer to the real's SYN"
    assert again.real_of(tcp("A", 2001, dport=20)) == 2


def test_services_know_different_clients(again: World) -> None:
    again.apply(
        WEB, replace(WEB, key=TCP_KEY._replace(port=443), destinations=(real(4),)), Service(UDP_KEY, "rr", THREE)
    )
    assert again.real_of(tcp()) == 1
    assert again.real_of(tcp(dport=443)) == 4
    assert [again.real_of(udp(port)) for port in (1, 2, 3)] == [1, 2, 3], "not persistent"


def test_a_new_connection_renews_it_and_says_so_once_a_tick(web: World) -> None:
    web.send(tcp("S", 1))
    assert told(web) == [], "it is half-open, as its connection is"
    web.send(tcp("A", 1))
    assert [(row["state"], row["client_port"]) for row in told(web)] == [
        (State.TEMPLATE, 0),
        (State.ESTABLISHED, 1),
    ]
    edit_template(web, last_seen_t=View.now_t() - 100)
    web.send(tcp("S", 2))
    web.send(tcp("S", 3))
    ports = [row["client_port"] for row in told(web)]
    assert ports in ([0], [0, 0]), "the tick may end in between"
    assert View.now_t() - template(web)[1]["last_seen_t"] <= 1


@pytest.mark.parametrize("real_1", [real(1, weight=0), real(1, resolved=False)], ids=["quiescent", "unresolved"])
def test_a_quiescent_real_still_gets_its_clients(web: World, real_1: object) -> None:
    web.send(tcp("S", 1))
    web.apply(replace(WEB, destinations=(real_1, *THREE[1:])))  # type: ignore[arg-type]
    frame = tcp("S", 2)
    resolved = real_1 == real(1, weight=0)
    assert web.send(frame) == (gated(frame, mac_of(1)) if resolved else dropped(frame))


def test_unless_it_is_not_to(again: World) -> None:
    strict = replace(WEB, expire_quiescent=True)
    again.apply(strict)
    again.send(tcp("S", 1))
    drained = (real(1, weight=0), *THREE[1:])
    again.apply(replace(strict, destinations=drained))
    assert again.real_of(tcp("A", 1)) == 1, "its connections go on"
    second = again.real_of(tcp("S", 2))
    assert second != 1
    again.apply(strict)
    assert again.real_of(tcp("S", 3)) == second, "who went elsewhere stays there"


def test_a_real_that_left_binds_nobody(web: World) -> None:
    web.send(tcp("S", 1))
    web.apply(replace(WEB, destinations=THREE[1:]))
    assert web.real_of(tcp("A", 1)) == 1
    home = web.real_of(tcp("S", 2))
    assert home != 1
    web.apply(WEB)
    assert web.real_of(tcp("S", 3)) == home


def test_a_fallback_binds_nobody(again: World) -> None:
    nobody = replace(WEB, destinations=(real(1, weight=0),), fallback=local())
    again.apply(nobody)
    assert again.send(tcp("S", 1)) == passed(tcp("S", 1))
    assert all(not key["template"] for key, _ in again.entries())
    again.apply(replace(nobody, destinations=(real(1),)))
    assert again.real_of(tcp("S", 2)) == 1


def test_it_ends_after_its_time_when_no_connection_is_left(web: World) -> None:
    web.send(tcp("S", 1))
    web.send(tcp("A", 1))
    web.edit(last_seen_t=View.now_t() - abi.ticks(TIMEOUTS_S[State.ESTABLISHED]) - 1)
    edit_template(web, last_seen_t=View.now_t() - LASTS_T)
    assert web.data.sweep().live == 1, "its connection ran out, it did not"
    edit_template(web, last_seen_t=View.now_t() - LASTS_T - 1)
    web.send(tcp("S", 2, client="10.7.7.7"))
    web.data.sweep()
    assert {int(key["client"]) for key, _ in web.entries()} == {0x0A070707}


def test_it_lasts_a_minute_at_a_time_while_its_client_is_connected(web: World) -> None:
    web.send(tcp("S", 1))
    web.send(tcp("A", 1))
    for _ in range(3):
        edit_template(web, last_seen_t=View.now_t() - LASTS_T - 1)
        web.data.sweep()
        left_t = template(web)[1]["last_seen_t"] + LASTS_T - View.now_t()
        assert PROLONGED_T - 1 <= left_t <= PROLONGED_T
    assert web.real_of(tcp("S", 2)) == 1
    assert View.now_t() - template(web)[1]["last_seen_t"] <= 1, "and its whole time after a new connection"


def test_a_reload_keeps_clients_where_they_are(web: World) -> None:
    web.send(tcp("S", 1, "10.0.0.9"))
    home = web.real_of(tcp("S", 1))
    web.apply(replace(WEB, scheduler="wrr", persistent_s=600), Service(UDP_KEY, "rr", THREE))
    assert web.real_of(tcp("S", 2)) == home == 2


def test_without_persistence_templates_end_at_once(web: World) -> None:
    web.send(tcp("S", 1))
    web.apply(replace(WEB, persistent_s=0))
    assert {web.real_of(tcp("S", port)) for port in (2, 3, 4)} == {1, 2, 3}
    web.data.sweep()
    assert all(not key["template"] for key, _ in web.entries())


def test_templates_are_no_connections_when_counted(web: World) -> None:
    for port in (1, 2, 3):
        web.send(tcp("S", port))
    (service,) = web.data.held()
    assert (service.persistent_s, service.netmask, service.one_packet) == (300, 32, False)
    held = service.destinations[0]
    assert (held.active, held.inactive, held.persistent) == (3, 0, 1)


def row(**fields: int) -> Rows:
    """A template as another director tells it."""
    made = np.zeros(1, CONNECTION)
    usual = {
        "client": 0x0A000001, "virtual": int(TCP_KEY.address), "real": int(real(2).address), "virtual_port": 80,
        "protocol": 6, "state": State.TEMPLATE,
    }  # fmt: skip
    for name, value in (usual | fields).items():
        made[name] = value
    return made


def test_another_directors_templates(web: World) -> None:
    assert web.data.install(row(idle_s=200)) == (1, 0)
    assert web.real_of(tcp()) == 2
    (found,) = [r for rows in web.data.snapshot() for r in rows if r["state"] == State.TEMPLATE]
    assert (found["client"], found["client_port"], found["real"]) == (0x0A000001, 0, int(real(2).address))


@pytest.mark.parametrize(
    ("fields", "result"),
    [
        ({"idle_s": 302}, (0, 0)),
        ({"client_port": 1}, (0, 0)),
        ({"protocol": 17}, (0, 0)),
        ({"virtual_port": 81}, (0, 0)),
        ({"real": 1}, (0, 1)),
    ],
)
def test_those_that_mean_nothing_here(web: World, fields: dict[str, int], result: tuple[int, int]) -> None:
    assert web.data.install(row(**fields)) == result
    assert web.entries() == []


def test_each_datagram_for_itself(again: World) -> None:
    again.apply(Service(UDP_KEY, "rr", THREE, one_packet=True))
    with again.counting(tx_packets=6):
        for number in (1, 2, 3, 1, 2, 3):
            assert again.send(udp()) == gated(udp(), mac_of(number))
    assert again.entries() == []
    assert told(again) == []
    assert [held.connections for held in again.data.held()[0].destinations] == [2, 2, 2]
    assert again.data.held()[0].one_packet


def test_each_datagram_for_itself_to_the_real_of_its_client(again: World) -> None:
    again.apply(Service(UDP_KEY, "rr", THREE, persistent_s=60, one_packet=True))
    assert [again.real_of(udp(client=client)) for client in ("10.0.0.1", "10.0.0.2") * 2] == [1, 2, 1, 2]
    assert connections(again) == []


def test_a_connection_that_is_there_goes_on_when_datagrams_are_for_themselves(again: World) -> None:
    plain = Service(UDP_KEY, "rr", THREE)
    again.apply(plain)
    assert again.real_of(udp(7)) == 1
    again.apply(replace(plain, one_packet=True))
    assert {again.real_of(udp(7)) for _ in range(4)} == {1}
    assert {again.real_of(udp(8)) for _ in range(3)} == {1, 2, 3}
