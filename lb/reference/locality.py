"""lblc and lblcr: which reals serve a destination address already (bpf/locality.h). Pure."""

from __future__ import annotations

from typing import NamedTuple

from lb import abi
from lb.reference.candidate import WORST_OF_ALL, Request, cost_wlc, is_below, least
from lb.reference.maps import Candidate, Locality, RealKey
from lb.schedule import LOCALITY_S

LOCALITY_T = abi.ticks(LOCALITY_S)


class Survey(NamedTuple):
    """What one look at all reals finds.

    member, worst: the least and the most loaded of those that serve the address and are not full. members: how many
    those are. idle: has anybody use of less than half its weight?
    """

    member: Candidate | None
    worst: Candidate | None
    members: int
    idle: bool


def find_locality(request: Request) -> Locality:
    """What is known of the packet's destination address; nothing if it was not asked for in a day."""
    known = request.schedule.localities.get(request.packet.key.virtual)
    if known is None or request.now_t - known.used_t > LOCALITY_T:
        known = request.schedule.localities[request.packet.key.virtual] = Locality()
    known.used_t = request.now_t
    return known


def look(request: Request, locality: Locality) -> Survey:
    """See Survey."""
    members = [candidate for candidate in request.free() if candidate.position in locality.members]
    costs = [cost_wlc(request.load(candidate), candidate.weight) for candidate in members]
    least_loaded = most_loaded = None
    lowest, highest = WORST_OF_ALL, None
    for candidate, cost in zip(members, costs, strict=True):
        if is_below(cost, lowest):
            lowest, least_loaded = cost, candidate
        if highest is None or is_below(highest, cost):
            highest, most_loaded = cost, candidate
    idle = any(2 * request.load(candidate).active < candidate.weight for candidate in request.schedule.candidates)
    return Survey(least_loaded, most_loaded, len(members), idle)


def stays(request: Request, survey: Survey) -> RealKey | None:
    """The least loaded member. Nobody if that has more active connections than its weight, while another real has less
    than half."""
    if survey.member is None:
        return None
    if survey.idle and request.load(survey.member).active > survey.member.weight:
        return None
    return survey.member.real


def schedule_lblc(request: Request) -> RealKey | None:
    """The real that serves this destination address already, unless it is overloaded; else wlc's."""
    locality = find_locality(request)
    staying = stays(request, look(request, locality))
    if staying is not None:
        return staying
    best = least(request, cost_wlc)
    locality.members = set() if best is None else {best.position}
    return None if best is None else best.real


def schedule_lblcr(request: Request) -> RealKey | None:
    """The least loaded of those that serve this destination address; if it is overloaded, wlc's joins them. A set that
    has not changed for a day loses its most loaded member."""
    locality = find_locality(request)
    survey = look(request, locality)
    if survey.worst is not None and survey.members > 1 and request.now_t - locality.changed_t > LOCALITY_T:
        locality.members.discard(survey.worst.position)
        locality.changed_t = request.now_t
    staying = stays(request, survey)
    if staying is not None:
        return staying
    best = least(request, cost_wlc)
    if best is not None and best.position not in locality.members:
        locality.members.add(best.position)
        locality.changed_t = request.now_t
    return None if best is None else best.real
