"""A certificate authority for one test run, and certificates of every kind that a check may meet."""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NAME = "server.test"
"""In every server's certificate, together with 127.0.0.1."""


class Pair(NamedTuple):
    """Paths of a certificate and its key, PEM."""

    certificate: Path
    key: Path


class Authority:
    """Signs what is asked for; everything lies in one directory."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.ca = self._write(name, self._signed(self._name, self._key, 3650, ca=True), self._key).certificate

    def pair(self, name: str = NAME, days: float = 365) -> Pair:
        """A certificate in that name, and for 127.0.0.1, which ends in so many days (or did, if they are below 0)."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return self._write(f"{name}-{days:g}", self._signed(subject, key, days), key)

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, days: float, ca: bool = False
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC).replace(tzinfo=None)
        common = str(subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
        names = [x509.DNSName(common), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1000))
            .not_valid_after(now + dt.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def _write(self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
        pair = Pair(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return pair
