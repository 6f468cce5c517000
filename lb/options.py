"""What services want beyond scheduling, as the packet program has it compiled in. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lb.service import Service, ServiceKey


class Persistence(NamedTuple):
    """service: its place. mask: of the client's address, as a number. key: the service's."""

    service: int
    mask: int
    key: ServiceKey


@dataclass(frozen=True, slots=True)
class Options:
    """What is compiled in; places of services. How long clients are remembered is not: user space alone ends that.

    also: the place of a group, and a key whose packets are its own, too.
    """

    also: tuple[tuple[int, ServiceKey], ...] = ()
    persistent: tuple[Persistence, ...] = ()
    expiring_quiescent: tuple[int, ...] = ()
    one_packet: tuple[int, ...] = ()
    expiring_nodest: tuple[int, ...] = ()
    leaving: bool = False
    """Are there services whose reals leave them, or connections that end with their real?"""
    repeats: bool = False
    """Is there a service whose SYNs that come again are counted? Then those of all are."""

    @classmethod
    def of(cls, services: Sequence[Service]) -> Options:
        """Those of these services, in their order."""
        return cls(
            also=tuple((place, key) for place, service in enumerate(services) for key in service.also),
            persistent=tuple(
                Persistence(place, mask_of(service), service.key)
                for place, service in enumerate(services)
                if service.persistent_s
            ),
            expiring_quiescent=tuple(
                place for place, service in enumerate(services) if service.persistent_s and service.expire_quiescent
            ),
            one_packet=_places(services, "one_packet"),
            expiring_nodest=_places(services, "expire_nodest"),
            leaving=any(service.expire_nodest or not service.quiescent for service in services),
            repeats=any(service.watched for service in services),
        )


def _places(services: Sequence[Service], option: str) -> tuple[int, ...]:
    return tuple(place for place, service in enumerate(services) if getattr(service, option))


def mask_of(service: Service) -> int:
    """The bits of a client's address that count, as a number."""
    bits = service.key.address.max_prefixlen
    return (1 << bits) - (1 << bits - service.netmask)
