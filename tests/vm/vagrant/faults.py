"""What befalls machines of the cluster, one after the other, under downloads and a prober: what clients notice.

Each begins and ends with a whole cluster.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.vm.vagrant.cluster import DOWNLOADS, Hosts, Seen
from tests.vm.vagrant.machines import Machine, MachineError, wait_until

STEADY_S = 5.0
"""Before the fault, of load; and after the takeover, before it is healed."""
TAKEN_OVER_S = 120.0
SLACK_MS = 1500.0
"""What a failover may take beyond deadtime and the prober's own lateness: the prober's interval and timeout, and some
for a machine of which five share the processors."""
REBOOTED_S = 900.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """One fault. outage_ms, late_ms, failures, attempts: the prober's. downloads: so many of DOWNLOADS ended whole.

    was, now: the active director before and after it. whole_s: until the cluster was whole after the load.
    wrong: what ought not to be; empty if all held.
    """

    fault: str
    host: str
    was: str
    now: str
    outage_ms: float
    late_ms: float
    failures: int
    attempts: int
    downloads: int
    whole_s: float
    wrong: str

    @property
    def held(self) -> bool:
        """Is it as it should be?"""
        return not self.wrong


@dataclass(frozen=True, slots=True)
class Kind:
    """A way for a director to go. heal: ends it; under_load: while clients are still there."""

    fault: Callable[[Machine], None]
    heal: Callable[[Machine], None]
    under_load: bool


FAILOVERS = {
    "power off": Kind(Machine.power_off, Machine.power_on, under_load=False),
    "freeze": Kind(Machine.freeze, Machine.thaw, under_load=True),
    "link cut": Kind(lambda machine: machine.link("down"), lambda machine: machine.link("up"), under_load=True),
}
REBOOT = "reboot"


def try_all(hosts: Hosts) -> Iterator[Outcome]:
    """Each failover, then a reboot of each host in turn."""
    for name in FAILOVERS:
        yield fail_over(hosts, name)
    for machine in hosts.all:
        yield reboot(hosts, machine)


def fail_over(hosts: Hosts, name: str) -> Outcome:
    """The active director goes in that way."""
    kind = FAILOVERS[name]
    active = hosts.active()
    other = hosts.other(active)
    try:
        with hosts.load() as seen:
            time.sleep(STEADY_S)
            kind.fault(active)
            wait_until(f"{other.name} has the address", lambda: hosts.has_address(other), TAKEN_OVER_S)
            if kind.under_load:
                time.sleep(STEADY_S)
                kind.heal(active)
        if not kind.under_load:
            kind.heal(active)
        whole_s = hosts.wait_until_whole()
    except MachineError as error:
        return _broken(name, active, str(error))
    now = hosts.active()
    wrong = [] if now is other else [f"{now.name} is active at the end, though auto_failback is off"]
    return _outcome(hosts, name, active, active, now, seen, whole_s, DOWNLOADS, wrong)


def reboot(hosts: Hosts, machine: Machine) -> Outcome:
    """A machine reboots; what it runs comes back by itself."""
    active = hosts.active()
    before = machine.boot_id()
    seen, expected = Seen(whole=DOWNLOADS), DOWNLOADS - (machine in hosts.reals)
    try:
        if machine is hosts.client:
            machine.reboot()
        else:
            with hosts.load() as seen:
                time.sleep(STEADY_S)
                machine.reboot()
        wait_until(f"{machine.name} has booted", lambda: machine.boot_id() not in ("", before), REBOOTED_S)
        whole_s = hosts.wait_until_whole()
    except MachineError as error:
        return _broken(REBOOT, machine, str(error))
    now = hosts.active()
    wrong = [] if (now is active) != (machine is active) else [f"{active.name} was active, {now.name} is"]
    return _outcome(hosts, REBOOT, machine, active, now, seen, whole_s, expected, wrong)


def _outcome(
    hosts: Hosts,
    fault: str,
    machine: Machine,
    was: Machine,
    now: Machine,
    seen: Seen,
    whole_s: float,
    expected: int,
    wrong: list[str],
) -> Outcome:
    limit_ms = hosts.cluster.ha.deadtime * 1000 + SLACK_MS + seen.late_ms
    if seen.outage_ms > limit_ms:
        wrong.append(f"an outage above {limit_ms:.0f} ms")
    if seen.whole < expected:
        wrong.append(f"{expected - seen.whole} downloads lost")
    return Outcome(
        fault=fault,
        host=machine.name,
        was=was.name,
        now=now.name,
        outage_ms=seen.outage_ms,
        late_ms=seen.late_ms,
        failures=seen.failures,
        attempts=seen.attempts,
        downloads=seen.whole,
        whole_s=round(whole_s, 1),
        wrong="; ".join(wrong),
    )


def _broken(fault: str, machine: Machine, why: str) -> Outcome:
    return Outcome(fault, machine.name, "", "", 0.0, 0.0, 0, 0, 0, 0.0, why)
