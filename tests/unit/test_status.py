"""The virtuals of `lbctl status --json`."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest

from lb import config, status
from lb.datapath.view import HeldDestination, HeldService
from lb.health import Health, Outcome, step
from lb.history import Entry, Histories
from lb.plan import Override, Overrides, Target, service_key
from lb.rates import Rates

CLUSTER = config.parse(
    """
[cluster]
interface = "eth0"
[[node]]
name = "lb1"
address = "10.0.0.2"
[[virtual]]
name = "web"
address = "10.0.0.9"
port = 80
fallback = "127.0.0.1"
[[virtual.real]]
name = "web1"
address = "10.0.0.11"
weight = 3
""",
    "cluster.toml",
)
KEY = service_key(CLUSTER.virtuals[0])
TARGET: Target = (KEY, IPv4Address("10.0.0.11"))

CONTRACT = {"address", "port", "forward", "weight", "health", "active", "inactive", "packets", "bytes", "connections"}
"""What DESIGN section 3 promises of a real."""


def held(**changes: int) -> HeldDestination:
    counts = {
        "weight": 3,
        "active": 2,
        "inactive": 4,
        "persistent": 1,
        "packets": 50,
        "bytes": 6000,
        "connections": 7,
    } | changes
    return HeldDestination(address=TARGET[1], local=False, mac=None, forward="gate", gone=False, **counts)


def service(*destinations: HeldDestination, fallback: HeldDestination | None = None) -> HeldService:
    return HeldService(KEY, "rr", fallback is not None, destinations, fallback)


def known(healths: dict[Target, Health] | None = None, orders: Overrides | None = None, **others: Any) -> status.Known:
    return status.Known(healths or {}, orders or {}, others.get("maintained", {}), others.get("standings", {}), 100.0)


def the_real(health: Health | None = None, overrides: Overrides | None = None, *services: HeldService) -> Any:
    healths = {TARGET: health} if health else {}
    (virtual,) = status.virtuals(CLUSTER, known(healths, overrides), services, Rates())
    return virtual["reals"][0]


def test_before_anything_is_known_all_of_it_is_there() -> None:
    real = the_real()
    assert set(real) >= CONTRACT
    assert (real["health"], real["weight"], real["active"], real["connections"]) == ("unknown", 3, 0, 0)


def test_counts_are_the_data_planes() -> None:
    real = the_real(Health(state="up"), None, service(held()))
    assert [real[name] for name in ("active", "inactive", "packets", "bytes", "connections")] == [2, 4, 50, 6000, 7]


@pytest.mark.parametrize(
    ("state", "override", "shown"),
    [
        ("up", Override(), ("up", 3)),
        ("up", Override(weight=5), ("up", 5)),
        ("up", Override(drained=True), ("drained", 0)),
        ("up", Override(weight=0), ("drained", 0)),
        ("down", Override(drained=True), ("down", 0)),
        ("unknown", Override(drained=True), ("unknown", 0)),
    ],
)
def test_health_and_weight_as_checked_and_ordered(state: Any, override: Override, shown: tuple[str, int]) -> None:
    real = the_real(Health(state=state), {TARGET: override})
    assert (real["health"], real["weight"]) == shown
    assert real["check"] == state


def test_one_real_with_its_history() -> None:
    histories = Histories(
        {TARGET: (Entry(0.0, "up", "unknown", 1.0, "connected"), Entry(1.0, "down", "up", 1.0, "refused"))}
    )
    health = Health("down", 40.0, "refused", latency_s=0.0015)
    (real,) = status.reals(CLUSTER, known({TARGET: health}, maintained={TARGET: "web1"}), histories, Rates(), {TARGET})
    assert (real["virtual"], real["address"], real["asked"]) == ("web", "10.0.0.11", "connect")
    assert (real["for_s"], real["latency_ms"], real["maintenance"]) == (60.0, 1.5, "web1")
    assert [entry["reason"] for entry in real["history"]] == ["refused", "connected"]
    assert status.reals(CLUSTER, known(), histories, Rates(), set()) == []


def test_a_fallback_in_use_is_said() -> None:
    (virtual,) = status.virtuals(CLUSTER, known(), [service(held(), fallback=held())], Rates())
    assert virtual["fallback_active"] is True
    assert virtual["fallback"].startswith("127.0.0.1")


def test_connections_of_reals_and_fallbacks_are_known() -> None:
    assert status.known_connections([service(held(), held(active=1, inactive=0), fallback=held())]) == 13


def test_a_warning_of_a_check_that_passes_is_shown() -> None:
    outcome = Outcome(True, "status 200", 0.01, warning="certificate expires on 2030-01-01")
    health, _ = step(Health(), outcome, CLUSTER.virtuals[0].check, 90.0)
    assert the_real(health)["warning"] == "certificate expires on 2030-01-01"
    health, _ = step(health, Outcome(True, "status 200", 0.01), CLUSTER.virtuals[0].check, 92.0)
    assert the_real(health)["warning"] == ""
