"""To which real a client belongs: IPVS's templates (bpf/persist.h; what ends one is in `control.sweep`). Pure."""

from __future__ import annotations

from lb import abi
from lb.options import mask_of
from lb.reference.conn import insert_embryo, renew, tell_event
from lb.reference.embryo import Embryo
from lb.reference.frame import Packet
from lb.reference.maps import IPV6, Configuration, Connection, ConnectionKey, Maps, Real, RealKey, numbered
from lb.reference.sched import schedule_connection
from lb.service import Service
from lb.tcp import State


def template_key(service: Service, client: int) -> ConnectionKey:
    """Of the template that a client of a persistent service has, or may have."""
    key = service.key
    mask = mask_of(service) | IPV6
    return ConnectionKey(client & mask, numbered(key.address), 0, key.port, key.protocol, template=1)


def may_bind(real: Real, service: Service) -> bool:
    """May a client's new connections go there because he belongs to it? A fallback binds nobody."""
    if real.retired or real.fallback or real.destination.gone:
        return False
    return real.destination.weight > 0 or not service.expire_quiescent


def choose_real(maps: Maps, configuration: Configuration, place: int, packet: Packet, now_ns: int) -> RealKey | None:
    """Who gets a new connection: the real that its client belongs to, or one that the scheduler chooses.

    A new client's template is half-open, as his connection is.
    """
    service, now_t = configuration.services[place], abi.tick(now_ns)
    if not service.persistent_s:
        return schedule_connection(maps, configuration, place, packet, now_t)
    key = template_key(service, packet.key.client)
    found = maps.connections.get(key) or maps.embryos.find(key)
    if found is not None and may_bind(maps.reals[found.real], service):
        if isinstance(found, Embryo):
            renew(found, now_ns)
        elif found.last_seen_t != now_t:
            found.last_seen_t = found.synced_t = now_t
            tell_event(maps, key, found.real, State.TEMPLATE, now_t)
        return found.real
    chosen = schedule_connection(maps, configuration, place, packet, now_t)
    if chosen is None or not may_bind(maps.reals[chosen], service):
        return chosen
    if isinstance(found, Connection):
        maps.connections[key] = Connection(chosen, State.TEMPLATE, now_t, now_t)
        tell_event(maps, key, chosen, State.TEMPLATE, now_t)
    else:
        insert_embryo(maps, key, chosen, State.TEMPLATE, now_ns)
    return chosen


def bind(maps: Maps, service: Service, connection: Connection, client: int, now_t: int) -> None:
    """A connection of the client is whole: its template is one of the connection table's, unless there is one."""
    if not service.persistent_s or not may_bind(maps.reals[connection.real], service):
        return
    key = template_key(service, client)
    embryo = maps.embryos.find(key)
    if embryo is not None:
        embryo.gone = True
    if key not in maps.connections:
        maps.connections[key] = Connection(connection.real, State.TEMPLATE, now_t, now_t)
        tell_event(maps, key, connection.real, State.TEMPLATE, now_t)
