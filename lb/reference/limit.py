"""Who may not, and who not so often (bpf/limit.h). Pure."""

from __future__ import annotations

from lb.reference.frame import Packet
from lb.reference.maps import IPV6, Configuration, Maps, address_of


def is_denied(maps: Maps, configuration: Configuration, packet: Packet) -> bool:
    """Is the client on a list? The one with the longest prefix counts, the last of those with the same one."""
    client = address_of(packet.key.client)
    found = [
        (prefix.prefixlen, number)
        for number, deny in enumerate(configuration.limits.deny)
        for prefix in deny.prefixes
        if client in prefix
    ]
    if found:
        _, number = max(found)
        maps.denied[configuration.limits.deny[number].name] += 1
    return bool(found)


def is_too_fast(maps: Maps, configuration: Configuration, packet: Packet, now_ns: int) -> bool:
    """Has the client opened too many connections lately? A token bucket, as the time when it is full again."""
    limits, client = configuration.limits, packet.key.client
    client = client >> 64 if client & IPV6 else client
    if not limits.burst:
        return False
    full_ns = max(maps.allowances.get(client, 0), now_ns) + limits.interval_ns
    if full_ns > now_ns + limits.burst * limits.interval_ns:
        return True
    maps.allowances[client] = full_ns
    return False
