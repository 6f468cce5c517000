"""Which labs this machine has, and where their files lie.

/run/lbctl/lab/CLUSTER/lab.json     what was raised, written before it is
/run/lbctl/lab/CLUSTER/HOST/        a host's disk: configuration, pages and logs of what runs there
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from lb import namespaces
from lb.errors import LabError, NotRunningError, UsageError
from lb.lab.topology import Host, Topology
from lb.rundir import RUN_DIR

LAB_DIR = RUN_DIR / "lab"
LOCK_TIMEOUT_S = 60.0


class Lab(BaseModel):
    """A lab that was raised. conf: its configuration; hosts_only: the directors do not run lbctl."""

    model_config = ConfigDict(frozen=True)

    conf: Path
    authkeys: Path
    hosts_only: bool
    topology: Topology

    @property
    def name(self) -> str:
        """The cluster's."""
        return self.topology.cluster

    @property
    def directory(self) -> Path:
        """Everything of this lab on disk."""
        return LAB_DIR / self.name

    def disk(self, host: Host) -> Path:
        """A host's own part of it."""
        return self.directory / host.name

    def alive(self, host: Host) -> bool:
        """Is it switched on, and was its start finished?"""
        return namespaces.exists(host.namespace) and self.on_mark(host).exists()

    def on_mark(self, host: Host) -> Path:
        """A file that is there from the end of a host's start to its death."""
        return self.disk(host) / "on"

    def environment(self, host: Host) -> dict[str, str]:
        """What processes on a host find around them: this lbctl, the keys, and which director they are on."""
        env = {name: value for name, value in os.environ.items() if name != "LBCTL_NODE"}
        path = (str(Path(sys.executable).parent), env.get("PATH", "/usr/bin:/bin"), "/usr/sbin", "/sbin")
        env |= {"PATH": ":".join(path), "LBCTL_AUTHKEYS": str(self.authkeys)}
        return env | ({"LBCTL_NODE": host.name} if host.kind == "director" else {})


def save(lab: Lab) -> None:
    """Remember a lab, at once or not at all."""
    lab.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    draft = lab.directory / "lab.json.new"
    draft.write_text(lab.model_dump_json(indent=2))
    draft.replace(lab.directory / "lab.json")


def labs() -> list[Lab]:
    """Every lab of this machine. Raises LabError."""
    found = []
    for path in sorted(LAB_DIR.glob("*/lab.json")):
        try:
            found.append(Lab.model_validate_json(path.read_text()))
        except ValidationError:
            raise LabError(
                f"{path} is of another version of lbctl, which must take this lab down; "
                f"by hand: kill what runs in its namespaces (ip netns list), delete them and {path.parent}"
            ) from None
    return found


def find(cluster: str) -> Lab | None:
    """The lab of a cluster, if there is one."""
    return next((lab for lab in labs() if lab.name == cluster), None)


def of_host(name: str) -> tuple[Lab, Host]:
    """The lab that has a host of that name, and the host. Raises LabError and NotRunningError."""
    known = labs()
    if not known:
        raise NotRunningError("no lab is up on this machine; raise one with 'lbctl lab up CONF'")
    for lab in known:
        for host in lab.topology.hosts:
            if host.name == name:
                return lab, host
    names = "; ".join(f"{lab.name} has {', '.join(h.name for h in lab.topology.hosts)}" for lab in known)
    raise LabError(f"no lab has a host {name!r}: {names}")


def running_host(name: str) -> tuple[Lab, Host]:
    """A host that is on. Raises LabError that says how to switch it on, and NotRunningError."""
    lab, host = of_host(name)
    if not lab.alive(host):
        raise LabError(f"{name} is dead; switch it on with: lbctl lab start {name}")
    return lab, host


@contextlib.contextmanager
def lock() -> Iterator[None]:
    """One command at a time changes labs; others wait. Held by nobody after a crash. Raises LabError, UsageError."""
    if os.geteuid() != 0:
        raise UsageError(f"a lab is made of network namespaces, which user {os.geteuid()} may not make: run it as root")
    RUN_DIR.mkdir(mode=0o755, parents=True, exist_ok=True)
    fd = os.open(RUN_DIR, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    message = f"another 'lbctl lab' command has been at work for {LOCK_TIMEOUT_S:g} s"
                    raise LabError(f"{message}; find it with: fuser -v {RUN_DIR}") from None
                time.sleep(0.05)
        yield
    finally:
        os.close(fd)
