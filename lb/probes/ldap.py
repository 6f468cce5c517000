"""`negotiate` over ldap and ldaps: bind, and where `request` names an entry, look at that one entry.

Without `login` the bind is anonymous. The search is for the base itself, which must be exactly one entry; `receive` and
`refuse` look at its DN, as ldirectord has it, and at its attributes, a line each: `cn: web1`.
Source: RFC 4511; STARTTLS section 4.14.
"""

from __future__ import annotations

import sansldap
from sansldap import LDAPResult, LDAPResultCode, SearchResultEntry, SearchScope

from lb.probes.base import Failed, Seen, Target, Tools, password_of
from lb.probes.dialogue import Dialogue, closed, dialogue
from lb.probes.match import judge_text


async def probe(target: Target, _tools: Tools) -> Seen:
    """Bind, and look."""
    check = target.check
    async with dialogue(target) as real:
        client = _Client(real)
        if check.tls == "starttls":
            client.session.extended_request(sansldap.ExtendedOperations.LDAP_START_TLS.value)
            await client.done("STARTTLS")
            await real.start_tls()
        client.session.bind_simple(check.login, password_of(check))
        await client.done("bind")
        if check.request is None:
            return Seen(f"bound as {check.login}" if check.login else "bound", real.warning)
        client.session.search_request(check.request, scope=SearchScope.BASE, size_limit=2)
        entries = await client.done("search")
        warning = real.warning
    if len(entries) != 1:
        raise Failed(f"{len(entries)} entries at {check.request!r}, expected 1")
    weight = await judge_text(check, _text(entries[0]), "entry", lines=True)
    return Seen(f"found {entries[0].object_name[:100]}", warning, weight)


class _Client:
    """A session of the library, which knows messages and no sockets, and the connection that it is about."""

    def __init__(self, real: Dialogue) -> None:
        self.session = sansldap.LDAPClient()
        self._real = real

    async def done(self, what: str) -> list[SearchResultEntry]:
        """Send what was asked for and wait for its result; the entries that came before it. Raises Failed."""
        self._real.send(self.session.data_to_send())
        entries = []
        async for piece in self._real.pieces():
            for message in self._messages(piece):
                if isinstance(message, SearchResultEntry):
                    entries.append(message)
                result = getattr(message, "result", None)
                if isinstance(result, LDAPResult):
                    if result.result_code != LDAPResultCode.SUCCESS:
                        said = f" ({result.diagnostics_message[:80]})" if result.diagnostics_message else ""
                        raise Failed(f"{what}: {result.result_code.name.lower().replace('_', ' ')}{said}")
                    return entries
        raise closed(bool(entries))

    def _messages(self, piece: bytes) -> list[sansldap.LDAPMessage]:
        try:
            return self.session.receive(piece)
        except (sansldap.LDAPError, ValueError, LookupError) as error:
            raise Failed(f"not LDAP: {str(error)[:100]}") from error


def _text(entry: SearchResultEntry) -> str:
    lines = [entry.object_name]
    for attribute in entry.attributes:
        lines += [f"{attribute.name}: {value.decode(errors='replace')}" for value in attribute.values]
    return "\n".join(lines)
