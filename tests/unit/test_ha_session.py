"""The authenticated stream: nothing passes that was not sent in this place of this session by a holder of a key."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha.authkeys import AuthKeys
from ha.session import MAX_PAYLOAD, NONCE_BYTES, Broken, Greeting, Session

KEYS = AuthKeys(1, {1: b"shared", 2: b"next"})
A = Greeting("demo", "a", 11, b"A" * NONCE_BYTES)
B = Greeting("demo", "b", 22, b"B" * NONCE_BYTES)


def pair(a: Greeting = A, b: Greeting = B, a_keys: AuthKeys = KEYS, b_keys: AuthKeys = KEYS) -> tuple[Session, Session]:
    """The acceptor a and the initiator b, before a word was said."""
    return Session(a, ("b",), a_keys, initiator=False), Session(b, ("a",), b_keys, initiator=True)


def talk(one: Session, other: Session) -> list[bytes]:
    """Carry everything to and fro; what came to `other`."""
    heard: list[bytes] = []
    while data := one.data_to_send():
        heard += other.receive(data)
        list(one.receive(other.data_to_send()))
    return heard


def established() -> tuple[Session, Session]:
    """a and b, with greetings behind them."""
    a, b = pair()
    talk(a, b)
    assert a.established
    assert b.established
    return a, b


def kind_of(session: Session, data: bytes) -> str:
    """Why it breaks."""
    with pytest.raises(Broken) as broken:
        list(session.receive(data))
    return broken.value.kind


def test_both_know_who_the_other_is() -> None:
    a, b = established()
    assert (a.peer, b.peer) == (B, A)


def test_payloads_arrive_in_both_directions_whatever_the_pieces() -> None:
    a, b = established()
    a.send(b"one")
    a.send(b"two")
    stream = a.data_to_send()
    assert [p for n in range(len(stream)) for p in b.receive(stream[n : n + 1])] == [b"one", b"two"]
    b.send(b"three")
    assert list(a.receive(b.data_to_send())) == [b"three"]


def test_keys_may_differ_while_they_are_changed() -> None:
    a, b = pair(b_keys=AuthKeys(2, dict(KEYS.keys)))
    talk(a, b)
    assert a.established
    assert b.established


def test_a_wrong_key_is_found_out_before_a_payload() -> None:
    a, b = pair(b_keys=AuthKeys(1, {1: b"wrong"}))
    list(b.receive(a.data_to_send()))
    assert kind_of(a, b.data_to_send()) == "key"
    assert not a.established


@pytest.mark.parametrize(
    ("greeting", "kind"),
    [
        (Greeting("other", "b", 22, B.nonce), "cluster"),
        (Greeting("demo", "c", 22, B.nonce), "stranger"),
        (Greeting("demo", "a", 22, B.nonce), "stranger"),
        (Greeting("demo", "b", 22, b"short"), "malformed"),
        (Greeting("demo", "b" * 600, 22, B.nonce), "oversized"),
    ],
)
def test_a_greeting_that_does_not_fit(greeting: Greeting, kind: str) -> None:
    elsewhere, b = pair(a=replace(A, cluster=greeting.cluster), b=greeting)
    list(b.receive(elsewhere.data_to_send()))
    a, _ = pair()
    assert kind_of(a, b.data_to_send()) == kind


def test_another_version() -> None:
    a, _ = pair()
    assert kind_of(a, b"LBSY\x63\x00\x00") == "version"


def test_a_recorded_initiator_is_no_initiator() -> None:
    a, b = pair()
    list(b.receive(a.data_to_send()))
    recorded = b.data_to_send()
    list(a.receive(recorded))
    assert a.established
    again, _ = pair(a=Greeting("demo", "a", 11, b"C" * NONCE_BYTES))
    assert kind_of(again, recorded) == "key"


def test_a_frame_sent_back_to_its_sender() -> None:
    a, _ = established()
    a.send(b"one")
    assert kind_of(a, a.data_to_send()) == "key"


def test_a_frame_doubled_or_left_out() -> None:
    a, b = established()
    a.send(b"one")
    one = a.data_to_send()
    list(b.receive(one))
    assert kind_of(b, one) == "key"
    a, b = established()
    a.send(b"one")
    a.data_to_send()
    a.send(b"two")
    assert kind_of(b, a.data_to_send()) == "key"


def test_any_bit_of_a_frame_changed() -> None:
    a, b = established()
    a.send(b"payload")
    data = a.data_to_send()
    for bit in range(8 * 4, len(data) * 8):  # what stands in the length is tried below
        _, b = established()
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        assert kind_of(b, bytes(changed)) == "key"


def test_oversized_frames_are_not_waited_for() -> None:
    a, b = established()
    assert kind_of(b, (MAX_PAYLOAD + 1).to_bytes(4, "big") + bytes(40)) == "oversized"
    with pytest.raises(ValueError, match=str(MAX_PAYLOAD)):
        a.send(bytes(MAX_PAYLOAD + 1))
    a, b = pair()
    list(b.receive(a.data_to_send()))
    data = b.data_to_send()
    assert kind_of(a, data[: -5 - 32] + (1).to_bytes(4, "big") + data[-33:]) == "oversized"


@given(st.lists(st.binary(max_size=400), max_size=4), st.booleans())
def test_random_bytes_establish_nothing(pieces: list[bytes], after_greeting: bool) -> None:
    a, b = pair()
    list(b.receive(a.data_to_send()))
    if after_greeting:
        list(a.receive(b.data_to_send()[: -5 - 32]))
    try:
        for piece in pieces:
            assert list(a.receive(piece)) == []
    except Broken:
        pass
    assert not a.established
