"""Heartbeats as datagrams: what goes in comes out, and nothing else is believed."""

from __future__ import annotations

from dataclasses import replace

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ha import wire
from ha.authkeys import AuthKeys
from ha.passes import Passes
from ha.state import Phase, Report
from ha.wire import MAX_BYTES, VERSION, Heartbeat, Rejected, Seen, Turn, decode, key_id_of

KEYS = AuthKeys(2, {1: b"old", 2: b"new"})
REPORT = Report(Phase.HANDING, 1, 2, "b", True, True, False, 3)
HEARTBEAT = Heartbeat("demo", "a", 2**63, 7, 1234, "c0ffee", REPORT, {"b": Seen(((5, 6), (7, 8)), True, False)})
PASSES = Passes("demo", "a", HEARTBEAT.life)


def encode(heartbeat: Heartbeat, keys: AuthKeys) -> bytes:
    """Its datagram."""
    [data] = wire.encode(heartbeat, Passes(heartbeat.cluster, heartbeat.node, heartbeat.life), keys)
    return data


def test_comes_back_as_it_was() -> None:
    data = encode(HEARTBEAT, KEYS)
    assert decode(data, KEYS) == HEARTBEAT
    assert len(data) < MAX_BYTES / 2


def test_a_key_that_does_not_sign_any_more_is_still_accepted() -> None:
    assert decode(encode(HEARTBEAT, AuthKeys(1, {1: b"old"})), KEYS) == HEARTBEAT


@pytest.mark.parametrize("keys", [AuthKeys(2, {2: b"other"}), AuthKeys(9, {9: b"new"})])
def test_a_key_that_is_not_ours(keys: AuthKeys) -> None:
    with pytest.raises(Rejected) as rejected:
        decode(encode(HEARTBEAT, keys), KEYS)
    assert rejected.value.kind == "key"


def test_truncated_anywhere() -> None:
    data = encode(HEARTBEAT, KEYS)
    for length in range(len(data)):
        with pytest.raises(Rejected) as rejected:
            decode(data[:length], KEYS)
        assert rejected.value.kind in ("malformed", "key")


def test_any_bit_changed() -> None:
    data = encode(HEARTBEAT, KEYS)
    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Rejected):
            decode(bytes(changed), KEYS)


@given(st.one_of(st.binary(max_size=2000), st.binary(max_size=200).map(lambda tail: b"LBHB\x02" + tail)))
@example(b"")
def test_random_bytes(data: bytes) -> None:
    with pytest.raises(Rejected):
        decode(data, KEYS)


def test_in_later_turns_the_same_is_said() -> None:
    """Byte for byte what would be made then, passes and signatures too."""
    turns = [Turn(8, 1334), Turn(9, 2**63)]
    expected = [replace(HEARTBEAT, sequence=sequence, awake_ms=awake_ms) for sequence, awake_ms in turns]
    made = wire.encode(HEARTBEAT, PASSES, KEYS, turns)
    assert [decode(data, KEYS) for data in made] == [HEARTBEAT, *expected]
    assert made == [encode(heartbeat, KEYS) for heartbeat in (HEARTBEAT, *expected)]


@pytest.mark.parametrize("sequence", [1, 7, 8, 9, 2**63])
@pytest.mark.parametrize("count", [1, 8, 30])
def test_the_passes_of_what_comes_next_are_known_beforehand(sequence: int, count: int) -> None:
    sent = [encode(replace(HEARTBEAT, sequence=sequence + n), KEYS) for n in range(count)]
    key_id, next_ones = key_id_of(sent[0]), range(sequence, sequence + count)
    known = PASSES.of(next_ones, key_id, KEYS)
    assert [int.from_bytes(data[6:10]) for data in sent] == known
    for others in (
        Passes("demo", "b", HEARTBEAT.life).of(next_ones, key_id, KEYS),
        Passes("demo", "a", 5).of(next_ones, key_id, KEYS),
        PASSES.of(next_ones, 1, KEYS),
        PASSES.of(next_ones, key_id, AuthKeys(2, {2: b"other"})),
    ):
        assert len(others) == count
        assert not set(others) & set(known)
    assert PASSES.of(next_ones, 9, KEYS) == []


def test_passes_that_are_asked_for_again_are_not_made_again() -> None:
    class Counted(AuthKeys):
        def tag(self, key_id: int, data: bytes) -> bytes:
            made.append(data)
            return super().tag(key_id, data)

    made: list[bytes] = []
    keys = Counted(2, KEYS.keys)
    passes = Passes("demo", "a", 1)
    assert passes.of(range(1, 129), 2, keys)[3:] == passes.of(range(4, 129), 2, keys)
    assert len(made) == 17
    passes.of(range(5, 137), 2, keys)
    assert len(made) == 18


def sealed(body: bytes, version: int = VERSION) -> bytes:
    """A datagram with a good signature over anything."""
    key_id, tag = KEYS.sign(b"lbctl heartbeat" + bytes([version]) + b"pass" + body)
    return b"LBHB" + bytes([version, key_id]) + b"pass" + tag + body


@given(st.one_of(st.binary(max_size=300), st.recursive(st.integers(0, 9), st.lists).map(msgpack.packb)))
def test_signed_nonsense(body: bytes) -> None:
    with pytest.raises(Rejected) as rejected:
        decode(sealed(body), KEYS)
    assert rejected.value.kind == "malformed"


def test_another_version() -> None:
    with pytest.raises(Rejected) as rejected:
        decode(sealed(b"whatever comes", VERSION + 1), KEYS)
    assert rejected.value.kind == "version"


def test_a_field_of_a_newer_sender_is_passed_over() -> None:
    body = msgpack.unpackb(encode(HEARTBEAT, KEYS)[42:])
    assert decode(sealed(msgpack.packb({**body, "mood": "fine"})), KEYS) == HEARTBEAT


@pytest.mark.parametrize(
    ("field", "value"), [("life", -1), ("sequence", 0), ("node", 5), ("seen", []), ("report", {"phase": "asleep"})]
)
def test_a_value_out_of_range(field: str, value: object) -> None:
    body = msgpack.unpackb(encode(HEARTBEAT, KEYS)[42:])
    with pytest.raises(Rejected) as rejected:
        decode(sealed(msgpack.packb({**body, field: value})), KEYS)
    assert rejected.value.kind == "malformed"
