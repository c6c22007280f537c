"""Queue policies and the ledger, against a model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveate.queues import Policy, Queue
from tests.conftest import number, value_of

policies = st.one_of(
    st.just(Policy("latest")),
    st.builds(Policy, st.just("fifo"), st.integers(1, 5)),
    st.builds(Policy, st.just("block"), st.integers(1, 5)),
    st.builds(Policy, st.just("every"), st.integers(1, 5)),
)


def model(policy: Policy, kept: list[int], value: int, index: int) -> list[int]:
    """What a queue holds after a put, written as plainly as possible."""
    if policy.kind == "latest":
        return [value]
    if policy.kind == "every":
        return [value] if index % policy.size == 0 else kept
    return [*kept, value][-policy.size :]


@given(policies, st.lists(st.sampled_from(["put", "take"]), max_size=60))
def test_a_queue_keeps_what_its_policy_says_and_the_ledger_balances(policy: Policy, actions: list[str]) -> None:
    queue, expected, puts, taken = Queue(policy), list[int](), 0, 0
    for action in actions:
        if action == "put":
            if not queue.has_room:
                assert policy.kind == "block" and len(queue) == policy.size
                continue
            expected = model(policy, expected, puts, puts)
            queue.put(number(puts), 0)
            puts += 1
        elif expected:
            message = queue.take().message
            assert value_of(message) == expected.pop(0)  # type: ignore[arg-type]
            taken += 1
        assert len(queue) == len(expected)
        assert queue.ledger.missing(len(queue)) == 0
    assert (queue.ledger.produced, queue.ledger.delivered) == (puts, taken)
    if policy.kind == "block":
        assert not queue.ledger.dropped


def test_every_drop_has_its_reason() -> None:
    for policy, reason in (
        (Policy("latest"), "replaced"),
        (Policy("fifo", 1), "full"),
        (Policy("every", 2), "skipped"),
    ):
        queue = Queue(policy)
        queue.put(number(0), 0)
        queue.put(number(1), 0)
        assert queue.ledger.dropped == {reason: 1}


def test_messages_past_their_age_are_dropped_when_taken() -> None:
    queue = Queue(Policy("fifo", 8, max_age_ns=10))
    for t in (0, 5, 20):
        queue.put(number(t, t), t)
    queue.discard_expired(16)
    assert [value_of(queue.take()[0]) for _ in range(len(queue))] == [20]  # type: ignore[arg-type]
    assert queue.ledger.dropped == {"expired": 2}


def test_a_closed_queue_takes_nothing_and_says_so() -> None:
    queue = Queue(Policy("block", 1))
    queue.closed = True
    for value in range(3):
        assert queue.has_room
        queue.put(number(value), 0)
    assert queue.ledger.dropped == {"closed": 3}


@pytest.mark.parametrize(
    "text", ["", "newest", "fifo", "fifo()", "fifo(0)", "block(-1)", "every(x)", "latest(2)", "fifo(1", "fifo(1e3)"]
)
def test_unknown_policies_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="unknown queue"):
        Policy.parse(text)


@given(policies)
def test_a_policy_reads_back_as_written(policy: Policy) -> None:
    assert Policy.parse(str(policy)) == policy
