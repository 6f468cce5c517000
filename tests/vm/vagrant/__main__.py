"""Bring up the five hosts of conf/cluster.toml as virtual machines, try the cluster, and take them away again.

    script/vagrant-test                     all of it
    script/vagrant-test --only article      only what the old articles on Ultra Monkey had their readers try
    script/vagrant-test --only failover     only: power off, freeze, cut link, reboot of each host in turn
    script/vagrant-test COMMAND...          run this instead of the trials, beside the machines, e.g. a shell

With the box that script/box builds, by `vagrant up`, on a libvirt of our own, in namespaces that end with this
program, whatever it ends of; nothing reaches this machine's network. Files are under build/vagrant, and what Vagrant
said is in build/vagrant/log. Without KVM qemu emulates the processors, and all takes many times as long.

Exit status 0: all held; 1: something did not, or the machines did not come up. Needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from lb import config
from lb.cli.output import print_table
from tests.vm.guest import can_virtualise
from tests.vm.kernels import exclusively
from tests.vm.vagrant import article, box, faults, isolation
from tests.vm.vagrant.cluster import DOWNLOADS, Hosts, stretched
from tests.vm.vagrant.machines import MachineError, Reach, copy_checkout

STATE = box.CHECKOUT / "build/vagrant"
LOG = STATE / "log"
EMULATED_STRETCH = 4.0
"""The stretch with which five emulated machines keep up on two cores."""

COLUMNS = ("fault", "of", "active", "outage ms", "late ms", "failed", "downloads", "whole after s", "held")


def main() -> None:
    """Entry point."""
    given = _arguments()
    if os.geteuid() != 0:
        sys.exit("script/vagrant-test: virtual machines and their network take root: run this as root")
    try:
        if not isolation.is_inside():
            built = box.build()
            with exclusively(STATE.with_name("vagrant.lock")):
                os.environ["LBCTL_BOX"] = str(built)
                shutil.rmtree(STATE, ignore_errors=True)
                STATE.mkdir(parents=True)
                try:
                    sys.exit(isolation.enter("tests.vm.vagrant", sys.argv[1:]))
                finally:
                    _leave_the_log()
        isolation.become_init()
        sys.exit(_inside(given))
    except (box.BoxError, MachineError, RuntimeError) as error:
        sys.exit(f"script/vagrant-test: {error}")
    except KeyboardInterrupt:
        sys.exit("script/vagrant-test: given up; the machines are gone")


def _leave_the_log() -> None:
    """Disks are large. The namespaces, and with them what was mounted from there, are gone by now."""
    for path in STATE.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path != LOG:
            path.unlink()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="script/vagrant-test", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("article", "failover"), help="one half of the trials")
    parser.add_argument("--json", action="store_true", help="the results as one JSON document")
    parser.add_argument(
        "--stretch",
        type=float,
        default=1.0 if can_virtualise() else EMULATED_STRETCH,
        metavar="FACTOR",
        help=f"multiply the configuration's times; default: 1, or {EMULATED_STRETCH:g} where there is no KVM",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="instead of the trials")
    return parser.parse_args()


def say(text: str) -> None:
    """What happens, for who waits."""
    print(text, file=sys.stderr, flush=True)


def _inside(given: argparse.Namespace) -> int:
    with _machines(given.stretch) as (hosts, seconds):
        if given.command:
            return subprocess.run(given.command, check=False).returncode
        found: dict[str, Any] = {"kvm": can_virtualise(), "stretch": given.stretch, "up_s": round(seconds)}
        held = True
        if given.only != "failover":
            lines = []
            for line in article.try_all(hosts):
                say(f"{'pass' if line.held else 'FAIL'}  {line.tried} ({line.seconds:.0f} s)")
                if not line.held:
                    say(f"      {line.found}")
                lines.append(line)
            held &= all(line.held for line in lines)
            found["article"] = [asdict(line) for line in lines]
        if given.only != "article":
            outcomes = []
            for outcome in faults.try_all(hosts):
                say(f"{'pass' if outcome.held else 'FAIL'}  {outcome.fault} of {outcome.host} {outcome.wrong}".rstrip())
                outcomes.append(outcome)
            held &= all(outcome.held for outcome in outcomes)
            found["failover"] = [asdict(outcome) for outcome in outcomes]
            if not given.json:
                print_table(
                    COLUMNS, map(_row, outcomes), f"outage of new connections; of {DOWNLOADS} downloads those whole"
                )
        if given.json:
            print(json.dumps(found | {"held": held}, indent=1))
    return 0 if held else 1


def _row(outcome: faults.Outcome) -> tuple[object, ...]:
    active = outcome.was if outcome.was == outcome.now else f"{outcome.was} → {outcome.now}"
    return (
        outcome.fault,
        outcome.host,
        active,
        round(outcome.outage_ms),
        round(outcome.late_ms),
        f"{outcome.failures}/{outcome.attempts}",
        outcome.downloads,
        outcome.whole_s,
        "yes" if outcome.held else outcome.wrong,
    )


@contextmanager
def _machines(stretch: float) -> Iterator[tuple[Hosts, float]]:
    """Up and whole, and how many seconds that took; gone at the end."""
    project = STATE / "project"
    copy_checkout(box.CHECKOUT, project)
    conf = project / "conf/cluster.toml"
    if stretch != 1:
        stretched(conf, stretch)
        say(f"==> with the configuration's times multiplied by {stretch:g}")
    os.environ["VAGRANT_CWD"] = str(project)
    hosts = Hosts(config.load(conf), Reach(config=STATE / "ssh", log=LOG))
    with isolation.libvirt(STATE):
        names = ", ".join(machine.name for machine in hosts.all)
        say(f"==> bringing up {names} ({'with KVM' if can_virtualise() else 'emulated, which takes its time'})")
        began_s = time.monotonic()
        hosts.up()
        seconds = time.monotonic() - began_s
        say(f"==> the cluster is whole after {seconds:.0f} s")
        yield hosts, seconds


if __name__ == "__main__":
    main()
