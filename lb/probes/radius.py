"""`negotiate` over radius: an Access-Request with login and password; an Access-Accept must come.

The answer must be signed with the secret, else anybody could have sent it. The request is signed too
(Message-Authenticator), without which newer servers do not answer. Source: RFC 2865, RFC 3579 section 3.2.
"""

from __future__ import annotations

from pyrad.packet import AccessAccept, AccessReject, AuthPacket, PacketError

from lb.probes.base import Failed, NotAskedError, Seen, Target, Tools, password_of
from lb.probes.datagram import exchange

USER_NAME, USER_PASSWORD, REPLY_MESSAGE, NAS_IDENTIFIER = 1, 2, 18, 32


async def probe(target: Target, _tools: Tools) -> Seen:
    """Ask whether the user may come in."""
    check = target.check
    request = AuthPacket(secret=password_of(check, "secret").encode())
    try:
        request[USER_NAME] = [(check.login or "").encode()]
        request[USER_PASSWORD] = [request.PwCrypt(password_of(check))]
        request[NAS_IDENTIFIER] = [b"lbctl"]
        request.add_message_authenticator()
        asked = request.RequestPacket()
    except ValueError as error:  # a login or password that is too long
        raise NotAskedError(f"RADIUS cannot ask that: {error}") from error
    answer = await exchange(target, asked)
    try:
        reply = request.CreateReply(packet=answer)
        signed = request.VerifyReply(reply, answer)
    except (PacketError, ValueError, LookupError) as error:
        raise Failed(f"not RADIUS: {str(error)[:100]}") from error
    if not signed:
        raise Failed("an answer that is not signed with our secret")
    if reply.code == AccessAccept:
        return Seen(f"{check.login} is accepted")
    raise Failed(f"{check.login} is rejected" if reply.code == AccessReject else f"answered with code {reply.code}")
