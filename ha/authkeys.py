"""The keys that the directors share: heartbeat's authkeys file, with HMAC-SHA256 (SEED_TABLES 3.6).

    auth 2                      # optional: the key that signs; else the first
    1 sha256 0f3c…
    2 sha256 9a41…

All keys are accepted, one signs. To change the key: add the new one on every node, then name it in `auth` on every
node, then remove the old one. No message, log line or repr here contains any part of a key, and therefore no word of
a line whose place in it is in doubt.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from lb.errors import ConfigError, Problem

METHODS = frozenset({"sha256", "hmac-sha256"})
UNSAFE_METHODS = frozenset({"crc", "md5", "sha1"})
"""heartbeat's own methods; refused by name."""
TAG_BYTES = 32
SHORT_KEY = 16
"""Characters below which a key can be found by trying; `AuthKeys.short` names them."""
LARGEST = 1 << 16
"""Bytes of a file that is still read."""
_ID = re.compile(r"[0-9]{1,3}")
_COMMENT = re.compile(r"(?:^|\s)#.*")
MEND = "make a new line with: lbctl authkeys -"


@dataclass(frozen=True, slots=True)
class AuthKeys:
    """The shared keys by their id (0 to 255). sender: the id that signs."""

    sender: int
    keys: Mapping[int, bytes] = field(repr=False)

    def sign(self, data: bytes) -> tuple[int, bytes]:
        """The sending key's id and its HMAC-SHA256 of `data`, TAG_BYTES long."""
        return self.sender, hmac.digest(self.keys[self.sender], data, "sha256")

    def tag(self, key_id: int, data: bytes) -> bytes:
        """The HMAC-SHA256 of `data` with the key `key_id`; empty if there is none."""
        key = self.keys.get(key_id)
        return b"" if key is None else hmac.digest(key, data, "sha256")

    def verify(self, key_id: int, data: bytes, tag: bytes) -> bool:
        """Was `data` signed with the key `key_id`? Takes the same time for every wrong tag."""
        return key_id in self.keys and hmac.compare_digest(self.tag(key_id, data), tag)

    @property
    def short(self) -> tuple[int, ...]:
        """Ids of keys that are too short to withstand guessing."""
        return tuple(key_id for key_id, key in self.keys.items() if len(key) < SHORT_KEY)


def load(path: str | Path) -> AuthKeys:
    """The keys of the file at `path`. Raises ConfigError: unreadable, open to others, or not as described above."""
    file = str(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise _refused(file, f"is missing; make it with: lbctl authkeys {file}, and copy it to every node") from None
    except OSError as error:
        raise _refused(file, f"cannot be read: {error.strerror}") from None
    try:
        _check_owner(file, os.fstat(descriptor))
        content = os.read(descriptor, LARGEST + 1)
    finally:
        os.close(descriptor)
    if len(content) > LARGEST:
        raise _refused(file, f"is larger than {LARGEST >> 10} KiB and is not a file of keys; {MEND}")
    try:
        return parse(content.decode("utf-8-sig"), file)
    except UnicodeDecodeError:
        raise _refused(file, f"is not UTF-8; {MEND}") from None


def _check_owner(file: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _refused(file, "is not a regular file; write its path as [ha] authkeys")
    if status.st_uid not in (0, os.geteuid()):
        raise _refused(file, f"belongs to user {status.st_uid}; accepted: root or the user that runs lbctl")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise _refused(file, f"is open to others (mode {mode:04o}; accepted: 0600); close it with: chmod 600 {file}")


def parse(text: str, file: str = "authkeys") -> AuthKeys:
    """The keys in `text`. Raises ConfigError with all problems."""
    keys: dict[int, bytes] = {}
    sender: tuple[int, int] | None = None
    problems: list[Problem] = []
    for number, row in enumerate(text.split("\n"), start=1):
        words = _COMMENT.sub("", row).split()
        try:
            if words[:1] == ["auth"]:
                if sender is not None:
                    raise ValueError(f"a second auth; line {sender[1]} has the first: keep one")
                sender = (_parse_sender(words), number)
            elif words:
                key_id, key = _parse_key(words)
                if key_id in keys:
                    raise ValueError(f"key {key_id} is in the file already; give this one another id")
                keys[key_id] = key
        except ValueError as error:
            problems.append(Problem(number, "", str(error)))
    if sender is not None and sender[0] not in keys and not problems:
        problems.append(Problem(sender[1], "", f"auth {sender[0]}: there is no key {sender[0]} ({_ids(keys)})"))
    if not keys and not problems:
        problems.append(Problem(0, "", f"has no key; {MEND}"))
    if problems:
        raise ConfigError(file, tuple(problems))
    return AuthKeys(sender[0] if sender is not None else next(iter(keys)), MappingProxyType(keys))


def generate() -> str:
    """A new file's text, with one key of 256 random bits."""
    return (
        "# The directors' shared keys. The same file on every node, mode 0600. Lines: ID METHOD KEY\n"
        f"1 sha256 {secrets.token_hex(32)}\n"
    )


def _parse_sender(words: list[str]) -> int:
    if len(words) != 2 or (key_id := _parse_id(words[1])) is None:
        raise ValueError("auth takes one id, the number of the key that signs, like: auth 1")
    return key_id


def _parse_key(words: list[str]) -> tuple[int, bytes]:
    """The id and the key of a line. Raises ValueError, without any word that could be a key."""
    key_id, method = _parse_id(words[0]), words[1].lower() if len(words) > 1 else ""
    if key_id is None:
        raise ValueError("does not begin with an id from 0 to 255; a line is: ID sha256 KEY")
    if method in UNSAFE_METHODS:
        raise ValueError(f"key {key_id}: method {method} does not protect heartbeats; {MEND}")
    if method not in METHODS:
        raise ValueError(f"key {key_id}: the second word is not the method sha256; a line is: ID sha256 KEY")
    if len(words) != 3:
        raise ValueError(f"key {key_id}: {len(words)} words; a line is: ID sha256 KEY, and a key has no blanks")
    return key_id, words[2].encode()


def _parse_id(word: str) -> int | None:
    return int(word) if _ID.fullmatch(word) and int(word) <= 255 else None


def _ids(keys: Mapping[int, bytes]) -> str:
    return f"keys: {', '.join(map(str, keys))}" if keys else "there is no key at all"


def _refused(file: str, message: str) -> ConfigError:
    return ConfigError(file, (Problem(0, "", message),))
