"""lb.tcp against IPVS's INPUT-ONLY table, written out once more as columns."""

from __future__ import annotations

import pytest

from lb.tcp import ACTIVE, TIMEOUTS_S, TRANSITIONS, Flag, State, event, next_state, opens, packed

S = State
BY_STATE = {
    #                 RST            SYN            FIN            ACK
    S.NONE:          (S.CLOSE,       S.SYN_RECV,    S.CLOSE,       S.ESTABLISHED),
    S.ESTABLISHED:   (S.CLOSE,       S.ESTABLISHED, S.FIN_WAIT,    S.ESTABLISHED),
    S.SYN_SENT:      (S.CLOSE,       S.ESTABLISHED, S.SYN_SENT,    S.SYN_SENT),
    S.SYN_RECV:      (S.SYN_RECV,    S.SYN_RECV,    S.TIME_WAIT,   S.ESTABLISHED),
    S.FIN_WAIT:      (S.CLOSE,       S.SYN_RECV,    S.FIN_WAIT,    S.FIN_WAIT),
    S.TIME_WAIT:     (S.CLOSE,       S.SYN_RECV,    S.TIME_WAIT,   S.TIME_WAIT),
    S.CLOSE:         (S.CLOSE,       S.SYN_RECV,    S.CLOSE,       S.CLOSE),
    S.CLOSE_WAIT:    (S.CLOSE,       S.SYN_RECV,    S.CLOSE_WAIT,  S.CLOSE_WAIT),
    S.LAST_ACK:      (S.LAST_ACK,    S.SYN_RECV,    S.LAST_ACK,    S.CLOSE),
    S.LISTEN:        (S.LISTEN,      S.SYN_RECV,    S.LISTEN,      S.LISTEN),
    S.SYNACK:        (S.CLOSE,       S.SYN_RECV,    S.TIME_WAIT,   S.ESTABLISHED),
}  # fmt: skip
FLAGS = (Flag.RST, Flag.SYN, Flag.FIN, Flag.ACK)


@pytest.mark.parametrize("state", BY_STATE, ids=lambda state: state.name)
def test_transitions(state: State) -> None:
    assert tuple(next_state(state, flag) for flag in FLAGS) == BY_STATE[state]
    assert next_state(state, 0) == State.CLOSE
    assert next_state(state, 0xE8) == State.CLOSE, "flags other than the four are none"


@pytest.mark.parametrize(
    ("flags", "first"),
    [(0x14, Flag.RST), (0x06, Flag.RST), (0x12, Flag.SYN), (0x03, Flag.SYN), (0x11, Flag.FIN), (0x18, Flag.ACK)],
)
def test_a_segment_counts_as_the_first_of_its_flags(flags: int, first: Flag) -> None:
    assert event(flags) == first


@pytest.mark.parametrize("flags", range(0x100))
def test_a_syn_that_does_not_reset_opens(flags: int) -> None:
    assert opens(flags) is ((flags & 0x06) == 0x02)


@pytest.mark.parametrize("flag", TRANSITIONS, ids=repr)
def test_packed_rows_fit_a_64_bit_constant_and_read_back(flag: Flag) -> None:
    number = packed(TRANSITIONS[flag])
    assert number < 1 << 48
    assert tuple(State(number >> 4 * state & 15) for state in BY_STATE) == TRANSITIONS[flag]


def test_every_state_has_a_timeout_and_ipvs_counts_four_as_active() -> None:
    assert set(TIMEOUTS_S) == set(State) - {State.TEMPLATE}
    assert {state.name for state in ACTIVE} == {"ESTABLISHED", "SYN_SENT", "SYN_RECV", "SYNACK"}
