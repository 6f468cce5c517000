"""`ha.authkeys`: the file's grammar, signatures, and that no key ever shows."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha import authkeys
from ha.authkeys import AuthKeys
from lb.errors import ConfigError

KEY = "0123456789abcdefSECRET"


def test_a_signature_is_hmac_sha256_by_the_first_key() -> None:
    keys = authkeys.parse(f"7 sha256 {KEY}\n1 sha256 other\n")
    assert keys.sign(b"data") == (7, hmac.new(KEY.encode(), b"data", hashlib.sha256).digest())


def test_every_key_is_accepted_and_one_signs() -> None:
    """A change of keys: the peer still signs with the old one."""
    old = authkeys.parse(f"1 sha256 {KEY}")
    both = authkeys.parse(f"1 sha256 {KEY}\n2 sha256 new\nauth 2")
    new = authkeys.parse("2 hmac-sha256 new")
    assert both.verify(1, b"x", old.sign(b"x")[1])
    assert both.sign(b"x")[0] == 2
    assert new.verify(2, b"x", both.sign(b"x")[1])
    assert not old.verify(2, b"x", both.sign(b"x")[1])


@given(st.binary(max_size=64), st.binary(max_size=64), st.integers(0, 255))
def test_only_the_same_data_id_and_tag_verify(data: bytes, other: bytes, key_id: int) -> None:
    keys = authkeys.parse(f"5 sha256 {KEY}")
    sender, tag = keys.sign(data)
    assert len(tag) == authkeys.TAG_BYTES
    assert keys.verify(sender, data, tag)
    assert keys.verify(sender, other, tag) == (other == data)
    assert keys.verify(key_id, data, tag) == (key_id == sender)
    assert not keys.verify(sender, data, other)
    assert not keys.verify(sender, data, bytes([tag[0] ^ 1]) + tag[1:])


def test_comments_blanks_windows_and_case() -> None:
    text = f"# ours\r\n\r\n  auth\t3 # signs\r\n3\tSHA256  {KEY}#1   # the key\r\n"
    keys = authkeys.parse(text)
    assert keys.sign(b"") == (3, hmac.new(f"{KEY}#1".encode(), b"", hashlib.sha256).digest())


def test_generated_text_is_a_file_of_one_strong_key() -> None:
    first, second = authkeys.generate(), authkeys.generate()
    assert first != second
    assert authkeys.parse(first).short == ()
    assert len(authkeys.parse(first).keys[1]) == 64


def test_short_keys_are_named() -> None:
    assert authkeys.parse("1 sha256 123456789012345\n2 sha256 1234567890123456").short == (1,)


REFUSED = [
    ("", ["has no key; make a new line with: lbctl authkeys -"]),
    ("# nothing\n", ["has no key; make a new line with: lbctl authkeys -"]),
    ("1 md5 SECRET", ["1: key 1: method md5 does not protect heartbeats; make a new line with: lbctl authkeys -"]),
    ("1 SHA1 SECRET", ["1: key 1: method sha1 does not protect heartbeats; make a new line with: lbctl authkeys -"]),
    ("1 crc", ["1: key 1: method crc does not protect heartbeats; make a new line with: lbctl authkeys -"]),
    ("1 SECRET", ["1: key 1: the second word is not the method sha256; a line is: ID sha256 KEY"]),
    ("1", ["1: key 1: the second word is not the method sha256; a line is: ID sha256 KEY"]),
    ("1 SECRET sha256", ["1: key 1: the second word is not the method sha256; a line is: ID sha256 KEY"]),
    ("1 sha256", ["1: key 1: 2 words; a line is: ID sha256 KEY, and a key has no blanks"]),
    ("1 sha256 SECRET SECRET", ["1: key 1: 4 words; a line is: ID sha256 KEY, and a key has no blanks"]),
    ("SECRET sha256 1", ["1: does not begin with an id from 0 to 255; a line is: ID sha256 KEY"]),
    ("256 sha256 SECRET", ["1: does not begin with an id from 0 to 255; a line is: ID sha256 KEY"]),
    ("-1 sha256 SECRET", ["1: does not begin with an id from 0 to 255; a line is: ID sha256 KEY"]),
    ("\u0661 sha256 SECRET", ["1: does not begin with an id from 0 to 255; a line is: ID sha256 KEY"]),
    ("1 sha256 a\n1 sha256 SECRET", ["2: key 1 is in the file already; give this one another id"]),
    ("auth\n1 sha256 SECRET", ["1: auth takes one id, the number of the key that signs, like: auth 1"]),
    ("auth x\n1 sha256 SECRET", ["1: auth takes one id, the number of the key that signs, like: auth 1"]),
    ("auth 2\n1 sha256 SECRET", ["1: auth 2: there is no key 2 (keys: 1)"]),
    ("auth 2\n", ["1: auth 2: there is no key 2 (there is no key at all)"]),
    ("auth 1\nauth 1\n1 sha256 SECRET", ["2: a second auth; line 1 has the first: keep one"]),
    (
        "auth 3\n\n3 md5 SECRET\nSECRET",
        [
            "3: key 3: method md5 does not protect heartbeats; make a new line with: lbctl authkeys -",
            "4: does not begin with an id from 0 to 255; a line is: ID sha256 KEY",
        ],
    ),
]


@pytest.mark.parametrize(("text", "expected"), REFUSED)
def test_what_is_refused(text: str, expected: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        authkeys.parse(text, "k")
    assert [line.removeprefix("k:").strip() for line in str(caught.value).splitlines()] == expected
    assert "SECRET" not in repr(caught.value) + str(caught.value)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        keys = authkeys.parse(text)
    except ConfigError:
        return
    assert isinstance(keys, AuthKeys)


def test_no_key_shows() -> None:
    keys = authkeys.parse(f"1 sha256 {KEY}")
    assert "SECRET" not in f"{keys!r} {keys}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "authkeys"
    path.write_text(f"1 sha256 {KEY}\n")
    path.chmod(0o600)
    return path


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        authkeys.load(path)
    assert "SECRET" not in str(caught.value)
    return str(caught.value).replace(str(path), "FILE")


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_private_file(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert authkeys.load(file) == authkeys.parse(f"1 sha256 {KEY}")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_file_that_is_open_to_others(file: Path, mode: int) -> None:
    file.chmod(mode)
    said = f"FILE: is open to others (mode {mode:04o}; accepted: 0600); close it with: chmod 600 FILE"
    assert refused(file) == said


def test_a_file_of_somebody_else(file: Path) -> None:
    """Only root can give a file away, so the status is made here."""
    status = list(file.stat())
    status[stat.ST_UID] = os.geteuid() + 1
    with pytest.raises(ConfigError, match=f"belongs to user {os.geteuid() + 1}; accepted: root or the user that runs"):
        authkeys._check_owner("k", os.stat_result(status))


def test_a_missing_file(tmp_path: Path) -> None:
    expected = "FILE: is missing; make it with: lbctl authkeys FILE, and copy it to every node"
    assert refused(tmp_path / "none") == expected


def test_things_that_are_no_file(tmp_path: Path) -> None:
    assert refused(tmp_path) == "FILE: is not a regular file; write its path as [ha] authkeys"
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    assert refused(fifo) == "FILE: is not a regular file; write its path as [ha] authkeys"
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert refused(loop) == "FILE: cannot be read: Too many levels of symbolic links"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"1 sha256 \xff\xfeSECRET", "FILE: is not UTF-8; make a new line with: lbctl authkeys -"),
        (
            b"#" * (authkeys.LARGEST + 1),
            "FILE: is larger than 64 KiB and is not a file of keys; make a new line with: lbctl authkeys -",
        ),
    ],
)
def test_content_that_is_no_text(file: Path, content: bytes, expected: str) -> None:
    file.write_bytes(content)
    assert refused(file) == expected
