"""ipvsadm's columns, to the character."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import numpy as np
import pytest

from lb.cli import ipvsadm
from lb.connections import CONNECTION
from lb.datapath.view import HeldDestination, HeldService
from lb.service import LOCAL, ServiceKey
from lb.tcp import State

VIRTUAL = IPv4Address("192.168.1.105")


def destination(address: str, connections: int = 0, packets: int = 0, size: int = 0) -> HeldDestination:
    where = IPv4Address(address)
    return HeldDestination(where, where == LOCAL, bytes(6), 1, 2, 3, 4, packets, size, connections)


def service(port: int = 80, protocol: int = 6, fallback_active: bool = False) -> HeldService:
    reals = (destination("192.168.1.101", 10, 100, 5000), destination("192.168.1.102", 20, 300, 123_456_789))
    key = ServiceKey(VIRTUAL, port, protocol)
    return HeldService(key, "rr", fallback_active, reals, destination("127.0.0.1"))


def test_services_and_their_reals() -> None:
    text = ipvsadm.format_services(ipvsadm.services([service()]))
    assert text.split("\n") == [
        "lbctl data plane",
        "Prot LocalAddress:Port Scheduler Flags",
        "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn",
        "TCP  192.168.1.105:80 rr",
        "  -> 192.168.1.101:80             Route   1      2          3         ",
        "  -> 192.168.1.102:80             Route   1      2          3         ",
    ]


def test_flags_of_the_scheduler() -> None:
    held = HeldService(ServiceKey(VIRTUAL, 80, 6), "sh", False, (), None, ("sh-fallback", "sh-port"))
    text = ipvsadm.format_services(ipvsadm.services([held]))
    assert text.split("\n")[-1] == "TCP  192.168.1.105:80 sh (sh-fallback,sh-port)"


@pytest.mark.parametrize(
    ("persistent_s", "netmask", "one_packet", "text"),
    [
        (300, 32, False, " rr persistent 300"),
        (60, 24, False, " rr persistent 60 mask 255.255.255.0"),
        (0, 32, True, " rr ops"),
        (1, 1, True, " rr persistent 1 mask 128.0.0.0 ops"),
    ],
)
def test_options_of_a_service(persistent_s: int, netmask: int, one_packet: bool, text: str) -> None:
    held = HeldService(ServiceKey(VIRTUAL, 53, 17), "rr", False, (), None, (), persistent_s, netmask, one_packet)
    assert ipvsadm.format_services(ipvsadm.services([held])).endswith(f"UDP  192.168.1.105:53{text}")


def test_the_fallback_is_shown_while_it_serves() -> None:
    text = ipvsadm.format_services(ipvsadm.services([service(fallback_active=True)]))
    assert text.split("\n")[-1] == "  -> 127.0.0.1:80                 Local   1      2          3         "


@pytest.mark.parametrize(("port", "shown"), [(443, 0), (80, 80)])
def test_a_group_is_listed_once_with_all_that_it_is_for(port: int, shown: int) -> None:
    further = ServiceKey(VIRTUAL + 1, port, 6), ServiceKey(VIRTUAL, port, 17)
    document = ipvsadm.services([replace(service(), also=further)])
    assert ipvsadm.format_services(document).split("\n")[3:6] == [
        "TCP  192.168.1.105:80 rr",
        f"   + TCP  192.168.1.106:{port}",
        f"   + UDP  192.168.1.105:{port}",
    ]
    assert ipvsadm.format_stats(document).split("\n")[4] == f"   + TCP  192.168.1.106:{port}"
    assert {real["port"] for real in document[0]["reals"]} == {shown}
    assert document[0]["also"][1] == {"protocol": "udp", "address": "192.168.1.105", "port": port}


def test_services_are_sorted_as_ipvsadm_sorts_them() -> None:
    held = [service(53, 17), service(443), service(80)]
    assert [(s["protocol"], s["port"]) for s in ipvsadm.services(held)] == [("tcp", 80), ("tcp", 443), ("udp", 53)]


def test_stats() -> None:
    text = ipvsadm.format_stats(ipvsadm.services([service()]))
    assert text.split("\n")[1:] == [
        "Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes",
        "  -> RemoteAddress:Port",
        "TCP  192.168.1.105:80                   30      400        0  123461K        0",
        "  -> 192.168.1.101:80                   10      100        0     5000        0",
        "  -> 192.168.1.102:80                   20      300        0  123456K        0",
    ]


def test_rates_are_differences_by_time() -> None:
    before = [service()]
    reals = (destination("192.168.1.101", 12, 110, 7000), destination("192.168.1.103", 5, 5, 5))
    after = [HeldService(before[0].key, "rr", False, reals, None)]
    document = ipvsadm.rates(before, after, 2.0)
    assert [(r["connections"], r["packets"], r["bytes"]) for r in document[0]["reals"]] == [(1, 5, 1000), (0, 0, 0)]
    assert ipvsadm.format_rates(document).split("\n")[1:] == [
        "Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS",
        "  -> RemoteAddress:Port",
        "TCP  192.168.1.105:80                    1        5        0     1000        0",
        "  -> 192.168.1.101:80                    1        5        0     1000        0",
        "  -> 192.168.1.103:80                    0        0        0        0        0",
    ]


def test_thresholds() -> None:
    limited = replace(destination("192.168.1.101"), upper=8, lower=6)
    held = HeldService(service().key, "wlc", False, (limited, destination("192.168.1.102")), None)
    document = ipvsadm.services([held])
    assert [(r["upper"], r["lower"]) for r in document[0]["reals"]] == [(8, 6), (0, 0)]
    assert ipvsadm.format_thresholds(document).split("\n")[1:] == [
        "Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn ",
        "  -> RemoteAddress:Port",
        "TCP  192.168.1.105:80",
        "  -> 192.168.1.101:80             8          6          2          3         ",
        "  -> 192.168.1.102:80             0          0          2          3         ",
    ]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "        0"),
        (99_999_999, " 99999999"),
        (100_000_000, "  100000K"),
        (10**9, "    1000M"),
        (10**11, "     100G"),
        (10**14, "     100T"),
    ],
)
def test_big_numbers(number: int, text: str) -> None:
    assert ipvsadm.big(number) == text


def test_connections() -> None:
    client, virtual, real = (int(IPv4Address(a)) for a in ("10.0.0.9", "192.168.1.105", "192.168.1.101"))
    rows = np.array(
        [
            (client, virtual, real, 41000, 80, 6, State.ESTABLISHED, 1),
            (client, virtual, 0, 41001, 80, 6, State.FIN_WAIT, 500),
            (client, virtual, real, 5353, 53, 17, State.UDP, 0),
            (client, virtual, real, 0, 80, 6, State.TEMPLATE, 60),
        ],
        CONNECTION,
    )
    documents = ipvsadm.connections(rows, (900, 120, 300, 360))
    assert ipvsadm.format_connections(documents).split("\n")[1:] == [
        "pro expire state       source             virtual            destination",
        "TCP 14:59  ESTABLISHED 10.0.0.9:41000     192.168.1.105:80   192.168.1.101:80",
        "TCP 00:00  FIN_WAIT    10.0.0.9:41001     192.168.1.105:80   127.0.0.1:80",
        "UDP 05:00  UDP         10.0.0.9:5353      192.168.1.105:53   192.168.1.101:53",
        "TCP 05:00  NONE        10.0.0.9:0         192.168.1.105:80   192.168.1.101:80",
    ]
