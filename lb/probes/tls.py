"""TLS as a check wants it: whose certificates are believed, in which name, with which of our own.

Without `verify` any certificate will do, as with ldirectord: a check asks whether the real serves, and reals often have
a certificate in a name that only clients use. Its end is looked at all the same, and is worth a warning beforehand.
"""

from __future__ import annotations

import datetime as dt
import ssl
from functools import lru_cache
from pathlib import Path

from cryptography import x509

from lb.model import Check
from lb.probes.base import NotAskedError, Target, os_reason

Stamp = tuple[str, int]
"""A file and when it was changed, ns: a renewed certificate is read anew."""


def context_of(check: Check, *protocols: str) -> ssl.SSLContext:
    """The context for a check. protocols: what is offered in ALPN. Raises NotAskedError for files that are unfit."""
    ca, certificate, key = (_stamp(path) for path in (check.ca, check.certificate, check.key))
    return _context(check.verified, ca, certificate, key, protocols)


def _stamp(path: str | None) -> Stamp | None:
    if path is None:
        return None
    try:
        return path, Path(path).stat().st_mtime_ns
    except OSError as error:
        raise NotAskedError(f"{path}: {os_reason(error)}") from error


@lru_cache(maxsize=256)
def _context(
    verified: bool, ca: Stamp | None, certificate: Stamp | None, key: Stamp | None, protocols: tuple[str, ...]
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = verified
    context.verify_mode = ssl.CERT_REQUIRED if verified else ssl.CERT_NONE
    path = ""
    try:
        if ca is not None:
            path = ca[0]
            context.load_verify_locations(cafile=path)
        elif verified:
            context.load_default_certs()
        if certificate is not None and key is not None:
            path = certificate[0]
            context.load_cert_chain(path, key[0], password=_no_password)
    except OSError as error:
        raise NotAskedError(f"{path}: {os_reason(error)}") from error
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def _no_password() -> str:
    """OpenSSL would ask on the terminal for the password of an encrypted key."""
    return ""


def name_of(target: Target) -> str:
    """The name the real is to have: said, else of its virtual host, else its address (and then no SNI is sent)."""
    check = target.check
    return check.sni or (check.virtualhost or "").partition(":")[0] or str(target.name)


def warning_of(check: Check, connection: ssl.SSLObject | ssl.SSLSocket | None) -> str:
    """What is to be said of the certificate that the real showed: nothing, until it is about to end."""
    shown = connection.getpeercert(binary_form=True) if connection is not None else None
    ends = _end_of(shown) if shown else None
    if ends is None:
        return ""
    left = ends - dt.datetime.now(dt.UTC)
    if left.total_seconds() <= 0:
        return f"certificate expired on {ends:%Y-%m-%d}"
    return f"certificate expires on {ends:%Y-%m-%d}" if left.total_seconds() < check.expiry else ""


@lru_cache(maxsize=16384)
def _end_of(certificate: bytes) -> dt.datetime | None:
    """When a certificate in DER ends; None for one that cannot be read."""
    try:
        parsed = x509.load_der_x509_certificate(certificate)
    except ValueError:
        return None
    return parsed.not_valid_after.replace(tzinfo=dt.UTC)
