"""`negotiate` over dns: a question of one name, over UDP or TCP as the check or the virtual says.

Passes if the server answers without an error and with a record of the type that was asked for; with `receive`, one of
those records must match it: an address, a name, or the record's text as a zone file has it. An address in `request`
is asked for backwards (PTR). Source: RFC 1035.
"""

from __future__ import annotations

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.reversename

from lb.model import Check
from lb.probes.base import Failed, Seen, Target, Tools
from lb.probes.datagram import exchange
from lb.probes.dialogue import dialogue
from lb.probes.match import judge_text
from lb.service import PROTOCOL_NUMBERS


async def probe(target: Target, _tools: Tools) -> Seen:
    """Ask, and judge the answer."""
    check = target.check
    query = _query(check)
    wire = query.to_wire()
    tcp = check.protocol == "tcp" if check.protocol else target.service.protocol == PROTOCOL_NUMBERS["tcp"]
    if tcp:
        async with dialogue(target) as real:
            real.send(len(wire).to_bytes(2, "big") + wire)
            answer = await real.exactly(int.from_bytes(await real.exactly(2), "big"))
    else:
        answer = await exchange(target, wire, lambda heard: heard[:2] == wire[:2])
    return await _judge(check, query, answer)


def _query(check: Check) -> dns.message.QueryMessage:
    name = check.request or "."
    kind = check.record or "A"
    try:
        wanted = dns.reversename.from_address(name)
        kind = check.record or "PTR"
    except dns.exception.SyntaxError:
        wanted = dns.name.from_text(name)
    return dns.message.make_query(wanted, kind)


async def _judge(check: Check, query: dns.message.Message, wire: bytes) -> Seen:
    try:
        answer = dns.message.from_wire(wire, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError) as error:
        raise Failed(f"not DNS: {type(error).__name__}") from error
    if not query.is_response(answer):
        raise Failed("not an answer to our question")
    if answer.rcode() != dns.rcode.NOERROR:
        raise Failed(f"answered {dns.rcode.to_text(answer.rcode())}")
    wanted = query.question[0].rdtype
    records = [record.to_text() for rrset in answer.answer if rrset.rdtype == wanted for record in rrset]
    if not records:
        raise Failed(f"no {dns.rdatatype.to_text(wanted)} record in the answer")
    weight = await judge_text(check, "\n".join(records), "answer", lines=True)
    return Seen(f"answered {records[0][:100]}", weight=weight)
