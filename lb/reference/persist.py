"""To which real a client belongs: IPVS's templates (bpf/persist.h; what ends one is in `control.sweep`). Pure."""

from __future__ import annotations

from lb.options import mask_of
from lb.reference.conn import tell_event
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


def choose_real(maps: Maps, configuration: Configuration, place: int, packet: Packet, now_t: int) -> RealKey | None:
    """Who gets a new connection: the real that its client belongs to, or one that the scheduler chooses."""
    service = configuration.services[place]
    if not service.persistent_s:
        return schedule_connection(maps, configuration, place, packet, now_t)
    key = template_key(service, packet.key.client)
    found = maps.connections.get(key)
    if found is not None and may_bind(maps.reals[found.real], service):
        if found.last_seen_t != now_t:
            found.last_seen_t = found.synced_t = now_t
            tell_event(maps, key, found.real, State.TEMPLATE, now_t)
        return found.real
    chosen = schedule_connection(maps, configuration, place, packet, now_t)
    if chosen is not None and may_bind(maps.reals[chosen], service):
        maps.connections[key] = Connection(chosen, State.TEMPLATE, now_t, now_t)
        tell_event(maps, key, chosen, State.TEMPLATE, now_t)
    return chosen
