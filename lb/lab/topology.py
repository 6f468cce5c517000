"""What a lab consists of: hosts, their addresses, and what each serves. Pure; `lb.lab.design` makes it of a file."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from lb.addresses import Address, Network
from lb.errors import LabError


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class Page(_Value):
    """An answer to a check.

    path: decoded, as a web server compares it. passes: what the checks of this path want to receive is found in body.
    """

    path: str
    status: int
    body: str
    passes: bool = True


class Server(_Value):
    """A web server's port. `/` is the host's name unless it is one of the pages."""

    port: int
    tls: bool
    pages: tuple[Page, ...] = ()


class Cable(_Value):
    """A host's link to a segment. interface: the host's name for it. segment: its place in the topology's."""

    interface: str
    addresses: tuple[Address, ...]
    segment: int = 0

    @property
    def mac(self) -> bytes:
        """Made of its first address, so that it is the same after a reboot and can be read in a trace."""
        first = self.addresses[0]
        return bytes((2, 0 if first.version == 4 else 6)) + first.packed[-4:]


class Route(_Value):
    """A network that is reached by a router."""

    network: Network
    gateway: Address


class Host(_Value):
    """A machine of the lab. name: also of its namespace, `lbctl-NAME`. udp_ports: where it echoes its name.

    tunnels: in which it gets packets, by the IP versions of outer and inner ones.
    """

    name: str
    kind: Literal["client", "director", "real", "router"]
    cables: tuple[Cable, ...]
    routes: tuple[Route, ...] = ()
    servers: tuple[Server, ...] = ()
    udp_ports: tuple[int, ...] = ()
    tunnels: tuple[tuple[int, int], ...] = ()

    @property
    def namespace(self) -> str:
        """Its network namespace."""
        return f"lbctl-{self.name}"

    @property
    def interface(self) -> str:
        """Its first."""
        return self.cables[0].interface

    @property
    def addresses(self) -> tuple[Address, ...]:
        """On all its interfaces."""
        return tuple(address for cable in self.cables for address in cable.addresses)


class Topology(_Value):
    """The whole lab. switch: the name of its namespace; segments: the networks on each."""

    cluster: str
    switch: str
    segments: tuple[tuple[Network, ...], ...]
    hosts: tuple[Host, ...]

    @property
    def networks(self) -> tuple[Network, ...]:
        """Of the directors' segment."""
        return self.segments[0]

    def host(self, name: str) -> Host:
        """The host of that name. Raises LabError that lists those there are."""
        for host in self.hosts:
            if host.name == name:
                return host
        names = ", ".join(host.name for host in self.hosts)
        raise LabError(f"the lab of {self.cluster} has no host {name!r}; it has {names}")

    @property
    def client(self) -> Host:
        """The host that stands for everybody else."""
        return self.hosts[0]

    @property
    def directors(self) -> tuple[Host, ...]:
        """The hosts that balance."""
        return tuple(host for host in self.hosts if host.kind == "director")

    @property
    def unanswered(self) -> tuple[tuple[Host, str], ...]:
        """Hosts and paths of checks that their page does not satisfy, because none could be made up."""
        return tuple((host, p.path) for host in self.hosts for s in host.servers for p in s.pages if not p.passes)
