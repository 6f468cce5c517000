"""When a template ends (bpf/persist.h). Pure.

IPVS's rule: a template lasts its service's `persistent` after the last new connection of its client, and a minute at a
time longer while connections are there that came by it. Only who reads the whole table can say so.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lb import abi
from lb.abi import Array
from lb.datapath.places import mixed, place_of
from lb.tcp import State

PROLONGED_T = abi.ticks(abi.PROLONGED_S)
NEVER_T = -1
"""The timeout of templates that nobody goes by any more: they ran out as soon as they are seen."""

_ONES = np.array([(1 << 64) - (1 << 64 - bits) for bits in range(65)], np.uint64)
"""Words whose so many upper bits are set."""


def are_templates(entries: Array) -> Array:
    """Which values of the connection table, or rows of the exchange format, are no connections."""
    which: Array = entries["state"] == State.TEMPLATE
    return which


def timeouts_by_real(services: Array, reals: Array) -> Array:
    """Ticks that a template lasts, by the index of its real. services, reals: all rows of these maps."""
    return _timeouts_t(services)[place_of(services, reals)]


def timeouts_by_row(services: Array, rows: Array) -> Array:
    """The same for templates that another director told us."""
    return _timeouts_t(services)[place_of(services, rows)]


def seconds_by_row(services: Array, rows: Array) -> Array:
    """Seconds that these templates, told as rows, last; 0: the service has none."""
    return np.append(services["persistent_s"], 0)[place_of(services, rows)]


def code_of(keys: Array) -> Array:
    """A number for each key of a connection table; two keys have the same one by an accident that never happens."""
    return mixed(np.ascontiguousarray(keys).view(np.uint64).reshape(-1, keys.dtype.itemsize // 8))


def joined(parts: Sequence[Array]) -> Array:
    """One array of several. numpy alone would put their fields into host order."""
    whole: Array = np.concatenate(parts, out=np.empty(sum(map(len, parts)), parts[0].dtype))
    return whole


def that_led_to(keys: Array, values: Array, services: Array, reals: Array) -> Array:
    """The keys of the templates by which connections of persistent services may have come; one a connection."""
    places = place_of(services, reals)[values["real"] % len(reals)]
    which = (places >= 0) & ~are_templates(values)
    which &= services["persistent_s"][places] > 0
    rows = services[places[which]]
    made = np.zeros(len(rows), keys.dtype)
    if keys["client"].ndim > 1:
        made["client"] = keys["client"][which] & _masks(rows["netmask"])
        made["virtual"] = rows["virtual"]
    else:
        made["client"] = keys["client"][which] & (_masks(rows["netmask"])[:, 0] >> np.uint64(32)).astype(np.uint32)
        made["virtual"] = (rows["virtual"][:, 1] & np.uint64(0xFFFF_FFFF)).astype(np.uint32)
    made["virtual_port"], made["protocol"] = rows["virtual_port"], rows["protocol"]
    made["template"] = 1
    return made


def prolonged(values: Array, timeouts_t: Array, now_t: int) -> Array:
    """Templates that last another minute from now on, whatever they last after a new connection."""
    values = values.copy()
    values["last_seen_t"] = now_t + PROLONGED_T - timeouts_t
    return values


def _timeouts_t(services: Array) -> Array:
    """By place, and for -1."""
    seconds = services["persistent_s"].astype(np.int64)
    ticks = -(-seconds * 1_000_000_000 >> abi.TICK_SHIFT)
    ticks[seconds == 0] = NEVER_T
    return np.append(ticks, NEVER_T)


def _masks(netmasks: Array) -> Array:
    """Two words each; IPv4's mask is in the upper half of the first."""
    return np.column_stack([_ONES[np.minimum(netmasks, 64)], _ONES[np.maximum(netmasks.astype(np.int64) - 64, 0)]])
