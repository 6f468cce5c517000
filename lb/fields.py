"""What one value of the configuration may be: types with their check, every refusal in our own words.

A refusal is a ValueError whose text gives the value, what is accepted, and the next step; `lb.shapes` puts file, line
and path in front of it. Nothing here looks at a second key.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import regex
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PlainSerializer, ValidationInfo

from lb import addresses, catalog
from lb.catalog import Word
from lb.wording import refuse_word, show


class Frozen(BaseModel):
    """A section of the file: nothing in it changes, is unknown, or is taken for another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


_UNITS_S = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
_DURATION = re.compile(r"\s*([0-9]{1,12}(?:\.[0-9]+)?)\s*(ms|s|m|h|d)\s*")
MAX_DURATION_S = 365 * 86400.0
MIN_SPAN_S = 0.001

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")
_INTERFACE = re.compile(r"(?!\.{1,2}$)[^\s/:\x00-\x1f\x7f]{1,15}")
_REQUEST = re.compile(r"/[^\s\x00-\x1f\x7f]*")
_HOST_HEADER = re.compile(r"[A-Za-z0-9._-]+(?::[0-9]{1,5})?")
_MAILBOX = re.compile(r"[^\s@<>,;:()\[\]\"\\\x00-\x1f]+@[A-Za-z0-9.-]+")
_MAC = re.compile(r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}")
_HOST_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?")
_PERCENTAGE = re.compile(r"([0-9]{1,3})%")
_HOST_NAME = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_DNS_NAME = re.compile(r"\.|(?:[A-Za-z0-9_:-]{1,63}\.)*[A-Za-z0-9_:-]{1,63}\.?")
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2}\s*)+")
_HEX_PATTERN = re.compile(r"(?:[0-9A-Fa-fXx]{2}\s*)+")
_DIGEST = re.compile(r"[0-9A-Fa-f]{32}|[0-9A-Fa-f]{64}")
_ADDRESS_PORT = re.compile(r"(?:(?P<bare>[^:\[\]]*)|\[(?P<bracketed>[^\[\]]*)\])(?::(?P<port>[0-9]{1,5}))?")


def parse_duration(value: object) -> float:
    """Seconds from `"100ms"`, `"2s"`, `"5m"`, `"1h"`, `"1d"` or a number of seconds.

    Raises ValueError for anything else; a duration is never negative and never longer than a year.
    """
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        seconds = float(Decimal(match[1]) * _UNITS_S[match[2]])
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = value
    else:
        raise ValueError(f'{show(value)} is not a duration; write "100ms", "2s", "5m", "1h", "1d" or seconds')
    if not 0 <= seconds <= MAX_DURATION_S:
        raise ValueError(f"{show(value)} is out of range; accepted: 0 to 365d")
    return float(seconds)


def format_duration(seconds: float) -> str:
    """The plainest spelling that `parse_duration` reads back as the same number: 0.1 -> '100ms', 300 -> '5m'."""
    exact = Decimal(repr(seconds))
    unit = next((u for u in ("d", "h", "m") if exact and exact % _UNITS_S[u] == 0), "ms" if 0 < exact < 1 else "s")
    return f"{(exact / _UNITS_S[unit]).normalize():f}{unit}"


def _longer_than_nothing(seconds: float) -> float:
    if seconds < MIN_SPAN_S:
        raise ValueError(f"{format_duration(seconds)} is too short; accepted: 1ms to 365d")
    return seconds


def _whole_seconds(seconds: float) -> float:
    if seconds % 1:
        raise ValueError(f"{format_duration(seconds)} is not a number of whole seconds; accepted: 0s to 365d")
    return seconds


def parse_address(value: object) -> addresses.Address:
    """An IPv4 or IPv6 address from its text. Raises ValueError, which says what the text is instead."""
    if isinstance(value, (IPv4Address, IPv6Address)):
        return value
    if not isinstance(value, str):
        raise ValueError(f'{show(value)} is not an address; write text, like "192.168.1.101"')
    try:
        address = ip_address(value)
    except ValueError:
        raise ValueError(_not_an_address(value)) from None
    if address.version == 6 and address.scope_id is not None:
        raise ValueError(f'{show(value)} has an interface; write an address that needs none, like "2001:db8::1"')
    if address.version == 6 and address.ipv4_mapped:
        raise ValueError(f"{show(value)} is an IPv4 address within IPv6; write {show(str(address.ipv4_mapped))}")
    return address


def _not_an_address(text: str) -> str:
    bare, _, suffix = text.partition("/")
    if suffix and _is_address(bare):
        return f"{show(text)} has a prefix length; write the address alone: {show(bare)}"
    match = _ADDRESS_PORT.fullmatch(text)
    bare = (match["bare"] or match["bracketed"]) if match else ""
    if _is_address(bare):
        what = "has a port" if match and match["port"] else "has brackets, which only a port needs"
        return f"{show(text)} {what}; write the address alone: {show(bare)}"
    return f'{show(text)} is not an IP address (like "192.168.1.101" or "2001:db8::101"); host names are not looked up'


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def parse_prefix(value: object) -> addresses.Network:
    """`"192.0.2.0/24"`, `"2001:db8::/32"`, or an address alone. Raises ValueError."""
    if isinstance(value, addresses.Network):
        return value
    if not isinstance(value, str):
        raise ValueError(f'{show(value)} is not a prefix; write text, like "192.0.2.0/24"')
    try:
        network = ip_network(value, strict=False)
    except ValueError:
        raise ValueError(f'{show(value)} is not a prefix; write it like "192.0.2.0/24" or "2001:db8::/32"') from None
    if ip_address(value.partition("/")[0]) != network.network_address:
        raise ValueError(f"{show(value)} has bits beyond its length; write {show(str(network))}")
    return network


def parse_address_port(value: object) -> tuple[addresses.Address, int | None]:
    """`"address"`, `"address:port"` or, of IPv6, `"[address]:port"`. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError(f'{show(value)} is not "address" or "address:port"; write text, like "127.0.0.1:80"')
    match = _ADDRESS_PORT.fullmatch(value)
    if match is None or match["port"] is None:
        return parse_address(value), None
    if not 1 <= int(match["port"]) <= 65535:
        raise ValueError(f"{show(value)}: {match['port']} is not a port; accepted: 1 to 65535")
    return parse_address(match["bare"] or match["bracketed"]), int(match["port"])


def within(low: int, high: int) -> AfterValidator:
    """A whole number from low to high, both included."""

    def check(value: int) -> int:
        if low <= value <= high:
            return value
        raise ValueError(f"{show(value)} is out of range; accepted: {low} to {high}")

    return AfterValidator(check)


def _word(kind: str, words: dict[str, Word]) -> AfterValidator:
    def check(value: str) -> str:
        if message := refuse_word(value, kind, words):
            raise ValueError(message)
        return value

    return AfterValidator(check)


def _text(pattern: re.Pattern[str], refusal: Callable[[str], str]) -> AfterValidator:
    def check(value: str) -> str:
        if pattern.fullmatch(value):
            return value
        raise ValueError(refusal(value))

    return AfterValidator(check)


def _refuse_name(value: str) -> str:
    return (
        f"{show(value)} cannot be a name; accepted: 1 to 63 letters (a-z), digits, '-' and '.', "
        "with a letter or digit at both ends (names become host names and files)"
    )


def _refuse_interface(value: str) -> str:
    return f"{show(value)} cannot be a network interface; `ip -br link` lists those of this machine"


def refuse_path(value: str) -> str | None:
    """What is wrong with the path of an HTTP request, or None."""
    if _REQUEST.fullmatch(value):
        return None
    if any(character.isspace() for character in value):
        return f"{show(value)} contains blanks; write them as %20"
    if "://" in value:
        return f"{show(value)} is a whole URL; write its path, and its host as virtualhost"
    return f"{show(value)} is not a path; it begins with '/': {show('/' + value.lstrip('/'))}"


def refuse_dns_name(value: str) -> str | None:
    """What is wrong with a name, or an address, that a name server is to be asked for, or None."""
    if len(value) <= 253 and _DNS_NAME.fullmatch(value):
        return None
    return f'{show(value)} is not a name to look up; write it like "www.example.com", or an address to look up its name'


def _refuse_host_name(value: str) -> str:
    return f'{show(value)} is not a host name; write it like "www.example.com"'


def _refuse_hex(value: str) -> str:
    return f'{show(value)} is not bytes in hexadecimal; write two digits for each, like "00ff 0d0a"'


def _refuse_hex_pattern(value: str) -> str:
    return f'{show(value)} is not bytes in hexadecimal; write two digits for each, x for any digit, like "00xx 0d0a"'


def _refuse_digest(value: str) -> str:
    return f"{show(value)} is not a digest; accepted: the 32 digits of an MD5 sum or the 64 of a SHA-256 sum"


def _check_line(value: str) -> str:
    if value and value.isprintable():
        return value
    raise ValueError(f"{show(value)} is empty or contains control characters; leave the key out, or write one line")


def _check_text(value: str) -> str:
    if value and "\0" not in value:
        return value
    raise ValueError(f"{show(value)} is empty or contains a NUL character; leave the key out, or write text")


def _nearby(value: str, info: ValidationInfo) -> str:
    """Where a file lies whose path may be relative to the configuration's."""
    if value == "" or "\0" in value or value.endswith("/"):
        raise ValueError(f'{show(value)} is not a file; write its path, like "/etc/lbctl/passwd"')
    return str(Path((info.context or {}).get("directory", ""), value))


def _refuse_host_header(value: str) -> str:
    return f'{show(value)} is not a host name for the Host header; write it like "www.example.com" or "www:8080"'


def _check_pattern(value: str) -> str:
    try:
        regex.compile(value)
    except (regex.error, RecursionError) as error:
        raise ValueError(
            f"{show(value)} is not a regular expression: {error}; write \\ before a character that is meant literally"
        ) from None
    return value


def _check_command(text: str) -> str:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{show(text)} is no command line: {str(error).lower()}") from None
    if not words or not words[0].startswith("/"):
        raise ValueError(f'{show(text)} does not begin with a program\'s whole path, like "/usr/local/sbin/resource"')
    return text


def _check_file_path(value: str) -> str:
    if not value or "\0" in value or value.endswith("/"):
        raise ValueError(f'{show(value)} is not a file; write its path, like "authkeys"')
    return value


def _check_program(value: str) -> str:
    if not value.startswith("/") or "\0" in value or value.endswith("/"):
        raise ValueError(f"{show(value)} is not a program; write its whole path, beginning with '/', without arguments")
    return value


def _check_whole_path(value: str) -> str:
    if not value.startswith("/") or "\0" in value or value.endswith("/"):
        raise ValueError(f"{show(value)} is not a file; write its whole path, beginning with '/'")
    return value


def _check_mac(value: str) -> str:
    if not _MAC.fullmatch(value):
        raise ValueError(f'{show(value)} is not a MAC address; write it like "00:00:5e:00:01:69"')
    mac = bytes.fromhex(value.replace(":", ""))
    if mac[0] & 1 or not any(mac):
        raise ValueError(f"{show(value)} is not the address of one host; the first byte of such a one is even")
    return value.lower()


def _check_mailbox(value: str) -> str:
    if not _MAILBOX.fullmatch(value):
        raise ValueError(f'{show(value)} is not a mail address; write it like "ops@example.com"')
    return value


def parse_host_port(value: str) -> tuple[str, int | None]:
    """`"host"`, `"host:port"`, `"[2001:db8::1]:port"`. Raises ValueError."""
    match = _HOST_PORT.fullmatch(value)
    if match is None or (match[3] and not 1 <= int(match[3]) <= 65535):
        raise ValueError(
            f'{show(value)} is not a server; write a host name or address, with or without port: "mail:25"'
        )
    return match[1] or match[2], int(match[3]) if match[3] else None


def _check_mail_server(value: str) -> str:
    parse_host_port(value)
    return value


def _check_url(value: str) -> str:
    try:
        url = urlsplit(value)
        whole = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0 and not re.search(r"\s", value)
    except ValueError:
        whole = False
    if not whole:
        raise ValueError('is not an address for HTTP; write it like "https://example.com/hook"')
    return value


def _check_directory(value: str) -> str:
    if not value.startswith("/") or "\0" in value:
        raise ValueError(f"{show(value)} is not a directory; write its whole path, beginning with '/'")
    return value


def parse_min_up(value: object) -> int | str:
    """A number of reals, or `"30%"` of them. Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 65535:
        return value
    if isinstance(value, str) and (match := _PERCENTAGE.fullmatch(value)) and int(match[1]) <= 100:
        return value
    raise ValueError(f'{show(value)} is not a number of reals; write a whole number, or a share like "30%"')


Duration = Annotated[float, BeforeValidator(parse_duration)]
"""Seconds, 0 to a year."""
Span = Annotated[Duration, AfterValidator(_longer_than_nothing)]
"""Seconds, a millisecond to a year."""
Affinity = Annotated[Duration, AfterValidator(_whole_seconds)]
"""Whole seconds, 0 to a year."""
Address = Annotated[addresses.Address, BeforeValidator(parse_address)]
Prefix = Annotated[addresses.Network, BeforeValidator(parse_prefix), PlainSerializer(str)]
Port = Annotated[int, within(1, 65535)]
VlanId = Annotated[int, within(1, 4094)]
Weight = Annotated[int, within(0, 65535)]
StatusCode = Annotated[int, within(100, 599)]
Name = Annotated[str, _text(_NAME, _refuse_name)]
Interface = Annotated[str, _text(_INTERFACE, _refuse_interface)]
MinUp = Annotated[int | str, BeforeValidator(parse_min_up)]
"""A number of reals, or text: a percentage of them."""
Program = Annotated[str, AfterValidator(_check_program)]
"""A file that can be run; whether it is there is seen where it runs."""
WholePath = Annotated[str, AfterValidator(_check_whole_path)]
Mac = Annotated[str, AfterValidator(_check_mac)]
"""Of one host, in lower case."""
Mailbox = Annotated[str, AfterValidator(_check_mailbox)]
MailServer = Annotated[str, AfterValidator(_check_mail_server)]
"""A host name or address, with or without port."""
Url = Annotated[str, AfterValidator(_check_url)]
"""http or https. It may be a secret, so that no message repeats it."""
Directory = Annotated[str, AfterValidator(_check_directory)]
Command = Annotated[str, AfterValidator(_check_command)]
"""A program and its arguments, as a shell would split them."""
FilePath = Annotated[str, AfterValidator(_check_file_path)]
Pattern = Annotated[str, AfterValidator(_check_pattern)]
"""A regular expression as `lb.probes.match` searches it: the `regex` module's, close to Perl's."""
Text = Annotated[str, AfterValidator(_check_text)]
Line = Annotated[str, AfterValidator(_check_line)]
Argument = Annotated[str, AfterValidator(_check_text)]
NearbyFile = Annotated[str, AfterValidator(_nearby)]
"""A file's path; relative paths begin where the configuration lies."""
Hex = Annotated[str, _text(_HEX, _refuse_hex)]
HexPattern = Annotated[str, _text(_HEX_PATTERN, _refuse_hex_pattern)]
Digest = Annotated[str, _text(_DIGEST, _refuse_digest)]
HostName = Annotated[str, _text(_HOST_NAME, _refuse_host_name)]
HostHeader = Annotated[str, _text(_HOST_HEADER, _refuse_host_header)]
Scheduler = Annotated[str, _word("a scheduler", catalog.SCHEDULERS)]
SchedulerFlag = Annotated[str, _word("a flag of a scheduler", catalog.FLAGS)]
Threshold = Annotated[int, within(0, 16_777_216)]
Forward = Annotated[str, _word("a forwarding method", catalog.FORWARDS)]
CheckType = Annotated[str, _word("a check type", catalog.CHECKS)]
CheckService = Annotated[str, _word("a service that can be asked", catalog.SERVICES)]
