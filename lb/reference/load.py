"""How many connections each real has, and whether it is full (bpf/load.h). Pure."""

from __future__ import annotations

from lb import tcp
from lb.reference.maps import Load, Maps, RealKey
from lb.tcp import State


def mark_full(load: Load) -> None:
    """IPVS's thresholds: full at `upper`, and so until there are fewer than `lower`."""
    total = load.active + load.inactive
    load.full = total >= load.lower if load.full else 0 < load.upper <= total


def is_active(state: State) -> bool:
    """Does a connection in this state count for 256 inactive ones?"""
    return state in tcp.ACTIVE


def add_to(load: Load, state: State, by: int) -> None:
    """`by` more connections in a state. A template is none."""
    if state is State.TEMPLATE:
        return
    if is_active(state):
        load.active += by
    else:
        load.inactive += by


def count(maps: Maps, real: RealKey, state: State, by: int) -> None:
    """`by` more connections of a real in a state, which may make it full. A template is none."""
    load = maps.reals[real].load
    add_to(load, state, by)
    mark_full(load)


def count_moved(maps: Maps, real: RealKey, before: State, after: State) -> None:
    """No more and no fewer: it gets no fuller by this."""
    load = maps.reals[real].load
    add_to(load, before, -1)
    add_to(load, after, 1)
